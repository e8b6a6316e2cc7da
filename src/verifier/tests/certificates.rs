//! Certificates for tasks: who leads up to the broker's bundle, and connections that last no longer than their certificate.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::TlsConnector;

use super::served::{Scene, fresh_again};
use super::*;
use crate::clock::{Clock, SystemClock};
use crate::domain::lattice::Dead;
use crate::keys::set_validity;
use crate::spiffe::authority::Authority;
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;
use crate::spiffe::leaf::LeafError;
use crate::spiffe::task_certificate::{TaskCertificateError, serial_number, spiffe_id_text};
use crate::spiffe::task_extension::{self, ExtensionOid};
use crate::testing::ca::TestAuthority;
use crate::testing::clock::TestClock;

/// An authority of the broker's, with its key.
struct Ca {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

impl Ca {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    fn root(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, der }
    }

    fn below(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Self { params, key, der }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// The certificate of an execution, good for a minute around now.
    fn leaf(&self, execution: &Execution, key: &KeyPair) -> CertificateDer<'static> {
        let domain = TrustDomain::parse("leasehold.example").unwrap();
        let id = spiffe_id_text(&domain, execution, &Name::parse("finance").unwrap());
        let now = SystemClock::default().now();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial_number([1; 16])));
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let oid = ExtensionOid::default();
        let extension = task_extension::encode(execution).unwrap();
        params.custom_extensions = vec![CustomExtension::from_oid_content(oid.arcs(), extension)];
        let minute = Span::from_seconds(60);
        set_validity(&mut params, now.minus(minute), now.plus(minute));
        params.signed_by(key, &self.issuer()).unwrap().der().clone()
    }
}

fn bundle(root: &Ca) -> String {
    let authority = Authority::check(&root.der).unwrap();
    Bundle::of_authorities(vec![authority]).to_document().to_string()
}

/// A broker with an authority, a verifier, and a certificate of task 2.
struct Site {
    scene: Scene,
    verifier: Verifier,
    root: Ca,
    intermediate: Ca,
    key: KeyPair,
    leaf: CertificateDer<'static>,
}

impl Site {
    async fn start() -> Self {
        Self::start_by(Arc::new(SystemClock::default())).await
    }

    async fn start_by(clock: Arc<dyn Clock>) -> Self {
        let scene = Scene::start().await;
        let root = Ca::root("root of tasks");
        let intermediate = root.below("tasks");
        scene.broker.bundle.lock().spiffe_bundle = bundle(&root);
        let verifier = Verifier::start_with(scene.settings(), clock).unwrap();
        verifier.ready().await;
        let key = KeyPair::generate().unwrap();
        let short = Span::from_millis(500);
        let execution = Execution { freshness: short, ..scene.claims().execution };
        let leaf = intermediate.leaf(&execution, &key);
        Self { scene, verifier, root, intermediate, key, leaf }
    }

    async fn admit(&self, intermediates: &[&[u8]]) -> Result<Admission, Refused> {
        self.verifier.admit_certificate(&self.leaf, intermediates).await
    }

    /// Both ends of a connection: what the acceptor makes of it, and the client's.
    async fn connect(&self) -> (Accepted, Connected) {
        self.connect_with(rustls::ALL_VERSIONS, &self.key).await
    }

    /// The same by one of these versions, of a client that signs with a key.
    async fn connect_with(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        key: &KeyPair,
    ) -> (Accepted, Connected) {
        let authority = TestAuthority::root("servers");
        let server = authority.server();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(Arc::new(TaskCertificates::new(self.verifier.clone())))
            .with_single_cert(server.chain.clone(), server.key_der())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let chain = vec![self.leaf.clone(), self.intermediate.der.clone()];
        let key: PrivateKeyDer<'_> = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let client = ClientConfig::builder_with_protocol_versions(versions)
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key)))));
        let (near, far) = duplex(16_384);
        let acceptor = Acceptor::new(self.verifier.clone(), config);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        tokio::join!(acceptor.accept(near), connector.connect(name, far))
    }
}

type Accepted = std::io::Result<Connection<DuplexStream>>;
type Connected = std::io::Result<tokio_rustls::client::TlsStream<DuplexStream>>;

/// Shows a certificate, whether it has the key of it or another.
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

#[tokio::test]
async fn class_23_a_certificate_is_worth_nothing_without_its_key_in_either_version_of_tls() {
    let site = Site::start().await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (server, client) = site.connect_with(&[version], &site.key).await;
        assert_eq!(client.unwrap().get_ref().1.protocol_version(), Some(version.version));
        drop(server.unwrap());
        let stolen = KeyPair::generate().unwrap();
        let (server, _) = site.connect_with(&[version], &stolen).await;
        let refused = server.unwrap_err().to_string();
        assert!(refused.contains("BadSignature"), "{version:?}: {refused}");
    }
}

#[tokio::test]
async fn class_08_a_chain_that_its_own_authorities_do_not_allow_is_refused() {
    let site = Site::start().await;
    let mut last = Ca::params("the last");
    last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().unwrap();
    let der = last.signed_by(&key, &site.root.issuer()).unwrap().der().clone();
    let last = Ca { params: last, key, der };
    let below = last.below("one more");
    let execution = &site.scene.claims().execution;
    let (allowed, refused) = (last.leaf(execution, &site.key), below.leaf(execution, &site.key));
    site.verifier.admit_certificate(&allowed, &[&last.der]).await.unwrap();
    let outcome = site.verifier.admit_certificate(&refused, &[&below.der, &last.der]).await;
    let expected = Refused::Certificate(TaskCertificateError::Signature);
    assert_eq!(outcome.map(drop), Err(expected), "RFC 5280 section 4.2.1.9");
}

#[tokio::test]
async fn class_08_a_certificate_is_taken_that_leads_to_the_bundle_and_no_other() {
    let site = Site::start().await;
    let refused = Err(Refused::Certificate(TaskCertificateError::Signature));
    assert_eq!(site.admit(&[]).await.map(drop), refused, "the bundle has its root alone");
    let impostor = Ca::root("tasks");
    assert_eq!(site.admit(&[&impostor.der]).await.map(drop), refused);
    let admission = site.admit(&[&site.intermediate.der]).await.unwrap();
    assert_eq!(admission.credential().execution().path.own().task, task(2));
    assert_eq!(admission.credential().grant(), None);
    let other = site.intermediate.leaf(&site.scene.claims().execution, &site.key);
    let constrained =
        Ca { params: Ca::params("tasks"), key: KeyPair::generate().unwrap(), ..site.root };
    let by_nobody = constrained.leaf(&site.scene.claims().execution, &site.key);
    assert!(site.verifier.admit_certificate(&other, &[&site.intermediate.der]).await.is_ok());
    let intermediates: &[&[u8]] = &[&site.intermediate.der];
    let outcome = site.verifier.admit_certificate(&by_nobody, intermediates).await;
    assert_eq!(outcome.map(drop), refused);
}

#[tokio::test]
async fn class_16_the_signer_s_own_key_identifier_is_what_a_quarantine_goes_by() {
    let site = Site::start().await;
    // The same name and key, under another key identifier, signed by nobody that counts.
    let mut params = site.intermediate.params.clone();
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![9; 20]);
    let forged = params.self_signed(&site.intermediate.key).unwrap().der().clone();
    let signer = Authority::check(&site.intermediate.der).unwrap();
    let quarantined = watermark(&Scope::Key(signer.subject_key_id().unwrap()), 1_000_000_000_000);
    site.scene.broker.tell.send(revoked(1, [quarantined], Some(60_000))).unwrap();
    site.scene.applied(60_000).await;
    let outcome = site.admit(&[&forged, &site.intermediate.der]).await;
    assert_eq!(outcome.map(drop), Err(Refused::Dead(Dead::Quarantined)));
}

/// Whoever has an authority's key can make one below it that has a name and a key of its own. Here also the thief gives it the name
/// of one that nobody quarantined.
#[tokio::test]
async fn class_16_what_leads_over_a_quarantined_authority_is_dead_whatever_was_made_below_it() {
    let site = Site::start().await;
    let execution = site.scene.claims().execution;
    let signer = Authority::check(&site.intermediate.der).unwrap();
    let bundle = Authority::check(&site.root.der).unwrap().subject_key_id_bytes().unwrap();
    let mut made = Vec::new();
    for method in [KeyIdMethod::Sha256, KeyIdMethod::PreSpecified(bundle)] {
        let (mut params, key) = (Ca::params("the thief's"), KeyPair::generate().unwrap());
        params.key_identifier_method = method;
        let der = params.signed_by(&key, &site.intermediate.issuer()).unwrap().der().clone();
        let below = Ca { params, key, der };
        let lowest = below.below("the thief's own");
        let leaves = [below.leaf(&execution, &site.key), lowest.leaf(&execution, &site.key)];
        made.push((below, lowest, leaves));
    }
    let beside = site.root.below("beside");
    let admit = async |leaf: &CertificateDer<'static>, made: &(Ca, Ca, _)| {
        let chain: [&[u8]; 3] = [&made.1.der, &made.0.der, &site.intermediate.der];
        site.verifier.admit_certificate(leaf, &chain).await.map(drop)
    };
    for one in &made {
        for leaf in &one.2 {
            assert_eq!(admit(leaf, one).await, Ok(()), "what the thief makes is good until then");
        }
    }
    let quarantined = watermark(&Scope::Key(signer.subject_key_id().unwrap()), 1_000_000_000_000);
    site.scene.broker.tell.send(revoked(1, [quarantined], Some(60_000))).unwrap();
    site.scene.applied(60_000).await;
    for one in &made {
        for leaf in &one.2 {
            assert_eq!(admit(leaf, one).await, Err(Refused::Dead(Dead::Quarantined)));
        }
    }
    let genuine = beside.leaf(&execution, &site.key);
    let admitted = site.verifier.admit_certificate(&genuine, &[&beside.der]).await;
    assert_eq!(admitted.map(drop), Ok(()), "an authority beside it goes on");
}

#[tokio::test]
async fn class_09_a_connection_ends_with_its_task_while_nothing_is_said_on_it() {
    let site = Site::start().await;
    let (server, client) = site.connect().await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    client.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    server.read_exact(&mut hello).await.unwrap();
    let waiting = tokio::spawn(async move {
        let error = server.read(&mut [0; 1]).await.unwrap_err();
        let written = server.write(b"late").await.unwrap_err();
        (error.kind(), written.kind(), error.to_string())
    });
    site.scene.end(60_000);
    let (read, written, why) = waiting.await.unwrap();
    assert_eq!((read, written), (ErrorKind::ConnectionAborted, ErrorKind::ConnectionAborted));
    assert_eq!(why, Dead::Fenced.to_string());
    site.scene.applied(60_000).await;
    let (server, client) = site.connect().await;
    assert!(server.is_err(), "nor does another one begin");
    let mut byte = [0];
    let told = match client {
        Ok(mut client) => client.read(&mut byte).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(told.to_string().contains("Revoked"), "{told}");
}

/// Whether somebody was woken who waits.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

#[tokio::test]
async fn class_09_both_halves_of_a_connection_end_with_its_task_whoever_waited_last() {
    for reads_last in [false, true] {
        let site = Site::start().await;
        let (server, client) = site.connect().await;
        let (mut reader, mut writer) = tokio::io::split(server.unwrap());
        let _client = client.unwrap();
        let woken = [(); 2].map(|()| Arc::<Woken>::default());
        let [by_read, by_write] = woken.clone().map(Waker::from);
        let (mut read, mut write) = (Context::from_waker(&by_read), Context::from_waker(&by_write));
        let mut byte = [0];
        let mut reading = pin!(reader.read_exact(&mut byte));
        let never_read = vec![0; 1 << 20];
        let mut writing = pin!(writer.write_all(&never_read));
        if reads_last {
            assert!(writing.as_mut().poll(&mut write).is_pending());
        }
        assert!(reading.as_mut().poll(&mut read).is_pending());
        if !reads_last {
            assert!(writing.as_mut().poll(&mut write).is_pending());
        }
        site.scene.end(60_000);
        site.scene.applied(60_000).await;
        let told = woken.map(|woken| woken.0.load(Ordering::Acquire));
        assert_eq!(told, [true; 2], "the reader and the writer; reads last: {reads_last}");
        let over = |polled: Poll<std::io::Result<()>>| match polled {
            Poll::Ready(Err(error)) => error.kind(),
            other => panic!("{other:?}"),
        };
        let ended = over(reading.as_mut().poll(&mut read).map_ok(drop));
        assert_eq!(ended, ErrorKind::ConnectionAborted);
        assert_eq!(over(writing.as_mut().poll(&mut write)), ErrorKind::ConnectionAborted);
    }
}

#[tokio::test]
async fn class_07_a_connection_ends_when_it_cannot_be_known_any_more_whether_its_task_lives() {
    let site = Site::start().await;
    let (mut server, _client) = match site.connect().await {
        (Ok(server), Ok(client)) => (server, client),
        (server, client) => panic!("{server:?} {client:?}"),
    };
    site.scene.broker.answers.store(false, Ordering::Release);
    let error = server.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(error.to_string(), Refused::Stale(Span::from_millis(500)).to_string());
}

#[tokio::test]
async fn class_09_a_connection_ends_when_its_certificate_expires_however_fresh_the_view_is() {
    let clock = Arc::new(TestClock::at(SystemClock::default().now()));
    let site = Site::start_by(clock.clone()).await;
    let (mut server, mut client) = match site.connect().await {
        (Ok(server), Ok(client)) => (server, client),
        (server, client) => panic!("{server:?} {client:?}"),
    };
    client.write_all(b"hello").await.unwrap();
    // The certificate is from the machine's clock, which went on since this one was made.
    clock.forward(Span::from_seconds(3_600));
    fresh_again(&site.verifier).await;
    let error = server.read(&mut [0; 5]).await.unwrap_err();
    let expired = Refused::Certificate(TaskCertificateError::from(LeafError::Expired));
    assert_eq!(error.to_string(), expired.to_string());
}

/// The broker is away as well, and its Δ is over: what is certain is said first.
#[tokio::test]
async fn class_09_a_connection_ends_when_its_certificate_expires() {
    let clock = Arc::new(TestClock::at(SystemClock::default().now()));
    let site = Site::start_by(clock.clone()).await;
    let (mut server, mut client) = match site.connect().await {
        (Ok(server), Ok(client)) => (server, client),
        (server, client) => panic!("{server:?} {client:?}"),
    };
    clock.forward(Span::from_seconds(3_600));
    // Whatever is said makes it look at the clock.
    client.write_all(b"hello").await.unwrap();
    let error = server.read(&mut [0; 5]).await.unwrap_err();
    let expired = Refused::Certificate(TaskCertificateError::from(LeafError::Expired));
    assert_eq!(error.to_string(), expired.to_string());
}
