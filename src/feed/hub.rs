//! The streams of verifiers: one bounded queue each, for events and answers alike.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::memory::{Kept, Key, Memory};
use crate::domain::feed::InstanceId;
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::time::{Span, Stamp};

/// What a stream may be behind, in kills and messages. It is closed when it is further.
pub const QUEUE_MOST: usize = 65_536;
/// Answers that wait on a stream with nothing between them: as many as a verifier has keep-alives open.
const ANSWERS_MOST: usize = 4;
/// Kills in one message.
pub const BATCH_MOST: usize = 512;

/// How far somebody is in each partition.
pub type Positions = BTreeMap<Partition, Origin>;

/// One stream of one verifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub(super) u64);

/// What a stream is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// What is revoked.
    Revocations(Arc<Batch>),
    /// How fresh what was sent is.
    Freshness(Answer),
}

/// Revocations of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which.
    pub partition: Partition,
    /// What they are.
    pub kills: Vec<Kept>,
    /// How far the partition is applied with them; `None`: more belongs to it.
    pub position: Option<Origin>,
}

/// The answer to a keep-alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The keep-alive's.
    pub sequence: u64,
    /// How old the broker's view was.
    pub age: Span,
    /// How far the broker was.
    pub positions: Positions,
    /// The store's time.
    pub store_time: Stamp,
}

/// What there is for a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This.
    Message(Message),
    /// Nothing now.
    Nothing,
    /// Nothing ever: it did not keep up.
    Overflowed,
    /// Nothing: what was sent is of another store than the one that is there now.
    Elsewhere,
}

/// Every stream.
#[derive(Debug, Default)]
pub struct Hub {
    streams: BTreeMap<StreamId, Stream>,
    made: u64,
}

#[derive(Debug)]
struct Stream {
    instance: InstanceId,
    /// What it still has to be told of the whole set.
    walk: Option<Walk>,
    queue: VecDeque<Message>,
    queued: usize,
    is_over: bool,
    sequence: Option<u64>,
    wake: Arc<Notify>,
}

/// How far a stream was told what was known when it joined. What came since is on its queue.
#[derive(Debug)]
struct Walk {
    /// What was applied when it joined.
    applied: Positions,
    /// The partitions that are left, with how far the first one was told.
    left: VecDeque<Partition>,
    after: Option<Key>,
}

impl Hub {
    /// Opens a stream. It begins with the whole set, which does not count as behind; everything from now on is queued.
    // INVARIANT (nothing between): what is known now is walked through, what comes later is queued. Entries only move upward, so
    // one that moves during the walk may come twice, and never not.
    pub fn open(
        &mut self,
        instance: InstanceId,
        partitions: impl Iterator<Item = Partition>,
        applied: &Positions,
        wake: Arc<Notify>,
    ) -> StreamId {
        self.made = self.made.saturating_add(1);
        let id = StreamId(self.made);
        let walk = Walk { applied: applied.clone(), left: partitions.collect(), after: None };
        let stream = Stream {
            instance,
            walk: Some(walk),
            queue: VecDeque::new(),
            queued: 0,
            is_over: false,
            sequence: None,
            wake,
        };
        self.streams.insert(id, stream);
        id
    }

    /// Closes a stream; whose it was.
    pub fn close(&mut self, id: StreamId) -> Option<InstanceId> {
        self.streams.remove(&id).map(|stream| stream.instance)
    }

    /// Whose stream it is.
    pub fn instance(&self, id: StreamId) -> Option<InstanceId> {
        self.streams.get(&id).map(|stream| stream.instance)
    }

    /// Whose streams there are, one for each.
    pub fn instances(&self) -> impl Iterator<Item = InstanceId> {
        self.streams.values().map(|stream| stream.instance)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes note of a keep-alive's number; `false`: it is not above the one before.
    pub fn number(&mut self, id: StreamId, sequence: u64) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let is_next = stream.sequence.is_none_or(|last| sequence > last);
        stream.sequence = stream.sequence.max(Some(sequence));
        is_next
    }

    /// Queues revocations on every stream. How many were closed by it.
    pub fn publish(
        &mut self,
        partition: Partition,
        kills: &[Kept],
        position: Option<Origin>,
    ) -> usize {
        let mut batches: Vec<_> = kills.chunks(BATCH_MOST).map(<[Kept]>::to_vec).collect();
        if batches.is_empty() && position.is_some() {
            batches.push(Vec::new());
        }
        let mut closed = 0;
        let last = batches.len();
        for (n, kills) in (1..).zip(batches) {
            let position = position.filter(|_| n == last);
            let batch = Arc::new(Batch { partition, kills, position });
            for stream in self.streams.values_mut() {
                closed += usize::from(stream.push(Message::Revocations(batch.clone())));
            }
        }
        closed
    }

    /// Queues an answer behind everything that is on the stream's queue. Whether that closed it.
    // INVARIANT (fencing, rule 6): an answer never overtakes the events that it speaks for.
    pub fn answer(&mut self, id: StreamId, answer: Answer) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        stream.make_room_for_an_answer();
        stream.push(Message::Freshness(answer))
    }

    /// Has every stream asked for what comes next.
    pub fn wake(&self) {
        self.streams.values().for_each(|stream| stream.wake.notify_one());
    }

    /// Takes what comes next on a stream: first the whole set, then the queue.
    pub fn next(&mut self, id: StreamId, memories: &BTreeMap<Partition, Memory>) -> Next {
        let Some(stream) = self.streams.get_mut(&id) else { return Next::Overflowed };
        if stream.is_over {
            return Next::Overflowed;
        }
        if let Some(walk) = &mut stream.walk {
            if let Some(batch) = walk.next(memories) {
                return Next::Message(Message::Revocations(Arc::new(batch)));
            }
            stream.walk = None;
        }
        match stream.queue.pop_front() {
            None => Next::Nothing,
            Some(message) => {
                stream.queued = stream.queued.saturating_sub(message.cost());
                Next::Message(message)
            }
        }
    }
}

impl Stream {
    /// Of answers with nothing between them the last gives way, when there are too many: whoever reads them late goes by the
    /// keep-alives that he has in mind, which are the first ones and the last.
    fn make_room_for_an_answer(&mut self) {
        let is_answer = |message: &&Message| matches!(message, Message::Freshness(_));
        let answers = self.queue.iter().rev().take(ANSWERS_MOST).take_while(is_answer).count();
        if answers == ANSWERS_MOST
            && let Some(last) = self.queue.pop_back()
        {
            self.queued = self.queued.saturating_sub(last.cost());
        }
    }

    /// Whether the stream is closed by it.
    // INVARIANT (closed, never thinned): what does not fit ends the stream, and nothing on it is left out.
    fn push(&mut self, message: Message) -> bool {
        if self.is_over {
            return false;
        }
        self.queued = self.queued.saturating_add(message.cost());
        let overflows = self.queued > QUEUE_MOST;
        if overflows {
            self.is_over = true;
            self.queue = VecDeque::new();
            self.walk = None;
        } else {
            self.queue.push_back(message);
        }
        self.wake.notify_one();
        overflows
    }
}

impl Message {
    fn cost(&self) -> usize {
        match self {
            Self::Revocations(batch) => batch.kills.len().saturating_add(1),
            Self::Freshness(answer) => answer.positions.len().saturating_add(1),
        }
    }
}

impl Walk {
    fn next(&mut self, memories: &BTreeMap<Partition, Memory>) -> Option<Batch> {
        loop {
            let partition = *self.left.front()?;
            let memory = memories.get(&partition);
            let (kills, last) = memory.map(|m| m.after(self.after, BATCH_MOST)).unwrap_or_default();
            if kills.len() == BATCH_MOST {
                self.after = last;
                return Some(Batch { partition, kills, position: None });
            }
            self.left.pop_front();
            self.after = None;
            let position = self.applied.get(&partition).copied();
            if position.is_some() || !kills.is_empty() {
                return Some(Batch { partition, kills, position });
            }
        }
    }
}

#[cfg(test)]
mod tests;
