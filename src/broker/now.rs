//! Two presents (DESIGN.md section 4). By the broker's, the later of its own wall clock and the store's, it refuses what may
//! be over: identities, credentials, keys. By the store's, which all brokers share, it decides what stays so: when tasks are
//! due, fall silent or are dropped. A broker whose clock is wrong refuses too much, and ends nothing.

use parking_lot::Mutex;

use crate::broker::seams::Clock;
use crate::domain::time::{Span, Stamp};

/// What the store's clock last said, and when that was heard.
#[derive(Debug, Default)]
pub(super) struct Now {
    heard: Mutex<Heard>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    store: Stamp,
    at: Span,
    latest: Stamp,
}

impl Now {
    /// Takes note of the store's time.
    pub(super) fn hear(&self, clock: &dyn Clock, store: Stamp) {
        let elapsed = clock.elapsed();
        let mut heard = self.heard.lock();
        if store > heard.store_at(elapsed) {
            heard.store = store;
            heard.at = elapsed;
        }
    }

    /// The store's present: what it last said, and the time since; the wall clock's until it has said something.
    // INVARIANT (ended by the store's clock): no broker's own clock sets or judges a time of a task.
    pub(super) fn of_store(&self, clock: &dyn Clock) -> Stamp {
        let heard = *self.heard.lock();
        if heard.store == Stamp::ZERO { clock.now() } else { heard.store_at(clock.elapsed()) }
    }

    /// Whether the store has said anything yet.
    pub(super) fn has_heard(&self) -> bool {
        self.heard.lock().store != Stamp::ZERO
    }

    /// The present.
    // INVARIANT (time does not go back): what was once judged expired stays so.
    pub(super) fn read(&self, clock: &dyn Clock) -> Stamp {
        let (wall, elapsed) = (clock.now(), clock.elapsed());
        let mut heard = self.heard.lock();
        heard.latest = heard.latest.max(wall).max(heard.store_at(elapsed));
        heard.latest
    }
}

impl Heard {
    fn store_at(&self, elapsed: Span) -> Stamp {
        let since = elapsed.micros().saturating_sub(self.at.micros());
        self.store.plus(Span::from_micros(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::clock::TestClock;

    #[test]
    fn class_26_a_wall_clock_that_steps_back_an_hour_revives_nothing() {
        let clock = TestClock::default();
        let now = Now::default();
        let before = now.read(&clock);
        clock.back(Span::from_seconds(3_600));
        assert_eq!(now.read(&clock), before);
    }

    #[test]
    fn class_26_the_store_s_present_is_its_own_whatever_the_wall_shows() {
        let clock = TestClock::default();
        let (now, start) = (Now::default(), clock.now());
        let days = Span::from_seconds(2 * 86_400);
        assert_eq!((now.of_store(&clock), now.has_heard()), (start, false));
        now.hear(&clock, start);
        for wrong in [start.plus(days), start.minus(days)] {
            clock.set(wrong);
            assert_eq!((now.of_store(&clock), now.has_heard()), (start, true));
        }
        clock.forward(Span::from_seconds(5));
        assert_eq!(now.of_store(&clock), start.plus(Span::from_seconds(5)));
    }

    #[test]
    fn class_26_the_store_s_time_counts_where_it_is_later_and_runs_on() {
        let clock = TestClock::default();
        let now = Now::default();
        let ahead = clock.now().plus(Span::from_seconds(60));
        now.hear(&clock, ahead);
        assert_eq!(now.read(&clock), ahead);
        clock.forward(Span::from_seconds(5));
        assert_eq!(now.read(&clock), ahead.plus(Span::from_seconds(5)));
        now.hear(&clock, ahead);
        assert_eq!(now.read(&clock), ahead.plus(Span::from_seconds(5)), "an older answer");
    }
}
