//! The rules of an X.509-SVID leaf (X509-SVID sections 2 to 5). Chain building comes on top, and is not here.

use x509_parser::extensions::GeneralName;

use super::certificate::Certificate;
use super::id::{SpiffeId, SpiffeIdError};
use crate::domain::time::Stamp;

/// What a leaf that keeps every rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    id: SpiffeId,
    expires: Stamp,
}

/// A certificate is not a valid X.509-SVID leaf. One variant per rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not one DER certificate of version 3 with readable, unique extensions (RFC 5280 section 4).
    #[error("the certificate is not well-formed X.509 v3 in DER")]
    Malformed,
    /// noRevAvail stands in a certificate of an authority (RFC 9608 section 4).
    #[error("a certificate authority's certificate must not have `noRevAvail`")]
    NoRevAvailOnAuthority,
    /// `cA` is true (X509-SVID section 5.2).
    #[error("the certificate is a certificate authority's; a workload shows its own")]
    Authority,
    /// No key usage (X509-SVID section 4.3).
    #[error("the certificate has no `keyUsage`")]
    KeyUsageMissing,
    /// Key usage is not critical (X509-SVID section 4.3).
    #[error("the certificate's `keyUsage` must be critical")]
    KeyUsageNotCritical,
    /// `digitalSignature` is not set (X509-SVID section 4.3).
    #[error("the certificate's `keyUsage` must have `digitalSignature`")]
    DigitalSignatureMissing,
    /// `keyCertSign` is set (X509-SVID section 5.2).
    #[error("the certificate's `keyUsage` must not have `keyCertSign`")]
    SignsCertificates,
    /// `cRLSign` is set (X509-SVID section 5.2).
    #[error("the certificate's `keyUsage` must not have `cRLSign`")]
    SignsRevocationLists,
    /// Extended key usage is there, without `serverAuth` or without `clientAuth` (X509-SVID section 4.4).
    #[error("the certificate's `extKeyUsage` must have both `serverAuth` and `clientAuth`")]
    ExtendedKeyUsage,
    /// An extension that is critical and not one of those above (RFC 5280 section 4.2).
    #[error("the certificate has a critical extension that is not known here")]
    UnknownCriticalExtension,
    /// No URI among the subject alternative names (X509-SVID section 2).
    #[error("the certificate has no URI SAN; an X.509-SVID has exactly one")]
    NoUriSan,
    /// More than one URI, of whatever scheme (X509-SVID section 5.2).
    #[error("the certificate has more than one URI SAN; an X.509-SVID has exactly one")]
    SeveralUriSans,
    /// The subject is empty and the alternative names are not critical (X509-SVID section 3.1, RFC 5280 section 4.2.1.6).
    #[error("the certificate's subject is empty, so its `subjectAltName` must be critical")]
    SanNotCritical,
    /// The URI is not the SPIFFE ID of a workload (X509-SVID sections 2 and 3.1).
    #[error("the certificate's URI SAN: {0}")]
    SpiffeId(#[from] SpiffeIdError),
    /// `now` is before `notBefore` (RFC 5280 section 6.1.3).
    #[error("the certificate is not valid yet; check the clocks")]
    NotYetValid,
    /// `now` is after the last second of `notAfter` (RFC 5280 section 6.1.3).
    #[error("the certificate has expired; rotate it and connect again")]
    Expired,
}

impl Leaf {
    /// Checks a certificate in DER against every rule of a leaf.
    ///
    /// # Errors
    /// [`LeafError`] names the first rule that it breaks.
    pub fn check(der: &[u8], now: Stamp) -> Result<Self, LeafError> {
        let certificate = Certificate::read(der).map_err(|_| LeafError::Malformed)?;
        check_constraints(&certificate)?;
        check_key_usage(&certificate)?;
        if certificate.has_unknown_critical_extension() {
            return Err(LeafError::UnknownCriticalExtension);
        }
        let id = spiffe_id(&certificate)?;
        let (from, expires) = certificate.validity();
        if now < from {
            return Err(LeafError::NotYetValid);
        }
        if now >= expires {
            return Err(LeafError::Expired);
        }
        Ok(Self { id, expires })
    }

    /// Whom the certificate names.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The first instant at which it is no longer valid: one second after `notAfter`.
    pub fn expires(&self) -> Stamp {
        self.expires
    }
}

fn check_constraints(certificate: &Certificate<'_>) -> Result<(), LeafError> {
    match (certificate.is_authority(), certificate.has_no_rev_avail()) {
        (true, true) => Err(LeafError::NoRevAvailOnAuthority),
        (true, false) => Err(LeafError::Authority),
        (false, _) => Ok(()),
    }
}

fn check_key_usage(certificate: &Certificate<'_>) -> Result<(), LeafError> {
    let (usage, critical) = certificate.key_usage().ok_or(LeafError::KeyUsageMissing)?;
    if !critical {
        return Err(LeafError::KeyUsageNotCritical);
    }
    if !usage.digital_signature() {
        return Err(LeafError::DigitalSignatureMissing);
    }
    if usage.key_cert_sign() {
        return Err(LeafError::SignsCertificates);
    }
    if usage.crl_sign() {
        return Err(LeafError::SignsRevocationLists);
    }
    match certificate.extended_key_usage() {
        Some(extended) if !(extended.server_auth && extended.client_auth) => {
            Err(LeafError::ExtendedKeyUsage)
        }
        _ => Ok(()),
    }
}

fn spiffe_id(certificate: &Certificate<'_>) -> Result<SpiffeId, LeafError> {
    let (names, critical) = certificate.names();
    let mut uris = Vec::new();
    for name in names {
        match name {
            GeneralName::URI(uri) => uris.push(*uri),
            // It might be a URI that another reader understands.
            GeneralName::Invalid(..) => return Err(LeafError::Malformed),
            _ => {}
        }
    }
    let uri = match uris.as_slice() {
        [] => return Err(LeafError::NoUriSan),
        [uri] => uri,
        _ => return Err(LeafError::SeveralUriSans),
    };
    if !certificate.has_subject() && !critical {
        return Err(LeafError::SanNotCritical);
    }
    Ok(SpiffeId::parse(uri)?)
}
