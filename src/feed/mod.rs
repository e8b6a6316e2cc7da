//! The broker's part of fencing: it reads what is revoked, tells its verifiers, says in the registry how far they are, and learns
//! there when something is dead everywhere (DESIGN.md section 5).
//!
//! ```text
//!  store ──pages, sets──▶ Reader ─▶ Memory ─▶ Hub ──one queue each──▶ verifiers
//!        ◀──beats──────── Core: AsOf, Subscribers ◀──keep-alives, acknowledgements──┘
//!        ──registry─────▶ Ending::judge ──▶ FENCED, DRAINED
//! ```
//!
//! [`core::Core`] decides everything and does no I/O; the rest of this module brings it answers, messages and the time.

pub mod core;
pub mod hub;
pub mod memory;
pub mod reader;

mod enforce;
mod happened;
mod registry;
mod run;
mod stream;
#[cfg(test)]
mod testing;

pub use self::core::{Elsewhere, Identity, Misuse, Subscriber};
pub use enforce::{Confirmed, NotDurable, Outcome, PendingVerifier, WaitFor};
pub use happened::Happened;
pub use stream::Stream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use self::core::Core;
use self::registry::RegistryReader;
use crate::broker::seams::Clock;
use crate::domain::feed::{StoreId, Terms, Webhooks};
use crate::domain::id::{Partition, PartitionCount};
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::scope::Scope;
use crate::domain::time::{Moment, Present, Span, Stamp};
use crate::store;
use crate::telemetry::metrics;

/// Events that somebody in the process may be behind.
const EVENTS_MOST: usize = 4_096;

/// What the feed is made of.
#[derive(Clone)]
pub struct Parts {
    /// Where whole sets are read.
    pub store: Arc<dyn store::Store>,
    /// Where pages and the registry are.
    pub feed: Arc<dyn store::Feed>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What the feed goes by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who this broker is.
    pub identity: Identity,
    /// ρ, and the store's `delta_max`.
    pub terms: Terms,
    /// How many partitions the store has.
    pub partitions: PartitionCount,
    /// Which store, if that is known: for verifiers.
    pub store: Option<StoreId>,
    /// The incarnation of the store's partition 0 that is exempt from rule 13, if one is.
    pub first: Option<Stamp>,
    /// Streams at a time.
    pub streams: usize,
    /// How often every partition is read and the registry written, and how often verifiers send a keep-alive.
    pub cadence: Span,
}

/// The cadence for the smallest Δ in use: a fifth of it, from 50 ms to 1 s.
pub fn cadence(smallest_delta: Span) -> Span {
    let fifth = Span::from_micros(smallest_delta.micros() / 5);
    fifth.clamp(Span::from_millis(50), Span::from_seconds(1))
}

/// One broker's feed.
pub struct Feed {
    parts: Parts,
    settings: Settings,
    core: Mutex<Core>,
    /// Whom to wake when a partition is to be read at once.
    look: BTreeMap<Partition, Notify>,
    /// Somebody acknowledged something, or this broker applied something that kills.
    acks: Notify,
    registry: RegistryReader,
    registered: watch::Sender<bool>,
    events: broadcast::Sender<Happened>,
    /// Whether a keep-alive went unanswered last.
    is_stale: AtomicBool,
    stop: CancellationToken,
}

impl Feed {
    /// A feed that has read nothing. Its owner runs it; its streams end with `stop`.
    pub fn new(parts: Parts, settings: Settings, stop: CancellationToken) -> Arc<Self> {
        let Settings { identity, terms, partitions, streams, .. } = settings.clone();
        Arc::new(Self {
            core: Mutex::new(Core::new(identity, terms, partitions, streams)),
            look: partitions.all().map(|partition| (partition, Notify::new())).collect(),
            acks: Notify::new(),
            registry: RegistryReader::default(),
            registered: watch::Sender::new(false),
            events: broadcast::Sender::new(EVENTS_MOST),
            is_stale: AtomicBool::new(false),
            parts,
            settings,
            stop,
        })
    }

    /// What it goes by.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the registry holds this broker's record. Until then it answers no mutation.
    pub fn is_registered(&self) -> bool {
        *self.registered.borrow()
    }

    /// Whether this broker is over the store that it was started over, as far as it has heard.
    ///
    /// # Errors
    /// [`Elsewhere`]
    pub fn must_be_here(&self) -> Result<(), Elsewhere> {
        if self.core.lock().is_elsewhere() { Err(Elsewhere) } else { Ok(()) }
    }

    /// Ends when the registry holds this broker's record.
    pub async fn registered(&self) {
        // The sender is this feed's own.
        let _ = self.registered.subscribe().wait_for(|is_registered| *is_registered).await;
    }

    /// What is committed from now on, as it is read. Who falls behind is told how much was missed.
    pub fn events(&self) -> broadcast::Receiver<Happened> {
        self.events.subscribe()
    }

    /// Says in the registry, from the next beat on, how far webhooks are delivered.
    pub fn report(&self, webhooks: Webhooks) {
        self.core.lock().report(webhooks);
    }

    /// Whether one of the scopes is quarantined, as far as this broker has read.
    pub fn is_quarantined(&self, scopes: &[Scope]) -> bool {
        let reach: Vec<_> = scopes.iter().map(Scope::reach).collect();
        self.core.lock().is_blocked(&reach)
    }

    /// Whether a signing key of ours was ever quarantined, as far as this broker has read: it is out of use for good. `key_id`: a
    /// `kid`, or a CA's subject key identifier in hex.
    pub fn is_condemned(&self, key_id: &str) -> bool {
        self.core.lock().is_condemned(&Scope::Key(key_id.to_owned()))
    }

    /// Takes over what this broker just committed: into its own memory, and to its own verifiers, at once.
    // INVARIANT (merging is safe): entries only move upward, so it may come before it is RECORDED, or though it never is.
    pub fn merge(&self, partition: Partition, at: Origin, entries: &[Entry]) {
        if entries.is_empty() {
            return;
        }
        // First, so that what the reader finds leaves with it: then verifiers take and acknowledge it at once.
        self.look_at(partition);
        let overflows = self.core.lock().recorded(at, partition, entries);
        metrics::feed_overflowed(overflows);
    }

    /// Cancelled when the broker stops.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    fn look_at(&self, partition: Partition) {
        if let Some(look) = self.look.get(&partition) {
            look.notify_one();
        }
    }

    /// By which waits are judged: nobody steps it.
    fn moment(&self) -> Moment {
        Moment::new(self.parts.clock.elapsed())
    }

    /// By which ages are judged.
    fn present(&self) -> Present {
        Present::read(&*self.parts.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cadence_is_a_fifth_of_the_smallest_delta_within_bounds() {
        for (delta, expected) in [(100, 50), (500, 100), (4_000, 800), (30_000, 1_000)] {
            assert_eq!(cadence(Span::from_millis(delta)), Span::from_millis(expected));
        }
    }
}
