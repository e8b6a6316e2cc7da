//! How old a broker's own view is, and whether it may say so.

use std::collections::BTreeMap;

use crate::domain::id::{Partition, PartitionCount};
use crate::domain::time::{Moment, Present, Span, Stamp};

/// From when on a broker's memory holds everything that was RECORDED by then, in every partition.
#[derive(Clone, Debug)]
pub struct AsOf {
    partitions: PartitionCount,
    /// So long after its last beat a record may be gone.
    delta_max: Span,
    registered: Option<Registered>,
    beat: Option<Present>,
    read: BTreeMap<Partition, Present>,
}

/// That the registry holds this broker's record, for sure.
#[derive(Clone, Copy, Debug)]
struct Registered {
    /// Incarnation of partition 0 in which it was written.
    incarnation: Stamp,
    /// When that was known.
    confirmed: Moment,
}

impl AsOf {
    /// Of a broker that has neither registered nor read.
    pub fn new(partitions: PartitionCount, delta_max: Span) -> Self {
        Self { partitions, delta_max, registered: None, beat: None, read: BTreeMap::new() }
    }

    /// A beat was confirmed: the registry holds this broker's record in partition 0's `incarnation`.
    // INVARIANT (fencing, rule 14): a record that an earlier incarnation held may be lost, and with it whoever would have been
    // waited for: what was read under it counts no more.
    // INVARIANT (fencing, rule 2): the same where the record may have been removed, because it stood still. Others wait for
    // `lapse(delta_max)` by their clocks before they remove it, so for `delta_max` by either of this one's it was there.
    pub fn beat(&mut self, incarnation: Stamp, sent: Present, confirmed: Present) {
        let is_other = self.registered.is_none_or(|known| known.incarnation != incarnation);
        if is_other || self.beat.is_none_or(|last| confirmed.since(last) >= self.delta_max) {
            self.read.clear();
            self.beat = None;
            self.registered = Some(Registered { incarnation, confirmed: confirmed.moment });
        }
        self.beat = Some(self.beat.map_or(sent, |known| known.later(sent)));
    }

    /// Partition 0 was seen in this incarnation: a registration in another one is none.
    pub fn saw(&mut self, incarnation: Stamp) {
        if self.registered.is_some_and(|known| known.incarnation != incarnation) {
            self.unregister();
        }
    }

    /// The store does not hold the record any more: nothing counts until it is confirmed again.
    pub fn unregister(&mut self) {
        self.registered = None;
        self.beat = None;
        self.read.clear();
    }

    /// A read of a partition counts that was sent at `sent`.
    // INVARIANT (fencing, rule 1): what is committed between sending and answering may be missing from the answer.
    // INVARIANT (fencing, rule 2): nobody waited for this broker before its record was there.
    pub fn read(&mut self, partition: Partition, sent: Present) {
        if self.registered.is_some_and(|known| sent.moment >= known.confirmed) {
            let known = self.read.entry(partition).or_insert(sent);
            *known = known.later(sent);
        }
    }

    /// Whether the registry holds this broker's record.
    pub fn is_registered(&self) -> bool {
        self.registered.is_some()
    }

    /// What an answer to a keep-alive says, if every partition was read; `None`: no answer.
    // INVARIANT (fencing, rule 7): the oldest of all partitions' ages.
    // INVARIANT (fencing, rule 9): and of the last confirmed beat's: who is taken for dead is waited for no longer.
    pub fn age(&self, now: Present) -> Option<Span> {
        let reads = self.partitions.all().map(|partition| self.read.get(&partition));
        let oldest = reads
            .chain([self.beat.as_ref()])
            .try_fold(Span::ZERO, |oldest, sent| sent.map(|sent| oldest.max(now.since(*sent))));
        oldest.filter(|age| *age < self.delta_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELTA_MAX: Span = Span::from_seconds(30);

    fn at(seconds: u64) -> Present {
        let span = Span::from_seconds(seconds);
        Present { wall: Stamp::from_seconds(1_000).plus(span), moment: Moment::new(span) }
    }

    /// At a second of the wall clock, while the other stood still at `moment`.
    fn slept(moment: u64, wall: u64) -> Present {
        Present { wall: at(wall).wall, ..at(moment) }
    }

    fn stamp(micros: u64) -> Stamp {
        Stamp::saturating_from_micros(micros)
    }

    /// Of two partitions, registered from second 10 on.
    fn registered() -> AsOf {
        let mut as_of = AsOf::new(PartitionCount::new(2).unwrap(), DELTA_MAX);
        as_of.beat(stamp(1), at(9), at(10));
        as_of
    }

    #[test]
    fn rule_02_a_read_that_was_sent_before_the_registration_was_confirmed_does_not_count() {
        let mut as_of = AsOf::new(PartitionCount::new(1).unwrap(), DELTA_MAX);
        as_of.read(Partition(0), at(8));
        as_of.beat(stamp(1), at(9), at(10));
        as_of.read(Partition(0), at(9));
        assert_eq!(as_of.age(at(10)), None);
        as_of.read(Partition(0), at(10));
        assert_eq!(as_of.age(at(10)), Some(Span::from_seconds(1)));
    }

    #[test]
    fn rule_02_a_record_that_stood_still_for_so_long_that_it_may_be_gone_is_a_new_one() {
        let age = Some(Span::from_seconds(18));
        for (confirmed, age) in [(at(38), age), (at(39), None), (slept(38, 39), None)] {
            let mut as_of = registered();
            for partition in [Partition(0), Partition(1)] {
                as_of.read(partition, at(20));
            }
            as_of.beat(stamp(1), at(37), confirmed);
            assert_eq!(as_of.age(at(38)), age);
        }
    }

    #[test]
    fn rule_07_the_earliest_of_all_partitions_counts() {
        let mut as_of = registered();
        as_of.read(Partition(0), at(20));
        assert_eq!(as_of.age(at(20)), None, "one was never read");
        as_of.read(Partition(1), at(12));
        as_of.beat(stamp(1), at(21), at(21));
        assert_eq!(as_of.age(at(21)), Some(Span::from_seconds(9)));
    }

    #[test]
    fn rule_09_the_last_confirmed_beat_counts_too() {
        let mut as_of = registered();
        for partition in [Partition(0), Partition(1)] {
            as_of.read(partition, at(20));
        }
        assert_eq!(as_of.age(at(20)), Some(Span::from_seconds(11)));
    }

    #[test]
    fn rule_14_a_registration_is_one_of_its_incarnation() {
        for by_beat in [true, false] {
            let mut as_of = registered();
            for partition in [Partition(0), Partition(1)] {
                as_of.read(partition, at(20));
            }
            if by_beat {
                as_of.beat(stamp(2), at(21), at(22));
            } else {
                as_of.saw(stamp(2));
                assert!(!as_of.is_registered());
            }
            assert_eq!(as_of.age(at(22)), None, "earlier reads no longer count");
        }
    }

    #[test]
    fn a_view_of_delta_max_or_older_is_not_answered_with() {
        let mut as_of = registered();
        for partition in [Partition(0), Partition(1)] {
            as_of.read(partition, at(20));
        }
        assert_eq!(as_of.age(at(38)), Some(Span::from_seconds(29)));
        assert_eq!(as_of.age(at(39)), None);
    }

    #[test]
    fn a_sleep_that_only_the_wall_clock_saw_makes_a_view_as_old_as_it_was_long() {
        let mut as_of = registered();
        for partition in [Partition(0), Partition(1)] {
            as_of.read(partition, at(20));
        }
        assert_eq!(as_of.age(slept(20, 27)), Some(Span::from_seconds(18)));
        assert_eq!(as_of.age(slept(20, 39)), None);
        assert_eq!(as_of.age(slept(21, 0)), Some(Span::from_seconds(12)), "nor younger, set back");
    }
}
