//! The check of client certificates inside the TLS handshake.
//!
//! A certificate is asked for and may be left out, since callers with a bearer identity have none. One that is shown
//! must be good: a bad one ends the handshake and is never read as "none".

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::trust_bundle::SharedBundles;
use super::x509_svid::{self, X509SvidError};
use crate::domain::time::Stamp;

/// Takes X.509-SVIDs that lead to the current bundle of their own trust domain.
#[derive(Debug)]
pub struct SvidClientVerifier {
    bundles: SharedBundles,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SvidClientVerifier {
    /// A verifier over the bundles as they are at each handshake.
    pub fn new(bundles: SharedBundles) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { bundles, algorithms }
    }
}

impl ClientCertVerifier for SvidClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: which trust domains we trust is not for everyone who connects.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = [std::slice::from_ref(end_entity), intermediates].concat();
        // Seconds are all that rustls gives; the exact instant is looked at again at every call.
        x509_svid::verify(&chain, &self.bundles.load(), Stamp::from_seconds(now.as_secs()))
            .map(|_| ClientCertVerified::assertion())
            .map_err(refusal)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The peer sees an alert; the log sees which rule it was.
fn refusal(fault: X509SvidError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
}
