//! When a delivery that failed is tried again.

use crate::domain::time::Span;

/// The first pause, before jitter.
const FIRST: Span = Span::from_millis(500);
/// No pause of ours is longer.
const LONGEST: Span = Span::from_seconds(60);
/// No receiver puts us off for longer.
const LONGEST_ASKED: Span = Span::from_seconds(300);

/// How long to wait after so many failures in a row: half a second that doubles up to a minute, of which the upper half is
/// left to chance, so that not all who wait come at once. Never less than the receiver asked for, which counts up to five minutes.
pub fn pause(failures: u32, asked: Option<Span>, chance: u32) -> Span {
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST.times(1 << doublings).min(LONGEST);
    let half = full.micros() / 2;
    let left = half.saturating_mul(u64::from(chance)) / u64::from(u32::MAX);
    let own = Span::from_micros(half.saturating_add(left));
    own.max(asked.unwrap_or(Span::ZERO).min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_half_of_each_is_chance() {
        let between = |failures| (pause(failures, None, 0), pause(failures, None, u32::MAX));
        assert_eq!(between(1), (Span::from_millis(250), Span::from_millis(500)));
        assert_eq!(between(2), (Span::from_millis(500), Span::from_seconds(1)));
        assert_eq!(between(5), (Span::from_seconds(4), Span::from_seconds(8)));
        for failures in [8, 9, 1_000, u32::MAX] {
            assert_eq!(between(failures), (Span::from_seconds(30), Span::from_seconds(60)));
        }
        let middle = pause(3, None, u32::MAX / 2);
        assert!(Span::from_millis(1_490) < middle && middle < Span::from_millis(1_510));
    }

    #[test]
    fn what_the_receiver_asked_for_is_waited_for_up_to_five_minutes() {
        let asked = |seconds| pause(1, Some(Span::from_seconds(seconds)), 0);
        assert_eq!(asked(0), Span::from_millis(250));
        assert_eq!(asked(90), Span::from_seconds(90));
        assert_eq!(asked(86_400), Span::from_seconds(300));
    }
}
