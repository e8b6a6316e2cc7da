//! Who somebody is: a SPIFFE ID, or a subject of a named OIDC issuer, in one canonical text.

use std::fmt;
use std::sync::Arc;

/// A name that configuration gives: issuer, class, tier, role entry. `[a-z0-9-]{1,63}` (FORMATS.md).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// A text is not a [`Name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 63 characters of `a-z`, `0-9` and `-`")]
pub struct NameError;

impl Name {
    /// Reads a name; nothing is normalised.
    ///
    /// # Errors
    /// [`NameError`] if the text is empty, too long, or has another character.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fits = matches!(text.len(), 1..=63)
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits { Ok(Self(text.into())) } else { Err(NameError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A verified identity's name, in canonical text: the SPIFFE ID itself, or `oidc:<issuer name>:<subject>`.
///
/// Two principals are equal if their texts are, byte for byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    text: Arc<str>,
    /// Length of the trust domain or the issuer name behind the prefix.
    authority: usize,
}

/// A text is not a canonical principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrincipalError {
    /// Neither `spiffe://` nor `oidc:`.
    #[error("a principal is `spiffe://<trust domain>/<path>` or `oidc:<issuer name>:<subject>`")]
    Scheme,
    /// No path, an empty trust domain, or a character that no SPIFFE ID has (SPIFFE-ID section 2).
    #[error(
        "not a SPIFFE ID of a workload: `spiffe://<trust domain>/<path>`, no empty, `.` or `..` segment"
    )]
    Spiffe,
    /// The issuer is not a name from the configuration.
    #[error(
        "the issuer of `oidc:<issuer name>:<subject>` is a name of 1 to 63 characters of `a-z`, `0-9`, `-`"
    )]
    Issuer,
    /// The subject is empty, longer than 255 bytes, or holds a control character.
    #[error(
        "the subject of `oidc:<issuer name>:<subject>` has 1 to 255 bytes and no control characters"
    )]
    Subject,
}

const SPIFFE: &str = "spiffe://";
const OIDC: &str = "oidc:";

impl Principal {
    /// Reads the canonical text of a principal.
    ///
    /// # Errors
    /// [`PrincipalError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        if let Some(rest) = text.strip_prefix(SPIFFE) {
            let (domain, path) = rest.split_once('/').ok_or(PrincipalError::Spiffe)?;
            if text.len() > 2048 || !is_trust_domain(domain) || !path.split('/').all(is_segment) {
                return Err(PrincipalError::Spiffe);
            }
            return Ok(Self { text: text.into(), authority: domain.len() });
        }
        let rest = text.strip_prefix(OIDC).ok_or(PrincipalError::Scheme)?;
        let (issuer, subject) = rest.split_once(':').ok_or(PrincipalError::Scheme)?;
        Name::parse(issuer).map_err(|_| PrincipalError::Issuer)?;
        if !matches!(subject.len(), 1..=255) || subject.chars().any(char::is_control) {
            return Err(PrincipalError::Subject);
        }
        Ok(Self { text: text.into(), authority: issuer.len() })
    }

    /// The principal of a subject of a named issuer.
    ///
    /// # Errors
    /// [`PrincipalError::Subject`] if the subject is empty, too long, or holds a control character.
    pub fn oidc(issuer: &Name, subject: &str) -> Result<Self, PrincipalError> {
        Self::parse(&format!("{OIDC}{issuer}:{subject}"))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The trust domain of a SPIFFE ID.
    pub fn trust_domain(&self) -> Option<&str> {
        self.text.strip_prefix(SPIFFE)?.get(..self.authority)
    }

    /// The path of a SPIFFE ID without its first `/`.
    pub fn spiffe_path(&self) -> Option<&str> {
        self.text.strip_prefix(SPIFFE)?.get(self.authority + 1..)
    }

    /// The issuer's name, of an OIDC principal.
    pub fn issuer(&self) -> Option<&str> {
        self.text.strip_prefix(OIDC)?.get(..self.authority)
    }

    /// The subject, of an OIDC principal.
    pub fn subject(&self) -> Option<&str> {
        self.text.strip_prefix(OIDC)?.get(self.authority + 1..)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

/// Whether a text is a SPIFFE trust domain: 1 to 255 bytes of `a-z 0-9 . - _` (SPIFFE-ID section 2.1).
pub fn is_trust_domain(text: &str) -> bool {
    matches!(text.len(), 1..=255)
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'))
}

/// Whether a text is a segment of a SPIFFE ID's path (SPIFFE-ID section 2.2).
pub fn is_segment(text: &str) -> bool {
    !matches!(text, "" | "." | "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// Which agents a task is for, or which SPIFFE IDs have a role: one SPIFFE ID, or all that lie below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpiffePattern {
    /// This very ID.
    Exact(Principal),
    /// Every ID with this prefix, which ends in `/`, and at least one more segment.
    Below(Arc<str>),
}

impl SpiffePattern {
    /// Reads a SPIFFE ID, or one with `*` as its last segment, which stands for one or more segments.
    ///
    /// # Errors
    /// [`PrincipalError::Spiffe`] if it is neither.
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        let Some(prefix) = text.strip_suffix('*') else {
            let exact = Principal::parse(text)?;
            return match exact.trust_domain() {
                Some(_) => Ok(Self::Exact(exact)),
                None => Err(PrincipalError::Spiffe),
            };
        };
        match Principal::parse(&format!("{prefix}x")) {
            Ok(probe) if probe.trust_domain().is_some() && prefix.ends_with('/') => {
                Ok(Self::Below(prefix.into()))
            }
            _ => Err(PrincipalError::Spiffe),
        }
    }

    /// Whether the pattern covers a principal.
    pub fn matches(&self, principal: &Principal) -> bool {
        match self {
            Self::Exact(exact) => exact == principal,
            Self::Below(prefix) => principal.as_str().starts_with(&**prefix),
        }
    }

    /// The trust domain that all it covers lie in.
    pub fn trust_domain(&self) -> &str {
        let text = match self {
            Self::Exact(exact) => exact.as_str(),
            Self::Below(prefix) => prefix,
        };
        text.strip_prefix(SPIFFE).and_then(|rest| rest.split('/').next()).unwrap_or_default()
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => exact.fmt(f),
            Self::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_18_principals_have_one_spelling() {
        let agent = Principal::parse("spiffe://prod.example/agents/finance/a").unwrap();
        assert_eq!(agent.trust_domain(), Some("prod.example"));
        assert_eq!(agent.spiffe_path(), Some("agents/finance/a"));
        assert_eq!(agent.issuer(), None);
        let pod = Principal::parse("oidc:k8s:system:serviceaccount:ns:sa").unwrap();
        assert_eq!(pod.issuer(), Some("k8s"));
        assert_eq!(pod.subject(), Some("system:serviceaccount:ns:sa"));
        assert_eq!(pod.trust_domain(), None);
    }

    #[test]
    fn class_13_ambiguous_spiffe_ids_are_refused() {
        for text in [
            "spiffe://prod.example",
            "spiffe://prod.example/",
            "spiffe:///a",
            "spiffe://Prod.example/a",
            "spiffe://prod.example:8443/a",
            "spiffe://user@prod.example/a",
            "spiffe://prod.example/a/",
            "spiffe://prod.example//a",
            "spiffe://prod.example/a/../b",
            "spiffe://prod.example/./a",
            "spiffe://prod.example/a%2fb",
            "spiffe://prod.example/a?b",
            "spiffe://prod.example/a#b",
            "spiffe://prod.example/a\0",
            "spiffe://prod.example/a,spiffe://x.example/b",
            "SPIFFE://prod.example/a",
            "spiffe://prod.example/ä",
        ] {
            let is_spiffe = text.starts_with(SPIFFE);
            let error = if is_spiffe { PrincipalError::Spiffe } else { PrincipalError::Scheme };
            assert_eq!(Principal::parse(text), Err(error), "{text}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(2048));
        assert_eq!(Principal::parse(&long), Err(PrincipalError::Spiffe));
    }

    #[test]
    fn class_12_two_issuers_with_the_same_subject_are_two_principals() {
        let [one, two] = ["oidc:a:b:c", "oidc:a-b:c"].map(|t| Principal::parse(t).unwrap());
        assert_ne!(one, two);
        assert_eq!(Principal::parse("oidc:A:b"), Err(PrincipalError::Issuer));
        assert_eq!(Principal::parse("oidc:a:"), Err(PrincipalError::Subject));
        assert_eq!(Principal::parse("oidc:a:b\r\n"), Err(PrincipalError::Subject));
    }

    #[test]
    fn a_star_stands_for_one_or_more_segments_at_the_end_only() {
        let pattern = SpiffePattern::parse("spiffe://prod.example/ci/*").unwrap();
        let matches = |text| pattern.matches(&Principal::parse(text).unwrap());
        assert!(matches("spiffe://prod.example/ci/a"));
        assert!(matches("spiffe://prod.example/ci/a/b"));
        assert!(!matches("spiffe://prod.example/ci"));
        assert!(!matches("spiffe://prod.example/cia/b"));
        assert!(!matches("spiffe://prod.example.evil/ci/a"));
        for text in [
            "spiffe://prod.example/*/a",
            "spiffe://*/a",
            "spiffe://prod.example/a*",
            "*",
            "spiffe://prod.example*",
            "spiffe://prod.example/**",
            "oidc:k8s:*",
        ] {
            assert!(SpiffePattern::parse(text).is_err(), "{text}");
        }
    }
}
