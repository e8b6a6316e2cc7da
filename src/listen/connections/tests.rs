//! What must not stop the listener, and whom it lets in.

use axum::Router;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::{TlsConnector, client};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::broker::seams::Clock;
use crate::domain::time::{Span, Stamp};
use crate::identity::client_cert::SvidClientVerifier;
use crate::identity::trust_bundle::SharedBundles;
use crate::listen::serve::{ConnectionLimits, serve};
use crate::listen::tls::{ServerIdentity, server_config};
use crate::testing::ca::{Defect, Issued, TestAuthority};
use crate::testing::clock::TestClock;
use crate::testing::trust::trusting;

const AGENT: &str = "spiffe://prod.example/agents/a";
const OPERATOR: &str = "spiffe://prod.example/people/op";

/// A broker's door and the authority that vouches for its callers and for itself.
pub(crate) struct Site {
    pub(crate) root: TestAuthority,
    clock: Arc<TestClock>,
    bundles: SharedBundles,
    tls: Arc<ServerConfig>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let (root, clock) = (TestAuthority::root("root"), Arc::new(TestClock::default()));
        let bundles = trusting(&[("prod.example", &[&root])]).shared();
        let server = root.server();
        let identity =
            ServerIdentity::from_pem(server.chain_pem().as_bytes(), server.key_pem().as_bytes());
        let clients = Arc::new(SvidClientVerifier::new(bundles.clone()));
        let tls =
            server_config(Arc::new(identity.unwrap()), clients, &["h2"], clock.clone()).unwrap();
        Self { root, clock, bundles, tls }
    }

    fn agent(&self) -> Issued {
        self.svid(AGENT)
    }

    fn svid(&self, spiffe_id: &str) -> Issued {
        let now = self.clock.now();
        self.root.svid(spiffe_id, now, now.plus(Span::from_seconds(60)))
    }

    pub(crate) fn now(&self) -> Stamp {
        self.clock.now()
    }

    /// The alert with which a certificate is refused, and the address that it was shown from.
    pub(crate) async fn refused(&self, certificate: &Issued) -> (AlertDescription, SocketAddr) {
        let (listener, address) = bound().await;
        let connector = self.connector(Some(certificate));
        let mut incoming =
            Box::pin(connections(sockets(listener), self.tls.clone(), Limits::default()));
        let client = async {
            let mut stream = connect(&connector, address).await.unwrap();
            let own = stream.get_ref().0.local_addr().unwrap();
            let fault = stream.read(&mut [0]).await.unwrap_err();
            (alert(&fault), own)
        };
        tokio::select! {
            told = client => told,
            _ = incoming.next() => panic!("the certificate was taken"),
        }
    }

    fn connector(&self, certificate: Option<&Issued>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match certificate {
            Some(issued) => {
                builder.with_client_auth_cert(issued.chain.clone(), issued.key_der()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsConnector::from(Arc::new(config))
    }
}

fn alert(fault: &io::Error) -> AlertDescription {
    let fault = fault.get_ref().and_then(|fault| fault.downcast_ref::<rustls::Error>());
    match fault {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert: {other:?}"),
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
) -> io::Result<client::TlsStream<TcpStream>> {
    connect_from("127.0.0.1", connector, address).await
}

/// A connection from another address of this machine.
async fn connect_from(
    source: &str,
    connector: &TlsConnector,
    address: SocketAddr,
) -> io::Result<client::TlsStream<TcpStream>> {
    let socket = socket_from(source, address).await?;
    connector.connect(ServerName::try_from("localhost").unwrap(), socket).await
}

async fn socket_from(source: &str, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0))?;
    socket.connect(address).await
}

/// The next connection, and the client's side of it.
async fn served(
    incoming: &mut (impl Stream<Item = Result<Connection, Infallible>> + Unpin),
    connector: &TlsConnector,
    address: SocketAddr,
) -> (Connection, client::TlsStream<TcpStream>) {
    let (server, client) = tokio::join!(incoming.next(), connect(connector, address));
    (server.unwrap().unwrap(), client.unwrap())
}

#[tokio::test]
async fn class_15_failed_accepts_do_not_stop_the_listener() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let exhausted = || Err(io::Error::from_raw_os_error(24));
    let aborted = Err(io::ErrorKind::ConnectionAborted.into());
    let faulty = stream::iter([exhausted(), aborted, exhausted()]).chain(sockets(listener));
    let mut incoming = Box::pin(connections(faulty, site.tls.clone(), Limits::default()));
    let connector = site.connector(Some(&site.agent()));
    let (server, _client) = served(&mut incoming, &connector, address).await;
    let peer = server.peer().clone();
    let caller = peer.svid.unwrap().recheck(&site.bundles.load(), site.clock.now()).unwrap();
    assert_eq!(caller.principal().as_str(), AGENT);
}

#[tokio::test]
async fn class_15_peers_that_say_nothing_or_nonsense_do_not_hold_up_others() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let handshake_timeout = Duration::from_millis(300);
    let limits = Limits { handshakes: 1, handshake_timeout, ..Limits::default() };
    let mut incoming = Box::pin(connections(sockets(listener), site.tls.clone(), limits));
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut noisy = TcpStream::connect(address).await.unwrap();
    noisy.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let connector = site.connector(None);
    let client = async {
        loop {
            if let Ok(client) = connect(&connector, address).await {
                return client;
            }
        }
    };
    let both = async { tokio::join!(incoming.next(), client) };
    let (server, _client) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    assert!(server.unwrap().unwrap().peer().svid.is_none());
}

#[tokio::test]
async fn class_15_a_connection_too_many_is_closed_and_room_is_used_again() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let limits = Limits { connections: 1, ..Limits::default() };
    let mut incoming = Box::pin(connections(sockets(listener), site.tls.clone(), limits));
    let connector = site.connector(None);
    let (first, _client) = served(&mut incoming, &connector, address).await;
    tokio::select! {
        _ = incoming.next() => panic!("one too many was served"),
        refused = connect(&connector, address) => assert!(refused.is_err()),
    }
    drop(first);
    served(&mut incoming, &connector, address).await;
}

#[tokio::test]
async fn class_15_one_address_does_not_take_all_connections() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let limits = Limits { connections: 4, connections_per_address: 2, ..Limits::default() };
    let mut incoming = Box::pin(connections(sockets(listener), site.tls.clone(), limits));
    let connector = site.connector(None);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(served(&mut incoming, &connector, address).await);
    }
    tokio::select! {
        _ = incoming.next() => panic!("one too many of an address was served"),
        refused = connect(&connector, address) => assert!(refused.is_err()),
    }
    let other = connect_from("127.0.0.2", &connector, address);
    let (server, _client) = tokio::join!(incoming.next(), other);
    assert_eq!(server.unwrap().unwrap().peer().address.ip().to_string(), "127.0.0.2");
    held.pop();
    served(&mut incoming, &connector, address).await;
}

/// Where those go first whose certificate is the operator's.
fn operators_first(
    site: &Site,
    listener: TcpListener,
    limits: Limits,
) -> impl Stream<Item = Result<Connection, Infallible>> + Unpin {
    let (bundles, clock) = (site.bundles.clone(), site.clock.clone());
    let is_operator = move |svid: &PeerSvid| {
        let caller = svid.recheck(&bundles.load(), clock.now());
        caller.is_ok_and(|caller| caller.principal().as_str() == OPERATOR)
    };
    let tls = site.tls.clone();
    Box::pin(connections_where(sockets(listener), tls, limits, Arc::new(is_operator)))
}

#[tokio::test]
async fn class_15_a_reserved_connection_is_for_those_who_go_first_when_all_others_are_taken() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let limits = Limits { connections: 1, reserved: 1, ..Limits::default() };
    let mut incoming = operators_first(&site, listener, limits);
    let (nobody, agent) = (site.connector(None), site.connector(Some(&site.agent())));
    let operator = site.connector(Some(&site.svid(OPERATOR)));
    let (taken, _client) = served(&mut incoming, &agent, address).await;
    assert!(!taken.goes_first());
    for other in [&nobody, &agent] {
        tokio::select! {
            _ = incoming.next() => panic!("what is reserved was given away"),
            closed = closed(other, address) => closed,
        }
    }
    let (first, _client) = served(&mut incoming, &operator, address).await;
    assert!(first.goes_first());
    // What is reserved has a number, too.
    tokio::select! {
        _ = incoming.next() => panic!("one too many was served"),
        closed = closed(&operator, address) => closed,
    }
    drop(first);
    served(&mut incoming, &operator, address).await;
}

#[tokio::test]
async fn class_15_who_goes_first_is_let_in_from_an_address_that_has_its_share() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let limits =
        Limits { connections: 8, connections_per_address: 1, reserved: 1, ..Limits::default() };
    let mut incoming = operators_first(&site, listener, limits);
    let agent = site.connector(Some(&site.agent()));
    let _taken = served(&mut incoming, &agent, address).await;
    let operator = site.connector(Some(&site.svid(OPERATOR)));
    let (first, _client) = served(&mut incoming, &operator, address).await;
    assert!(first.goes_first());
}

/// A connection of this peer's is closed, at once or once it has shown its certificate.
async fn closed(connector: &TlsConnector, address: SocketAddr) {
    if let Ok(mut client) = connect(connector, address).await {
        assert!(client.read_u8().await.is_err());
    }
}

#[tokio::test]
async fn class_15_one_address_does_not_take_all_handshakes() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let limits = Limits {
        connections: 8,
        connections_per_address: 4,
        handshakes: 2,
        handshake_timeout: Duration::from_secs(3_600),
        ..Limits::default()
    };
    let mut incoming = Box::pin(connections(sockets(listener), site.tls.clone(), limits));
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(socket_from("127.0.0.2", address).await.unwrap());
    }
    let connector = site.connector(None);
    let honest = served(&mut incoming, &connector, address);
    let (server, _client) = tokio::time::timeout(Duration::from_secs(60), honest).await.unwrap();
    assert_eq!(server.peer().address.ip().to_string(), "127.0.0.1");
}

#[test]
fn of_the_handshakes_an_address_may_take_as_large_a_part_as_of_the_connections() {
    let part = |connections, connections_per_address, handshakes| {
        let limits =
            Limits { connections, connections_per_address, handshakes, ..Limits::default() };
        limits.handshakes_per_address()
    };
    assert_eq!(part(4_096, 1_024, 512), 128);
    assert_eq!(part(100, 1, 10), 1);
    assert_eq!(part(100, 15, 10), 2);
    assert_eq!(part(1, 1_024, 512), 512);
    assert_eq!(part(0, 0, 0), 1);
}

#[tokio::test]
async fn class_13_a_bad_certificate_is_refused_and_never_taken_for_none() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let mut incoming =
        Box::pin(connections(sockets(listener), site.tls.clone(), Limits::default()));
    let now = site.clock.now();
    let stranger = TestAuthority::root("root").svid(AGENT, now, now.plus(Span::from_seconds(60)));
    let defects = [Defect::TwoUriSans, Defect::Expired, Defect::CertificateAuthority];
    let defective = defects.map(|defect| site.root.defective(defect, "prod.example", now));
    for bad in defective.iter().chain([&stranger]) {
        let connector = site.connector(Some(bad));
        let attempt = async {
            // In TLS 1.3 a client learns only from its first read that it was refused.
            let mut client = connect(&connector, address).await?;
            client.read_u8().await
        };
        tokio::select! {
            _ = incoming.next() => panic!("served"),
            outcome = attempt => assert!(outcome.is_err()),
        }
    }
}

#[tokio::test]
async fn class_09_no_session_is_resumed_and_early_data_is_not_taken() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let mut incoming =
        Box::pin(connections(sockets(listener), site.tls.clone(), Limits::default()));
    // One connector: it would offer any ticket that it was given before.
    let connector = site.connector(Some(&site.agent()));
    for _ in 0..2 {
        let (mut server, mut client) = served(&mut incoming, &connector, address).await;
        server.write_u8(7).await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 7);
        assert_eq!(client.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    assert_eq!(site.tls.max_early_data_size, 0);
}

#[tokio::test]
async fn a_server_that_stops_stops_listening() {
    let (site, (listener, address)) = (Site::new(), bound().await);
    let incoming = connections(sockets(listener), site.tls.clone(), Limits::default());
    let stop = CancellationToken::new();
    let serving =
        tokio::spawn(serve(Router::new(), incoming, ConnectionLimits::default(), stop.clone()));
    let connector = site.connector(None);
    let client = connect(&connector, address).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    drop(client);
    stop.cancel();
    serving.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
