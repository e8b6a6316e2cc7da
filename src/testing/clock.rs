//! A clock that stands still until the test moves it, in either direction.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::broker::seams::{Clock, SystemClock};
use crate::domain::time::{Span, Stamp};

/// A clock under the test's hand. Unlike a real one it also goes back.
#[derive(Debug)]
pub struct TestClock {
    micros: AtomicU64,
    elapsed: AtomicU64,
}

impl TestClock {
    /// A clock that shows `now`.
    pub fn at(now: Stamp) -> Self {
        Self { micros: AtomicU64::new(now.micros()), elapsed: AtomicU64::new(0) }
    }

    /// Sets the wall to `now`; no time passes.
    pub fn set(&self, now: Stamp) {
        self.micros.store(now.micros(), Ordering::Release);
    }

    /// Lets time pass, on the wall and since the start.
    pub fn forward(&self, span: Span) {
        self.elapsed.fetch_add(span.micros(), Ordering::AcqRel);
        self.set(self.now().plus(span));
    }

    /// Steps the wall back, at most to the Unix epoch.
    pub fn back(&self, span: Span) {
        self.set(self.now().minus(span));
    }
}

/// A clock that runs, as far as time since the start goes, and that the test can push ahead.
#[derive(Debug)]
pub struct RunningClock {
    wall: Stamp,
    began: Span,
    pushed: AtomicU64,
}

impl RunningClock {
    /// A clock whose wall begins at `now`.
    pub fn at(now: Stamp) -> Self {
        Self { wall: now, began: SystemClock::default().elapsed(), pushed: AtomicU64::new(0) }
    }

    /// Lets so much more time pass.
    pub fn push(&self, span: Span) {
        self.pushed.fetch_add(span.micros(), Ordering::AcqRel);
    }
}

impl Default for RunningClock {
    /// Begins where [`TestClock::default`] stands.
    fn default() -> Self {
        Self::at(TestClock::default().now())
    }
}

impl Clock for RunningClock {
    fn now(&self) -> Stamp {
        self.wall()
    }

    fn wall(&self) -> Stamp {
        self.wall.plus(self.elapsed())
    }

    fn elapsed(&self) -> Span {
        let ran = SystemClock::default().elapsed().micros().saturating_sub(self.began.micros());
        Span::from_micros(ran.saturating_add(self.pushed.load(Ordering::Acquire)))
    }
}

impl Default for TestClock {
    /// Shows 21 September 2026, 14:13:20 UTC: the stamp 1,790,000,000 s of FORMATS.md's example.
    fn default() -> Self {
        Self::at(Stamp::from_seconds(1_790_000_000))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Stamp {
        self.wall()
    }

    fn wall(&self) -> Stamp {
        Stamp::saturating_from_micros(self.micros.load(Ordering::Acquire))
    }

    fn elapsed(&self) -> Span {
        Span::from_micros(self.elapsed.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_only_when_told_to() {
        let clock = TestClock::default();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.forward(Span::from_seconds(2));
        clock.back(Span::from_seconds(1));
        assert_eq!(clock.now(), start.plus(Span::from_seconds(1)));
    }
}
