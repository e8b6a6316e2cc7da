//! PKCS #10: proof that the caller has the private key of a public one (RFC 2986). Nothing else in a request counts.

use rcgen::{PublicKeyData as _, SubjectPublicKeyInfo};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::{PublicKey, RSAPublicKey};

use crate::domain::refusal::Refusal;
use crate::jose;

/// The longest request, in bytes.
pub const MAX_CSR_BYTES: usize = 8 * 1024;

const EC_PUBLIC_KEY: Oid<'static> = oid!(1.2.840.10045.2.1);
const P256: Oid<'static> = oid!(1.2.840.10045.3.1.7);
const P384: Oid<'static> = oid!(1.3.132.0.34);
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
/// ECDSA with SHA-256 and SHA-384; RSA (PKCS #1) with SHA-256, SHA-384 and SHA-512. Not SHA-1.
const SIGNATURES: [Oid<'static>; 5] = [
    oid!(1.2.840.10045.4.3.2),
    oid!(1.2.840.10045.4.3.3),
    oid!(1.2.840.113549.1.1.11),
    oid!(1.2.840.113549.1.1.12),
    oid!(1.2.840.113549.1.1.13),
];

/// A public key whose private one the caller has. Only [`prove`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedKey {
    spki_der: Vec<u8>,
}

impl ProvedKey {
    /// The key as DER of a SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }
}

/// A request proves no key that is taken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// More than [`MAX_CSR_BYTES`].
    #[error("the request has more than {MAX_CSR_BYTES} bytes")]
    TooLarge,
    /// Not exactly one PKCS #10 request in DER (RFC 2986 section 4).
    #[error("not a PKCS #10 request in DER; `openssl req -outform DER` writes one")]
    Malformed,
    /// Another kind of key, or parameters spelled in another way (RFC 5480, RFC 3279).
    #[error(
        "the key must be EC on P-256 or P-384, or RSA of at least 2048 bits with exponent 65537"
    )]
    Key,
    /// Signed with another algorithm, such as one with SHA-1.
    #[error("the request must be signed by ECDSA or RSA (PKCS #1) with SHA-256 or longer")]
    SignatureAlgorithm,
    /// The request is not signed by its own key.
    #[error("the signature is not that of the request's own key")]
    Signature,
}

impl From<CsrError> for Refusal {
    fn from(error: CsrError) -> Self {
        Self::ProofInvalid(error.to_string())
    }
}

/// Checks a request and takes its key. Subject, names and extensions that it asks for are not looked at.
///
/// # Errors
/// [`CsrError`] names the rule that the request breaks.
pub fn prove(der: &[u8]) -> Result<ProvedKey, CsrError> {
    if der.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLarge);
    }
    let (rest, request) =
        X509CertificationRequest::from_der(der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let spki = &request.certification_request_info.subject_pki;
    let parameters = spki.algorithm.parameters.as_ref();
    let is_taken = if spki.algorithm.algorithm == EC_PUBLIC_KEY {
        let curve = parameters.and_then(|parameters| parameters.as_oid().ok());
        curve.is_some_and(|curve| curve == P256 || curve == P384)
    } else {
        let key = spki.parsed();
        spki.algorithm.algorithm == RSA && matches!(key, Ok(PublicKey::RSA(key)) if is_strong(&key))
    };
    // One key has one spelling: it is claimed for a task by its bytes.
    let canonical = SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrError::Key)?;
    if !is_taken || canonical.subject_public_key_info() != spki.raw {
        return Err(CsrError::Key);
    }
    if !SIGNATURES.contains(&request.signature_algorithm.algorithm) {
        return Err(CsrError::SignatureAlgorithm);
    }
    // It also refuses a point that is compressed or not on the curve.
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    Ok(ProvedKey { spki_der: spki.raw.to_vec() })
}

fn is_strong(key: &RSAPublicKey<'_>) -> bool {
    let [modulus, exponent] =
        [key.modulus, key.exponent].map(|integer| integer.strip_prefix(&[0]).unwrap_or(integer));
    exponent == [1, 0, 1] && jose::PublicKey::rsa(modulus, exponent).is_ok()
}

#[cfg(test)]
mod tests;
