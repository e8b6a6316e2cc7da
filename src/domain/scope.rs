//! Scopes: what the kill switch can name (FORMATS.md, Scopes of the kill switch).

use std::fmt::{self, Write as _};

use ring::digest::{Context, SHA256};

use crate::domain::principal::{Name, Principal, is_trust_domain};

/// The first 16 bytes of SHA-256 of a scope's text: how credentials and the store name a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reach(pub [u8; 16]);

/// Something that can be quarantined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One agent, on its own tasks and as an ancestor's agent.
    Principal(Principal),
    /// An agent class.
    Class(Name),
    /// A role entry of orchestrators.
    Orchestrator(Name),
    /// An OIDC issuer, by its name in the configuration.
    Issuer(Name),
    /// A trust domain.
    TrustDomain(String),
    /// A signing key of ours: a `kid`, or a CA's subject key identifier in hex.
    Key(String),
    /// A tier.
    Tier(Name),
    /// Everything.
    All,
}

/// A text is not a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a scope is `principal:<SPIFFE ID>`, `principal:oidc:<issuer>:<subject>`, `class:<name>`, `orchestrator:<entry>`, \
     `issuer:<name>`, `td:<trust domain>`, `key:<kid or SKI in hex>`, `tier:<name>` or `all`"
)]
pub struct ScopeError;

impl Scope {
    /// Reads a scope.
    ///
    /// # Errors
    /// [`ScopeError`] if the text is not one of the eight forms.
    pub fn parse(text: &str) -> Result<Self, ScopeError> {
        if text == "all" {
            return Ok(Self::All);
        }
        let (kind, value) = text.split_once(':').ok_or(ScopeError)?;
        let name = || Name::parse(value).map_err(|_| ScopeError);
        match kind {
            "principal" => Principal::parse(value).map(Self::Principal).map_err(|_| ScopeError),
            "class" => name().map(Self::Class),
            "orchestrator" => name().map(Self::Orchestrator),
            "issuer" => name().map(Self::Issuer),
            "tier" => name().map(Self::Tier),
            "td" if is_trust_domain(value) => Ok(Self::TrustDomain(value.to_owned())),
            "key" if is_key_id(value) => Ok(Self::Key(value.to_owned())),
            _ => Err(ScopeError),
        }
    }

    /// The hash by which credentials and the store name it.
    pub fn reach(&self) -> Reach {
        let mut text = Hashed(Context::new(&SHA256));
        // Hashing does not fail.
        let _ = write!(text, "{self}");
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(text.0.finish().as_ref()) {
            *to = *from;
        }
        Reach(first)
    }
}

/// A text that is hashed as it is written.
struct Hashed(Context);

impl fmt::Write for Hashed {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.update(part.as_bytes());
        Ok(())
    }
}

/// The scopes of a principal: itself, and its trust domain or issuer.
pub fn scopes_of(principal: &Principal) -> Vec<Scope> {
    let mut scopes = vec![Scope::Principal(principal.clone())];
    if let Some(domain) = principal.trust_domain() {
        scopes.push(Scope::TrustDomain(domain.to_owned()));
    }
    if let Some(Ok(issuer)) = principal.issuer().map(Name::parse) {
        scopes.push(Scope::Issuer(issuer));
    }
    scopes
}

fn is_key_id(text: &str) -> bool {
    matches!(text.len(), 1..=64)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(principal) => write!(f, "principal:{principal}"),
            Self::Class(name) => write!(f, "class:{name}"),
            Self::Orchestrator(name) => write!(f, "orchestrator:{name}"),
            Self::Issuer(name) => write!(f, "issuer:{name}"),
            Self::TrustDomain(domain) => write!(f, "td:{domain}"),
            Self::Key(id) => write!(f, "key:{id}"),
            Self::Tier(name) => write!(f, "tier:{name}"),
            Self::All => f.write_str("all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_survives_its_own_text() {
        for text in [
            "principal:spiffe://prod.example/a",
            "principal:oidc:k8s:system:serviceaccount:a:b",
            "class:finance",
            "orchestrator:ci",
            "issuer:k8s",
            "td:prod.example",
            "key:9f86d081",
            "tier:standard",
            "all",
        ] {
            assert_eq!(Scope::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn class_18_another_spelling_is_not_a_scope() {
        for text in [
            "",
            "ALL",
            "all ",
            "class:Finance",
            "td:Prod.example",
            "td:",
            "key:",
            "user:x",
            "tier:a_b",
        ] {
            assert!(Scope::parse(text).is_err(), "{text}");
        }
    }
}
