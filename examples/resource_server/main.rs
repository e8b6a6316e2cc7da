//! A resource server in Rust: documents, for whoever holds a living credential of Leasehold.
//!
//! Beside a playground of `leasehold dev --dir play`: `cargo run --example resource_server -- --dir play`.
//!
//! ```text
//!  /report, /report/library  by the verifier library: asks nobody, and knows what is revoked. This is what to copy
//!  /report/introspection     the broker is asked at every request
//!  /report/jwks              by the published keys alone: the token is accepted until `exp`, whatever became of its task
//! ```
//!
//! What checks the token is the crate with `default-features = false, features = ["verifier"]`; the rest is axum over rustls.

mod introspection;
mod published_keys;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Router};
use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use leasehold::verifier::{Guard, Identity, PeerCertificate, Settings, Verifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::introspection::{Introspection, by_introspection};
use crate::published_keys::{PublishedKeys, by_published_keys};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What reading a document takes to be allowed.
const ACTIONS: &[&str] = &["read"];
/// How often the keys that the broker publishes are read again.
const KEYS_INTERVAL: Duration = Duration::from_secs(300);
/// Longer nobody waits for the broker, when the server starts and when it asks.
const PATIENCE: Duration = Duration::from_secs(10);

/// A resource server of documents.
#[derive(Clone, Parser)]
struct Arguments {
    /// Folder of the playground
    #[arg(long, default_value = "play")]
    dir: PathBuf,
    /// Where the broker answers gRPC
    #[arg(long, default_value = "https://localhost:7700")]
    broker: String,
    /// Base URL of the broker, the only `iss` to take
    #[arg(long, default_value = "https://localhost:7701")]
    issuer: String,
    /// The `aud` that tokens must have for us
    #[arg(long, default_value = "https://documents.dev.example")]
    audience: String,
    /// Where to answer
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(fault) = serve(Arguments::parse()).await else { return ExitCode::SUCCESS };
    eprintln!("error: {fault}");
    ExitCode::FAILURE
}

async fn serve(arguments: Arguments) -> Outcome<()> {
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| "rustls has a provider already")?;
    if !arguments.dir.join("documents.pem").exists() {
        return Err(
            format!("`{}` is no playground of `leasehold dev`", arguments.dir.display()).into()
        );
    }
    let tls = TlsAcceptor::from(Arc::new(tls(&arguments)?));
    let routes = routes(&arguments).await?;
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("answering at https://{}/report", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(connection(socket, tls.clone(), routes.clone()));
    }
}

/// The same document behind each of the three ways to check a token.
async fn routes(arguments: &Arguments) -> Outcome<Router> {
    let verifier = follow(arguments)?;
    let web = web(arguments)?;
    let published = PublishedKeys::fetch(web.clone(), arguments).await?;
    let introspection = Introspection::new(web, arguments, published.clone());
    let by_library = Router::new()
        .route("/report", get(report))
        .route("/report/library", get(report))
        .layer(Guard::new(verifier.clone(), ACTIONS));
    let by_introspection = Router::new()
        .route("/report/introspection", get(report))
        .layer(from_fn_with_state(introspection, by_introspection));
    let by_published_keys = Router::new()
        .route("/report/jwks", get(report))
        .layer(from_fn_with_state(published, by_published_keys));
    // Nobody would be let in before the broker has told what is revoked.
    let ready = timeout(PATIENCE, verifier.ready()).await;
    ready.map_err(|_| format!("the broker at `{}` says nothing", arguments.broker))?;
    Ok(by_library.merge(by_introspection).merge(by_published_keys))
}

async fn report() -> &'static str {
    "Revenue is up; so is the number of agents.\n"
}

/// Follows what the broker revokes. Nobody is let in until it has told.
fn follow(arguments: &Arguments) -> Outcome<Verifier> {
    let identity = Identity {
        ca_file: arguments.dir.join("root.pem"),
        cert_file: arguments.dir.join("documents.pem"),
        key_file: arguments.dir.join("documents.key"),
    };
    let mut settings = Settings::new([&arguments.broker], identity, &arguments.audience);
    settings.issuer = Some(arguments.issuer.clone());
    Ok(Verifier::start(settings)?)
}

/// Serves one connection, with the certificate that it shows beside every request. A handshake that fails is the peer's affair.
async fn connection(
    socket: tokio::net::TcpStream,
    tls: TlsAcceptor,
    routes: Router,
) -> Outcome<()> {
    let stream = timeout(Duration::from_secs(10), tls.accept(socket)).await??;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let shown = PeerCertificate::new(shown.ok_or("no certificate")?);
    let service = TowerToHyperService::new(routes.layer(Extension(shown)));
    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
}

/// Asks the broker, as the verifier that we are.
fn web(arguments: &Arguments) -> Outcome<reqwest::Client> {
    let file = |name: &str| fs::read(arguments.dir.join(name));
    let identity = [file("documents.pem")?, file("documents.key")?].concat();
    Ok(reqwest::Client::builder()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(&file("root.pem")?)?)
        .identity(reqwest::Identity::from_pem(&identity)?)
        .https_only(true)
        .timeout(PATIENCE)
        .build()?)
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
