//! What one broker knows of the feed, and what follows from each thing that it hears. No I/O, no clock: whoever drives it
//! brings answers of the store, messages of verifiers, and `now`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;

use super::hub::{Answer, Hub, Next, Positions, StreamId};
use super::memory::{Kept, Memory};
use super::reader::{Ask, Found, Reader};
use crate::domain::feed::{AsOf, BrokerRecord, InstanceId, Owner, Subscribers, Terms, Webhooks};
use crate::domain::id::{Partition, PartitionCount};
use crate::domain::lattice::{Entry, Kill};
use crate::domain::path::Origin;
use crate::domain::scope::{Reach, Scope};
use crate::domain::time::{INFINITY, Moment, Present, Span, Stamp};
use crate::store::{Meta, Page, Recorded, Snapshot};

/// An entry whose commit did not say how long it matters is kept at least so long: till a page has said it.
const UNTIL_READ: Span = Span::from_seconds(60);
/// Runs of verifiers that still count, for each stream that there may be: those that are gone count for a while longer.
const RUNS_PER_STREAM: usize = 4;
/// So many streams every principal may have, and else a quarter of all: one that takes all it can keeps no other out.
const STREAMS_EACH: usize = 16;

/// Who this broker is, on the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// This run of its process.
    pub instance: InstanceId,
    /// What operators call it.
    pub name: String,
    /// Where it answers gRPC.
    pub address: String,
}

/// Who subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// The run of its process.
    pub instance: InstanceId,
    /// What operators call it.
    pub name: String,
    /// Whose identity the stream has.
    pub principal: String,
    /// Whether it says what drained.
    pub drains: bool,
}

/// What this broker knows is of another store than the one that is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this broker's store is another one than it was started over, until an operator restarts it: try another broker"
)]
pub struct Elsewhere;

/// A verifier said what does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// It took another's instance.
    #[error("this `instance` is another verifier's: make 128 random bits at each start")]
    InstanceTaken,
    /// Too many.
    #[error("this broker has {0} verifiers, and takes no more: try another broker")]
    Full(usize),
    /// One principal has its share.
    #[error(
        "you have {0} streams of revocations at this broker, or as many runs that still count, and may have no more: try another broker"
    )]
    Greedy(usize),
    /// Keep-alives go upward.
    #[error("`sequence` must be larger than that of the keep-alive before")]
    SequenceNotRaised,
    /// It cannot have applied that.
    #[error("partition {0} is not that far: acknowledge positions that this broker sent")]
    NeverSent(Partition),
    /// Its stream is closed.
    #[error("the stream is closed")]
    Closed,
    /// There is nothing to follow here.
    #[error(transparent)]
    Elsewhere(#[from] Elsewhere),
}

/// What a page or a set led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Ask again at once: there is more.
    pub again: bool,
    /// It was a counted read.
    pub counted: bool,
    /// Something was news to verifiers.
    pub kills: bool,
    /// What happened, as it was committed.
    pub events: Vec<Recorded>,
    /// Some of what happened was not read as events.
    pub gap: bool,
    /// Streams that did not keep up.
    pub overflows: usize,
}

/// The state of one broker's feed.
#[derive(Debug)]
pub struct Core {
    identity: Identity,
    partitions: PartitionCount,
    streams_most: usize,
    readers: BTreeMap<Partition, Reader>,
    memories: BTreeMap<Partition, Memory>,
    /// How far each partition is applied, by counted reads.
    applied: Positions,
    /// Partitions of which kills were sent whose position was not.
    unpositioned: BTreeSet<Partition>,
    as_of: AsOf,
    /// Partition 0's incarnation, and since when this broker has known it.
    incarnation: Option<(Stamp, Moment)>,
    store_time: Stamp,
    subscribers: Subscribers,
    owners: BTreeMap<InstanceId, String>,
    hub: Hub,
    /// The store was another one when it was last heard of.
    is_elsewhere: bool,
    webhooks: Webhooks,
    beat: u64,
}

impl Core {
    /// Of a broker that has read nothing, and has at most so many streams.
    pub fn new(
        identity: Identity,
        terms: Terms,
        partitions: PartitionCount,
        streams_most: usize,
    ) -> Self {
        Self {
            identity,
            partitions,
            streams_most,
            readers: partitions.all().map(|p| (p, Reader::default())).collect(),
            memories: partitions.all().map(|p| (p, Memory::default())).collect(),
            applied: Positions::new(),
            unpositioned: BTreeSet::new(),
            as_of: AsOf::new(partitions, terms.delta_max),
            incarnation: None,
            store_time: Stamp::ZERO,
            subscribers: Subscribers::new(terms.drift, terms.delta_max),
            owners: BTreeMap::new(),
            hub: Hub::default(),
            is_elsewhere: false,
            webhooks: Webhooks::new(),
            beat: 0,
        }
    }

    /// What to ask the store for a partition.
    pub fn ask(&self, partition: Partition) -> Ask {
        self.readers.get(&partition).map_or(Ask::Page(None), Reader::ask)
    }

    /// Takes a page of a partition that was asked for at `sent`.
    // INVARIANT (fencing, rule 1): what counts is when the read was sent, not when it was answered.
    // INVARIANT (counted read): open, nothing left, and queued on every stream before it counts.
    pub fn page(&mut self, partition: Partition, page: Page, sent: Present, now: Present) -> Step {
        let meta = page.meta;
        self.hear(partition, &meta, now);
        let Some(reader) = self.readers.get_mut(&partition) else { return Step::default() };
        let (events, is_all) = match reader.page(page) {
            Found::Lost => return Step { again: true, gap: true, ..Step::default() },
            Found::Events(events, is_all) => (events, is_all),
        };
        let Some(memory) = self.memories.get_mut(&partition) else { return Step::default() };
        let mut news = Vec::new();
        for event in &events {
            let kept = |entry| memory.merge_entry(entry, event.keep_until);
            news.extend(event.event.entries.iter().filter_map(kept));
            if event.event.entries.iter().any(|entry| entry.kill().is_some()) {
                self.unpositioned.insert(partition);
            }
        }
        news.extend(floor(&meta).and_then(|floor| memory.merge(floor)));
        memory.prune(meta.now);
        let counted = is_all && meta.open;
        let at = Origin { incarnation: meta.incarnation, stamp: meta.stamp };
        if counted {
            self.applied.insert(partition, at);
        }
        let kills = !news.is_empty() || self.unpositioned.contains(&partition);
        let mut overflows = 0;
        if kills {
            overflows = self.hub.publish(partition, &news, counted.then_some(at));
            if counted {
                self.unpositioned.remove(&partition);
            } else {
                self.unpositioned.insert(partition);
            }
        }
        if counted {
            self.as_of.read(partition, sent);
        }
        Step { again: !is_all, counted, kills, events, gap: false, overflows }
    }

    /// Takes the whole set of a partition. Nothing that is known is forgotten by it.
    pub fn set(&mut self, partition: Partition, snapshot: &Snapshot, now: Present) -> Step {
        self.hear(partition, &snapshot.meta, now);
        let Some(memory) = self.memories.get_mut(&partition) else { return Step::default() };
        // No entry of the set is about a credential that was committed since: the largest expiry now holds for all of them.
        let until = |kill: &Kill| match kill.lasts() {
            true => INFINITY,
            false => snapshot.meta.max_expiry,
        };
        let kept = snapshot.lattice.kills().map(|kill| Kept { kill, until: until(&kill) });
        let news: Vec<_> = kept.filter_map(|kept| memory.merge(kept)).collect();
        for (reach, count) in snapshot.lattice.blocked() {
            memory.merge_block(reach, count);
        }
        self.unpositioned.insert(partition);
        let overflows = self.hub.publish(partition, &news, None);
        if let Some(reader) = self.readers.get_mut(&partition) {
            reader.loaded();
        }
        Step { again: true, kills: !news.is_empty(), overflows, ..Step::default() }
    }

    /// Merges what this broker committed itself, and tells its verifiers at once. They acknowledge it when it was read.
    pub fn recorded(&mut self, at: Origin, partition: Partition, entries: &[Entry]) -> usize {
        let Some(memory) = self.memories.get_mut(&partition) else { return 0 };
        let until = memory.max_expiry().max(at.stamp.plus(UNTIL_READ));
        // The origin of a watermark is its commit's.
        let own = |entry: &Entry| match entry {
            Entry::Watermark(scope, _) => Entry::Watermark(scope.clone(), at),
            other => other.clone(),
        };
        let kept = entries.iter().filter_map(|entry| memory.merge_entry(&own(entry), until));
        let news: Vec<_> = kept.collect();
        self.hub.publish(partition, &news, None)
    }

    fn hear(&mut self, partition: Partition, meta: &Meta, now: Present) {
        self.store_time = self.store_time.max(meta.now);
        if let Some(memory) = self.memories.get_mut(&partition) {
            memory.hear_expiry(meta.max_expiry);
        }
        if partition == Partition::ZERO {
            self.saw(meta.incarnation, now);
        }
    }

    /// Partition 0 was seen in this incarnation.
    // INVARIANT (fencing, rule 14): earlier reads and registrations count no more in a new one.
    fn saw(&mut self, incarnation: Stamp, now: Present) {
        if self.incarnation.is_none_or(|(known, _)| incarnation > known) {
            self.incarnation = Some((incarnation, now.moment));
            self.as_of.saw(incarnation);
        }
    }

    /// The registry was read in this incarnation: since when it has been known; `None`: it is one of the past.
    pub fn registry_known(&mut self, incarnation: Stamp, now: Present) -> Option<Moment> {
        self.saw(incarnation, now);
        self.incarnation.filter(|(known, _)| *known == incarnation).map(|(_, since)| since)
    }

    /// What to write in the registry next; `None` as long as partition 0 was never seen.
    pub fn record(&mut self, now: Present) -> Option<BrokerRecord> {
        let (incarnation, _) = self.incarnation?;
        self.forget_the_gone(now);
        self.beat = self.beat.saturating_add(1);
        Some(BrokerRecord {
            instance: self.identity.instance,
            name: self.identity.name.clone(),
            address: self.identity.address.clone(),
            incarnation,
            beat: self.beat,
            applied: self.applied.clone(),
            acked: self.acked(now),
            verifiers: self.subscribers.records(&self.applied, now),
            webhooks: self.webhooks.clone(),
        })
    }

    /// What the next record says of webhooks.
    pub fn report(&mut self, webhooks: Webhooks) {
        self.webhooks = webhooks;
    }

    /// A record that was sent at `sent` is confirmed, in this incarnation of partition 0.
    pub fn confirmed(&mut self, incarnation: Stamp, sent: Present, now: Present) {
        self.saw(incarnation, now);
        if self.incarnation.is_some_and(|(known, _)| known == incarnation) {
            self.as_of.beat(incarnation, sent, now);
            self.is_elsewhere = false;
        }
    }

    /// How far this broker and everybody who counts is.
    pub fn acked(&self, now: Present) -> Positions {
        self.subscribers.acked(&self.applied, now.moment)
    }

    /// Runs of verifiers that count.
    pub fn runs(&self) -> usize {
        self.subscribers.len()
    }

    /// The store is not the one that all of this is of any more. Whether that is news.
    // INVARIANT (fencing, rule 19): nothing is granted by what was read of two stores, and no verifier stays who could be led to this
    // one. Nothing is read of the other store either, so should the first come back, it goes on there.
    pub fn went_elsewhere(&mut self) -> bool {
        self.as_of.unregister();
        self.hub.wake();
        !std::mem::replace(&mut self.is_elsewhere, true)
    }

    /// Whether the store was another one when it was last heard of.
    pub fn is_elsewhere(&self) -> bool {
        self.is_elsewhere
    }

    /// Whether the registry holds this broker.
    pub fn is_registered(&self) -> bool {
        self.as_of.is_registered()
    }

    /// How old the view is; `None`: too old to grant anything by it, or none.
    pub fn age(&self, now: Present) -> Option<Span> {
        self.as_of.age(now)
    }

    /// Who this broker is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.hub.len()
    }

    /// Whether one of the scopes is blocked, as far as it was heard.
    pub fn is_blocked(&self, reach: &[Reach]) -> bool {
        let blocked = |memory: &Memory| reach.iter().any(|reach| memory.is_blocked(reach));
        self.memories.values().any(blocked)
    }

    /// Whether a signing key was ever quarantined, as far as it was heard.
    pub fn is_condemned(&self, key: &Scope) -> bool {
        let reach = key.reach();
        self.memories.values().any(|memory| memory.is_condemned(&reach))
    }

    /// Opens a verifier's stream; `wake` is told when there is something on it.
    ///
    /// # Errors
    /// [`Misuse::InstanceTaken`], [`Misuse::Full`], [`Misuse::Greedy`], [`Misuse::Elsewhere`]
    // INVARIANT (one instance, one verifier): nobody acknowledges for another.
    pub fn subscribe(
        &mut self,
        verifier: Subscriber,
        wake: Arc<Notify>,
        now: Present,
    ) -> Result<StreamId, Misuse> {
        if self.is_elsewhere {
            return Err(Elsewhere.into());
        }
        self.forget_the_gone(now);
        let runs_most = self.streams_most.saturating_mul(RUNS_PER_STREAM);
        let is_new = !self.subscribers.contains(verifier.instance);
        if self.hub.len() >= self.streams_most || is_new && self.subscribers.len() >= runs_most {
            return Err(Misuse::Full(self.streams_most));
        }
        let most = STREAMS_EACH.max(self.streams_most / 4);
        let is_own = |instance| self.owners.get(&instance) == Some(&verifier.principal);
        let runs = self.owners.values().filter(|owner| **owner == verifier.principal).count();
        let streams = self.hub.instances().filter(|instance| is_own(*instance)).count();
        if streams >= most || is_new && runs >= most.saturating_mul(RUNS_PER_STREAM) {
            return Err(Misuse::Greedy(most));
        }
        let owner = self.owners.entry(verifier.instance).or_insert(verifier.principal.clone());
        if *owner != verifier.principal {
            return Err(Misuse::InstanceTaken);
        }
        let run = (verifier.instance, Owner::of(&verifier.principal));
        self.subscribers.join(run, &verifier.name, verifier.drains);
        let partitions = self.partitions.all();
        Ok(self.hub.open(verifier.instance, partitions, &self.applied, wake))
    }

    /// A keep-alive came: it is answered, unless the view is too old. How old, if it is answered.
    ///
    /// # Errors
    /// [`Misuse::SequenceNotRaised`]
    pub fn keep_alive(
        &mut self,
        stream: StreamId,
        sequence: u64,
        now: Present,
    ) -> Result<Option<Span>, Misuse> {
        let instance = self.hub.instance(stream).ok_or(Misuse::Closed)?;
        if !self.hub.number(stream, sequence) {
            return Err(Misuse::SequenceNotRaised);
        }
        let Some(age) = self.as_of.age(now) else { return Ok(None) };
        if !self.subscribers.answer(instance, now.moment, age) {
            return Ok(None);
        }
        let (positions, store_time) = (self.applied.clone(), self.store_time);
        self.hub.answer(stream, Answer { sequence, age, positions, store_time });
        Ok(Some(age))
    }

    /// An acknowledgement came.
    ///
    /// # Errors
    /// [`Misuse::NeverSent`]
    pub fn acknowledge(
        &mut self,
        stream: StreamId,
        applied: &Positions,
        drained: &Positions,
    ) -> Result<(), Misuse> {
        let instance = self.hub.instance(stream).ok_or(Misuse::Closed)?;
        for (partition, at) in applied.iter().chain(drained) {
            if self.applied.get(partition).is_none_or(|own| at > own) {
                return Err(Misuse::NeverSent(*partition));
            }
        }
        self.subscribers.acknowledge(instance, applied);
        self.subscribers.drained(instance, drained);
        Ok(())
    }

    /// What comes next on a stream.
    pub fn next(&mut self, stream: StreamId) -> Next {
        if self.is_elsewhere {
            return Next::Elsewhere;
        }
        self.hub.next(stream, &self.memories)
    }

    /// A stream is gone. Its verifier counts all the same for as long as an answer could keep it fresh.
    pub fn leave(&mut self, stream: StreamId, now: Present) {
        if let Some(instance) = self.hub.close(stream) {
            self.subscribers.leave(instance);
            self.forget_the_gone(now);
        }
    }

    fn forget_the_gone(&mut self, now: Present) {
        self.subscribers.prune(now.moment);
        let subscribers = &self.subscribers;
        self.owners.retain(|instance, _| subscribers.contains(*instance));
    }
}

fn floor(meta: &Meta) -> Option<Kept> {
    (meta.floor > Stamp::ZERO).then_some(Kept { kill: Kill::Floor(meta.floor), until: INFINITY })
}

#[cfg(test)]
mod tests;
