//! The broker's present: the later of its own wall clock and the store's, never going back (DESIGN.md section 4).

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
