//! A resource server in Rust: documents, for whoever holds a living credential of Leasehold.
//!
//! Beside a playground of `leasehold dev --dir play`: `cargo run --example resource_server -- --dir play`.
//!
//! What checks the token is the crate with `default-features = false, features = ["verifier"]`; the rest is axum over rustls.

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use leasehold::domain::time::Stamp;
use leasehold::jose::access_token::{self, Confirmation};
use leasehold::jose::{KeySet, certificate_thumbprint};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What reading a document takes to be allowed.
const ACTION: &str = "read";

/// A resource server of documents.
#[derive(Parser)]
struct Arguments {
    /// Folder of the playground
    #[arg(long, default_value = "play")]
    dir: PathBuf,
    /// Base URL of the broker
    #[arg(long, default_value = "https://localhost:7701")]
    issuer: String,
    /// The `aud` that tokens must have for us
    #[arg(long, default_value = "https://documents.dev.example")]
    audience: String,
    /// Where to answer
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
}

/// What credentials are checked with.
struct Gate {
    issuer: String,
    audience: String,
    /// The broker's keys. A server that runs for long fetches them again: every five minutes, and for a `kid` that it lacks.
    keys: KeySet,
    /// Trusts the broker's certificate and shows ours, by which the broker knows for which audience we may ask.
    broker: reqwest::Client,
}

/// SHA-256 of the certificate that a connection shows.
#[derive(Clone, Copy)]
struct Thumbprint([u8; 32]);

/// Why nobody gets a document.
struct Refused(StatusCode, &'static str);

#[tokio::main]
async fn main() -> Outcome<()> {
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| "rustls has a provider already")?;
    let arguments = Arguments::parse();
    let gate = Arc::new(Gate::open(&arguments).await?);
    let tls = TlsAcceptor::from(Arc::new(tls(&arguments)?));
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("answering at https://{}/report", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(connection(socket, tls.clone(), Arc::clone(&gate)));
    }
}

/// Serves one connection, with the certificate that it shows beside every request. A handshake that fails is the peer's affair.
async fn connection(
    socket: tokio::net::TcpStream,
    tls: TlsAcceptor,
    gate: Arc<Gate>,
) -> Outcome<()> {
    let stream = tokio::time::timeout(Duration::from_secs(10), tls.accept(socket)).await??;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = Thumbprint(certificate_thumbprint(shown.ok_or("no certificate")?));
    let routes = Router::new()
        .route("/report", get(async || "Revenue is up; so is the number of agents.\n"))
        .layer(from_fn_with_state(gate, living))
        .layer(Extension(shown));
    let service = TowerToHyperService::new(routes);
    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

/// Lets through who may.
async fn living(
    State(gate): State<Arc<Gate>>,
    Extension(shown): Extension<Thumbprint>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refused> {
    let token = bearer(request.headers())?.to_owned();
    gate.check(&token, shown)?;
    gate.must_live(&token).await?;
    // The work behind has no use for it, and what it does not have it cannot pass on.
    request.headers_mut().remove(AUTHORIZATION);
    Ok(next.run(request).await)
}

impl Gate {
    async fn open(arguments: &Arguments) -> Outcome<Self> {
        let file = |name: &str| std::fs::read(arguments.dir.join(name));
        let own = [file("documents.pem")?, file("documents.key")?].concat();
        let broker = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&file("root.pem")?)?])
            .identity(reqwest::Identity::from_pem(&own)?)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(2))
            .build()?;
        let jwks = format!("{}/oauth2/jwks", arguments.issuer);
        let keys = broker.get(jwks).send().await?.error_for_status()?.bytes().await?;
        let (issuer, audience) = (arguments.issuer.clone(), arguments.audience.clone());
        Ok(Self { issuer, audience, keys: KeySet::parse(&keys)?, broker })
    }

    /// What the token says by itself: who signed it and for whom, when it ends, who may show it, what it allows.
    fn check(&self, token: &str, shown: Thumbprint) -> Result<(), Refused> {
        let checked = access_token::verify(token, &self.keys, &self.issuer, now())
            .map_err(|_| invalid("the token is not a valid one of the broker"))?;
        // RFC 8705 section 3: a token that is bound to another certificate has been stolen. One bound to none is not taken.
        if checked.confirmation != Some(Confirmation::Certificate(shown.0)) {
            return Err(invalid("the token is bound to another certificate"));
        }
        if checked.audience != self.audience {
            return Err(invalid("the token is for somebody else"));
        }
        let mut entries = checked.grant.entries().iter();
        match entries
            .any(|entry| entry.audience() == self.audience && entry.actions().contains(ACTION))
        {
            true => Ok(()),
            false => Err(Refused(StatusCode::FORBIDDEN, "the token does not allow it")),
        }
    }

    /// What only the broker knows: whether the task still runs (RFC 7662). Whatever is not a clear yes is a no.
    async fn must_live(&self, token: &str) -> Result<(), Refused> {
        let away = |_| Refused(StatusCode::SERVICE_UNAVAILABLE, "the broker cannot be asked");
        let url = format!("{}/oauth2/introspect", self.issuer);
        // The alphabet of a JWS needs no escapes in a form.
        let form = self.broker.post(url).body(format!("token={token}"));
        let form = form.header("content-type", "application/x-www-form-urlencoded");
        let answer =
            form.send().await.and_then(reqwest::Response::error_for_status).map_err(away)?;
        let answer: serde_json::Value = answer.json().await.map_err(away)?;
        match answer.get("active") {
            Some(serde_json::Value::Bool(true)) => Ok(()),
            _ => Err(invalid("the token's task is over")),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(status, why) = self;
        let challenge = match status {
            StatusCode::UNAUTHORIZED => "Bearer error=\"invalid_token\"",
            StatusCode::FORBIDDEN => "Bearer error=\"insufficient_scope\"",
            _ => return (status, why).into_response(),
        };
        (status, [(WWW_AUTHENTICATE, challenge)], why).into_response()
    }
}

fn invalid(why: &'static str) -> Refused {
    Refused(StatusCode::UNAUTHORIZED, why)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(value), None) => value.strip_prefix("Bearer "),
        _ => None,
    }
    .ok_or(invalid("send one bearer token"))
}

/// Only those connect who show a certificate of a trusted root.
fn tls(arguments: &Arguments) -> Outcome<ServerConfig> {
    let file = |name: &str| arguments.dir.join(name);
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(file("root.pem"))? {
        roots.add(root?)?;
    }
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let chain = CertificateDer::pem_file_iter(file("documents.pem"))?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(file("documents.key"))?;
    let mut tls = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would bring back a certificate that nobody looked at again.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(tls)
}

#[expect(clippy::disallowed_methods, reason = "a server's own clock, read once for each request")]
fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::from_seconds(since.as_secs())
}
