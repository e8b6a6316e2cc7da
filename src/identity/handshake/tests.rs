//! A certificate is public: whoever shows it has its key, or is refused.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion,
};

use super::*;
use crate::broker::seams::{Clock as _, SystemClock};
use crate::domain::time::Span;
use crate::identity::client_cert::SvidClientVerifier;
use crate::testing::ca::{Issued, TestAuthority};
use crate::testing::trust::trusting;

/// Shows a certificate, whosever its key is.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// What a server says of a client that shows a chain and signs with a key.
fn judged(
    version: &'static SupportedProtocolVersion,
    root: &TestAuthority,
    (shown, key): (&Issued, &Issued),
) -> Result<(), Error> {
    let (provider, own) = (Arc::new(ring::default_provider()), root.server());
    let clients = SvidClientVerifier::new(trusting(&[("prod.example", &[root])]).shared());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])?
        .with_client_cert_verifier(Arc::new(clients))
        .with_single_cert(own.chain.clone(), own.key_der())?;
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone())?;
    let certified = CertifiedKey::new(shown.chain.clone(), any_supported_type(&key.key_der())?);
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Shown(Arc::new(certified))));
    let mut client =
        ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        while client.wants_write() {
            client.write_tls(&mut to_server).unwrap();
        }
        let mut rest = to_server.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        let mut rest = to_client.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn class_08_whoever_shows_a_certificate_without_its_key_is_refused() {
    let (root, now) = (TestAuthority::root("root"), SystemClock::default().now());
    let [one, other] = ["a", "b"].map(|name| {
        let id = format!("spiffe://prod.example/agents/{name}");
        root.svid(&id, now.minus(Span::from_seconds(60)), now.plus(Span::from_seconds(60)))
    });
    for version in [&TLS13, &TLS12] {
        assert_eq!(judged(version, &root, (&one, &one)), Ok(()), "{version:?}");
        let stolen = judged(version, &root, (&one, &other)).unwrap_err();
        let bad = Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(stolen, bad, "{version:?}");
    }
}
