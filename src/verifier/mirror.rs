//! The one writer of the view: it merges what every broker sends, and swaps the view whole.
//!
//! ```text
//!  stream ──▶ learn ──▶ next ── publish: swap ──▶ view ──▶ checks
//!  stream ──▶ learn ──┘              └──▶ admissions: who was let in and is dead now
//! ```
//!
//! No I/O and no clock: `now` comes from the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::admission::Admissions;
use super::view::{Change, View};
use crate::clock::Present;
use crate::domain::feed::{InstanceId, StoreId};
use crate::domain::id::Partition;
use crate::domain::lattice::{EntryName, Revocation};
use crate::domain::path::Origin;
use crate::domain::time::{INFINITY, Span, Stamp};

/// Entries that a view holds at most.
pub const MAX_ENTRIES: usize = 4_000_000;

/// The brokers tell of more revocations than a view may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {MAX_ENTRIES} revocations are in force; nothing more is taken, so nothing stays fresh"
)]
pub struct TooMany;

/// What one store's broker says counts for no other's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtherStore {
    /// The view is of the first one, and fresh by a broker that is connected; this broker is over the second one.
    #[error(
        "it is over another store ({}) than the brokers that are followed ({}), and none of its credentials are accepted: give \
         this verifier only brokers over one store",
        name(*.1),
        name(*.0)
    )]
    Here(Option<StoreId>, Option<StoreId>),
    /// The view is of another since, to which another connection leads: it was fresh by this one's broker no more.
    #[error("another broker, over another store, is followed now")]
    Since,
}

fn name(store: Option<StoreId>) -> String {
    store.map_or_else(|| "it does not say which: upgrade it".to_owned(), |store| store.to_string())
}

/// From when the view began anew until it does so again. What a connection says counts in the one that it joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

/// What was heard is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too much of it.
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// Of another store.
    #[error(transparent)]
    OtherStore(#[from] OtherStore),
}

/// One run of a verifier's process: its view, who may change it, and what was let in by it.
pub struct Mirror {
    instance: InstanceId,
    view: ArcSwap<View>,
    /// The latest present that anything was judged or dropped by, in microseconds.
    latest: AtomicU64,
    next: Mutex<Next>,
    admissions: Admissions,
    /// Changes with every swap.
    published: watch::Sender<u64>,
}

/// What the view will be: always all that was learnt.
#[derive(Default)]
struct Next {
    view: View,
    /// The store that it is all of; `None`: that of the one connection that joined, whatever it is.
    store: Option<StoreId>,
    /// The longest Δ that one of its brokers named.
    delta_max: Span,
    generation: Generation,
    /// Connections that joined this generation, and are there.
    joined: usize,
    /// What the published view does not know yet.
    pending: Vec<Change>,
    /// Until when each entry can hit something.
    keep: BTreeMap<(Partition, EntryName), Stamp>,
    /// The same, by time.
    due: BTreeSet<(Stamp, Partition, EntryName)>,
}

impl Mirror {
    /// Of a run that has heard nothing.
    pub fn new(instance: InstanceId) -> Arc<Self> {
        Arc::new(Self {
            instance,
            view: ArcSwap::default(),
            latest: AtomicU64::new(0),
            next: Mutex::default(),
            admissions: Admissions::default(),
            published: watch::channel(0).0,
        })
    }

    /// Which run.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The view as it is: for one check, and no other.
    pub fn view(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// Wakes up whenever the view was swapped.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// What was let in.
    pub(super) fn admissions(&self) -> &Admissions {
        &self.admissions
    }

    /// The present, by a view that was read before. Never earlier than one given before.
    // INVARIANT (time does not go back): whoever reads a view from which an entry was dropped judges by a present in which
    // nothing that the entry could hit is unexpired, since `publish` raised `latest` before it swapped.
    pub fn now(&self, view: &View, present: Present) -> Stamp {
        let now = view.now(present);
        let before = self.latest.fetch_max(now.micros(), Ordering::AcqRel);
        now.max(Stamp::saturating_from_micros(before))
    }

    /// A broker of this store is about to speak, whose credentials' Δ is `delta_max` at most. If what is known is of another store,
    /// everything begins anew; but not while it is fresh and a connection leads there. A broker that does not say which store it is
    /// over is over none that is known. Whoever joined [leaves](Self::leave).
    ///
    /// # Errors
    /// [`OtherStore::Here`], and everything stays.
    // INVARIANT (fencing, rule 19): no view that another store's broker made fresh hears of this store, whose registry does not know
    // who is fresh by that.
    pub(super) fn join(
        &self,
        store: Option<StoreId>,
        delta_max: Span,
        now: Present,
    ) -> Result<Generation, OtherStore> {
        let mut next = self.next.lock();
        if store.is_none() || next.store != store {
            // By the Δ of what is known: the newcomer's is another store's.
            if next.joined > 0 && next.view.age(now).is_some_and(|age| age < next.delta_max) {
                return Err(OtherStore::Here(next.store, store));
            }
            let generation = Generation(next.generation.0.wrapping_add(1));
            *next = Next { store, generation, ..Next::default() };
            self.view.store(Arc::default());
            self.published.send_modify(|count| *count = count.wrapping_add(1));
        }
        next.delta_max = next.delta_max.max(delta_max);
        next.joined = next.joined.saturating_add(1);
        Ok(next.generation)
    }

    /// A connection that joined is over.
    pub(super) fn leave(&self, generation: Generation) {
        let mut next = self.next.lock();
        if let Ok(next) = next.of(generation) {
            next.joined = next.joined.saturating_sub(1);
        }
    }

    /// Takes note of a revocation. `keep_until`: nothing that it could hit is unexpired after that.
    ///
    /// # Errors
    /// [`NotTaken`], and nothing is noted.
    pub(super) fn learn(
        &self,
        generation: Generation,
        partition: Partition,
        (revocation, keep_until): (Revocation, Stamp),
    ) -> Result<(), NotTaken> {
        Ok(self.next.lock().of(generation)?.learn(partition, revocation, keep_until)?)
    }

    /// Takes note of anything else.
    ///
    /// # Errors
    /// [`OtherStore`], and nothing is noted.
    pub(super) fn change(&self, generation: Generation, change: Change) -> Result<(), OtherStore> {
        self.next.lock().of(generation)?.change(change);
        Ok(())
    }

    /// Swaps the view for one with everything that was learnt, without what can hit nothing any more.
    pub fn publish(&self, present: Present) {
        let mut next = self.next.lock();
        let now = self.now(&next.view, present);
        next.drop_until(now);
        if next.pending.is_empty() {
            return;
        }
        let touched: BTreeSet<_> = next.pending.iter().filter_map(Change::kills_in).collect();
        let before: Vec<_> = {
            let view = self.view.load();
            touched.iter().map(|partition| (*partition, view.position(*partition))).collect()
        };
        let new = Arc::new(std::mem::take(&mut next.view));
        let old = self.view.swap(Arc::clone(&new));
        // Two copies take turns, so that a change costs what it is and not what the view is.
        next.view = match Arc::try_unwrap(old) {
            Ok(mut old) => {
                next.pending.iter().for_each(|change| old.apply(change));
                old
            }
            Err(_) => View::clone(&new),
        };
        next.pending.clear();
        for (partition, position) in before {
            self.admissions.judge(partition, &new, position);
        }
        self.published.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How far nothing runs any more in a partition that was let in and is dead, given how far it was applied.
    pub(super) fn drained(&self, partition: Partition, applied: Origin) -> Option<Origin> {
        match self.admissions.held_back(partition) {
            None => Some(applied),
            Some(position) => position.map(|position| position.min(applied)),
        }
    }

    /// How many entries are held.
    pub fn entries(&self) -> usize {
        self.next.lock().keep.len()
    }

    /// How old the view is; `None`: it never was fresh.
    pub fn age(&self, present: Present) -> Option<Span> {
        self.view.load().age(present)
    }
}

impl Next {
    // INVARIANT (fencing, rule 19): a store that is followed again is another generation. What the view knew before is gone, so
    // whoever told it then cannot say that the view is fresh.
    fn of(&mut self, generation: Generation) -> Result<&mut Self, OtherStore> {
        if self.generation == generation { Ok(self) } else { Err(OtherStore::Since) }
    }

    fn change(&mut self, change: Change) {
        self.view.apply(&change);
        self.pending.push(change);
    }

    fn learn(
        &mut self,
        partition: Partition,
        revocation: Revocation,
        keep_until: Stamp,
    ) -> Result<(), TooMany> {
        let key = (partition, revocation.name());
        let known = self.keep.get(&key).copied();
        if known.is_none() && self.keep.len() >= MAX_ENTRIES {
            return Err(TooMany);
        }
        let lives = |incarnation| self.view.lives(partition, incarnation);
        let until = match (revocation, known) {
            (_, None) => keep_until,
            // That it lived was kept for ever; that it ended is not.
            (Revocation::End(incarnation, last), Some(_))
                if last < INFINITY && lives(incarnation) =>
            {
                keep_until
            }
            // What says that it still lives says nothing of how long to keep that it ended.
            (Revocation::End(_, INFINITY), Some(known)) => known,
            (_, Some(known)) => known.max(keep_until),
        };
        if known != Some(until) {
            if let Some(known) = known {
                self.due.remove(&(known, key.0, key.1));
            }
            self.keep.insert(key, until);
            if until < INFINITY {
                self.due.insert((until, key.0, key.1));
            }
        }
        self.change(Change::Learn(partition, revocation));
        Ok(())
    }

    fn drop_until(&mut self, now: Stamp) {
        while let Some((until, partition, name)) = self.due.first().copied()
            && until < now
        {
            self.due.pop_first();
            self.keep.remove(&(partition, name));
            self.change(Change::Forget(partition, name));
        }
    }
}
