//! ρ: how far clocks may run apart.

use crate::domain::time::Span;

const MILLION: u128 = 1_000_000;

/// ρ: between any two instants a clock counts within a factor 1 + ρ of true time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    ppm: u32,
}

impl Drift {
    /// One per cent.
    pub const DEFAULT: Self = Self { ppm: 10_000 };

    /// So many parts in a million; `None` unless from 0.01 to 10 per cent.
    pub const fn from_ppm(ppm: u32) -> Option<Self> {
        if ppm >= 100 && ppm <= 100_000 { Some(Self { ppm }) } else { None }
    }

    /// ρ in parts of a million.
    pub const fn ppm(self) -> u32 {
        self.ppm
    }

    /// `Δ(1 + ρ)`: the longest that another's Δ can take in true time; rounded up.
    pub fn bound(self, delta: Span) -> Span {
        scaled(delta, MILLION + u128::from(self.ppm), MILLION)
    }

    /// `lapse(Δ) = Δ(1 + ρ)²`: what a waiter waits on its own clock so that Δ has surely passed on another's; rounded up.
    // INVARIANT (fencing, rule 8): one factor for the other's slow clock, one for the waiter's fast one.
    pub fn lapse(self, delta: Span) -> Span {
        let factor = MILLION + u128::from(self.ppm);
        scaled(delta, factor * factor, MILLION * MILLION)
    }
}

fn scaled(span: Span, times: u128, by: u128) -> Span {
    let micros = (u128::from(span.micros()) * times).div_ceil(by);
    Span::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_08_a_waiter_waits_for_both_clocks() {
        let drift = Drift::DEFAULT;
        assert_eq!(drift.bound(Span::from_seconds(5)), Span::from_millis(5_050));
        assert_eq!(drift.lapse(Span::from_seconds(5)), Span::from_micros(5_100_500));
        assert_eq!(drift.lapse(Span::from_seconds(300)), Span::from_micros(306_030_000));
    }

    #[test]
    fn what_is_waited_is_never_rounded_down() {
        assert_eq!(Drift::DEFAULT.lapse(Span::from_micros(1)), Span::from_micros(2));
        assert_eq!(Drift::DEFAULT.bound(Span::from_micros(1)), Span::from_micros(2));
        assert_eq!(Drift::DEFAULT.lapse(Span::from_micros(u64::MAX)).micros(), u64::MAX);
    }

    #[test]
    fn drift_has_bounds() {
        assert_eq!(Drift::from_ppm(99), None);
        assert_eq!(Drift::from_ppm(100_001), None);
        assert_eq!(Drift::from_ppm(10_000), Some(Drift::DEFAULT));
    }
}
