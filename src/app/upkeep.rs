//! What runs beside the requests: sweeping, recovery, and looking at what others may have changed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::certificate::Certificate;
use super::keys::Keyring;
use crate::broker::seams::Clock;
use crate::broker::{Broker, Hindrance};
use crate::grpc::Health;
use crate::identity::authn::Authenticator;
use crate::identity::bundle_endpoint::BundleEndpoints;
use crate::identity::bundle_files::BundleFiles;
use crate::identity::trust_store::TrustStore;
use crate::store::{self, StoreError};
use crate::telemetry::metrics;

/// FORMATS.md, Numbers: the sweep.
const SWEEP: Duration = Duration::from_secs(1);
/// How often it is asked whether every partition is open, and recovered if not.
const LOOK: Duration = Duration::from_secs(1);
const BUNDLES: Duration = Duration::from_secs(5);
const CERTIFICATE: Duration = Duration::from_secs(5);
const ISSUERS: Duration = Duration::from_secs(1);
const ENDPOINTS: Duration = Duration::from_secs(1);
/// A successor of a key is published an hour before it signs, so every broker has seen it by then.
const KEYRING: Duration = Duration::from_secs(300);
/// That of a quarantined key is published for seconds: well within them every broker has seen it.
const QUARANTINED_KEYS: Duration = Duration::from_millis(500);
/// Twice as often as a list at its youngest bound may be remade.
const REVOCATION_LISTS: Duration = Duration::from_millis(500);
const METRICS: Duration = Duration::from_secs(5);

pub(super) struct Upkeep {
    pub(super) broker: Arc<Broker>,
    pub(super) store: Arc<dyn store::Upkeep>,
    pub(super) keyring: Keyring,
    pub(super) trust: Arc<TrustStore>,
    pub(super) files: Arc<BundleFiles>,
    pub(super) certificate: Certificate,
    pub(super) endpoints: BundleEndpoints,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) metrics: metrics::Handle,
    pub(super) health: Health,
    pub(super) ready: watch::Sender<bool>,
}

impl Upkeep {
    /// Looks once, then starts everything; it ends with `stop`.
    pub(super) async fn begin(self, tasks: &TaskTracker, stop: &CancellationToken) {
        self.look().await;
        self.fetch_bundles().await;
        self.spawn(tasks, stop);
    }

    fn spawn(self, tasks: &TaskTracker, stop: &CancellationToken) {
        self.trust.look(self.broker.now());
        let files = self.files.clone();
        tasks.spawn(files.watch(BUNDLES, self.clock.clone(), stop.clone()));
        let upkeep = Arc::new(self);
        let again = |every, upkeep: &Arc<Self>, what: Chore| {
            tasks.spawn(every_so_often(every, upkeep.clone(), what, stop.clone()));
        };
        again(SWEEP, &upkeep, Chore::Sweep);
        again(LOOK, &upkeep, Chore::Look);
        again(CERTIFICATE, &upkeep, Chore::LookAtCertificate);
        again(ISSUERS, &upkeep, Chore::RefreshIssuers);
        again(ENDPOINTS, &upkeep, Chore::FetchBundles);
        again(KEYRING, &upkeep, Chore::ReloadKeyring);
        again(QUARANTINED_KEYS, &upkeep, Chore::ReplaceQuarantinedKeys);
        again(BUNDLES, &upkeep, Chore::LookAtBundles);
        again(REVOCATION_LISTS, &upkeep, Chore::RefreshRevocationLists);
        again(METRICS, &upkeep, Chore::FoldMetrics);
    }

    async fn sweep(&self) {
        // While the store is away, looking says so; sweeping is tried again in a second.
        if let Err(error) = self.broker.sweep().await {
            tracing::debug!(%error, "not everything was swept");
        }
    }

    async fn refresh_revocation_lists(&self) {
        // While the store is away, looking says so; meanwhile no list is served that is too old.
        if let Err(error) = self.broker.refresh_revocation_lists().await {
            tracing::debug!(%error, "the revocation lists could not be made");
        }
    }

    /// Whether the broker can work; recovers the store if it is closed.
    async fn look(&self) {
        let fault = self.fault().await.or_else(|| self.unregistered());
        let is_ready = fault.is_none();
        if self.ready.send_replace(is_ready) != is_ready {
            match fault {
                None => tracing::info!("ready"),
                Some(fault) => tracing::error!(%fault, "not ready"),
            }
        }
        self.health.set(is_ready).await;
    }

    /// Asks the bundle endpoints that are due. Once before the first call is answered, and no longer than one fetch takes: who
    /// is trusted by a bundle that can be had is not refused by a broker that just started.
    async fn fetch_bundles(&self) {
        self.endpoints.refresh_if_due(self.clock.now()).await;
    }

    /// Why the broker cannot work, if it cannot.
    async fn fault(&self) -> Option<String> {
        if let Ok(found) = self.broker.hindrance().await
            && found != Some(Hindrance::Closed)
        {
            return found.map(|hindrance| hindrance.to_string());
        }
        if let Err(fault) = recover(&*self.store).await {
            return Some(fault.to_string());
        }
        match self.broker.hindrance().await {
            Ok(found) => found.map(|hindrance| hindrance.to_string()),
            Err(fault) => Some(fault.to_string()),
        }
    }

    /// Whether brokers would not wait for this one's verifiers, so that it changes nothing.
    fn unregistered(&self) -> Option<String> {
        let text = "this broker is not registered with the store";
        (!self.broker.feed().is_registered()).then(|| text.to_owned())
    }

    /// A key of ours that was quarantined gives way to its successor, whichever broker makes it.
    async fn replace_quarantined_keys(&self) {
        if self.broker.has_condemned_keys() {
            self.reload_keyring().await;
        }
    }

    async fn reload_keyring(&self) {
        if let Err(error) = self.keyring.reload().await {
            tracing::error!(%error, "the keyring could not be looked at; the keys stay as they are");
        }
    }
}

/// Opens what is closed because its server changed.
pub(super) async fn recover(store: &dyn store::Upkeep) -> Result<(), StoreError> {
    for part in store.recover().await? {
        tracing::warn!(
            partition = %part.partition, old = %part.old, new = %part.new, fenced = part.fenced,
            "a partition of the store was recovered"
        );
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Chore {
    Sweep,
    Look,
    LookAtCertificate,
    RefreshIssuers,
    FetchBundles,
    ReloadKeyring,
    ReplaceQuarantinedKeys,
    LookAtBundles,
    RefreshRevocationLists,
    FoldMetrics,
}

impl Chore {
    async fn run(self, upkeep: &Upkeep) {
        match self {
            Self::Sweep => upkeep.sweep().await,
            Self::Look => upkeep.look().await,
            Self::LookAtCertificate => upkeep.certificate.look(upkeep.clock.now()).await,
            Self::RefreshIssuers => {
                let now = upkeep.broker.now();
                upkeep.authenticator.issuers().refresh_if_due(now).await;
            }
            Self::FetchBundles => upkeep.fetch_bundles().await,
            Self::ReloadKeyring => upkeep.reload_keyring().await,
            Self::ReplaceQuarantinedKeys => upkeep.replace_quarantined_keys().await,
            Self::LookAtBundles => upkeep.trust.look(upkeep.broker.now()),
            Self::RefreshRevocationLists => upkeep.refresh_revocation_lists().await,
            Self::FoldMetrics => upkeep.metrics.fold(),
        }
    }
}

async fn every_so_often(
    every: Duration,
    upkeep: Arc<Upkeep>,
    chore: Chore,
    stop: CancellationToken,
) {
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        chore.run(&upkeep).await;
    }
}
