//! The composition root: the one place that names concrete implementations.
//!
//! ```text
//!  Config + Seams + Sockets → store → keys → identity, policy → broker → gate, endpoints → Running
//!                                                                   └─ upkeep: sweep, recover, reload, refresh
//! ```

mod certificate;
mod descriptors;
mod doors;
mod feed;
mod identity;
mod keys;
mod store;
mod threads;
mod upkeep;
mod webhooks;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::doors::{Addresses, Doors};
pub use self::store::{make_store, make_store_if_missing, store_was_restored};
use self::threads::{First, Threads};

use crate::broker::seams::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::broker::{Broker, DpopSettings, Limits, ListSettings, Parts, Settings};
use crate::config::Config;
use crate::grpc::{self, CallLimits, LaneLimits};
use crate::http::{self, HttpLimits};
use crate::identity::authn::Authenticator;
use crate::identity::client_cert::SvidClientVerifier;
use crate::identity::trust_store::TrustStore;
use crate::jose::dpop::{HttpsUri, HttpsUriError};
use crate::listen::tls::{TlsError, server_config};
use crate::policy::grant::GrantPolicy;
use crate::store::StoreError;
use crate::telemetry::metrics;

/// Time and randomness.
#[derive(Clone)]
pub struct Seams {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Seams {
    /// This machine's.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock::default()), entropy: Arc::new(SystemEntropy) }
    }
}

/// The sockets to answer on; the caller has bound them.
#[derive(Debug)]
pub struct Sockets {
    /// For gRPC.
    pub grpc: TcpListener,
    /// For HTTP.
    pub http: TcpListener,
    /// For the process's numbers; `None`: they are on the one for HTTP.
    pub metrics: Option<TcpListener>,
}

impl Sockets {
    /// Binds the addresses of the configuration.
    ///
    /// # Errors
    /// [`AppError::Socket`] names the address.
    pub async fn bind(config: &Config) -> Result<Self, AppError> {
        let bind = async |address: SocketAddr| {
            let socket = TcpListener::bind(address).await;
            socket.map_err(|fault| AppError::Socket(address.to_string(), fault))
        };
        let metrics = match config.listen.metrics {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let (grpc, http) = (bind(config.listen.grpc).await?, bind(config.listen.http).await?);
        Ok(Self { grpc, http, metrics })
    }
}

/// The broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A socket.
    #[error("cannot listen on `{0}`: {1}; {remedy}", remedy = socket_remedy(.1))]
    Socket(String, std::io::Error),
    /// Threads.
    #[error(
        "no threads can be started: {0}; raise the process's limit (`ulimit -u`, or that of its container)"
    )]
    Threads(std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store's server.
    #[error(
        "the Redis server at `{url}` does not answer: {problem}; is it running there, and is `store.url` right?"
    )]
    StoreAway {
        /// Where it should be.
        url: String,
        /// What happened.
        problem: String,
    },
    /// A tier does not fit the store.
    #[error(
        "tier `{tier}`: its freshness of {freshness_millis} ms is above the store's `delta_max` of {delta_max_millis} ms, which was fixed when the store was made"
    )]
    Freshness {
        /// Which.
        tier: String,
        /// What it wants.
        freshness_millis: u64,
        /// What the store has.
        delta_max_millis: u64,
    },
    /// The base URL.
    #[error("`base_url` {0}")]
    BaseUrl(HttpsUriError),
    /// Our own keys.
    #[error(transparent)]
    Keys(#[from] crate::keys::KeysError),
    /// A secret of the configuration.
    #[error(transparent)]
    Secret(#[from] crate::config::secret_source::SecretError),
    /// What seals the keyring.
    #[error(transparent)]
    KeyEncryptionKey(#[from] crate::keys::KekError),
    /// The certificate's extension.
    #[error("`keys.certificate_extension_oid`: {0}")]
    ExtensionOid(#[from] crate::spiffe::task_extension::ExtensionOidError),
    /// Trusted trust domains.
    #[error(transparent)]
    TrustDomains(#[from] crate::identity::trust_bundle::TrustBundlesError),
    /// Their bundles.
    #[error(transparent)]
    Bundles(#[from] crate::identity::bundle_files::BundleFilesError),
    /// Where they are fetched.
    #[error(transparent)]
    BundleEndpoints(#[from] crate::identity::bundle_endpoint::EndpointError),
    /// Trusted issuers.
    #[error(transparent)]
    Issuers(#[from] crate::identity::oidc::OidcConfigError),
    /// Our certificate towards callers.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The same, from the Workload API.
    #[error(transparent)]
    NoFirstSvid(#[from] crate::listen::certificate::workload_api::NoFirstSvid),
    /// A Workload API's address.
    #[error(transparent)]
    WorkloadApi(#[from] crate::workload_api::EndpointUnusable),
    /// The way to a webhook's receiver.
    #[error(transparent)]
    Webhook(#[from] webhooks::WebhookError),
    /// Reflection.
    #[error(transparent)]
    Reflection(#[from] grpc::ReflectionError),
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    /// Randomness.
    #[error(transparent)]
    Entropy(#[from] crate::broker::seams::EntropyError),
}

fn socket_remedy(fault: &std::io::Error) -> &'static str {
    match fault.kind() {
        ErrorKind::AddrInUse => {
            "another program has it, perhaps a broker that runs already: stop that one, or change `listen`"
        }
        ErrorKind::PermissionDenied => {
            "a port below 1024 takes a right of its own (CAP_NET_BIND_SERVICE): grant it, or change `listen`"
        }
        _ => "is it an address of this machine? Change `listen`",
    }
}

/// A broker that answers.
pub struct Running {
    /// Where it answers gRPC.
    pub grpc: SocketAddr,
    /// Where it answers HTTP.
    pub http: SocketAddr,
    /// Where it shows its numbers, if they have an address of their own.
    pub metrics: Option<SocketAddr>,
    /// The verbs themselves, for whoever shares the process.
    pub broker: Arc<Broker>,
    stop: CancellationToken,
    tasks: TaskTracker,
    store: store::Opened,
    threads: Threads,
}

impl Running {
    /// Stops: nobody is let in any more, running requests end within the drain time, then the store is closed.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
        drop(self.threads);
    }
}

/// Starts a broker with this machine's time and randomness.
///
/// # Errors
/// [`AppError`] says what is missing or wrong. Nothing runs then.
pub async fn start(config: Config, sockets: Sockets) -> Result<Running, AppError> {
    start_with(config, sockets, Seams::system()).await
}

/// Starts a broker. It answers when this returns; it is ready as soon as every partition of its store is open.
///
/// # Errors
/// [`AppError`] says what is missing or wrong. Nothing runs then.
pub async fn start_with(
    config: Config,
    listening: Sockets,
    seams: Seams,
) -> Result<Running, AppError> {
    let metrics = metrics::install()?;
    let threads = Threads::start().map_err(AppError::Threads)?;
    let store = store::open(&config, &seams, threads.ordinary()).await?;
    must_fit(&config, &store)?;
    upkeep::recover(&*store.upkeep).await?;
    let keyring = keys::Keyring::open(&config, store.store.clone(), &seams).await?;
    let identity::Trust { store: trust, files, agents, endpoints, jwt_svid, issuers } =
        identity::load(&config, &seams)?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let unless_started = stop.clone().drop_guard(); // nothing runs on where the start fails
    agents.into_iter().for_each(|agent| {
        tasks.spawn(stop.clone().run_until_cancelled_owned(agent.follow()));
    });
    let feed = feed::make(&config, &store, &seams, &listening, &stop)?;
    let hooks = webhooks::make(&config.webhooks, &store, &feed, &keyring, &seams).await?;
    let certificate = certificate::load(&config, &seams, &tasks, &stop).await?;
    let authenticator = Arc::new(Authenticator::new(trust.shared(), jwt_svid, issuers));
    let broker = Arc::new(Broker::new(
        Parts {
            store: store.store.clone(),
            upkeep: store.upkeep.clone(),
            feed: feed.clone(),
            policy: Arc::new(GrantPolicy),
            keys: keyring.shared.clone(),
            clock: seams.clock.clone(),
            entropy: seams.entropy.clone(),
        },
        settings(&config, &listening)?,
    ));
    let (ready, is_ready) = watch::channel(false);
    let (limits, reflection) = (call_limits(&config), config.listen.reflection);
    let (services, health) =
        grpc::router(broker.clone(), authenticator.clone(), limits, reflection).await?;
    let parts = http::Parts {
        broker: broker.clone(),
        authenticator: authenticator.clone(),
        is_ready,
        metrics: metrics.clone(),
    };
    let http_limits = http_limits(&config);
    let doors = Doors {
        services,
        endpoints: http::router(parts.clone(), http_limits, listening.metrics.is_none()),
        numbers: http::numbers(parts, http_limits),
        tls: tls(&certificate, &trust, &seams)?,
        first: First::of(&config, &trust, &seams),
    };
    feed::begin(&feed, &tasks).await;
    hooks.spawn(&tasks, &stop);
    let addresses = doors.open(listening, &config, (&threads, &tasks), &stop)?;
    let upkeep = upkeep::Upkeep {
        broker: broker.clone(),
        store: store.upkeep.clone(),
        keyring,
        trust,
        files,
        endpoints,
        certificate,
        clock: seams.clock,
        authenticator,
        metrics,
        health,
        ready,
    };
    upkeep.begin(&tasks, &stop).await;
    unless_started.disarm();
    let Addresses { grpc, http, metrics } = addresses;
    Ok(Running { grpc, http, metrics, broker, stop, tasks, store, threads })
}

/// How callers are met: with the broker's certificate, and asked for theirs.
fn tls(
    certificate: &certificate::Certificate,
    trust: &TrustStore,
    seams: &Seams,
) -> Result<Arc<ServerConfig>, TlsError> {
    let clients = Arc::new(SvidClientVerifier::new(trust.shared()));
    server_config(certificate.shown.clone(), clients, &["h2"], seams.clock.clone())
}

fn must_fit(config: &Config, store: &store::Opened) -> Result<(), AppError> {
    let delta_max = store.upkeep.constants().delta_max;
    match config.tiers.iter().find(|tier| tier.freshness > delta_max) {
        None => Ok(()),
        Some(tier) => Err(AppError::Freshness {
            tier: tier.name.to_string(),
            freshness_millis: tier.freshness.millis(),
            delta_max_millis: delta_max.millis(),
        }),
    }
}

fn settings(config: &Config, listening: &Sockets) -> Result<Settings, AppError> {
    let limits = &config.limits;
    let rate = |limit| NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    Ok(Settings {
        issuer: config.base_url.clone(),
        trust_domain: config.trust_domain.to_string(),
        store_kind: store::kind(&config.store),
        tiers: config.tiers.clone(),
        roles: config.roles.clone(),
        limits: Limits {
            depth: limits.depth,
            fan_out: limits.fan_out,
            instances: limits.instances,
            ended_task_retention: limits.ended_task_retention,
            requests_per_second: rate(limits.requests_per_second_per_principal),
            shown_tokens_per_second: rate(limits.shown_tokens_per_second),
            shown_tokens_per_second_per_address: rate(limits.shown_tokens_per_second_per_address),
        },
        dpop: DpopSettings {
            targets: match &config.dpop.targets {
                Some(targets) => targets.clone(),
                None => targets(config, listening)?,
            },
            is_nonce_required: config.dpop.is_nonce_required,
        },
        lists: ListSettings {
            max_age: config.crl.max_age,
            lifetime: config.crl.lifetime,
            most_entries: ListSettings::MOST_ENTRIES,
        },
    })
}

/// Where callers of gRPC call, if nobody says: at the host of the base URL, and at the address that it listens on, if it is one.
fn targets(config: &Config, listening: &Sockets) -> Result<Vec<HttpsUri>, AppError> {
    let local = listening.grpc.local_addr();
    let local = local.map_err(|fault| AppError::Socket("a bound socket".into(), fault))?;
    let base = HttpsUri::parse(&config.base_url).map_err(AppError::BaseUrl)?;
    let named = base.at_port(local.port()).map_err(AppError::BaseUrl)?;
    let numbered = HttpsUri::parse(&format!("https://{local}")).ok();
    let numbered = numbered.filter(|_| !local.ip().is_unspecified());
    Ok(std::iter::once(named).chain(numbered).collect())
}

fn http_limits(config: &Config) -> HttpLimits {
    let limits = &config.limits;
    HttpLimits { timeout: limits.request_timeout.to_std(), in_flight: limits.requests_in_flight }
}

fn call_limits(config: &Config) -> CallLimits {
    let in_flight = config.limits.requests_in_flight;
    CallLimits {
        timeout: config.limits.request_timeout.to_std(),
        lanes: LaneLimits {
            endings: in_flight,
            others: in_flight,
            waiting: in_flight.saturating_mul(8),
        },
    }
}
