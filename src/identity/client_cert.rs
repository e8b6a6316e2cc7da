//! The check of client certificates inside the TLS handshake.
//!
//! A certificate is asked for and may be left out, since callers with a bearer identity have none. One that is shown
//! must be good: a bad one ends the handshake and is never read as "none".
//!
//! The peer hears of it by a TLS alert, which says no more than of what kind the fault is. Which rule was broken, whoever shook
//! hands may ask with [`with_fault`].

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::handshake::HandshakeSignatures;
use super::trust_bundle::SharedBundles;
use super::x509_svid::{self, X509SvidError};
use crate::domain::time::Stamp;
use crate::spiffe::leaf::LeafError;

tokio::task_local! {
    /// Why the certificate of the handshake that runs in this task was refused.
    static FAULT: RefCell<Option<X509SvidError>>;
}

/// A handshake's outcome, and the rule that its client certificate breaks, if it was refused for one: rustls keeps no more of
/// that than its alert.
pub async fn with_fault<T>(handshake: impl Future<Output = T>) -> (T, Option<X509SvidError>) {
    let shaken = async {
        let outcome = handshake.await;
        (outcome, FAULT.with(RefCell::take))
    };
    FAULT.scope(RefCell::default(), shaken).await
}

/// Takes X.509-SVIDs that lead to the current bundle of their own trust domain.
#[derive(Debug)]
pub struct SvidClientVerifier {
    bundles: SharedBundles,
    signatures: HandshakeSignatures,
}

impl SvidClientVerifier {
    /// A verifier over the bundles as they are at each handshake.
    pub fn new(bundles: SharedBundles) -> Self {
        Self { bundles, signatures: HandshakeSignatures::new() }
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
        self.signatures.verify_tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signatures.verify_tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// The peer sees the alert that fits (RFC 8446 section 6.2).
fn refusal(fault: X509SvidError) -> Error {
    let kind = kind(&fault);
    // Nobody asks outside of [`with_fault`].
    let _ = FAULT.try_with(|told| told.replace(Some(fault.clone())));
    Error::InvalidCertificate(match kind {
        Some(kind) => kind,
        None => CertificateError::Other(OtherError(Arc::new(fault))),
    })
}

/// The fault as rustls knows it; `None` for the rules of SPIFFE's own: `certificate_unknown`.
fn kind(fault: &X509SvidError) -> Option<CertificateError> {
    Some(match fault {
        // A root of the same name and another key is another root.
        X509SvidError::TrustDomain(_)
        | X509SvidError::Untrusted(
            _,
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey,
        ) => CertificateError::UnknownIssuer,
        X509SvidError::Expired
        | X509SvidError::Leaf(LeafError::Expired)
        | X509SvidError::Untrusted(_, webpki::Error::CertExpired { .. }) => {
            CertificateError::Expired
        }
        X509SvidError::Leaf(LeafError::NotYetValid)
        | X509SvidError::Untrusted(_, webpki::Error::CertNotValidYet { .. }) => {
            CertificateError::NotValidYet
        }
        X509SvidError::Leaf(LeafError::Malformed) => CertificateError::BadEncoding,
        X509SvidError::Leaf(LeafError::UnknownCriticalExtension) => {
            CertificateError::UnhandledCriticalExtension
        }
        X509SvidError::Leaf(
            LeafError::Authority
            | LeafError::KeyUsageMissing
            | LeafError::KeyUsageNotCritical
            | LeafError::DigitalSignatureMissing
            | LeafError::SignsCertificates
            | LeafError::SignsRevocationLists
            | LeafError::ExtendedKeyUsage,
        ) => CertificateError::InvalidPurpose,
        X509SvidError::NoCertificate
        | X509SvidError::ChainTooLong
        | X509SvidError::Intermediate(_)
        | X509SvidError::Untrusted(..)
        | X509SvidError::Leaf(_)
        | X509SvidError::OtherServer(_) => return None,
    })
}
