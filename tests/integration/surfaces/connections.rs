//! How long connections last, and what ends them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::FutureExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leasehold::identity::client_cert::SvidClientVerifier;
use leasehold::listen::connections::{Limits, PeerInfo, connections, sockets};
use leasehold::listen::serve::{ConnectionLimits, serve};
use leasehold::listen::tls::{ServerIdentity, server_config};
use leasehold::testing::ca::TestAuthority;
use leasehold::testing::clock::TestClock;
use leasehold::testing::trust::trusting;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::http::Http;
use super::site::{AGENT, NOBODY, OPERATOR, ORCHESTRATOR, Site, VERIFIER};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(50);

/// A server whose one answer waits until the test lets it go.
struct Slow {
    root: TestAuthority,
    address: std::net::SocketAddr,
    asked: Arc<Notify>,
    go: Arc<Notify>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Slow {
    async fn start(limits: ConnectionLimits) -> Self {
        let (root, listener) =
            (TestAuthority::root("root"), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let server = root.server();
        let identity =
            ServerIdentity::from_pem(server.chain_pem().as_bytes(), server.key_pem().as_bytes());
        let clients = Arc::new(SvidClientVerifier::new(trusting(&[]).shared()));
        let clock = Arc::new(TestClock::default());
        let tls = server_config(Arc::new(identity.unwrap()), clients, &["h2", "http/1.1"], clock)
            .unwrap();
        let (asked, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let answer = {
            let (asked, go) = (asked.clone(), go.clone());
            move |Extension(peer): Extension<PeerInfo>| async move {
                assert!(peer.svid.is_none() && peer.address.ip().is_loopback());
                asked.notify_one();
                go.notified().await;
                "done"
            }
        };
        let stop = CancellationToken::new();
        let incoming = connections(sockets(listener), tls, Limits::default());
        let until_closing = |Extension(peer): Extension<PeerInfo>| async move {
            peer.closing.cancelled().await;
        };
        let router = Router::new()
            .route("/slow", get(answer))
            .route("/quick", get(async || "done"))
            .route("/until-closing", get(until_closing));
        let serving = tokio::spawn(serve(router, incoming, limits, stop.clone()));
        Self { root, address, asked, go, stop, serving }
    }

    async fn connect(&self, alpn: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let socket = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }
}

fn request(path: &str) -> Request {
    Request::get(format!("https://localhost{path}")).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn class_09_old_connection_takes_no_more_requests_and_ends_those_that_run() {
    let limits = ConnectionLimits { max_age: SHORT, grace: LONG, ..ConnectionLimits::default() };
    let server = Slow::start(limits).await;
    let stream = TokioIo::new(server.connect("h2").await);
    let (mut sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let running = sender.send_request(request("/slow"));
    server.asked.notified().await;
    let asking = async { while sender.send_request(request("/quick")).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), asking).await.unwrap();
    server.go.notify_one();
    assert_eq!(running.await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_would_go_on_for_ever_is_told_when_its_connection_is_old() {
    let limits = ConnectionLimits { max_age: SHORT, grace: LONG, ..ConnectionLimits::default() };
    let server = Slow::start(limits).await;
    let stream = TokioIo::new(server.connect("h2").await);
    let (mut sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection.map(drop));
    let ended = sender.send_request(request("/until-closing"));
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    assert_eq!(ended.unwrap().status(), 200);
}

#[tokio::test]
async fn renewed_certificate_of_the_broker_is_shown_on_both_sockets_and_no_connection_drops() {
    let site = Site::start().await;
    let stream = TokioIo::new(site.raw(site.running.http, None, "h2").await);
    let (mut open, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection.map(drop));
    let renewed = site.replace_server_certificate();
    for (address, alpn) in [(site.running.grpc, "h2"), (site.running.http, "http/1.1")] {
        let is_shown = async || {
            let stream = site.raw(address, None, alpn).await;
            stream.get_ref().1.peer_certificates().unwrap().first() == renewed.chain.first()
        };
        let shown = async { while !is_shown().await {} };
        tokio::time::timeout(Duration::from_secs(60), shown).await.unwrap();
    }
    assert_eq!(open.send_request(request("/healthz")).await.unwrap().status(), 200);
    let (_, numbers) = Http::of(&site, None).get("/metrics").await;
    assert!(numbers.contains("leasehold_server_certificate_expiry_timestamp_seconds "));
}

#[tokio::test]
async fn request_that_does_not_end_within_the_grace_period_does_not_hold_up_the_stop() {
    let limits = ConnectionLimits { max_age: LONG, grace: SHORT, ..ConnectionLimits::default() };
    let server = Slow::start(limits).await;
    let stream = TokioIo::new(server.connect("h2").await);
    let (mut sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection.map(drop));
    let running = sender.send_request(request("/slow"));
    server.asked.notified().await;
    server.stop.cancel();
    server.serving.await.unwrap();
    assert!(running.await.is_err());
}

#[tokio::test]
async fn class_15_peer_that_never_ends_its_headers_is_let_go() {
    let limits = ConnectionLimits { header_timeout: SHORT, ..ConnectionLimits::default() };
    let server = Slow::start(limits).await;
    let mut stream = server.connect("http/1.1").await;
    stream.write_all(b"GET /quick HTTP/1.1\r\nhost: localhost\r\nx-slow: ").await.unwrap();
    let mut rest = Vec::new();
    // Closed with or without a word about it.
    let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest));
    assert!(closed.await.is_ok(), "it holds its connection");
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
    server.stop.cancel();
    server.serving.await.unwrap();
}

#[tokio::test]
async fn class_15_http2_peer_that_never_begins_to_speak_is_let_go() {
    let limits = ConnectionLimits { header_timeout: SHORT, ..ConnectionLimits::default() };
    let server = Slow::start(limits).await;
    let speaking = TokioIo::new(server.connect("h2").await);
    let (mut sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), speaking).await.unwrap();
    tokio::spawn(connection.map(drop));
    for said in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut stream = server.connect("h2").await;
        stream.write_all(said).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest));
        assert!(closed.await.is_ok(), "it holds its connection");
    }
    // Who has begun may be silent for longer.
    assert_eq!(sender.send_request(request("/quick")).await.unwrap().status(), 200);
    server.stop.cancel();
    server.serving.await.unwrap();
}

#[tokio::test]
async fn class_15_where_agents_hold_every_connection_some_are_left_for_whoever_ends_things() {
    let more = "limits = { connections = 33, connections_per_address = 33,";
    let site = Site::start_with("limits = {", more).await;
    let is_served = async |address, who| {
        let mut connection = site.raw(address, Some(who), "h2").await;
        // Whoever is served is told the settings of HTTP/2.
        (connection.read_u8().await.is_ok(), connection)
    };
    // Verifiers only ask about credentials over HTTP.
    let over_grpc = [ORCHESTRATOR, OPERATOR, VERIFIER];
    for (address, first, others) in [
        (site.running.grpc, &over_grpc[..], &[AGENT, NOBODY][..]),
        (site.running.http, &over_grpc[..2], &[AGENT, NOBODY, VERIFIER][..]),
    ] {
        let mut held = Vec::new();
        for n in 0..33 {
            let (is_served, connection) = is_served(address, AGENT).await;
            assert!(is_served, "{n}");
            held.push(connection);
        }
        for other in others {
            assert!(!is_served(address, other).await.0, "{other}");
        }
        for who in first {
            let (is_served, connection) = is_served(address, who).await;
            assert!(is_served, "{who}");
            held.push(connection);
        }
    }
}
