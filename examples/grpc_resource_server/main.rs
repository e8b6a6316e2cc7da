//! A resource server over gRPC, by tonic: a document, for whoever holds a living credential of Leasehold.
//!
//! Beside a playground of `leasehold dev --dir play`, with a token of a task for `documents`:
//!
//! ```text
//!  cargo run --example grpc_resource_server -- serve --dir play
//!  cargo run --example grpc_resource_server -- ask --dir play --token token
//! ```
//!
//! `serve` is what to copy: three lines make the verifier, one puts its layer before the services. `ask` is a client to try it with.

mod documents;

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use http::Extensions;
use leasehold::verifier::{Guard, Identity, PeerCertificate, Settings, Verifier};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::server::{TcpConnectInfo, TcpIncoming, TlsConnectInfo};
use tonic::transport::{
    Certificate, Channel, ClientTlsConfig, Identity as TlsIdentity, Server, ServerTlsConfig,
};
use tonic::{Request, Status};

use crate::documents::{Documents, ReadRequest};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What each call takes to be allowed. `Guard::by_request` has actions for each method.
const ACTIONS: &[&str] = &["read"];
/// Longer nobody waits for the broker when the server starts, nor the client for the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// A resource server of documents over gRPC, and a client of it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Answer whoever shows a living token
    Serve(Serve),
    /// Ask for the document
    Ask(Ask),
}

#[derive(clap::Args)]
struct Serve {
    /// Folder of the playground
    #[arg(long, default_value = "play")]
    dir: PathBuf,
    /// Where the broker answers gRPC
    #[arg(long, default_value = "https://localhost:7700")]
    broker: String,
    /// The `aud` that tokens must have for us
    #[arg(long, default_value = "https://documents.dev.example")]
    audience: String,
    /// Where to answer
    #[arg(long, default_value = "127.0.0.1:8444")]
    listen: SocketAddr,
}

#[derive(clap::Args)]
struct Ask {
    /// Folder of the playground
    #[arg(long, default_value = "play")]
    dir: PathBuf,
    /// Whose certificate to show
    #[arg(long = "as", default_value = "summarizer")]
    who: String,
    /// File with the token to show
    #[arg(long)]
    token: Option<PathBuf>,
    /// Where the server answers
    #[arg(long, default_value = "https://localhost:8444")]
    server: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Serve(serve) => serve.run().await,
        What::Ask(ask) => ask.run().await,
    };
    let Err(fault) = done else { return ExitCode::SUCCESS };
    match fault.downcast_ref::<Status>() {
        Some(status) => eprintln!("error: {:?}: {}", status.code(), status.message()),
        None => eprintln!("error: {fault}"),
    }
    ExitCode::FAILURE
}

impl Serve {
    async fn run(self) -> Outcome<()> {
        let file = |name: &str| self.dir.join(name);
        let (ca_file, cert_file, key_file) =
            (file("root.pem"), file("documents.pem"), file("documents.key"));
        if !cert_file.exists() {
            return Err(
                format!("`{}` is no playground of `leasehold dev`", self.dir.display()).into()
            );
        }
        // Only those connect who show a certificate of a trusted root.
        let tls = ServerTlsConfig::new()
            .client_ca_root(Certificate::from_pem(fs::read(&ca_file)?))
            .identity(TlsIdentity::from_pem(fs::read(&cert_file)?, fs::read(&key_file)?));
        // Follows what the broker revokes. Nobody is let in until it has told.
        let identity = Identity { ca_file, cert_file, key_file };
        let verifier = Verifier::start(Settings::new([&self.broker], identity, &self.audience))?;
        let guard = Guard::new(verifier.clone(), ACTIONS).with_peer(peer);
        let listener = TcpListener::bind(self.listen).await?;
        let ready = timeout(PATIENCE, verifier.ready()).await;
        ready.map_err(|_| format!("the broker at `{}` says nothing", self.broker))?;
        println!("answering at https://{}", listener.local_addr()?);
        Server::builder()
            .tls_config(tls)?
            .layer(guard)
            .add_service(Documents)
            .serve_with_incoming(TcpIncoming::from(listener))
            .await?;
        Ok(())
    }
}

/// The certificate that the connection shows, where tonic's TLS leaves it. Tokens are bound to it.
fn peer(extensions: &Extensions) -> Option<PeerCertificate> {
    let shown = extensions.get::<TlsConnectInfo<TcpConnectInfo>>()?.peer_certs()?;
    Some(PeerCertificate::new(shown.first()?))
}

impl Ask {
    async fn run(self) -> Outcome<()> {
        let file = |name: String| fs::read(self.dir.join(name));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(file("root.pem".to_owned())?))
            .identity(TlsIdentity::from_pem(
                file(format!("{}.pem", self.who))?,
                file(format!("{}.key", self.who))?,
            ));
        let endpoint = Channel::from_shared(self.server)?.tls_config(tls)?.timeout(PATIENCE);
        let mut request = Request::new(ReadRequest {});
        if let Some(token) = &self.token {
            let mut value: MetadataValue<_> =
                format!("Bearer {}", fs::read_to_string(token)?.trim()).parse()?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        let document = documents::call(endpoint.connect().await?, request).await?;
        println!("{}", document.text);
        Ok(())
    }
}
