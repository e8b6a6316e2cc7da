//! The stage: a playground, a broker in it, the resource server, and everyone's connections.

use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::api::DocumentsApi;
use super::client::{Caller, ClientError};
use crate::app::{self, AppError, Running, Sockets};
use crate::broker::seams::{Clock as _, SystemClock, SystemEntropy};
use crate::config::store::{RedisConfig, StoreConfig};
use crate::config::{self, problem::ConfigErrors};
use crate::domain::secret::Secret;
use crate::identity::bundle_files::BundleFilesError;
use crate::listen::tls::TlsError;
use crate::playground::{self, Plan, Playground, PlaygroundError, PlaygroundStore, Workload};
use crate::verifier::StartError;

/// Seals the keyring of every demo on a Redis server, so that the demo can be told there again. It is no secret: a keyring
/// under it belongs to a demo.
const DANGER_REDIS_KEY: [u8; 32] = *b"leasehold demo, sealed to nobody";

/// The demo could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A folder for it.
    #[error("no folder for the playground: {0}")]
    Folder(std::io::Error),
    /// The playground.
    #[error(transparent)]
    Playground(#[from] PlaygroundError),
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// A socket on this machine.
    #[error("no socket on 127.0.0.1: {0}")]
    Socket(std::io::Error),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] AppError),
    /// A workload's connections.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// TLS of the resource server.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Whom the resource server trusts.
    #[error(transparent)]
    Bundles(#[from] BundleFilesError),
    /// The resource server's verifier.
    #[error(transparent)]
    Verifier(#[from] StartError),
    /// It heard nothing.
    #[error("the broker does not tell verifiers what is revoked")]
    Silent,
    /// A document that the broker publishes is not there.
    #[error("`{0}`: {1}")]
    Fetch(String, reqwest::Error),
    /// It is not what it should be.
    #[error("a document that the broker publishes cannot be used: {0}")]
    Document(String),
}

/// Everything that the story is told with.
pub(super) struct Stage {
    /// Where the broker answers gRPC.
    pub(super) grpc: SocketAddr,
    /// Where the broker answers HTTP.
    pub(super) http: SocketAddr,
    /// The store, in a few words.
    pub(super) store: &'static str,
    pub(super) api: DocumentsApi,
    pub(super) orchestrator: Caller,
    pub(super) summarizer: Caller,
    pub(super) researcher: Caller,
    pub(super) operator: Caller,
    playground: Playground,
    instance: String,
    broker: Running,
    /// Removed when the stage is.
    _folder: TempDir,
}

impl Stage {
    /// Builds it, on Redis if there is a server.
    pub(super) async fn build(redis: Option<RedisConfig>) -> Result<Self, SetupError> {
        let folder = tempfile::Builder::new().prefix("leasehold-demo-").tempdir();
        let folder = folder.map_err(SetupError::Folder)?;
        let sockets = Sockets { grpc: socket().await?, http: socket().await?, metrics: None };
        let grpc = sockets.grpc.local_addr().map_err(SetupError::Socket)?;
        let http = sockets.http.local_addr().map_err(SetupError::Socket)?;
        let (store, kind) = match &redis {
            None => (PlaygroundStore::Embedded, "embedded store"),
            Some(redis) => {
                let key = Secret::from(STANDARD.encode(DANGER_REDIS_KEY));
                (PlaygroundStore::Redis { url: redis.url.clone(), key }, "store on Redis")
            }
        };
        // Agents of their own: what another demo on the same server did to its agents is not ours.
        let instance = Uuid::new_v4().simple().to_string();
        let plan = Plan { grpc, http, store, instance: instance.clone() };
        let now = SystemClock::default().now();
        let playground = Playground::make(folder.path(), &plan, now, &SystemEntropy)?;
        let mut config = config::load(&playground.config_file())?;
        // How to log in there is no part of the playground.
        config.store = redis.map_or(config.store, StoreConfig::Redis);
        let base_url = config.base_url.clone();
        app::make_store_if_missing(&config, Some(playground::DELTA_MAX)).await?;
        let broker = app::start(config, sockets).await?;
        let caller = |workload| Caller::new(&playground, workload, grpc);
        let documents = caller(Workload::Documents)?;
        let api = DocumentsApi::start(&playground, (&base_url, grpc), documents).await?;
        Ok(Self {
            grpc,
            http,
            store: kind,
            api,
            orchestrator: caller(Workload::Orchestrator)?,
            summarizer: caller(Workload::Summarizer)?,
            researcher: caller(Workload::Researcher)?,
            operator: caller(Workload::Operator)?,
            playground,
            instance,
            broker,
            _folder: folder,
        })
    }

    /// Stops everything and removes the folder.
    pub(super) async fn strike(self) {
        self.api.stop().await;
        self.broker.stop().await;
    }

    /// The SPIFFE ID of a workload.
    pub(super) fn id_of(&self, workload: Workload) -> String {
        workload.spiffe_id(&self.instance)
    }

    /// The connections of a workload.
    pub(super) fn caller(&self, workload: Workload) -> &Caller {
        match workload {
            Workload::Orchestrator | Workload::Documents => &self.orchestrator,
            Workload::Summarizer => &self.summarizer,
            Workload::Researcher => &self.researcher,
            Workload::Operator => &self.operator,
        }
    }

    /// The root that servers' certificates lead to.
    pub(super) fn root_file(&self) -> PathBuf {
        self.playground.root_file()
    }
}

async fn socket() -> Result<TcpListener, SetupError> {
    TcpListener::bind(("127.0.0.1", 0)).await.map_err(SetupError::Socket)
}
