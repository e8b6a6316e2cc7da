//! Points in time and lengths of time, in the units that leave the process.
//!
//! Nothing here reads a clock: `now` is always an argument.

use std::fmt;

/// The largest stamp, standing for "for ever": 2^53 − 1, exact in a double (FORMATS.md, Numbers).
pub const INFINITY: Stamp = Stamp(Stamp::MAX_MICROS);

/// Microseconds since the Unix epoch, below 2^53: a point in time, and the number of a commit in its partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

impl Stamp {
    const MAX_MICROS: u64 = (1 << 53) - 1;
    /// The start of the Unix epoch; no commit has it.
    pub const ZERO: Self = Self(0);

    /// A stamp of so many microseconds; `None` from 2^53 on.
    pub fn from_micros(micros: u64) -> Option<Self> {
        (micros <= Self::MAX_MICROS).then_some(Self(micros))
    }

    /// A stamp of so many microseconds, or [`INFINITY`] where that is past what a stamp can hold.
    pub fn saturating_from_micros(micros: u64) -> Self {
        Self(micros.min(Self::MAX_MICROS))
    }

    /// The first microsecond of a whole second.
    pub fn from_seconds(seconds: u64) -> Self {
        Self::saturating_from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down: what `iat` and `exp` are made of.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This point and so many microseconds, at most [`INFINITY`].
    pub fn plus(self, span: Span) -> Self {
        Self::saturating_from_micros(self.0.saturating_add(span.0))
    }

    /// This point less so many microseconds, at least zero.
    pub fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The time from `earlier` to this point; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The next stamp: later by one microsecond, at most [`INFINITY`].
    pub fn next(self) -> Self {
        self.plus(Span(1))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// So many microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// So many seconds.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Milliseconds, rounded down.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This length so many times.
    pub const fn times(self, factor: u64) -> Self {
        Self(self.0.saturating_mul(factor))
    }

    /// The same length for the standard library's timers.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0)
    }
}

/// A reading of one process's monotonic clock. Those of two processes have nothing in common, and are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Span);

impl Moment {
    /// So long after the clock's own fixed instant.
    pub const fn new(elapsed: Span) -> Self {
        Self(elapsed)
    }

    /// So much later.
    pub const fn plus(self, span: Span) -> Self {
        Self(Span(self.0.0.saturating_add(span.0)))
    }

    /// So much earlier; at least the clock's own fixed instant.
    pub const fn minus(self, span: Span) -> Self {
        Self(Span(self.0.0.saturating_sub(span.0)))
    }

    /// The time from `earlier` to this moment; zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.0.saturating_sub(earlier.0.0))
    }
}

/// Both clocks of a process at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The wall clock as it stood. It may go back.
    pub wall: Stamp,
    /// The one that nobody sets.
    pub moment: Moment,
}

impl Present {
    /// The time from `earlier` to this instant, by the clock that saw more of it pass: for whoever judges how old something is.
    /// Whoever waits until something is surely over goes by moments alone, which nobody steps.
    // INVARIANT (two witnesses): where a machine's monotonic clock stands still while it sleeps, its wall clock does not.
    pub fn since(self, earlier: Self) -> Span {
        self.moment.since(earlier.moment).max(self.wall.since(earlier.wall))
    }

    /// The later of two readings of the same clocks.
    pub fn later(self, other: Self) -> Self {
        if (other.moment, other.wall) > (self.moment, self.wall) { other } else { self }
    }
}

impl From<std::time::Duration> for Span {
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_end_at_infinity_and_never_wrap() {
        assert_eq!(INFINITY.micros(), 9_007_199_254_740_991);
        assert_eq!(INFINITY.next(), INFINITY);
        assert_eq!(Stamp::from_micros(INFINITY.micros() + 1), None);
        assert_eq!(Stamp::from_seconds(u64::MAX), INFINITY);
        assert_eq!(Stamp::ZERO.minus(Span::from_seconds(1)), Stamp::ZERO);
    }

    #[test]
    fn issue_time_is_the_stamp_rounded_down_to_seconds() {
        let stamp = Stamp::saturating_from_micros(1_790_000_001_999_999);
        assert_eq!(stamp.seconds(), 1_790_000_001);
    }
}
