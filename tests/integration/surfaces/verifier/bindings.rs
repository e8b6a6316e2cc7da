//! Tokens that are bound, at a resource server over TLS: with what they are bound to they get in, and with nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::routing::get;
use axum::{Extension, Router};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use leasehold::domain::secret::Secret;
use leasehold::jose::SigningKey;
use leasehold::jose::dpop::{HttpsUri, NonceKey, Statement, prove};
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::testing::ca::Issued;
use leasehold::verifier::{Guard, PeerCertificate};
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::dpop;
use super::super::site::token_request;
use super::*;

const ISSUE: &str = "/leasehold.v1.CredentialService/IssueCredential";
/// What the request is for, as the server is called from outside.
const ENTRIES: &str = "https://ledger.example/entries";

/// A resource server that asks everybody for a certificate, and takes whoever has none as well.
struct Server {
    address: SocketAddr,
    root: Arc<RootCertStore>,
}

impl Server {
    async fn start(pair: &Pair) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(pair.site.root.der().clone()).unwrap();
        let (root, own) = (Arc::new(roots), pair.site.root.server());
        let clients = WebPkiClientVerifier::builder(root.clone()).allow_unauthenticated();
        let config = ServerConfig::builder()
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(own.chain.clone(), own.key_der())
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let guard = Guard::new(pair.verifier.clone(), &["read"]);
        let routes = Router::new().route("/entries", get(async || "42")).layer(guard);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let stream = tls.accept(socket).await.unwrap();
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let routes = match shown.map(|leaf| PeerCertificate::new(leaf)) {
                    Some(peer) => routes.clone().layer(Extension(peer)),
                    None => routes.clone(),
                };
                let service = TowerToHyperService::new(routes);
                tokio::spawn(async move {
                    Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await
                });
            }
        });
        Self { address, root }
    }

    /// What it answers to whoever shows this certificate, or none, and these headers.
    async fn answers(
        &self,
        certificate: Option<&Issued>,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let builder = ClientConfig::builder().with_root_certificates(self.root.clone());
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key_der()).unwrap(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(self.address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get("/entries").header("host", "ledger.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sent = sender.send_request(request.body(String::new()).unwrap());
        tokio::time::timeout(PATIENCE, sent).await.unwrap().unwrap()
    }
}

/// Its status, and the error that its challenge names.
fn told(answer: &Response<Incoming>) -> (u16, &str) {
    let challenge = answer.headers().get("www-authenticate").map(|c| c.to_str().unwrap());
    let error = challenge.and_then(|c| c.split("error=\"").nth(1)?.split('"').next());
    (answer.status().as_u16(), error.unwrap_or_default())
}

#[tokio::test]
async fn class_23_a_token_that_is_bound_to_a_certificate_is_let_in_on_its_connection_alone() {
    let pair = Pair::start().await;
    let server = Server::start(&pair).await;
    let [own, other] = [AGENT; 2].map(|agent| pair.site.root.svid_for_localhost(agent));
    let task = pair.site.begin().await;
    let mut agent = CredentialServiceClient::new(pair.site.channel_with(Some(&own)));
    let issued = agent.issue_credential(token_request(&task)).await.unwrap().into_inner();
    let token = issued.credential.unwrap().access_token;
    let bearer = format!("Bearer {token}");
    let shown = [("authorization", bearer.as_str())];
    assert_eq!(told(&server.answers(Some(&own), &shown).await), (200, ""));
    for stolen in [None, Some(&other)] {
        let refused = server.answers(stolen, &shown).await;
        assert_eq!(told(&refused), (401, "invalid_token"));
    }
    let as_dpop = format!("DPoP {token}");
    let refused = server.answers(Some(&own), &[("authorization", &as_dpop)]).await;
    assert_eq!(told(&refused), (401, "invalid_token"));
    pair.complete(&task, v1::Enforcement::Fenced).await;
    assert_eq!(told(&server.answers(Some(&own), &shown).await), (401, "invalid_token"));
}

/// A token that is bound to a key, and who has that.
struct Keyed {
    pair: Pair,
    server: Server,
    task: v1::Task,
    key: SigningKey,
    token: String,
}

impl Keyed {
    async fn start() -> Self {
        let pair = Pair::start_with(|settings| {
            settings.rules.targets = vec![HttpsUri::parse("https://ledger.example").unwrap()];
            settings.rules.nonces = Some(NonceKey::derive(&Secret::new(vec![7; 32])).unwrap());
        })
        .await;
        let (task, key) = (pair.site.begin().await, SigningKey::generate().unwrap().0);
        let place = dpop::place(&pair.site);
        let proof = dpop::proof(&pair.site, &key, &place, ISSUE, None);
        let issued = dpop::issue(&pair.site, dpop::bound(&task), &[proof]).await.unwrap();
        let token = issued.credential.unwrap().access_token;
        let server = Server::start(&pair).await;
        Self { pair, server, task, key, token }
    }

    /// A proof of this key for a request and a token, made now.
    fn proof(&self, key: &SigningKey, of: (&str, &str, &str), nonce: Option<&str>) -> String {
        let (method, uri, token) = of;
        let (uri, jti) = (HttpsUri::parse(uri).unwrap(), request_id());
        let issued = self.pair.site.clock.now();
        let statement =
            Statement { method, uri: &uri, jti: &jti, issued, token: Some(token), nonce };
        prove(key, statement).unwrap().expose_text().to_owned()
    }

    async fn answers(&self, proofs: &[&str]) -> Response<Incoming> {
        let shown = format!("DPoP {}", self.token);
        let mut headers = vec![("authorization", shown.as_str())];
        headers.extend(proofs.iter().map(|proof| ("dpop", *proof)));
        self.server.answers(None, &headers).await
    }
}

#[tokio::test]
async fn class_23_a_token_that_is_bound_to_a_key_is_let_in_with_a_proof_for_the_request_and_once() {
    let keyed = Keyed::start().await;
    let token = keyed.token.as_str();
    let here = ("GET", ENTRIES, token);
    let first = keyed.answers(&[&keyed.proof(&keyed.key, here, None)]).await;
    assert_eq!(told(&first), (401, "use_dpop_nonce"));
    let nonce = first.headers()["dpop-nonce"].to_str().unwrap();

    let good = keyed.proof(&keyed.key, here, Some(nonce));
    assert_eq!(told(&keyed.answers(&[&good]).await), (200, ""));
    assert_eq!(told(&keyed.answers(&[&good]).await), (401, "invalid_dpop_proof"), "replayed");

    let other_key = SigningKey::generate().unwrap().0;
    let other_nonce = NonceKey::derive(&Secret::new(vec![8; 32])).unwrap();
    let other_nonce = other_nonce.fresh(keyed.pair.site.clock.now());
    let proof = |of, nonce| keyed.proof(&keyed.key, of, Some(nonce));
    for (wrong, proof, error) in [
        ("key", keyed.proof(&other_key, here, Some(nonce)), "invalid_dpop_proof"),
        ("nonce", proof(here, &other_nonce), "use_dpop_nonce"),
        ("nonce", proof(here, "AAAA"), "use_dpop_nonce"),
        ("htu", proof(("GET", "https://evil.example/entries", token), nonce), "invalid_dpop_proof"),
        ("htu", proof(("GET", "https://ledger.example/", token), nonce), "invalid_dpop_proof"),
        ("htm", proof(("POST", ENTRIES, token), nonce), "invalid_dpop_proof"),
        ("ath", proof(("GET", ENTRIES, "other"), nonce), "invalid_dpop_proof"),
    ] {
        assert_eq!(told(&keyed.answers(&[&proof]).await), (401, error), "another {wrong}");
    }
    assert_eq!(told(&keyed.answers(&[]).await), (401, "invalid_dpop_proof"), "no proof");
    let two = [proof(here, nonce), proof(here, nonce)];
    let two = keyed.answers(&[&two[0], &two[1]]).await;
    assert_eq!(told(&two), (400, "invalid_request"));
    let bearer = format!("Bearer {token}");
    let downgraded = keyed.server.answers(None, &[("authorization", &bearer)]).await;
    assert_eq!(told(&downgraded), (401, "invalid_token"), "RFC 9449 section 7.2");

    keyed.pair.complete(&keyed.task, v1::Enforcement::Fenced).await;
    let late = keyed.answers(&[&proof(here, nonce)]).await;
    assert_eq!(told(&late), (401, "invalid_token"), "its task is over");
}
