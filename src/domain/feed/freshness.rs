//! How old a verifier's view of revocations is, on the verifier's own clock.

use crate::domain::time::{Present, Span};

/// How old a verifier's view is: it holds everything that was RECORDED so long ago. A new one knows nothing.
// INVARIANT (fencing, rule 11): it is made with the process and stored nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// The keep-alive's send time, and the age that came back. Apart: their difference may lie before the clock's beginning.
    answered: Option<(Present, Span)>,
}

impl Freshness {
    /// Takes a broker's answer to a keep-alive that was sent at `sent`: the broker's view was `age` old when it answered.
    // INVARIANT (fencing, rule 12): it counts from the verifier's own send time, so that no delay on the way makes it younger.
    pub fn answered(&mut self, sent: Present, age: Span) {
        let later = self.answered.map_or(sent, |(known, _)| known.later(sent));
        let is_younger = |known: &(Present, Span)| aged((sent, age), later) < aged(*known, later);
        if self.answered.as_ref().is_none_or(is_younger) {
            self.answered = Some((sent, age));
        }
    }

    /// How old the view is; `None` if there is none.
    pub fn age(self, now: Present) -> Option<Span> {
        self.answered.map(|answered| aged(answered, now))
    }

    /// Whether the view is younger than the Δ that a credential carries.
    pub fn is_within(self, now: Present, delta: Span) -> bool {
        self.age(now).is_some_and(|age| age < delta)
    }
}

fn aged((sent, age): (Present, Span), now: Present) -> Span {
    Span::from_micros(now.since(sent).micros().saturating_add(age.micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::{Moment, Stamp};

    const DELTA: Span = Span::from_seconds(5);

    fn at(seconds: u64) -> Present {
        let span = Span::from_seconds(seconds);
        Present { wall: Stamp::from_seconds(1_000_000).plus(span), moment: Moment::new(span) }
    }

    #[test]
    fn rule_11_a_view_that_was_never_answered_is_not_fresh() {
        assert!(!Freshness::default().is_within(at(0), DELTA));
    }

    #[test]
    fn rule_12_freshness_counts_from_the_send_time_less_the_age() {
        let mut freshness = Freshness::default();
        freshness.answered(at(100), Span::from_seconds(2));
        assert!(freshness.is_within(at(102), DELTA));
        assert!(!freshness.is_within(at(103), DELTA), "at exactly Δ it is over");
    }

    #[test]
    fn an_older_answer_takes_nothing_away_and_adds_nothing() {
        let mut freshness = Freshness::default();
        freshness.answered(at(100), Span::ZERO);
        freshness.answered(at(101), Span::from_seconds(10));
        assert_eq!(freshness.age(at(101)), Some(Span::from_seconds(1)));
    }

    #[test]
    fn a_clock_that_began_a_moment_ago_makes_no_view_younger() {
        let mut freshness = Freshness::default();
        freshness.answered(at(1), Span::from_seconds(6));
        assert!(!freshness.is_within(at(1), DELTA));
    }

    #[test]
    fn a_sleep_after_the_wall_was_set_back_is_seen_all_the_same() {
        let back =
            |moment: u64, wall: u64| Present { wall: Stamp::from_seconds(wall), ..at(moment) };
        let mut freshness = Freshness::default();
        freshness.answered(at(100), Span::ZERO);
        freshness.answered(back(101, 500), Span::ZERO);
        assert!(freshness.is_within(back(101, 504), DELTA), "it goes by the later answer");
        assert!(!freshness.is_within(back(101, 505), DELTA));
    }
}
