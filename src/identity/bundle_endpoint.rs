//! Trust bundles from SPIFFE bundle endpoints, fetched again and again (SPIFFE Federation section 5).
//!
//! ```text
//!  fetch ── refresh hint, less up to a tenth ── fetch ── … ── failed: the next interval, as ever ── max_age ── nothing is trusted
//! ```
//!
//! Redirects are not followed, which the specification allows: who moves an endpoint says so in configuration, not in an
//! answer. An endpoint that is away when the broker starts does not keep it from starting: its own trust domain is refused
//! until it answers, and everyone else is served.

mod server;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use self::server::{EndpointServer, Vouching};
use super::bundle_files::{self, BundleFile, BundleFilesError};
use super::trust_bundle::{TrustBundle, TrustBundleError};
use super::trust_store::{PutError, TrustStore};
use crate::broker::seams::Clock;
use crate::domain::time::{Span, Stamp};
use crate::fetch::{FetchError, Fetcher, Reach, check_url};
use crate::spiffe::bundle::{Bundle, BundleError};
use crate::spiffe::id::{SpiffeId, TrustDomain};
use crate::telemetry::metrics;

/// Between two fetches where the bundle says nothing (SPIFFE Federation section 5.2.3).
const DEFAULT_INTERVAL: Span = Span::from_seconds(5 * 60);
/// Between two fetches at least, whatever the bundle says.
const MIN_INTERVAL: Span = Span::from_seconds(10);
/// Between two fetches at most, whatever the bundle says.
const MAX_INTERVAL: Span = Span::from_seconds(3_600);

/// A trust domain's bundle endpoint.
#[derive(Clone, Debug)]
pub struct BundleEndpoint {
    /// Whose bundle it gives; the bundle itself does not say.
    pub trust_domain: TrustDomain,
    /// `https`, without user.
    pub url: String,
    /// What its server proves itself with.
    pub profile: EndpointProfile,
    /// For how long the bundle counts after it was last fetched.
    pub max_age: Span,
    /// It may lie at a private address.
    pub in_cluster: bool,
    /// It lies on this machine. For development.
    pub danger_loopback: bool,
}

/// How the server of an endpoint proves itself (SPIFFE Federation section 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointProfile {
    /// By a certificate for its name, as in the web.
    HttpsWeb {
        /// Roots that it leads to, in PEM; without one this machine's.
        ca_file: Option<PathBuf>,
    },
    /// By an X.509-SVID.
    HttpsSpiffe {
        /// Its exact SPIFFE ID.
        spiffe_id: SpiffeId,
        /// For an endpoint of the very trust domain whose bundle it gives: a bundle in a file, by which the first fetch
        /// knows it. It makes no caller trusted.
        bootstrap_file: Option<PathBuf>,
    },
}

/// An endpoint cannot be one to fetch from.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Its URL or its CA file.
    #[error("bundle endpoint of trust domain `{0}`: {1}")]
    Fetch(TrustDomain, FetchError),
    /// The bundle to begin with.
    #[error(transparent)]
    Bootstrap(#[from] BundleFilesError),
    /// The same.
    #[error("the bundle to begin with for trust domain `{0}`: {1}")]
    Unusable(TrustDomain, TrustBundleError),
}

/// Why a fetch brought nothing; for the log.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Put(#[from] PutError),
}

/// The endpoints of all trust domains that have one.
#[derive(Debug)]
pub struct BundleEndpoints {
    trust: Arc<TrustStore>,
    endpoints: Vec<Endpoint>,
    jitter: u8,
}

#[derive(Debug)]
struct Endpoint {
    config: BundleEndpoint,
    fetcher: Fetcher,
    /// Who vouches for its server; `None`: the web.
    vouching: Option<Arc<Vouching>>,
    schedule: Mutex<Schedule>,
}

#[derive(Debug, Default)]
struct Schedule {
    next_fetch: Stamp,
    hint: Option<Span>,
    /// What was last said in the log.
    has_failed: bool,
    is_waiting: bool,
}

impl BundleEndpoints {
    /// Takes the configured endpoints; fetches nothing yet. `jitter` is a random byte, so that brokers do not fetch all at once.
    ///
    /// # Errors
    /// [`EndpointError`] names the trust domain and what is wrong.
    pub fn new(
        trust: Arc<TrustStore>,
        configured: Vec<BundleEndpoint>,
        clock: &Arc<dyn Clock>,
        jitter: u8,
    ) -> Result<Self, EndpointError> {
        let endpoints = configured.into_iter().map(|config| Endpoint::new(config, &trust, clock));
        Ok(Self { endpoints: endpoints.collect::<Result<_, _>>()?, trust, jitter })
    }

    /// Fetches whatever is due; called every second or so.
    pub async fn refresh_if_due(&self, now: Stamp) {
        let due = self.endpoints.iter();
        let due = due.map(|endpoint| endpoint.refresh_if_due(&self.trust, self.jitter, now));
        futures_util::future::join_all(due).await;
    }
}

impl Endpoint {
    fn new(
        config: BundleEndpoint,
        trust: &TrustStore,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        let reach = match (config.danger_loopback, config.in_cluster) {
            (true, _) => Reach::Loopback,
            (false, true) => Reach::InCluster,
            (false, false) => Reach::Public,
        };
        let fault = |error| EndpointError::Fetch(config.trust_domain.clone(), error);
        check_url(&config.url, reach).map_err(fault)?;
        if !config.url.starts_with("https://") {
            return Err(fault(FetchError::Url(config.url.clone())));
        }
        let (fetcher, vouching) = match &config.profile {
            EndpointProfile::HttpsWeb { ca_file } => {
                (Fetcher::new(reach, ca_file.as_deref()), None)
            }
            EndpointProfile::HttpsSpiffe { spiffe_id, bootstrap_file } => {
                let bootstrap =
                    bootstrap_file.as_deref().map(|path| begin_with(&config.trust_domain, path));
                let vouching = Arc::new(Vouching {
                    trust_domain: spiffe_id.trust_domain().clone(),
                    bundles: trust.shared(),
                    bootstrap: bootstrap.transpose()?.map(Arc::new),
                });
                let server =
                    EndpointServer::new(spiffe_id.clone(), vouching.clone(), clock.clone());
                (Fetcher::with_server_verifier(reach, Arc::new(server)), Some(vouching))
            }
        };
        let fetcher = fetcher.map_err(fault)?;
        Ok(Self { config, fetcher, vouching, schedule: Mutex::default() })
    }

    async fn refresh_if_due(&self, trust: &TrustStore, jitter: u8, now: Stamp) {
        if !self.is_to_fetch(jitter, now) {
            return;
        }
        let hint = self.fetch(trust, now).await;
        let trust_domain = &self.config.trust_domain;
        let mut schedule = self.schedule.lock();
        match hint {
            Ok(hint) => {
                if std::mem::take(&mut schedule.has_failed) {
                    tracing::info!(%trust_domain, "the trust bundle is fetched again");
                }
                schedule.hint = hint;
                schedule.next_fetch = now.plus(interval(hint, self.config.max_age, jitter));
            }
            Err(error) => {
                metrics::trust_loaded("bundle", "failed");
                if !std::mem::replace(&mut schedule.has_failed, true) {
                    tracing::error!(%trust_domain, %error, "the trust bundle cannot be fetched");
                }
            }
        }
    }

    /// Whether a fetch is due and can succeed. A failure waits for the next interval (SPIFFE Federation section 5.2.4), so that
    /// is settled before.
    fn is_to_fetch(&self, jitter: u8, now: Stamp) -> bool {
        let mut schedule = self.schedule.lock();
        if now < schedule.next_fetch {
            return false;
        }
        // Without anybody who vouches for the server nothing is asked, and so nothing is waited for.
        let is_waiting = self.vouching.as_ref().is_some_and(|who| who.bundle(now).is_none());
        if std::mem::replace(&mut schedule.is_waiting, is_waiting) != is_waiting && is_waiting {
            let trust_domain = &self.config.trust_domain;
            tracing::warn!(%trust_domain, "the trust bundle waits for that of its endpoint's trust domain");
        }
        if !is_waiting {
            schedule.next_fetch = now.plus(interval(schedule.hint, self.config.max_age, jitter));
        }
        !is_waiting
    }

    fn vouches_for_itself(&self) -> bool {
        self.vouching.as_ref().is_some_and(|who| who.bootstrap.is_some())
    }

    /// Fetches once and takes over what came; answers with the refresh hint in it.
    async fn fetch(&self, trust: &TrustStore, now: Stamp) -> Result<Option<Span>, RefreshError> {
        let fetched = self.fetcher.get(&self.config.url).await?;
        let bundle = Bundle::parse(&fetched.body)?;
        let hint = bundle.refresh_hint_seconds().map(Span::from_seconds);
        let ends_itself = bundle.authorities().is_empty() && self.vouches_for_itself();
        trust.put(&self.config.trust_domain, bundle, now)?;
        if ends_itself {
            let trust_domain = &self.config.trust_domain;
            tracing::error!(%trust_domain, "the trust bundle has no roots any more, so that nobody can vouch for its endpoint: put a current one into the file to begin with, and restart");
        }
        Ok(hint)
    }
}

/// How long after a fetch the next one follows: what the bundle hints at, less up to a tenth so that brokers do not all come
/// at once; and in any case often enough that two failures do not make the bundle too old.
fn interval(hint: Option<Span>, max_age: Span, jitter: u8) -> Span {
    let most = MAX_INTERVAL.min(Span::from_micros(max_age.micros() / 3));
    let full = hint.unwrap_or(DEFAULT_INTERVAL).max(MIN_INTERVAL).min(most);
    let part = 9_000 + u64::from(jitter) * 1_000 / 255;
    Span::from_micros(full.micros() / 10_000 * part)
}

fn begin_with(
    trust_domain: &TrustDomain,
    path: &std::path::Path,
) -> Result<TrustBundle, EndpointError> {
    let file = BundleFile { trust_domain: trust_domain.clone(), path: path.to_owned() };
    let bundle = bundle_files::read_once(&file)?;
    TrustBundle::of(bundle).map_err(|fault| EndpointError::Unusable(trust_domain.clone(), fault))
}

#[cfg(test)]
mod tests;
