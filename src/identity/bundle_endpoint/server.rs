//! The check of an endpoint's server that proves itself with an X.509-SVID (SPIFFE Federation section 5.2.2).

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use crate::broker::seams::Clock;
use crate::domain::time::Stamp;
use crate::identity::handshake::HandshakeSignatures;
use crate::identity::trust_bundle::{SharedBundles, TrustBundle};
use crate::identity::x509_svid;
use crate::spiffe::id::{SpiffeId, TrustDomain};

/// By whose word an endpoint's server is known.
#[derive(Debug)]
pub(super) struct Vouching {
    /// The trust domain of the server's SPIFFE ID.
    pub(super) trust_domain: TrustDomain,
    /// Everyone's bundles.
    pub(super) bundles: SharedBundles,
    /// There is one iff the server gives the bundle of its own trust domain.
    pub(super) bootstrap: Option<Arc<TrustBundle>>,
}

impl Vouching {
    /// The bundle that the server's certificate must lead to.
    pub(super) fn bundle(&self, now: Stamp) -> Option<Arc<TrustBundle>> {
        let bundles = self.bundles.load();
        match &self.bootstrap {
            // The latest that was fetched, also if callers of the domain are refused by now because of its age: who may
            // renew a bundle would else be nobody. One without roots too: whoever published that ended the relationship, which
            // begins anew by a bundle of the operator's (SPIFFE Federation sections 5.2.2.4 and 6.3).
            Some(bootstrap) => {
                Some(Arc::clone(bundles.last(&self.trust_domain).unwrap_or(bootstrap)))
            }
            None => bundles.get(&self.trust_domain, now).ok().map(Arc::clone),
        }
    }
}

/// Takes one SPIFFE ID as the server, whatever name it was reached by.
#[derive(Debug)]
pub(super) struct EndpointServer {
    id: SpiffeId,
    vouching: Arc<Vouching>,
    clock: SharedClock,
    signatures: HandshakeSignatures,
}

struct SharedClock(Arc<dyn Clock>);

impl std::fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl EndpointServer {
    pub(super) fn new(id: SpiffeId, vouching: Arc<Vouching>, clock: Arc<dyn Clock>) -> Self {
        Self { id, vouching, clock: SharedClock(clock), signatures: HandshakeSignatures::new() }
    }
}

impl ServerCertVerifier for EndpointServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let now = self.clock.0.now();
        let chain = [std::slice::from_ref(end_entity), intermediates].concat();
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let bundle = self.vouching.bundle(now).ok_or(unknown)?;
        x509_svid::verify_server(&chain, &self.id, &bundle, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|fault| {
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(fault))))
            })
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
