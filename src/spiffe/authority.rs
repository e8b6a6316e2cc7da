//! Signing certificates: what may stand in a bundle, or between a bundle and a leaf.

use super::certificate::Certificate;
use crate::domain::time::Stamp;
use crate::jose::json::Object;

/// The certificate of a certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    der: Vec<u8>,
    from: Stamp,
    expires: Stamp,
}

/// A certificate is not a signing certificate. One variant per rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Not one DER certificate of version 3 with readable, unique extensions (RFC 5280 section 4).
    #[error("the certificate is not well-formed X.509 v3 in DER")]
    Malformed,
    /// `cA` is not true: a workload's certificate pinned as a root would vouch for others
    /// (X509-SVID section 4.1; THREATS.md class 8).
    #[error("the certificate is not a certificate authority's (`cA` is not true)")]
    NotAuthority,
    /// Key usage is there, without `keyCertSign` (RFC 5280 section 6.1.4 n). Absent it is allowed, as in many roots.
    #[error("the certificate's `keyUsage` must have `keyCertSign`")]
    CertSignMissing,
    /// noRevAvail stands in a certificate of an authority (RFC 9608 section 4).
    #[error("a certificate authority's certificate must not have `noRevAvail`")]
    NoRevAvail,
}

impl Authority {
    /// Checks a certificate in DER against every rule of a signing certificate, except the time.
    ///
    /// # Errors
    /// [`AuthorityError`] names the first rule that it breaks.
    pub fn check(der: &[u8]) -> Result<Self, AuthorityError> {
        let certificate = Certificate::read(der).map_err(|_| AuthorityError::Malformed)?;
        if !certificate.is_authority() {
            return Err(AuthorityError::NotAuthority);
        }
        if certificate.key_usage().is_some_and(|(usage, _)| !usage.key_cert_sign()) {
            return Err(AuthorityError::CertSignMissing);
        }
        if certificate.has_no_rev_avail() {
            return Err(AuthorityError::NoRevAvail);
        }
        let (from, expires) = certificate.validity();
        Ok(Self { der: der.to_vec(), from, expires })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether another one, by name and key, signed it (RFC 5280 section 6.1.3).
    pub fn is_signed_by(&self, other: &Self) -> bool {
        Certificate::read(&self.der).is_ok_and(|certificate| certificate.is_signed_by(other))
    }

    /// Its subject key identifier in lower-case hex: the name of the authority's key in scopes. `None` if it has none.
    pub fn subject_key_id(&self) -> Option<String> {
        Some(self.subject_key_id_bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The same as bytes.
    pub fn subject_key_id_bytes(&self) -> Option<Vec<u8>> {
        Some(Certificate::read(&self.der).ok()?.subject_key_id()?.to_vec())
    }

    /// Whether its key usage, if it has one, lets it sign revocation lists (RFC 5280 section 4.2.1.3).
    pub fn signs_lists(&self) -> bool {
        let certificate = Certificate::read(&self.der);
        certificate.is_ok_and(|c| c.key_usage().is_none_or(|(usage, _)| usage.crl_sign()))
    }

    /// How many authorities may stand between it and a leaf; `None` if any number may (RFC 5280 section 4.2.1.9).
    pub fn path_length(&self) -> Option<u32> {
        Certificate::read(&self.der).ok()?.path_length()
    }

    /// The URIs among its names: for SPIFFE none, or the ID of its trust domain (X509-SVID section 4.1).
    pub fn uris(&self) -> Vec<String> {
        let certificate = Certificate::read(&self.der);
        certificate.map(|certificate| certificate.uris()).unwrap_or_default()
    }

    /// The members of its key's JWK (RFC 7518 section 6); `None` for kinds of keys that `jose` does not know.
    pub(super) fn public_key_members(&self) -> Option<Object> {
        Certificate::read(&self.der).ok()?.public_key_members()
    }

    /// Whether `now` lies in the time of its validity.
    pub fn is_valid_at(&self, now: Stamp) -> bool {
        self.from <= now && now < self.expires
    }

    /// The first instant at which it is no longer valid: one second after `notAfter`.
    pub fn expires(&self) -> Stamp {
        self.expires
    }
}
