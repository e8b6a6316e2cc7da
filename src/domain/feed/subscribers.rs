//! The verifiers of one broker: who has applied what, and who could still accept on the strength of an answer.

use std::collections::BTreeMap;

use super::drift::Drift;
use super::position::{InstanceId, Owner, Run};
use super::registry::VerifierRecord;
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::time::{Moment, Present, Span, Stamp};

/// How far somebody is in each partition.
type Positions = BTreeMap<Partition, Origin>;

/// The verifiers of one broker.
#[derive(Clone, Debug)]
pub struct Subscribers {
    /// `lapse(delta_max)`: for so long an answer can keep a verifier fresh.
    counts_for: Span,
    verifiers: BTreeMap<InstanceId, Subscriber>,
}

#[derive(Clone, Debug, Default)]
struct Subscriber {
    owner: Owner,
    name: String,
    connections: u32,
    /// When the last answer was sent, and from when on it says that the view holds everything.
    answered: Option<(Moment, Moment)>,
    acked: Positions,
    drained: Option<Positions>,
}

impl Subscribers {
    /// Nobody yet.
    pub fn new(drift: Drift, delta_max: Span) -> Self {
        Self { counts_for: drift.lapse(delta_max), verifiers: BTreeMap::new() }
    }

    /// A verifier connected. `drains`: it will say when what it let in is over.
    pub fn join(&mut self, (instance, owner): Run, name: &str, drains: bool) {
        let verifier = self.verifiers.entry(instance).or_default();
        verifier.owner = owner;
        name.clone_into(&mut verifier.name);
        verifier.connections = verifier.connections.saturating_add(1);
        if drains {
            verifier.drained.get_or_insert_default();
        }
    }

    /// A connection of it is gone. It counts all the same for as long as an answer could keep it fresh.
    pub fn leave(&mut self, instance: InstanceId) {
        if let Some(verifier) = self.verifiers.get_mut(&instance) {
            verifier.connections = verifier.connections.saturating_sub(1);
        }
    }

    /// An answer is about to be put on its queue: from now on it counts. `false`: it is not one of ours, and gets none.
    pub fn answer(&mut self, instance: InstanceId, now: Moment, age: Span) -> bool {
        let Some(verifier) = self.verifiers.get_mut(&instance) else { return false };
        let as_of = now.minus(age);
        let known = verifier.answered.map_or(as_of, |(_, known)| known);
        verifier.answered = Some((now, known.max(as_of)));
        true
    }

    /// It has applied so much.
    pub fn acknowledge(&mut self, instance: InstanceId, positions: &Positions) {
        if let Some(verifier) = self.verifiers.get_mut(&instance) {
            raise(&mut verifier.acked, positions);
        }
    }

    /// Nothing runs any more that it let in and that is dead by what it had applied up to here.
    pub fn drained(&mut self, instance: InstanceId, positions: &Positions) {
        let verifier = self.verifiers.get_mut(&instance);
        if let Some(drained) = verifier.and_then(|verifier| verifier.drained.as_mut()) {
            raise(drained, positions);
        }
    }

    /// Whether it is one of them.
    pub fn contains(&self, instance: InstanceId) -> bool {
        self.verifiers.contains_key(&instance)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.verifiers.len()
    }

    /// Whether there is nobody.
    pub fn is_empty(&self) -> bool {
        self.verifiers.is_empty()
    }

    /// Forgets who is gone and counts no more.
    pub fn prune(&mut self, now: Moment) {
        let counts_for = self.counts_for;
        self.verifiers
            .retain(|_, verifier| verifier.connections > 0 || verifier.counts(now, counts_for));
    }

    /// How far this broker, which has `applied` so much itself, and everybody who counts, is.
    // INVARIANT (fencing, rule 4): whoever an answer may still keep fresh counts, connected or not.
    pub fn acked(&self, applied: &Positions, now: Moment) -> Positions {
        let mut acked = applied.clone();
        for verifier in self.verifiers.values().filter(|v| v.counts(now, self.counts_for)) {
            for (partition, position) in &mut acked {
                *position = (*position).min(position_in(&verifier.acked, *partition));
            }
        }
        acked
    }

    /// What the registry is told: of everybody who counts or is connected.
    pub fn records(&self, applied: &Positions, now: Present) -> Vec<VerifierRecord> {
        let Present { wall, moment: now } = now;
        let told = |(_, verifier): &(&InstanceId, &Subscriber)| {
            verifier.connections > 0 || verifier.counts(now, self.counts_for)
        };
        let record = |(instance, verifier): (&InstanceId, &Subscriber)| VerifierRecord {
            instance: *instance,
            owner: verifier.owner,
            name: verifier.name.clone(),
            viewed_at: verifier
                .answered
                .map_or(Stamp::ZERO, |(_, as_of)| wall.minus(now.since(as_of))),
            behind: less_far(&verifier.acked, applied),
            undrained: verifier.drained.as_ref().map(|drained| less_far(drained, applied)),
            connected: verifier.connections > 0,
        };
        self.verifiers.iter().filter(told).map(record).collect()
    }
}

impl Subscriber {
    fn counts(&self, now: Moment, counts_for: Span) -> bool {
        self.answered.is_some_and(|(sent, _)| now.since(sent) < counts_for)
    }
}

fn raise(known: &mut Positions, positions: &Positions) {
    for (partition, position) in positions {
        let known = known.entry(*partition).or_insert(*position);
        *known = (*known).max(*position);
    }
}

/// Where nothing was applied yet, before everything.
fn position_in(positions: &Positions, partition: Partition) -> Origin {
    let nowhere = Origin { incarnation: Stamp::ZERO, stamp: Stamp::ZERO };
    positions.get(&partition).copied().unwrap_or(nowhere)
}

fn less_far(positions: &Positions, than: &Positions) -> Positions {
    let own = |partition: &Partition| position_in(positions, *partition);
    let behind = than.iter().filter(|(partition, applied)| own(partition) < **applied);
    behind.map(|(partition, _)| (*partition, own(partition))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: InstanceId = InstanceId::new(1);
    const DELTA_MAX: Span = Span::from_seconds(30);

    fn at(seconds: u64) -> Moment {
        Moment::new(Span::from_seconds(seconds))
    }

    fn positions(stamp: u64) -> Positions {
        let at = Origin { incarnation: Stamp::from_seconds(1), stamp: Stamp::from_seconds(stamp) };
        [(Partition(0), at)].into()
    }

    fn of_one() -> Subscribers {
        let mut subscribers = Subscribers::new(Drift::DEFAULT, DELTA_MAX);
        subscribers.join((ONE, Owner::default()), "api", true);
        subscribers
    }

    #[test]
    fn a_verifier_that_was_never_answered_holds_nobody_up() {
        assert_eq!(of_one().acked(&positions(9), at(100)), positions(9));
    }

    #[test]
    fn an_answered_verifier_counts_with_what_it_acknowledged() {
        let mut subscribers = of_one();
        assert!(subscribers.answer(ONE, at(100), Span::ZERO));
        let nothing = Origin { incarnation: Stamp::ZERO, stamp: Stamp::ZERO };
        assert_eq!(subscribers.acked(&positions(9), at(100)), [(Partition(0), nothing)].into());
        subscribers.acknowledge(ONE, &positions(7));
        assert_eq!(subscribers.acked(&positions(9), at(100)), positions(7));
        subscribers.acknowledge(ONE, &positions(5));
        assert_eq!(subscribers.acked(&positions(9), at(100)), positions(7), "it moves one way");
        subscribers.acknowledge(ONE, &positions(99));
        assert_eq!(
            subscribers.acked(&positions(9), at(100)),
            positions(9),
            "the broker counts too"
        );
    }

    #[test]
    fn rule_04_a_verifier_counts_until_lapse_though_disconnected() {
        let mut subscribers = of_one();
        subscribers.answer(ONE, at(100), Span::ZERO);
        subscribers.acknowledge(ONE, &positions(7));
        subscribers.leave(ONE);
        let last = at(100).plus(Drift::DEFAULT.lapse(DELTA_MAX)).minus(Span::from_micros(1));
        subscribers.prune(last);
        assert_eq!(subscribers.acked(&positions(9), last), positions(7));
        let over = last.plus(Span::from_micros(1));
        assert_eq!(subscribers.acked(&positions(9), over), positions(9));
        subscribers.prune(over);
        assert!(subscribers.is_empty());
    }

    #[test]
    fn rule_05_what_one_run_acknowledged_says_nothing_of_the_next() {
        let (mut subscribers, next) = (of_one(), InstanceId::new(2));
        subscribers.acknowledge(ONE, &positions(9));
        subscribers.leave(ONE);
        subscribers.join((next, Owner::default()), "api", true);
        subscribers.answer(next, at(100), Span::ZERO);
        assert_ne!(subscribers.acked(&positions(9), at(100)), positions(9));
    }

    #[test]
    fn nobody_is_answered_who_did_not_join() {
        assert!(!of_one().answer(InstanceId::new(2), at(100), Span::ZERO));
    }

    #[test]
    fn the_registry_is_told_where_somebody_is_behind_and_only_there() {
        let mut subscribers = of_one();
        subscribers.answer(ONE, at(100), Span::from_seconds(2));
        subscribers.acknowledge(ONE, &positions(9));
        let wall = Stamp::from_seconds(1_000);
        let now = Present { wall, moment: at(103) };
        let records = subscribers.records(&positions(9), now);
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(record.viewed_at, Stamp::from_seconds(995));
        assert!(record.behind.is_empty() && record.connected);
        assert_eq!(record.undrained.as_ref().map(BTreeMap::len), Some(1), "it said nothing yet");
        subscribers.drained(ONE, &positions(9));
        let records = subscribers.records(&positions(10), now);
        let [record] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(record.behind, positions(9));
        assert_eq!(record.undrained, Some(positions(9)));
    }
}
