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
    /// A signing key of ours: a `kid`, or a CA's subject key identifier in lower-case hex.
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
            "key" => key_id(value).map(Self::Key).ok_or(ScopeError),
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

/// The name of a signing key: a `kid` as it is, or a subject key identifier in lower-case hex, however a tool wrote it: whole bytes
/// in hex, which a `kid` never is, since a thumbprint has an odd number of characters.
fn key_id(text: &str) -> Option<String> {
    let is_coloned = text.split(':').all(|byte| byte.len() == 2);
    let plain = if is_coloned { text.replace(':', "") } else { text.to_owned() };
    let is_hex = plain.len().is_multiple_of(2) && plain.bytes().all(|b| b.is_ascii_hexdigit());
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_id = matches!(plain.len(), 1..=64) && plain.bytes().all(is_name);
    (is_id && (is_hex || !text.contains(':')))
        .then(|| if is_hex { plain.to_ascii_lowercase() } else { plain })
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
    fn a_subject_key_identifier_is_taken_as_tools_write_it_and_a_kid_as_it_is() {
        let parsed = |text: &str| Scope::parse(text).map(|scope| scope.to_string());
        for text in ["key:9f86d081", "key:9F86D081", "key:9F:86:D0:81", "key:9f:86:d0:81"] {
            assert_eq!(parsed(text).unwrap(), "key:9f86d081", "{text}");
        }
        let kid = "key:NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        assert_eq!(parsed(kid).unwrap(), kid);
        assert_eq!(parsed("key:ABC").unwrap(), "key:ABC", "no whole bytes");
        for text in ["key:9F:86:", "key::", "key:9F:8", "key:9F:8G", "key:no:hex", "key:9f 86"] {
            assert!(parsed(text).is_err(), "{text}");
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
