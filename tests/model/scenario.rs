//! The configurations that are explored: small ones, each with the faults that one kind of mistake needs.

use super::clock::{Age, Rate, Rate::Fast, Rate::Slow};
use super::state::{Faults, Partitions};

#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    /// The partitions that the revocation is written to: one for a task, all for a scope of the kill switch.
    pub scope: Partitions,
    /// How many partitions brokers read.
    pub partitions: usize,
    /// Broker 0 is the one that ends the task.
    pub brokers: &'static [BrokerPart],
    /// The rates of each verifier's clock that are tried.
    pub verifiers: &'static [&'static [Rate]],
    /// Δ of the credential.
    pub delta: Age,
    pub delta_max: Age,
    pub faults: Faults,
    /// Reads take time. Where they do not, a read is sent, answered and counted at one instant.
    pub slow_reads: bool,
    /// Broker 0 removes records whose beat stands still.
    pub removal: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct BrokerPart {
    /// The rates of its clock that are tried; a later instance runs at the first.
    pub rates: &'static [Rate],
    /// Verifiers connect to it.
    pub serves: bool,
    /// It is the next instance of this broker, and starts when that one has stopped.
    pub succeeds: Option<usize>,
}

/// Broker 0, which ends the task. A fast clock makes it wait the shortest.
const ENDER: BrokerPart = BrokerPart { rates: FAST, serves: false, succeeds: None };
/// A broker that serves verifiers. A slow clock makes what it read look youngest.
const SERVER: BrokerPart = BrokerPart { rates: SLOW, serves: true, succeeds: None };
/// The same with fewer states: a fast clock passes through fewer ages.
const FAST_SERVER: BrokerPart = BrokerPart { rates: FAST, ..SERVER };

const SLOW: &[Rate] = &[Slow];
const FAST: &[Rate] = &[Fast];
const BOTH: &[Rate] = &[Slow, Fast];

const NO_FAULTS: Faults =
    Faults { failovers: 0, disconnects: 0, broker_stops: 0, verifier_restarts: 0, drifts: 0 };

/// The faults are time alone: messages that linger, processes that pause, clocks that drift.
pub const TWO_BROKERS: Scenario = Scenario {
    name: "two brokers",
    scope: Partitions(0b01),
    partitions: 1,
    brokers: &[ENDER, SERVER],
    verifiers: &[SLOW],
    delta: 2,
    delta_max: 2,
    faults: NO_FAULTS,
    slow_reads: true,
    removal: false,
};

const QUICK_READS: Scenario = Scenario { slow_reads: false, ..TWO_BROKERS };

pub const DISCONNECT: Scenario = Scenario {
    name: "a stream is cut",
    faults: Faults { disconnects: 1, ..NO_FAULTS },
    ..QUICK_READS
};

pub const BROKER_RESTART: Scenario = Scenario {
    name: "a broker stops, and its next instance starts",
    brokers: &[ENDER, SERVER, BrokerPart { succeeds: Some(1), ..SERVER }],
    faults: Faults { broker_stops: 1, ..NO_FAULTS },
    ..QUICK_READS
};

pub const VERIFIER_RESTART: Scenario = Scenario {
    name: "a verifier restarts",
    faults: Faults { verifier_restarts: 1, ..NO_FAULTS },
    ..QUICK_READS
};

pub const REMOVAL: Scenario =
    Scenario { name: "records that stand still are removed", removal: true, ..QUICK_READS };

pub const FAILOVER: Scenario = Scenario {
    name: "the registry is lost",
    faults: Faults { failovers: 1, ..NO_FAULTS },
    ..QUICK_READS
};

pub const TWO_PARTITIONS: Scenario = Scenario {
    name: "the task lies in another partition than the registry",
    scope: Partitions(0b10),
    partitions: 2,
    ..QUICK_READS
};

pub const QUARANTINE: Scenario = Scenario {
    name: "a scope is revoked in two partitions",
    scope: Partitions(0b11),
    brokers: &[ENDER, FAST_SERVER],
    ..TWO_PARTITIONS
};

pub const DEPOSED: Scenario = Scenario {
    name: "the registry's deposed primary still answers",
    brokers: &[ENDER, FAST_SERVER],
    faults: Faults { failovers: 1, ..NO_FAULTS },
    ..TWO_PARTITIONS
};

pub const SHORT_DELTA: Scenario = Scenario {
    name: "the task's Δ is below delta_max",
    brokers: &[ENDER, FAST_SERVER],
    delta_max: 4,
    ..TWO_BROKERS
};

pub const CHANGING_CLOCKS: Scenario = Scenario {
    name: "a clock changes from one extreme to the other",
    faults: Faults { drifts: 1, ..NO_FAULTS },
    ..QUICK_READS
};

pub const BOTH_SERVE: Scenario = Scenario {
    name: "a verifier is connected to two brokers",
    brokers: &[BrokerPart { serves: true, ..ENDER }, SERVER],
    ..QUICK_READS
};

pub const TWO_VERIFIERS: Scenario = Scenario {
    name: "two verifiers",
    brokers: &[ENDER, FAST_SERVER],
    verifiers: &[SLOW, SLOW],
    ..QUICK_READS
};

/// Much at once: over a million states.
pub const WHOLE: Scenario = Scenario {
    name: "two partitions, a verifier that restarts, either clock, removal",
    verifiers: &[BOTH],
    faults: Faults { verifier_restarts: 1, ..NO_FAULTS },
    removal: true,
    ..TWO_PARTITIONS
};

/// Those that every change runs, beside `WHOLE`.
pub const SMALL: [Scenario; 13] = [
    TWO_BROKERS,
    DISCONNECT,
    BROKER_RESTART,
    VERIFIER_RESTART,
    REMOVAL,
    FAILOVER,
    TWO_PARTITIONS,
    QUARANTINE,
    DEPOSED,
    SHORT_DELTA,
    CHANGING_CLOCKS,
    BOTH_SERVE,
    TWO_VERIFIERS,
];

/// Those that are too large for every change: a million to tens of millions of states each.
pub const LARGE: [Scenario; 6] = [
    Scenario {
        name: "slow clocks, a scope in two partitions",
        brokers: &[ENDER, SERVER],
        ..QUARANTINE
    },
    Scenario { name: "slow clocks, Δ below delta_max", brokers: &[ENDER, SERVER], ..SHORT_DELTA },
    Scenario { name: "slow reads, changing clocks", slow_reads: true, ..CHANGING_CLOCKS },
    Scenario {
        name: "two partitions, changing clocks, a verifier that restarts",
        faults: Faults { verifier_restarts: 1, drifts: 1, ..NO_FAULTS },
        ..TWO_PARTITIONS
    },
    Scenario {
        name: "two partitions, a verifier of two brokers that restarts",
        faults: Faults { verifier_restarts: 1, ..NO_FAULTS },
        brokers: &[BrokerPart { serves: true, ..ENDER }, SERVER],
        ..TWO_PARTITIONS
    },
    Scenario {
        name: "failover, removal, restarts, a cut, one partition",
        faults: Faults { failovers: 1, disconnects: 1, verifier_restarts: 1, ..NO_FAULTS },
        removal: true,
        ..QUICK_READS
    },
];
