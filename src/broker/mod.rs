//! The broker's verbs, one a file: check, decide, commit, mint.
//!
//! ```text
//!  request → access (may it be asked?) → tasks (the line, cached) → domain::decide → commit (one round trip)
//!                                              ▲                                        │ stale: fresh records
//!                                              └────────────────────────────────────────┘
//! ```

pub mod access;
pub mod error;
pub mod request;
pub mod seams;

mod advance;
mod begin;
mod commit;
mod dpop;
mod end;
mod heartbeat;
mod introspect;
mod issue;
mod leases;
mod life;
mod limits;
mod now;
mod page;
mod published;
mod quarantine;
mod release;
mod renew;
mod revocation_lists;
mod revoked;
mod status;
mod suspend;
mod sweep;
mod tasks;

pub use crate::mint::MintedCertificate;
pub use advance::AdvanceRequest;
pub use dpop::DpopSettings;
pub use introspect::{Introspected, Presented};
pub use issue::{Issued, Minted};
pub use leases::{LeasePage, LeaseState, LeaseView};
pub use limits::{Limits, Stranger};
pub use quarantine::Lifted;
pub use revocation_lists::{ListSettings, RevocationList};
pub use revoked::Revoked;
pub use status::{Hindrance, MAX_SKEW, Status};
pub use sweep::Swept;
pub use tasks::{TaskPage, TaskView};

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::role::RoleEntry;
use crate::domain::scope::Scope;
use crate::domain::tier::Tier;
use crate::domain::time::Stamp;
use crate::feed::Feed;
use crate::identity::VerifiedCaller;
use crate::keys::{Keys, SharedKeys};
use crate::policy::Policy;
use crate::store::{Store, Upkeep};

/// What the broker is made of: one plain struct of implementations.
#[derive(Clone)]
pub struct Parts {
    /// Records and revocations.
    pub store: Arc<dyn Store>,
    /// The store's upkeep.
    pub upkeep: Arc<dyn Upkeep>,
    /// What verifiers learn, and how far they are. Its owner runs it.
    pub feed: Arc<Feed>,
    /// May it.
    pub policy: Arc<dyn Policy>,
    /// Our own keys.
    pub keys: SharedKeys,
    /// What time it is.
    pub clock: Arc<dyn seams::Clock>,
    /// Randomness.
    pub entropy: Arc<dyn seams::Entropy>,
}

/// What configuration says to the broker.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss` of access tokens: the base URL.
    pub issuer: String,
    /// Our trust domain.
    pub trust_domain: String,
    /// `embedded` or `redis`, for status.
    pub store_kind: &'static str,
    /// The tiers.
    pub tiers: Vec<Tier>,
    /// Who is what.
    pub roles: Vec<RoleEntry>,
    /// What proofs of DPoP must say.
    pub dpop: DpopSettings,
    /// How old revocation lists may be, and how long they hold.
    pub lists: ListSettings,
    /// Numbers on everything that can grow.
    pub limits: Limits,
}

/// The broker.
pub struct Broker {
    parts: Parts,
    settings: Settings,
    tasks: tasks::Cache,
    now: now::Now,
    rates: limits::Rates,
    strangers: limits::Strangers,
    started: Stamp,
    /// Switches that the last sweep found in some partitions only.
    uneven: Mutex<Vec<(Scope, u64)>>,
    lists: revocation_lists::Lists,
}

impl Broker {
    /// A broker of these parts. It does nothing by itself; its owner calls [`Broker::sweep`].
    pub fn new(parts: Parts, settings: Settings) -> Self {
        let now = now::Now::default();
        let started = now.read(&*parts.clock);
        let rates = limits::Rates::new(settings.limits.requests_per_second);
        let strangers = limits::Strangers::new(&settings.limits);
        let tasks = tasks::Cache::new();
        let (uneven, lists) = (Mutex::default(), revocation_lists::Lists::default());
        Self { parts, settings, tasks, now, rates, strangers, started, uneven, lists }
    }

    /// The present, never earlier than an answer given before.
    pub fn now(&self) -> Stamp {
        self.now.read(&*self.parts.clock)
    }

    /// The present of the store, as far as it was heard: by this one tasks are judged, and nothing else is.
    pub fn store_now(&self) -> Stamp {
        self.now.of_store(&*self.parts.clock)
    }

    /// What configuration says.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Our own keys, as they are now.
    pub fn keys(&self) -> Arc<Keys> {
        self.parts.keys.load_full()
    }

    /// The feed of revocations.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.parts.feed
    }

    /// Counts a stranger who shows a token to end it, by where he comes from; no call of anybody who is known is counted with these.
    ///
    /// # Errors
    /// [`error::BrokerError::RateLimited`]; [`error::BrokerError::Unregistered`]
    pub fn stranger(&self, address: IpAddr) -> Result<Stranger, error::BrokerError> {
        let stranger = self.strangers.count(address)?;
        self.must_be_registered()?;
        Ok(stranger)
    }

    /// Looks up the roles of a verified caller, and counts the call; an ending is counted apart from all others.
    ///
    /// # Errors
    /// [`error::BrokerError::RateLimited`]; [`error::BrokerError::Unregistered`] if the call changes something; or a refusal if the caller matches two agent classes.
    pub fn caller(
        &self,
        identity: VerifiedCaller,
        rpc: access::Rpc,
    ) -> Result<access::Caller, error::BrokerError> {
        self.rates.count(identity.principal(), rpc)?;
        if rpc.is_mutation() {
            self.must_be_registered()?;
        }
        Ok(access::Caller::new(identity, &self.settings.roles)?)
    }

    // INVARIANT (fencing, rule 2): nothing is answered by a broker that nobody would wait for.
    fn must_be_registered(&self) -> Result<(), error::BrokerError> {
        let is_registered = self.parts.feed.is_registered();
        is_registered.then_some(()).ok_or(error::BrokerError::Unregistered)
    }
}
