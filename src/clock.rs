//! What time it is: the one place that reads the machine's clocks, for brokers and verifiers.
//!
//! One request reads them once and hands the answer on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::domain::time::{Moment, Span, Stamp};

/// What time it is.
pub trait Clock: Send + Sync {
    /// The present, never earlier than an answer given before in this run of the process (DESIGN.md 4).
    fn now(&self) -> Stamp;

    /// Time since some fixed instant, counted also while the machine sleeps, whatever happens to the wall clock.
    fn elapsed(&self) -> Span;
}

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The wall clock.
    pub wall: Stamp,
    /// The one that nobody sets.
    pub moment: Moment,
}

impl Present {
    /// Reads both.
    pub fn read(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), moment: Moment::new(clock.elapsed()) }
    }
}

/// The clocks of this machine. The wall clock does not go back while the process runs.
#[derive(Debug, Default)]
pub struct SystemClock {
    latest: AtomicU64,
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
    fn now(&self) -> Stamp {
        // A clock set before 1970 reads as 1970, when no certificate and no token is valid.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.no_earlier_than_before(wall.unwrap_or(Duration::ZERO).into())
    }

    fn elapsed(&self) -> Span {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let [seconds, nanos] = [time.tv_sec, time.tv_nsec].map(|n| u64::try_from(n).unwrap_or(0));
        Span::from_micros(Span::from_seconds(seconds).micros().saturating_add(nanos / 1_000))
    }
}

impl SystemClock {
    fn no_earlier_than_before(&self, wall: Span) -> Stamp {
        // INVARIANT (time does not go back): what was once expired stays so when the wall clock is set back.
        let before = self.latest.fetch_max(wall.micros(), Ordering::AcqRel);
        Stamp::saturating_from_micros(before.max(wall.micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_26_a_clock_that_is_set_back_does_not_take_time_back() {
        let clock = SystemClock::default();
        let noon = clock.no_earlier_than_before(Span::from_seconds(43_200));
        assert_eq!(clock.no_earlier_than_before(Span::from_seconds(39_600)), noon);
        let later = clock.no_earlier_than_before(Span::from_seconds(43_201));
        assert_eq!(later, noon.plus(Span::from_seconds(1)));
    }
}
