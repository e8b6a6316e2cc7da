//! Connections by certificates for tasks, over real sockets: nobody connects without a living one, and none outlives it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::testing::ca::csr;
use leasehold::verifier::{Acceptor, Connection, TaskCertificates};
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::site::token_request;
use super::*;

/// A certificate for a task, with its key.
struct Certified {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

impl Certified {
    async fn of(site: &Site, task: &v1::Task) -> Self {
        let key = KeyPair::generate().unwrap();
        let csr_der = csr(&key).der().to_vec();
        let credential = Some(Credential::X509Svid(v1::X509SvidRequest { csr_der }));
        let request = v1::IssueCredentialRequest { credential, ..token_request(task) };
        let issued = site.credentials(AGENT).issue_credential(request).await.unwrap();
        let chain = issued.into_inner().credential.unwrap().certificate_chain_der;
        Self { chain: chain.into_iter().map(CertificateDer::from).collect(), key }
    }
}

/// A server that gives back what it is told, and says why a connection is over.
struct Echo {
    address: SocketAddr,
    root: CertificateDer<'static>,
    over: UnboundedReceiver<(ErrorKind, String)>,
}

impl Echo {
    async fn start(pair: &Pair) -> Self {
        let server = pair.site.root.server();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(Arc::new(TaskCertificates::new(pair.verifier.clone())))
            .with_single_cert(server.chain.clone(), server.key_der())
            .unwrap();
        let acceptor = Acceptor::new(pair.verifier.clone(), config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, over) = unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    let error = match acceptor.accept(socket).await {
                        Ok(connection) => echo(connection).await,
                        Err(error) => error,
                    };
                    // The test may be over.
                    let _ = sender.send((error.kind(), error.to_string()));
                });
            }
        });
        Self { address, root: pair.site.root.der().clone(), over }
    }

    async fn connect(&self, certified: &Certified) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let key: PrivateKeyDer<'_> = PrivatePkcs8KeyDer::from(certified.key.serialize_der()).into();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certified.chain.clone(), key)
            .unwrap();
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    async fn over(&mut self) -> (ErrorKind, String) {
        tokio::time::timeout(PATIENCE, self.over.recv()).await.expect("it goes on").unwrap()
    }
}

async fn echo(mut connection: Connection<TcpStream>) -> std::io::Error {
    let mut bytes = [0; 64];
    loop {
        let read = match connection.read(&mut bytes).await {
            Ok(0) => return ErrorKind::UnexpectedEof.into(),
            Ok(read) => read,
            Err(error) => return error,
        };
        if let Err(error) = connection.write_all(&bytes[..read]).await {
            return error;
        }
    }
}

/// Says something, and hears it again.
async fn says(client: &mut TlsStream<TcpStream>) {
    client.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(&heard, b"hello");
}

/// What the client is told at the end of its connection; nothing, if it is only cut.
async fn told(client: &mut TlsStream<TcpStream>) -> String {
    let mut byte = [0];
    match tokio::time::timeout(PATIENCE, client.read(&mut byte)).await.expect("it is open") {
        Ok(0) => String::new(),
        Ok(_) => panic!("something is said on it"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn class_09_connections_end_with_their_task_busy_or_idle_and_no_other_one_does() {
    let pair = Pair::start().await;
    let (task, other) = (pair.site.begin().await, pair.site.begin().await);
    let doomed = Certified::of(&pair.site, &task).await;
    let living = Certified::of(&pair.site, &other).await;
    let mut server = Echo::start(&pair).await;
    let mut busy = server.connect(&doomed).await;
    let mut idle = server.connect(&doomed).await;
    let mut goes_on = server.connect(&living).await;
    for client in [&mut busy, &mut idle, &mut goes_on] {
        says(client).await;
    }
    let talk = async {
        let mut heard = [0; 5];
        while busy.write_all(b"hello").await.is_ok() && busy.read_exact(&mut heard).await.is_ok() {}
    };
    let (ended, ()) = tokio::join!(pair.complete(&task, v1::Enforcement::Drained), talk);
    assert_eq!(ended.enforcement(), v1::Enforcement::Drained, "{ended:?}");
    for _ in 0..2 {
        let expected = (ErrorKind::ConnectionAborted, Dead::Fenced.to_string());
        assert_eq!(server.over().await, expected);
    }
    told(&mut idle).await;
    says(&mut goes_on).await;

    let mut again = server.connect(&doomed).await;
    let refused = told(&mut again).await;
    assert!(refused.contains("Revoked"), "{refused}");
    assert_eq!(server.over().await.0, ErrorKind::InvalidData);
    says(&mut goes_on).await;
}

#[tokio::test]
async fn class_07_connections_end_when_the_broker_is_away_for_longer_than_delta() {
    let pair = Pair::start().await;
    let task = pair.site.begin().await;
    let certified = Certified::of(&pair.site, &task).await;
    let mut server = Echo::start(&pair).await;
    let mut client = server.connect(&certified).await;
    says(&mut client).await;
    let clock = pair.site.clock.clone();
    pair.site.running.stop().await;
    says(&mut client).await;
    clock.forward(DELTA);
    // Whatever is said next is what makes it look at the clock.
    client.write_all(b"hello").await.unwrap();
    let stale = (ErrorKind::ConnectionAborted, Refused::Stale(DELTA).to_string());
    assert_eq!(server.over().await, stale);
}
