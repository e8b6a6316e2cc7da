//! One connection to a broker, as messages: what is sent, and what comes back. No I/O and no clock.
//!
//! ```text
//!  subscribe ─▶ ◀─ subscribed
//!               ◀─ revocations …            receive, settle: swap the view, then acknowledge
//!  keep-alive ─▶ ◀─ freshness               fresh from the keep-alive's own send time on, less the broker's age
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::mirror::{Generation, Mirror, NotTaken, OtherStore};
use super::view::Change;
use super::wire::{self, NotUnderstood, Terms};
use crate::clock::Present;
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::proto::v1::watch_revocations_request::Message as Say;
use crate::proto::v1::watch_revocations_response::Message as Heard;
use crate::proto::v1::{
    Acknowledgement, Freshness, KeepAlive, Revocations, Subscribe, WatchRevocationsRequest,
    WatchRevocationsResponse,
};

/// Keep-alives that may be open. A broker whose own view is too old answers none of them, and the next one once it can.
const OPEN_MOST: usize = 4;
/// Keep-alives have not been answered for so many intervals, and for `delta_max`: the connection leads to nobody who can.
const SILENT_INTERVALS: u64 = 10;

/// What a broker sends is not what the contract says. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A message that is not understood.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// Too much of it, or of another store.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// `subscribed` did not come first, or came twice.
    #[error("the broker did not begin with `subscribed`, or said it twice")]
    OutOfOrder,
    /// A partition that the store does not have.
    #[error("the broker names a partition that the store does not have")]
    Partition,
    /// It says how fresh the view is, and has not sent all of it.
    #[error("the broker answered a keep-alive before it had sent every partition")]
    Incomplete,
}

/// One connection.
pub struct Stream {
    mirror: Arc<Mirror>,
    /// What the broker said of the store, and which generation of the view this joined then.
    joined: Option<(Terms, Generation)>,
    /// How far this broker has sent each partition.
    positions: BTreeMap<Partition, Origin>,
    sequence: u64,
    /// Keep-alives that are not answered yet, by number, and when each was sent.
    open: VecDeque<(u64, Present)>,
    acknowledged: Acknowledged,
    /// Whether something came since the last swap.
    is_unsettled: bool,
}

/// How far each partition was acknowledged on this connection.
#[derive(Default)]
struct Acknowledged {
    applied: BTreeMap<Partition, Origin>,
    drained: BTreeMap<Partition, Origin>,
}

impl From<OtherStore> for StreamError {
    fn from(other: OtherStore) -> Self {
        Self::NotTaken(other.into())
    }
}

impl Stream {
    /// A new connection, and its first message.
    pub fn open(mirror: Arc<Mirror>, name: &str) -> (Self, WatchRevocationsRequest) {
        let instance = mirror.instance().to_string();
        let subscribe = Subscribe { instance, name: name.to_owned(), drains: true };
        let stream = Self {
            mirror,
            joined: None,
            positions: BTreeMap::new(),
            sequence: 0,
            open: VecDeque::new(),
            acknowledged: Acknowledged::default(),
            is_unsettled: false,
        };
        (stream, say(Say::Subscribe(subscribe)))
    }

    /// What the broker said of the store, once it has.
    pub fn terms(&self) -> Option<Terms> {
        self.joined.map(|(terms, _)| terms)
    }

    /// Takes a message. It counts for checks once [`Self::settle`] was called.
    ///
    /// # Errors
    /// [`StreamError`]: the connection is over.
    pub fn receive(
        &mut self,
        response: WatchRevocationsResponse,
        now: Present,
    ) -> Result<(), StreamError> {
        let message = response.message.ok_or(NotUnderstood("message"))?;
        match (message, self.joined) {
            (Heard::Subscribed(subscribed), None) => {
                let terms = wire::terms(&subscribed)?;
                let generation = self.mirror.join(terms.store, terms.delta_max, now)?;
                self.joined = Some((terms, generation));
                Ok(())
            }
            (Heard::Revocations(revocations), Some(joined)) => self.revoked(&revocations, joined),
            (Heard::Freshness(freshness), Some(joined)) => self.answered(&freshness, joined, now),
            (Heard::Subscribed(_), Some(_)) | (_, None) => Err(StreamError::OutOfOrder),
        }
    }

    fn revoked(
        &mut self,
        revocations: &Revocations,
        (terms, generation): (Terms, Generation),
    ) -> Result<(), StreamError> {
        let partition = wire::partition(revocations.partition)?;
        if !terms.partitions.contains(partition) {
            return Err(StreamError::Partition);
        }
        for entry in &revocations.entries {
            self.mirror.learn(generation, partition, wire::entry(entry, partition)?)?;
        }
        if let Some(position) = &revocations.position {
            let (of, at) = wire::position(position)?;
            if of != partition {
                return Err(StreamError::Partition);
            }
            self.reached(generation, of, at)?;
        }
        self.is_unsettled = true;
        Ok(())
    }

    /// The answer to an open keep-alive; any other is passed over, since its send time is not known.
    // INVARIANT (fencing, rule 6): what is to be known by this answer came before it on the same stream, and is swapped with it.
    fn answered(
        &mut self,
        freshness: &Freshness,
        (terms, generation): (Terms, Generation),
        now: Present,
    ) -> Result<(), StreamError> {
        for position in &freshness.positions {
            let (partition, at) = wire::position(position)?;
            if !terms.partitions.contains(partition) {
                return Err(StreamError::Partition);
            }
            self.reached(generation, partition, at)?;
        }
        if self.positions.len() != usize::from(terms.partitions.get()) {
            return Err(StreamError::Incomplete);
        }
        let (age, store) = wire::freshness(freshness)?;
        if let Some(sent) = self.close(freshness.sequence) {
            let answer = Change::Answer { sent, age, store, heard: now.moment };
            self.mirror.change(generation, answer)?;
        }
        self.is_unsettled = true;
        Ok(())
    }

    fn reached(
        &mut self,
        generation: Generation,
        partition: Partition,
        at: Origin,
    ) -> Result<(), OtherStore> {
        let known = self.positions.entry(partition).or_insert(at);
        *known = (*known).max(at);
        self.mirror.change(generation, Change::Position(partition, at))
    }

    /// Makes checks go by everything that came, and only then acknowledges it, if there is anything new to say.
    // INVARIANT (acknowledged after the swap): no check that begins after the broker heard it goes by an earlier view.
    pub fn settle(&mut self, now: Present) -> Option<WatchRevocationsRequest> {
        if std::mem::take(&mut self.is_unsettled) {
            self.mirror.publish(now);
        }
        let acknowledgement = self.acknowledgement();
        let is_news = !(acknowledgement.applied.is_empty() && acknowledgement.drained.is_empty());
        is_news.then(|| say(Say::Acknowledgement(acknowledgement)))
    }

    /// What is new: a broker keeps the furthest that it heard of each partition.
    fn acknowledgement(&mut self) -> Acknowledgement {
        let mut acknowledgement = Acknowledgement::default();
        for (partition, at) in &self.positions {
            if raise(&mut self.acknowledged.applied, *partition, *at) {
                acknowledgement.applied.push(wire::feed_position((*partition, *at)));
            }
            if let Some(at) = self.mirror.drained(*partition, *at)
                && raise(&mut self.acknowledged.drained, *partition, at)
            {
                acknowledgement.drained.push(wire::feed_position((*partition, at)));
            }
        }
        acknowledgement
    }

    /// The next keep-alive, sent `now`; `None` before the broker said how often to send one.
    // INVARIANT (keep-alives on schedule): none waits for the answer to another. When too many are open the last gives way, not the
    // first: however slow the way is, the answer to the first finds it; however long the broker said nothing, its first answer
    // finds the last.
    pub fn keep_alive(&mut self, now: Present) -> Option<WatchRevocationsRequest> {
        self.joined?;
        self.sequence = self.sequence.saturating_add(1);
        self.open.truncate(OPEN_MOST - 1);
        self.open.push_back((self.sequence, now));
        Some(say(Say::KeepAlive(KeepAlive { sequence: self.sequence })))
    }

    /// When this keep-alive was sent, if it is open. Answers come in order: no earlier one is answered any more.
    // INVARIANT (fencing, rule 12): each has its own send time.
    fn close(&mut self, sequence: u64) -> Option<Present> {
        let later = self.open.partition_point(|(open, _)| *open <= sequence);
        let last = self.open.drain(..later).next_back();
        last.filter(|(open, _)| *open == sequence).map(|(_, sent)| sent)
    }

    /// Whether the broker has answered nothing for so long that another connection may lead to one that does.
    pub fn is_silent(&self, now: Present) -> bool {
        let (Some((_, since)), Some(terms)) = (self.open.front(), self.terms()) else {
            return false;
        };
        let patience = terms.interval.times(SILENT_INTERVALS).max(terms.delta_max);
        now.moment.since(since.moment) > patience
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some((_, generation)) = self.joined {
            self.mirror.leave(generation);
        }
    }
}

/// Notes how far a partition is; whether that is further than was known.
fn raise(known: &mut BTreeMap<Partition, Origin>, partition: Partition, at: Origin) -> bool {
    let is_further = known.get(&partition).is_none_or(|before| *before < at);
    if is_further {
        known.insert(partition, at);
    }
    is_further
}

fn say(message: Say) -> WatchRevocationsRequest {
    WatchRevocationsRequest { message: Some(message) }
}
