//! Certificates in DER, one behind the other: how the Workload API writes chains and bundles.

use x509_parser::parse_x509_certificate;

/// Bytes are not certificates in DER and nothing else, or are too many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConcatenatedError {
    /// Something between, behind or instead of certificates. Counted from 0.
    #[error("certificate {0} is not X.509 in DER")]
    Malformed(usize),
    /// More than the reader takes.
    #[error("more than {0} certificates")]
    TooMany(usize),
}

/// The certificates, each in its own bytes; none of no bytes.
///
/// # Errors
/// [`ConcatenatedError`] if they are more than `most`, or something else.
pub fn certificates(mut der: &[u8], most: usize) -> Result<Vec<&[u8]>, ConcatenatedError> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let malformed = ConcatenatedError::Malformed(found.len());
        if found.len() == most {
            return Err(ConcatenatedError::TooMany(most));
        }
        let (rest, _) = parse_x509_certificate(der).map_err(|_| malformed)?;
        let length = der.len().saturating_sub(rest.len());
        let (certificate, rest) = der.split_at_checked(length).ok_or(malformed)?;
        found.push(certificate);
        der = rest;
    }
    Ok(found)
}
