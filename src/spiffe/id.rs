//! SPIFFE IDs of workloads and the names of trust domains, read strictly: nothing is normalised.

use std::fmt;
use std::sync::Arc;

use crate::domain::principal::{Principal, is_segment, is_trust_domain};

/// The longest SPIFFE ID in bytes (SPIFFE-ID section 2.3).
pub const MAX_ID_BYTES: usize = 2048;

/// The name of a trust domain: 1 to 255 bytes of `a-z 0-9 . - _` (SPIFFE-ID section 2.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// A text is not the name of a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a trust domain has 1 to 255 characters of `a-z`, `0-9`, `.`, `-` and `_`, without scheme or port"
)]
pub struct TrustDomainError;

impl TrustDomain {
    /// Reads a bare name, such as `prod.example`.
    ///
    /// # Errors
    /// [`TrustDomainError`] for anything else, an upper-case name or one with `spiffe://` included.
    pub fn parse(text: &str) -> Result<Self, TrustDomainError> {
        if is_trust_domain(text) { Ok(Self(text.into())) } else { Err(TrustDomainError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The SPIFFE ID of a workload: `spiffe://<trust domain>/<path>`. The ID of a trust domain itself is none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    principal: Principal,
    trust_domain: TrustDomain,
}

/// A text is not the SPIFFE ID of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// More than 2048 bytes (SPIFFE-ID section 2.3).
    #[error("a SPIFFE ID has at most {MAX_ID_BYTES} bytes")]
    TooLong,
    /// The text does not begin with `spiffe://` in lower case (SPIFFE-ID section 2).
    #[error("a SPIFFE ID begins with `spiffe://`, in lower case")]
    Scheme,
    /// Empty, too long, upper case, or with port, userinfo or another character (SPIFFE-ID section 2.1).
    #[error("the trust domain of a SPIFFE ID: {0}")]
    TrustDomain(#[from] TrustDomainError),
    /// The ID of a trust domain, which never names a workload (X509-SVID section 3.1).
    #[error("a workload's SPIFFE ID has a path behind the trust domain")]
    RootPath,
    /// A segment is empty, or the path ends in `/` (SPIFFE-ID section 2.2).
    #[error("the path of a SPIFFE ID has no empty segment and no `/` at its end")]
    EmptySegment,
    /// A segment is `.` or `..` (SPIFFE-ID section 2.2).
    #[error("the path of a SPIFFE ID has no segment `.` or `..`")]
    DotSegment,
    /// A character outside `a-z A-Z 0-9 . - _`; query, fragment and percent-encoding fall here
    /// (SPIFFE-ID section 2.2).
    #[error(
        "a segment of a SPIFFE ID has only characters of `a-z`, `A-Z`, `0-9`, `.`, `-` and `_`"
    )]
    Character,
}

impl SpiffeId {
    /// Reads the SPIFFE ID of a workload.
    ///
    /// # Errors
    /// [`SpiffeIdError`] names the rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, SpiffeIdError> {
        if text.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = match rest.split_once('/') {
            None | Some((_, "")) => {
                TrustDomain::parse(rest.trim_end_matches('/'))?;
                return Err(SpiffeIdError::RootPath);
            }
            Some(parts) => parts,
        };
        let trust_domain = TrustDomain::parse(domain)?;
        if let Some(segment) = path.split('/').find(|segment| !is_segment(segment)) {
            return Err(match segment {
                "" => SpiffeIdError::EmptySegment,
                "." | ".." => SpiffeIdError::DotSegment,
                _ => SpiffeIdError::Character,
            });
        }
        let principal = Principal::parse(text).map_err(|_| SpiffeIdError::Character)?;
        Ok(Self { principal, trust_domain })
    }

    /// The whole ID.
    pub fn as_str(&self) -> &str {
        self.principal.as_str()
    }

    /// The trust domain that vouches for it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The same identity as a principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.principal.fmt(f)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.principal, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOMAIN: &str = "abcdefghijklmnopqrstuvwxyz0123456789.-_";
    const SEGMENT: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

    #[test]
    fn class_13_of_256_code_points_a_trust_domain_takes_39() {
        for c in ('\0'..='\u{ff}').filter(|c| *c != '/') {
            let text = format!("spiffe://a{c}b/x");
            let outcome = SpiffeId::parse(&text);
            if DOMAIN.contains(c) {
                assert_eq!(outcome.unwrap().trust_domain().as_str(), format!("a{c}b"));
            } else {
                assert_eq!(outcome, Err(SpiffeIdError::TrustDomain(TrustDomainError)), "{text:?}");
            }
            assert_eq!(TrustDomain::parse(&format!("{c}")).is_ok(), DOMAIN.contains(c), "{c:?}");
        }
    }

    #[test]
    fn class_13_of_256_code_points_a_path_segment_takes_65() {
        for c in ('\0'..='\u{ff}').filter(|c| *c != '/') {
            let text = format!("spiffe://td/x/a{c}b");
            let outcome = SpiffeId::parse(&text);
            if SEGMENT.contains(c) {
                assert_eq!(outcome.unwrap().as_str(), text);
            } else {
                assert_eq!(outcome, Err(SpiffeIdError::Character), "{text:?}");
            }
        }
    }

    #[test]
    fn class_13_every_rule_of_an_id_has_its_own_refusal() {
        use SpiffeIdError::*;
        let domain = TrustDomain(TrustDomainError);
        for (text, error) in [
            ("", Scheme),
            ("td/path", Scheme),
            ("http://td/path", Scheme),
            ("Spiffe://td/path", Scheme),
            ("spiffe:/td/path", Scheme),
            (" spiffe://td/path", Scheme),
            ("spiffe://", domain),
            ("spiffe:///path", domain),
            ("spiffe://TD/path", domain),
            ("spiffe://td:443/path", domain),
            ("spiffe://me@td/path", domain),
            ("spiffe://[::1]/path", domain),
            ("spiffe://t%64/path", domain),
            ("spiffe://td?a/path", domain),
            ("spiffe://td", RootPath),
            ("spiffe://td/", RootPath),
            ("spiffe://td//", EmptySegment),
            ("spiffe://td//path", EmptySegment),
            ("spiffe://td/path/", EmptySegment),
            ("spiffe://td/./path", DotSegment),
            ("spiffe://td/path/..", DotSegment),
            ("spiffe://td/%2e%2e/path", Character),
            ("spiffe://td/path?query", Character),
            ("spiffe://td/path#fragment", Character),
            ("spiffe://td/path,spiffe://td/other", Character),
        ] {
            assert_eq!(SpiffeId::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn lengths_and_dots_at_their_limits_are_ids() {
        for text in ["spiffe://10.0.0.1/a", "spiffe://td/...", "spiffe://td/.a", "spiffe://_/-"] {
            assert_eq!(SpiffeId::parse(text).unwrap().as_str(), text);
        }
        let longest = format!("spiffe://td/{}", "a".repeat(MAX_ID_BYTES - 12));
        assert!(SpiffeId::parse(&longest).is_ok());
        assert_eq!(SpiffeId::parse(&format!("{longest}a")), Err(SpiffeIdError::TooLong));
        let domain = "a".repeat(255);
        assert!(SpiffeId::parse(&format!("spiffe://{domain}/x")).is_ok());
        assert!(SpiffeId::parse(&format!("spiffe://{domain}a/x")).is_err());
    }
}
