//! What the brokers say of themselves and of their verifiers, for whoever ends a task.

use std::collections::BTreeMap;

use super::position::{InstanceId, Owner, ReadPosition, Run};
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::principal::Name;
use crate::domain::time::{Moment, Span, Stamp};

/// What one run of a broker wrote of itself in the registry. It is removed by others only, so a broker that stops leaves it.
// INVARIANT (fencing, rule 10): the verifiers of a broker that stopped may be fresh for a while longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRecord {
    /// Which run.
    pub instance: InstanceId,
    /// What operators call it.
    pub name: String,
    /// Where it answers gRPC.
    pub address: String,
    /// Incarnation of partition 0 that it knew.
    pub incarnation: Stamp,
    /// Raised by every writing.
    pub beat: u64,
    /// How far it has applied each partition by reads of it.
    pub applied: BTreeMap<Partition, Origin>,
    /// How far it, and every verifier that counts, has; nowhere further than `applied`.
    pub acked: BTreeMap<Partition, Origin>,
    /// The verifiers that count, and those that are connected.
    pub verifiers: Vec<VerifierRecord>,
    /// The webhooks that it delivers to, and for each how far it knows that every event was delivered, by whichever broker.
    pub webhooks: Webhooks,
}

/// For each webhook, up to where every event of a partition was delivered, or its receiver told that some were not.
// INVARIANT (merging is safe): of two positions the later one holds, so brokers take over one another's.
pub type Webhooks = BTreeMap<Name, BTreeMap<Partition, ReadPosition>>;

/// One run of a verifier, as its broker sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierRecord {
    /// Which run.
    pub instance: InstanceId,
    /// Whose.
    pub owner: Owner,
    /// What operators call it.
    pub name: String,
    /// The age of its view counts from here, by the broker's wall clock: for people, never to decide by. Zero if it never had one.
    pub viewed_at: Stamp,
    /// How far it is, where that is less far than its broker's `applied`.
    pub behind: BTreeMap<Partition, Origin>,
    /// Up to where nothing runs any more that it let in and that is dead, where that is less far than its broker's `applied`;
    /// `None`: it does not say.
    pub undrained: Option<BTreeMap<Partition, Origin>>,
    /// Whether it is connected.
    pub connected: bool,
}

impl VerifierRecord {
    /// Which run of whose verifier it is.
    pub fn run(&self) -> Run {
        (self.instance, self.owner)
    }
}

/// The registry at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The broker that read it.
    pub reader: InstanceId,
    /// When the read was sent.
    pub sent: Moment,
    /// Since when this broker has known partition 0 in the incarnation that it had.
    pub incarnation_known: Moment,
    /// Whether that incarnation is the first one that the store ever had.
    pub is_first: bool,
    /// Every record.
    pub records: Vec<BrokerRecord>,
}

impl Registry {
    /// Whether it holds every broker that has made a verifier fresh which may still be so. `lapse` is that of `delta_max`.
    // INVARIANT (fencing, rule 13): who was in the registry of an earlier incarnation may be missing from a young one. The first one
    // of a store has no earlier: a broker grants nothing before its record in it is confirmed, and a record leaves an incarnation
    // only by standing still. Whoever a broker of another store made fresh begins anew before it hears of this one
    // (`verifier::Mirror::follow`), and so goes by nothing that was granted before.
    pub fn is_whole(&self, lapse: Span) -> bool {
        self.is_first || self.sent.since(self.incarnation_known) >= lapse
    }
}

/// Which records stand still: whose broker is gone for good.
#[derive(Clone, Debug, Default)]
pub struct Beats {
    seen: BTreeMap<InstanceId, (u64, Moment)>,
}

impl Beats {
    /// Looks at the registry, and says whose beat was seen unchanged for `lapse`, which is that of `delta_max`: instance and
    /// beat of what may be removed, if it still stands so.
    pub fn still(
        &mut self,
        records: &[BrokerRecord],
        now: Moment,
        lapse: Span,
    ) -> Vec<(InstanceId, u64)> {
        let known = std::mem::take(&mut self.seen);
        for record in records {
            let unchanged = known.get(&record.instance).filter(|(beat, _)| *beat == record.beat);
            let since = unchanged.map_or(now, |(_, since)| *since);
            self.seen.insert(record.instance, (record.beat, since));
        }
        let is_over = |since: Moment| now.since(since) >= lapse;
        let over = self.seen.iter().filter(|(_, (_, since))| is_over(*since));
        over.map(|(instance, (beat, _))| (*instance, *beat)).collect()
    }

    /// For how long the beat of a record was seen unchanged; for people.
    pub fn age(&self, record: &BrokerRecord, now: Moment) -> Span {
        let seen = self.seen.get(&record.instance).filter(|(beat, _)| *beat == record.beat);
        seen.map(|(_, since)| now.since(*since)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Span::from_seconds(seconds))
    }

    fn record(instance: u128, beat: u64) -> BrokerRecord {
        BrokerRecord {
            instance: InstanceId::new(instance),
            name: "b".into(),
            address: String::new(),
            incarnation: Stamp::ZERO,
            beat,
            applied: BTreeMap::new(),
            acked: BTreeMap::new(),
            verifiers: Vec::new(),
            webhooks: BTreeMap::new(),
        }
    }

    #[test]
    fn a_record_is_over_once_its_beat_was_seen_unchanged_for_long_enough_by_oneself() {
        let (mut beats, lapse) = (Beats::default(), Span::from_seconds(30));
        let one = InstanceId::new(1);
        assert_eq!(beats.still(&[record(1, 7)], at(100), lapse), [], "however old it may be");
        assert_eq!(beats.still(&[record(1, 7)], at(129), lapse), []);
        assert_eq!(beats.age(&record(1, 7), at(129)), Span::from_seconds(29));
        assert_eq!(beats.age(&record(1, 8), at(129)), Span::default(), "it beats");
        assert_eq!(beats.still(&[record(1, 7)], at(130), lapse), [(one, 7)]);
        assert_eq!(beats.still(&[record(1, 8)], at(131), lapse), [], "it beats again");
        assert_eq!(beats.still(&[], at(132), lapse), []);
        assert_eq!(beats.still(&[record(1, 8)], at(200), lapse), [], "it was not there between");
    }
}
