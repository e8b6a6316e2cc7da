//! Pairs come, break and go; who connects is shown the last one that fitted together.

use std::fs;
use std::path::PathBuf;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::files::CertificateFiles;
use super::*;
use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::identity::client_cert::SvidClientVerifier;
use crate::listen::tls::{TlsError, server_config};
use crate::testing::ca::{Issued, TestAuthority};
use crate::testing::clock::TestClock;
use crate::testing::trust::trusting;

struct Site {
    folder: TempDir,
    root: TestAuthority,
}

impl Site {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), root: TestAuthority::root("root") }
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["broker.pem", "broker.key"].map(|name| self.folder.path().join(name))
    }

    fn write(&self, chain: &str, key: &str) {
        for (path, text) in self.paths().iter().zip([chain, key]) {
            fs::write(path, text).unwrap();
        }
    }

    /// A certificate of ours, which now lies there.
    fn written(&self) -> Issued {
        let issued = self.root.server();
        self.write(&issued.chain_pem(), &issued.key_pem());
        issued
    }

    fn load(&self) -> Result<CertificateFiles, TlsError> {
        let [chain, key] = self.paths();
        CertificateFiles::load(chain, key, now())
    }

    /// That whoever connects now is shown this certificate.
    async fn must_show(&self, files: &CertificateFiles, issued: &Issued) {
        must_show(&self.root, &files.certificate(), issued).await;
    }
}

/// That whoever connects now is shown this certificate.
pub(super) async fn must_show(
    root: &TestAuthority,
    certificate: &Arc<ServerCertificate>,
    issued: &Issued,
) {
    let (client, _server) = connect(root, certificate).await;
    let shown = client.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown.first(), issued.chain.first());
}

/// Both ends of a new connection.
pub(super) async fn connect(
    root: &TestAuthority,
    certificate: &Arc<ServerCertificate>,
) -> (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>) {
    let clients = Arc::new(SvidClientVerifier::new(trusting(&[]).shared()));
    let clock = Arc::new(TestClock::default());
    let identity: Arc<ServerCertificate> = Arc::clone(certificate);
    let server = server_config(identity, clients, &["h2"], clock).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().unwrap();
    let mut client = client.with_root_certificates(roots).with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let (here, there) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        TlsConnector::from(Arc::new(client)).connect(name, here),
        TlsAcceptor::from(server).accept(there)
    );
    (client.unwrap(), server.unwrap())
}

fn now() -> Stamp {
    TestClock::default().now()
}

#[tokio::test]
async fn a_new_pair_is_shown_to_whoever_connects_next_and_open_connections_go_on() {
    let site = Site::new();
    let former = site.written();
    let certificate = site.load().unwrap();
    site.must_show(&certificate, &former).await;
    let (mut client, mut server) = connect(&site.root, &certificate.certificate()).await;
    let next = site.written();
    assert!(certificate.reload().is_none());
    site.must_show(&certificate, &next).await;
    client.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");
}

#[tokio::test]
async fn a_broken_pair_keeps_the_former_one_and_is_told_once() {
    let site = Site::new();
    let former = site.written();
    let certificate = site.load().unwrap();
    assert!(certificate.reload().is_none());
    let next = site.root.server();
    let (chain, key) = (next.chain_pem(), next.key_pem());
    for (chain, key) in [("", ""), (&chain, ""), ("junk", &key), (&chain, &former.key_pem())] {
        site.write(chain, key);
        assert!(certificate.reload().is_some(), "`{chain:.20}`, `{key:.20}`");
        assert!(certificate.reload().is_none());
        site.must_show(&certificate, &former).await;
    }
    fs::remove_file(&site.paths()[0]).unwrap();
    assert!(matches!(certificate.reload(), Some(TlsError::Unreadable { .. })));
    assert!(certificate.reload().is_none());
    site.must_show(&certificate, &former).await;
    site.write(&chain, &key);
    assert!(certificate.reload().is_none());
    site.must_show(&certificate, &next).await;
}

#[test]
fn at_the_start_a_broken_pair_is_an_error() {
    let site = Site::new();
    assert!(matches!(site.load(), Err(TlsError::Unreadable { .. })));
    let [one, other] = [site.root.server(), site.root.server()];
    site.write(&one.chain_pem(), &other.key_pem());
    assert!(matches!(site.load(), Err(TlsError::Rejected(_))));
}

#[test]
fn the_end_of_its_life_is_told_once_for_each_certificate() {
    let site = Site::new();
    let hour = Span::from_seconds(3_600);
    let (begins, ends) = (now(), now().plus(hour));
    let brief = site.root.svid("spiffe://prod.example/broker", begins, ends);
    site.write(&brief.chain_pem(), &brief.key_pem());
    let certificate = site.load().unwrap();
    let is_warned = |at: Stamp| {
        assert!(certificate.reload().is_none());
        certificate.certificate().tell_expiry(at);
        certificate.certificate().is_warned.load(Ordering::Relaxed)
    };
    assert!(!is_warned(begins.plus(Span::from_seconds(54 * 60))));
    assert!(is_warned(begins.plus(Span::from_seconds(54 * 60 + 2))));
    assert!(is_warned(ends.plus(hour)));
    site.written();
    assert!(!is_warned(ends.plus(hour)));
}
