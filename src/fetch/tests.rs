//! URLs and servers that are refused before a document is read.

use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use super::*;
use crate::testing::ca::TestAuthority;
use crate::testing::issuer::TestIssuer;

#[test]
fn class_22_urls_that_are_not_plain_https_are_refused() {
    for url in [
        "http://issuer.example",
        "file:///etc/passwd",
        "https://user@issuer.example",
        "https://user:secret@issuer.example",
        "https://issuer.example/#keys",
        "//issuer.example",
        "issuer.example",
        "",
    ] {
        for reach in [Reach::Public, Reach::InCluster] {
            assert!(matches!(check_url(url, reach), Err(FetchError::Url(_))), "{url}");
        }
    }
}

#[test]
fn class_22_literal_addresses_are_checked_in_every_spelling() {
    for url in [
        "https://169.254.169.254/latest",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0251.0376.0251.0376/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://10.0.0.1/",
    ] {
        assert!(matches!(check_url(url, Reach::Public), Err(FetchError::Address(_))), "{url}");
    }
    assert!(check_url("https://10.0.0.1/", Reach::InCluster).is_ok());
    assert!(check_url("https://169.254.169.254/", Reach::InCluster).is_err());
    assert!(check_url("http://127.0.0.1:1/", Reach::Loopback).is_ok());
    assert!(check_url("http://10.0.0.1/", Reach::Loopback).is_err());
}

#[test]
fn the_age_is_read_from_cache_control() {
    let age = |header| max_age_of(header).map(Span::seconds);
    assert_eq!(age("public, max-age=3600"), Some(3600));
    assert_eq!(age("Max-Age=60"), Some(60));
    assert_eq!(age("max-age=60, no-store"), Some(0));
    for header in ["", "public", "max-age", "max-age=", "max-age=-1", "max-age=1e9", "s-maxage=5"] {
        assert_eq!(age(header), None, "{header}");
    }
}

#[tokio::test]
async fn a_server_is_trusted_by_the_configured_roots_only() {
    let [trusted, other] = ["trusted", "other"].map(TestAuthority::root);
    let url = serve_tls(&trusted).await;
    let fetcher = |root: &TestAuthority| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), root.pem()).unwrap();
        Fetcher::new(Reach::Loopback, Some(file.path())).unwrap()
    };
    let fetched = fetcher(&trusted).get(&url).await.unwrap();
    assert_eq!((fetched.body.as_slice(), fetched.max_age), (&b"{}"[..], None));
    let refused = fetcher(&other).get(&url).await.unwrap_err();
    assert!(matches!(refused, FetchError::Transport(..)), "{refused}");
    let machine = Fetcher::new(Reach::Loopback, None).unwrap().get(&url).await.unwrap_err();
    assert!(matches!(machine, FetchError::Transport(..)), "{machine}");
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(file.path(), text).unwrap();
        let refused = Fetcher::new(Reach::Public, Some(file.path())).unwrap_err();
        assert!(matches!(refused, FetchError::CaFile(_)), "{refused}");
    }
}

/// Answers every request over TLS with `{}`.
async fn serve_tls(root: &TestAuthority) -> String {
    let leaf = root.server();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain.clone(), leaf.key_der())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let _ = stream.read(&mut [0; 1024]).await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
            let _ = stream.write_all(answer).await;
        }
    });
    url
}

/// However often a server sends a byte, so that it never falls silent.
#[tokio::test]
async fn class_22_a_document_that_arrives_slowly_is_not_waited_for() {
    let (url, mut sent) = serve_drops().await;
    let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
    assert_eq!(fetcher.timeout, Span::from_seconds(5));
    let fetcher = Fetcher { timeout: Span::from_millis(250), ..fetcher };
    let fetch = tokio::time::timeout(Duration::from_secs(60), fetcher.get(&url));
    let refused = fetch.await.expect("it is waited for").unwrap_err();
    assert!(refused.to_string().contains("timed out"), "{refused}");
    sent.wait_for(|bytes| *bytes > 1).await.expect("the document had begun to arrive");
}

#[tokio::test]
async fn class_22_of_an_answer_to_a_push_no_more_than_its_beginning_is_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        let head = b"HTTP/1.1 400 Bad Request\r\nretry-after: 7\r\ncontent-length: 65536\r\n\r\n";
        let _ = socket.write_all(&[head.as_slice(), &[b'x'; 8_192]].concat()).await;
        std::future::pending::<()>().await
    });
    let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
    let timeout = Span::from_seconds(30);
    let answer = fetcher.push(&url, HeaderMap::new(), b"event".to_vec(), timeout).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (400, MAX_PUSHED_BYTES));
    assert_eq!(answer.retry_after, Some(Span::from_seconds(7)));
}

#[tokio::test]
async fn class_22_an_answer_to_a_push_that_arrives_slowly_is_not_waited_for() {
    let (url, _sent) = serve_drops().await;
    let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
    let timeout = Span::from_millis(250);
    let push = fetcher.push(&url, HeaderMap::new(), Vec::new(), timeout);
    let pushed = tokio::time::timeout(Duration::from_secs(60), push).await;
    let refused = pushed.expect("it is waited for").unwrap_err();
    assert!(refused.to_string().contains("timed out"), "{refused}");
}

/// Promises 64 KiB and sends a byte every 10 ms, to one client; and how many bytes it has sent.
async fn serve_drops() -> (String, watch::Receiver<usize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (counter, sent) = watch::channel(0);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 65536\r\n\r\n";
        socket.write_all(head).await.unwrap();
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        while socket.write_all(b" ").await.is_ok() {
            counter.send_modify(|bytes| *bytes += 1);
            pace.tick().await;
        }
    });
    (url, sent)
}

#[test]
fn class_22_of_a_name_s_addresses_only_those_that_may_be_reached_are_connected_to() {
    let [public, private, metadata] =
        ["8.8.8.8:0", "10.0.0.1:0", "169.254.169.254:0"].map(|text| text.parse().unwrap());
    let found = |addresses: &[SocketAddr], reach| {
        admitted(addresses.iter().copied(), reach, "issuer.example").ok()
    };
    assert_eq!(found(&[metadata, public, private], Reach::Public), Some(vec![public]));
    assert_eq!(found(&[metadata, private], Reach::InCluster), Some(vec![private]));
    assert_eq!(found(&[metadata, private], Reach::Public), None);
    assert_eq!(found(&[metadata], Reach::InCluster), None);
    assert_eq!(found(&[], Reach::InCluster), None);
}

/// A proxy would resolve names itself, and reach what we must not. It is read from the environment when a process starts,
/// so the test is its own child.
#[tokio::test]
async fn class_22_no_proxy_of_the_environment_is_asked() {
    const CHILD: &str = "LEASEHOLD_TEST_BEHIND_A_PROXY";
    if std::env::var_os(CHILD).is_some() {
        let issuer = TestIssuer::start().await;
        Fetcher::new(Reach::Loopback, None)
            .unwrap()
            .get(&format!("{}/jwks", issuer.url))
            .await
            .unwrap();
        return;
    }
    let name = "fetch::tests::class_22_no_proxy_of_the_environment_is_asked";
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name]).env(CHILD, "1").env_remove("no_proxy").env_remove("NO_PROXY");
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        child.env(proxy, "http://127.0.0.1:1");
    }
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn class_17_the_path_of_whom_nothing_can_be_pushed_to_is_not_told() {
    let fetcher = Fetcher::new(Reach::Loopback, None).unwrap();
    let push = async |url: &str| {
        let pushed = fetcher.push(url, HeaderMap::new(), Vec::new(), Span::from_seconds(5));
        pushed.await.unwrap_err().to_string()
    };
    let told = push("http://127.0.0.1:1/hooks/T0/hunter2?key=hunter3").await;
    assert!(told.contains("`http://127.0.0.1:1` cannot be fetched"), "{told}");
    for url in [
        "http://127.0.0.1:1/hooks/T0/hunter2?key=hunter3",
        "https://hunter:hunter2@worker.example/hunter2",
        "http://10.0.0.1/hunter2",
        "hunter2",
    ] {
        let told = push(url).await;
        assert!(!told.contains("hunter"), "{told}");
    }
}
