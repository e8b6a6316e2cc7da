//! What time it is: the one place that reads the machine's clocks, for brokers and verifiers.
//!
//! One request reads them once and hands the answer on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

pub use crate::domain::time::Present;
use crate::domain::time::{Moment, Span, Stamp};

/// What time it is.
pub trait Clock: Send + Sync {
    /// The present, never earlier than an answer given before in this run of the process (DESIGN.md 4).
    fn now(&self) -> Stamp;

    /// What the wall clock shows, also where it was set back: differences of it say how much time passed, and nothing else.
    fn wall(&self) -> Stamp;

    /// Time since some fixed instant, counted also while the machine sleeps, whatever happens to the wall clock.
    fn elapsed(&self) -> Span;
}

impl Present {
    /// Reads both.
    pub fn read(clock: &dyn Clock) -> Self {
        Self { wall: clock.wall(), moment: Moment::new(clock.elapsed()) }
    }
}

/// The clocks of this machine. The wall clock does not go back while the process runs.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicU64,
}

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        self.no_earlier_than_before(self.wall())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn wall(&self) -> Stamp {
        // A clock set before 1970 reads as 1970, when no certificate and no token is valid.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Stamp::ZERO.plus(wall.unwrap_or(Duration::ZERO).into())
    }

    fn elapsed(&self) -> Span {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let [seconds, nanos] = [time.tv_sec, time.tv_nsec].map(|n| u64::try_from(n).unwrap_or(0));
        Span::from_micros(Span::from_seconds(seconds).micros().saturating_add(nanos / 1_000))
    }
}

impl SystemClock {
    fn no_earlier_than_before(&self, wall: Stamp) -> Stamp {
        // INVARIANT (time does not go back): what was once expired stays so when the wall clock is set back.
        let before = self.latest.fetch_max(wall.micros(), Ordering::AcqRel);
        wall.max(Stamp::saturating_from_micros(before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_26_a_clock_that_is_set_back_does_not_take_time_back() {
        let clock = SystemClock::default();
        let noon = clock.no_earlier_than_before(Stamp::from_seconds(43_200));
        assert_eq!(clock.no_earlier_than_before(Stamp::from_seconds(39_600)), noon);
        let later = clock.no_earlier_than_before(Stamp::from_seconds(43_201));
        assert_eq!(later, noon.plus(Span::from_seconds(1)));
    }

    #[test]
    fn class_26_the_wall_is_a_witness_as_it_stands_also_where_it_was_set_back() {
        let clock = SystemClock::default();
        let before = clock.wall().plus(Span::from_seconds(3_600));
        clock.no_earlier_than_before(before);
        assert_eq!(clock.now(), before);
        assert!(Present::read(&clock).wall < before);
    }
}
