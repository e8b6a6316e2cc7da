//! Who was in the registry, as this broker saw it: whoever asks late how far an ending is has to be told of verifiers that are
//! not in it any more.

use std::collections::BTreeMap;

use super::position::Run;
use super::registry::Registry;
use crate::domain::time::{Moment, Span};

/// For how long it is remembered who was in the registry.
const REMEMBERED: Span = Span::from_seconds(600);
/// A registry that was not read for longer may have had somebody in between whom nobody saw.
const GAP_MOST: Span = Span::from_seconds(5);

/// The verifiers that were in the registry, and when last.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The first and the last of reads with no gap between them.
    reads: Option<(Moment, Moment)>,
    verifiers: BTreeMap<Run, (String, Moment)>,
}

impl Seen {
    /// Takes note of what was read. `lapse` is that of `delta_max`: for so long whoever came stays.
    pub fn look(&mut self, registry: &Registry, lapse: Span) {
        let sent = registry.sent;
        let gap = lapse.min(GAP_MOST);
        let first = self.reads.filter(|(_, last)| sent.since(*last) < gap).map(|(first, _)| first);
        self.reads = Some((first.unwrap_or(sent), sent));
        for verifier in registry.records.iter().flat_map(|record| &record.verifiers) {
            self.verifiers.insert(verifier.run(), (verifier.name.clone(), sent));
        }
        self.verifiers.retain(|_, (_, last)| sent.since(*last) < REMEMBERED);
    }

    /// Everybody who was in the registry at that instant or came later, by name; `None` if that is not known.
    // INVARIANT (drained, by all): whoever was listed then was seen by the last read before, or by a later one.
    pub fn since(&self, then: Moment) -> Option<BTreeMap<Run, String>> {
        let (first, last) = self.reads?;
        if first > then || last.since(then.minus(GAP_MOST)) >= REMEMBERED {
            return None;
        }
        let were = self.verifiers.iter().filter(|(_, (_, seen))| seen.plus(GAP_MOST) > then);
        Some(were.map(|(run, (name, _))| (*run, name.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::feed::position::{InstanceId, Owner};
    use crate::domain::feed::registry::{BrokerRecord, VerifierRecord};
    use crate::domain::time::Stamp;

    const LAPSE: Span = Span::from_seconds(30);

    fn at(seconds: u64) -> Moment {
        Moment::new(Span::from_seconds(seconds))
    }

    fn read(seconds: u64, verifiers: &[u128]) -> Registry {
        let verifier = |number: &u128| VerifierRecord {
            instance: InstanceId::new(*number),
            owner: Owner::default(),
            name: format!("v{number}"),
            viewed_at: Stamp::ZERO,
            behind: BTreeMap::new(),
            undrained: None,
            connected: true,
        };
        let record = BrokerRecord {
            instance: InstanceId::new(1),
            name: "b".into(),
            address: String::new(),
            incarnation: Stamp::ZERO,
            beat: 1,
            applied: BTreeMap::new(),
            acked: BTreeMap::new(),
            verifiers: verifiers.iter().map(verifier).collect(),
            webhooks: BTreeMap::new(),
        };
        Registry {
            reader: InstanceId::new(1),
            sent: at(seconds),
            incarnation_known: at(0),
            is_first: false,
            records: vec![record],
        }
    }

    fn seen(reads: impl IntoIterator<Item = (u64, &'static [u128])>) -> Seen {
        let mut seen = Seen::default();
        reads.into_iter().for_each(|(time, verifiers)| seen.look(&read(time, verifiers), LAPSE));
        seen
    }

    fn names(seen: &Seen, then: u64) -> Option<Vec<String>> {
        Some(seen.since(at(then))?.into_values().collect())
    }

    #[test]
    fn class_07_who_was_there_then_is_told_though_it_is_gone() {
        let gone = (108..140).map(|time| (time, &[2][..]));
        let seen = seen([(100, &[1][..]), (104, &[1, 2])].into_iter().chain(gone));
        assert_eq!(names(&seen, 101), Some(vec!["v1".into(), "v2".into()]));
        assert_eq!(names(&seen, 104), Some(vec!["v1".into(), "v2".into()]));
        assert_eq!(names(&seen, 130), Some(vec!["v2".into()]), "it was gone long before");
    }

    /// A read that saw it, and one within the gap that did not.
    #[test]
    fn class_07_who_was_seen_less_than_a_gap_before_is_told_and_who_was_not_then_is_gone() {
        let seen = seen([(100, &[1][..]), (104, &[1]), (108, &[]), (112, &[])]);
        assert_eq!(names(&seen, 108), Some(vec!["v1".into()]));
        assert_eq!(names(&seen, 109), Some(vec![]));
    }

    #[test]
    fn class_07_reads_a_whole_gap_or_the_lapse_apart_know_nothing_of_the_time_between() {
        let apart = |seconds: u64, lapse| {
            let mut seen = Seen::default();
            for time in [100, 100 + seconds] {
                seen.look(&read(time, &[1]), Span::from_seconds(lapse));
            }
            names(&seen, 100).is_some()
        };
        assert!(apart(4, 30) && !apart(5, 30));
        assert!(apart(2, 3) && !apart(3, 3), "who came may have gone after the lapse");
    }

    #[test]
    fn class_07_nobody_knows_who_was_there_before_the_first_read_in_a_gap_or_long_ago() {
        assert_eq!(names(&Seen::default(), 100), None);
        let mut seen = seen((100..120).map(|time| (time, &[1][..])));
        assert_eq!(names(&seen, 99), None, "before the first read");
        assert_eq!(names(&seen, 100), Some(vec!["v1".into()]));
        seen.look(&read(125, &[1]), LAPSE);
        assert_eq!(names(&seen, 119), None, "somebody may have come and gone");
        for time in 126..730 {
            seen.look(&read(time, &[1]), LAPSE);
        }
        assert_eq!(names(&seen, 134), None, "it is forgotten");
        assert_eq!(names(&seen, 135), Some(vec!["v1".into()]));
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut seen = seen([(100, &[1][..])]);
        (101..800).for_each(|time| seen.look(&read(time, &[]), LAPSE));
        assert!(seen.verifiers.is_empty());
    }
}
