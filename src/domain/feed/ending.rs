//! FENCED and DRAINED: what a broker that ended something waits for after RECORDED.

use std::collections::{BTreeMap, BTreeSet};

use super::drift::Drift;
use super::position::{InstanceId, Run};
use super::registry::{BrokerRecord, Registry, VerifierRecord};
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::time::{Moment, Span};

/// What is the same for every ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// ρ.
    pub drift: Drift,
    /// No credential's Δ is larger.
    pub delta_max: Span,
}

/// A revocation that is RECORDED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Where it was written, and when, in each partition.
    pub written: BTreeMap<Partition, Origin>,
    /// When this broker learned that it is RECORDED, after its own memory had it.
    pub recorded: Moment,
    /// The largest Δ of what it kills: the task's; `delta_max` for a scope.
    pub delta: Span,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No subscribed verifier accepts any more what it names, nor what descends from that.
    Fenced,
    /// Somebody might; `None` where it is not known who.
    Pending(Option<Vec<Pending>>),
}

/// Who has not said that it applied the revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The broker that speaks for it.
    pub broker: String,
    /// The verifier; `None`: it is the broker itself that is behind, and whoever is on its feed.
    pub verifier: Option<(InstanceId, String)>,
}

/// Whether what was let in before is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drain {
    /// At every verifier that was listed.
    Drained,
    /// At these something still runs, by name.
    Running(Vec<String>),
    /// These are gone, or never say; by name. It will not be known.
    Unknown(Vec<String>),
}

impl Ending {
    /// When it is FENCED whatever is cut off, slow or dead.
    pub fn at_latest(&self, terms: Terms) -> Moment {
        self.recorded.plus(terms.drift.lapse(self.delta))
    }

    /// Judges by the registry as it was last read.
    pub fn judge(&self, registry: Option<&Registry>, now: Moment, terms: Terms) -> Progress {
        if now >= self.at_latest(terms) {
            return Progress::Fenced;
        }
        let Some(registry) = registry.filter(|registry| self.counts(registry, terms)) else {
            return Progress::Pending(None);
        };
        let pending: Vec<_> = registry.records.iter().flat_map(|r| self.pending(r)).collect();
        if pending.is_empty() { Progress::Fenced } else { Progress::Pending(Some(pending)) }
    }

    /// Whether what the registry says is worth anything.
    // INVARIANT (fencing, rule 3): a verifier that joined before RECORDED is in a registry that is read after it.
    // INVARIANT (fencing, rule 13): a registry counts that is whole.
    fn counts(&self, registry: &Registry, terms: Terms) -> bool {
        registry.sent >= self.recorded
            && registry.is_whole(terms.drift.lapse(terms.delta_max))
            // The broker that asks is in it. One that is not was taken for dead, and its verifiers are in no record.
            && registry.records.iter().any(|record| record.instance == registry.reader)
    }

    fn pending(&self, record: &BrokerRecord) -> Vec<Pending> {
        if self.is_in(|partition| record.acked.get(partition).copied()) {
            return Vec::new();
        }
        let pending = |verifier| Pending { broker: record.name.clone(), verifier };
        if !self.is_in(|partition| record.applied.get(partition).copied()) {
            return vec![pending(None)];
        }
        let is_behind = |verifier: &&VerifierRecord| {
            !self.is_in(|partition| far(record, &verifier.behind, partition))
        };
        let behind = record.verifiers.iter().filter(is_behind);
        let named: Vec<_> = behind.map(|v| pending(Some((v.instance, v.name.clone())))).collect();
        if named.is_empty() { vec![pending(None)] } else { named }
    }

    /// Whether every broker has applied it by a read, and says so.
    pub fn is_applied(&self, registry: &Registry) -> bool {
        let has_applied =
            |record: &BrokerRecord| self.is_in(|partition| record.applied.get(partition).copied());
        !registry.records.is_empty() && registry.records.iter().all(has_applied)
    }

    /// Whether somebody who is as far as `position` says has applied it.
    fn is_in(&self, position: impl Fn(&Partition) -> Option<Origin>) -> bool {
        let is_in = |(partition, at): (&Partition, &Origin)| {
            position(partition).is_some_and(|position| position >= *at)
        };
        self.written.iter().all(is_in)
    }

    /// Whether what was let in is over, at the verifiers that the registry listed once the ending [was applied](Self::is_applied).
    pub fn drain(&self, listed: &BTreeMap<Run, String>, registry: &Registry) -> Drain {
        let (mut running, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for (run, name) in listed {
            let told = registry.records.iter().flat_map(|record| {
                record.verifiers.iter().filter(|v| v.run() == *run).map(move |v| (record, v))
            });
            let told: Vec<_> = told.collect();
            // INVARIANT (whom it speaks to): a view may have begun anew since a broker lost its verifier, and what was over by it then
            // may run again. So those count that it is connected to; and if it is to none, all.
            let is_anywhere = told.iter().any(|(_, verifier)| verifier.connected);
            let mut counted = told.iter().filter(|(_, v)| v.connected || !is_anywhere).peekable();
            let is_over = counted.peek().is_some()
                && counted.all(|(record, verifier)| self.is_drained(record, verifier));
            let is_there = told.iter().any(|(_, v)| v.connected && v.undrained.is_some());
            match (is_over, is_there) {
                (true, _) => {}
                (false, true) => drop(running.insert(name.clone())),
                (false, false) => drop(unknown.insert(name.clone())),
            }
        }
        if !unknown.is_empty() {
            return Drain::Unknown(unknown.into_iter().collect());
        }
        if running.is_empty() {
            return Drain::Drained;
        }
        Drain::Running(running.into_iter().collect())
    }

    fn is_drained(&self, record: &BrokerRecord, verifier: &VerifierRecord) -> bool {
        let Some(undrained) = &verifier.undrained else { return false };
        self.is_in(|partition| far(record, &verifier.behind, partition))
            && self.is_in(|partition| far(record, undrained, partition))
    }
}

/// How far a verifier is: as far as its broker, unless it is said to be behind.
fn far(
    record: &BrokerRecord,
    behind: &BTreeMap<Partition, Origin>,
    partition: &Partition,
) -> Option<Origin> {
    behind.get(partition).or_else(|| record.applied.get(partition)).copied()
}

#[cfg(test)]
mod tests;
