//! What there is at one instant. Only ages, never times: two runs that differ by a shift of time are one state.

use super::clock::{Age, Rate};

/// Partitions of the store.
pub const PARTITIONS: usize = 2;
/// Broker instances, over a whole run.
pub const BROKERS: usize = 3;
/// Verifiers.
pub const VERIFIERS: usize = 2;

/// A set of partitions. There is one revocation; this says in which partitions something has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Partitions(pub u8);

impl Partitions {
    pub const NONE: Self = Self(0);

    pub fn of(partition: usize) -> Self {
        Self(1 << partition)
    }

    pub fn has(self, partition: usize) -> bool {
        self.0 & (1 << partition) != 0
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn except(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn covers(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    pub store: Store,
    pub brokers: [Life; BROKERS],
    pub verifiers: [Option<Verifier>; VERIFIERS],
    /// By broker, then by verifier: what is on its way from the one to the other, if they are connected.
    pub streams: [[Option<Queue>; VERIFIERS]; BROKERS],
    pub ending: Ending,
    pub faults: Faults,
}

/// Faults that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Faults {
    /// New incarnations of partition 0, whose registry starts empty.
    pub failovers: u8,
    pub disconnects: u8,
    pub broker_stops: u8,
    pub verifier_restarts: u8,
    /// Changes of one clock from one extreme to the other.
    pub drifts: u8,
}

/// What the servers hold, as far as it is confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    /// Of partition 0, where the registry is.
    pub incarnation: u8,
    /// The partitions that have the revocation.
    pub written: Partitions,
    pub registry: Registry,
    /// The registry as the primary had it that was deposed, and that still answers whoever asks it.
    pub deposed: Option<Registry>,
}

/// `acked` of each record: where the record's broker, and every verifier that counts, has the revocation.
pub type Registry = [Option<Partitions>; BROKERS];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Life {
    NotStarted,
    Running(Broker),
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Broker {
    pub rate: Rate,
    /// The incarnation of partition 0, as it last heard.
    pub incarnation: u8,
    /// Since it first heard of that incarnation; told of broker 0 only, which ends. Limit: `lapse(delta_max)`.
    pub incarnation_age: Age,
    /// Its record is confirmed, as far as it knows.
    pub registered: bool,
    /// Since the last beat. Limit: `delta_max`.
    pub beat_age: Age,
    /// Where it has the revocation by reading.
    pub applied: Partitions,
    /// `now − as_of[partition]`. Limit: `delta_max`.
    pub as_of_age: [Age; PARTITIONS],
    pub reads: [Option<Read>; PARTITIONS],
    /// The verifiers that it answered less than `lapse(delta_max)` ago.
    pub answered: [Option<Answered>; VERIFIERS],
    /// Since each record's beat last changed; told of broker 0 only, which removes. Limit: `lapse(delta_max)`.
    pub unchanged: [Age; BROKERS],
    /// The record that it will remove without looking again: rule 17.
    pub condemned: Option<u8>,
}

/// A read on its way back to the broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Read {
    /// Since it was sent. Limit: `delta_max`.
    pub age: Age,
    pub saw_revocation: bool,
    /// Of partition 0, when partition 0 is what was read.
    pub incarnation: u8,
    /// It was sent after the registration that stands was confirmed.
    pub may_count: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Answered {
    /// Since the last answer was sent. Limit: `lapse(delta_max)`, where the entry goes.
    pub age: Age,
    /// What the verifier has acknowledged.
    pub acked: Partitions,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Verifier {
    pub rate: Rate,
    /// Where its view has the revocation.
    pub known: Partitions,
    /// Age of its view: it accepts below Δ. Limit: Δ.
    pub view_age: Age,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    Nothing,
    /// The revocation, of one partition.
    Event(u8),
    /// The answer to a keep-alive: how old a view that swaps it in now would be. Limit: Δ.
    Answer(Age),
}

/// First in, first out. There is at most one event of each partition and one answer in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Queue(pub [Message; PARTITIONS + 1]);

impl Queue {
    pub const EMPTY: Self = Self([Message::Nothing; PARTITIONS + 1]);

    pub fn push(&mut self, message: Message) {
        let free = self.0.iter_mut().find(|place| **place == Message::Nothing);
        *free.expect("one event of each partition and one answer fit") = message;
    }

    pub fn remove(&mut self, place: usize) -> Message {
        let message = self.0[place];
        self.0.copy_within(place + 1.., place);
        self.0[PARTITIONS] = Message::Nothing;
        message
    }

    pub fn has_answer(&self) -> bool {
        self.0.iter().any(|message| matches!(message, Message::Answer(_)))
    }
}

/// The ending broker, which is broker 0, and its call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ending {
    pub step: Step,
    /// True time since RECORDED. Limit: `Δ(1 + ρ)`.
    pub since_recorded: Age,
    /// Time since RECORDED on the ending broker's clock. Limit: `lapse(Δ)`.
    pub waited: Age,
    /// The records that it waits for, by bit, where it does not look again: rule 3.
    pub listed: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    NotRecorded,
    Recorded,
    Fenced,
}
