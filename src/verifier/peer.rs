//! The client certificate that a connection shows.

use std::sync::Arc;

use crate::jose::certificate_thumbprint;

/// The client certificate that a connection shows. Whoever accepts connections puts one into the extensions of each request;
/// the layer looks for it there. Its thumbprint is taken once, for all requests of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    der: Arc<[u8]>,
    thumbprint: [u8; 32],
}

impl PeerCertificate {
    /// Of a leaf in DER, as the TLS library gives it after a handshake that verified it.
    pub fn new(der: &[u8]) -> Self {
        Self { der: der.into(), thumbprint: certificate_thumbprint(der) }
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its SHA-256: `x5t#S256` of a token that is bound to it (RFC 8705 section 3.1).
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }
}
