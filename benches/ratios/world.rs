//! A playground with a broker in it, over one of the stores.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leasehold::app::{self, Running, Seams, Sockets};
use leasehold::broker::seams::{Clock as _, SystemClock, SystemEntropy};
use leasehold::config::secret_source::SecretSource;
use leasehold::config::store::StoreConfig;
use leasehold::config::{self, Config};
use leasehold::domain::secret::Secret;
use leasehold::domain::time::Span;
use leasehold::playground::{DELTA_MAX, Plan, Playground, PlaygroundStore, Workload};
use leasehold::testing::redis::{PASSWORD, RedisServer};
use prost::Message as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::Outcome;
use crate::calls::{Agent, Orchestrator};
use crate::moved_clock::MovedClock;

/// Connections of the agent; its callers are spread over them.
pub(crate) const CONNECTIONS: usize = 4;
/// What is asked in bulk connects anew after so much: a broker ends connections that are five minutes old.
pub(crate) const PER_CONNECTION: usize = 50_000;
/// Last segment of the agents' SPIFFE IDs.
pub(crate) const INSTANCE: &str = "bench";
/// Seals the keyring of a server that lives as long as the report. It is no secret.
const DANGER_KEY: [u8; 32] = *b"leasehold bench sealed to nobody";
/// One principal sends everything here.
const NO_RATE_LIMIT: u32 = 100_000;
/// Records of ended tasks are kept no longer here, so that a run sees them go.
const RETENTION: Span = Span::from_seconds(1);

/// A broker that answers.
pub(crate) struct World {
    pub(crate) playground: Playground,
    pub(crate) clock: Arc<MovedClock>,
    config: Config,
    addresses: (SocketAddr, SocketAddr),
    broker: Running,
    folder: TempDir,
}

/// One whose broker has stopped.
pub(crate) struct Stopped {
    playground: Playground,
    clock: Arc<MovedClock>,
    config: Config,
    addresses: (SocketAddr, SocketAddr),
    folder: TempDir,
}

/// How large the messages of issuing are, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    pub(crate) response: usize,
    /// What is signed of a token.
    pub(crate) signed: usize,
}

impl World {
    /// Over the embedded store, or over this server.
    pub(crate) async fn start(redis: Option<&RedisServer>) -> Outcome<Self> {
        Self::with_ttl(redis, None).await
    }

    /// The same; credentials live so long.
    pub(crate) async fn with_ttl(redis: Option<&RedisServer>, ttl: Option<Span>) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("leasehold-bench-").tempdir()?;
        let (grpc, http) = (free_address().await?, free_address().await?);
        let store = match redis {
            None => PlaygroundStore::Embedded,
            Some(server) => PlaygroundStore::Redis {
                url: format!("redis://127.0.0.1:{}", server.port()),
                key: Secret::from(STANDARD.encode(DANGER_KEY)),
            },
        };
        let plan = Plan { grpc, http, store, instance: INSTANCE.to_owned() };
        let now = SystemClock::default().now();
        let playground = Playground::make(folder.path(), &plan, now, &SystemEntropy)?;
        let password = playground.add("redis.password", PASSWORD.as_bytes())?;
        let mut config = config::load(&playground.config_file())?;
        config.limits.requests_per_second_per_principal = NO_RATE_LIMIT;
        config.limits.ended_task_retention = RETENTION;
        for tier in &mut config.tiers {
            tier.ttl_seconds = ttl.map_or(tier.ttl_seconds, Span::seconds);
            tier.min_ttl_seconds = 1;
        }
        if let StoreConfig::Redis(redis) = &mut config.store {
            redis.username = Some("leasehold".to_owned());
            redis.password = Some(SecretSource::File(password));
        }
        app::make_store_if_missing(&config, Some(DELTA_MAX)).await?;
        let clock = Arc::<MovedClock>::default();
        Stopped { playground, clock, config, addresses: (grpc, http), folder }.start().await
    }

    /// Where the broker answers gRPC.
    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.grpc
    }

    /// What the broker does without being called.
    pub(crate) fn broker(&self) -> &leasehold::broker::Broker {
        &self.broker.broker
    }

    /// Where the embedded store lies.
    pub(crate) fn store_dir(&self) -> Option<PathBuf> {
        match &self.config.store {
            StoreConfig::Embedded { path } => Some(path.clone()),
            StoreConfig::Redis(_) => None,
        }
    }

    /// A connection of a workload to a server of the playground's.
    pub(crate) async fn connect(&self, who: Workload, server: SocketAddr) -> Outcome<Channel> {
        let pem = |path| fs::read(path);
        let (chain, key) = (self.playground.cert_file(who), self.playground.key_file(who));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem(self.playground.root_file())?))
            .identity(Identity::from_pem(pem(chain)?, pem(key)?))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{server}"))?.tls_config(tls)?;
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// The agent's connections to a server.
    pub(crate) async fn connections(&self, server: SocketAddr) -> Outcome<Vec<Channel>> {
        let mut channels = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            channels.push(self.connect(Workload::Summarizer, server).await?);
        }
        Ok(channels)
    }

    /// The orchestrator, on a connection of its own.
    pub(crate) async fn orchestrator(&self) -> Outcome<Orchestrator> {
        Ok(Orchestrator::new(self.connect(Workload::Orchestrator, self.address()).await?))
    }

    /// Callers for tokens, each with a task of its own.
    pub(crate) async fn callers(&self, count: usize) -> Outcome<Vec<Agent>> {
        let mut orchestrator = self.orchestrator().await?;
        let channels = self.connections(self.address()).await?;
        let mut callers = Vec::with_capacity(count);
        for channel in channels.iter().cycle().take(count) {
            callers.push(Agent::new(channel.clone(), orchestrator.begin().await?));
        }
        Ok(callers)
    }

    /// Issues one token, to see how large things are.
    pub(crate) async fn sizes(&self) -> Outcome<Sizes> {
        let mut agent = self.callers(1).await?.pop().ok_or("no agent")?;
        let request = agent.request();
        let response = agent.send(request.clone()).await?;
        let token = response.credential.as_ref().map(|credential| &credential.access_token);
        let signed = token.and_then(|token| token.rfind('.')).ok_or("no token was issued")?;
        Ok(Sizes { request: request.encoded_len(), response: response.encoded_len(), signed })
    }

    /// Waits until the broker has known its store for long enough to know every verifier.
    pub(crate) async fn settled(&self) {
        let constants = leasehold::domain::feed::Drift::DEFAULT.lapse(DELTA_MAX);
        tokio::time::sleep(constants.to_std() + Duration::from_millis(100)).await;
    }

    /// Stops the broker; what it wrote stays.
    pub(crate) async fn stop(self) -> Stopped {
        self.broker.stop().await;
        let Self { playground, clock, config, addresses, folder, .. } = self;
        Stopped { playground, clock, config, addresses, folder }
    }

    /// Stops the broker and removes everything.
    pub(crate) async fn end(self) {
        self.broker.stop().await;
    }
}

impl Stopped {
    /// Starts a broker again: reads its configuration, opens its store, listens.
    pub(crate) async fn start(self) -> Outcome<World> {
        let Self { playground, clock, config, addresses, folder } = self;
        let (grpc, http) = addresses;
        let sockets = Sockets {
            grpc: TcpListener::bind(grpc).await?,
            http: TcpListener::bind(http).await?,
            metrics: None,
        };
        let seams = Seams { clock: clock.clone(), entropy: Arc::new(SystemEntropy) };
        let broker = app::start_with(config.clone(), sockets, seams).await?;
        Ok(World { playground, clock, config, addresses, broker, folder })
    }
}

/// Nobody listens there, as long as nobody else takes it.
async fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}
