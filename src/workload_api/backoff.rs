//! How long to wait before a Workload API is asked again.

use crate::domain::time::Span;

/// After the first failure, at most.
const FIRST: Span = Span::from_seconds(1);
/// After any number of failures, at most.
const MOST: Span = Span::from_seconds(30);

/// The wait after so many failures in a row: doubled each time, of which `jitter` takes away up to a half, so that
/// brokers do not all come at once.
pub(super) fn wait(failures: u32, jitter: u8) -> Span {
    let doubled = FIRST.times(1 << failures.saturating_sub(1).min(10)).min(MOST);
    let off = doubled.micros() / 2 * u64::from(jitter) / u64::from(u8::MAX);
    Span::from_micros(doubled.micros() - off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_jitter_takes_at_most_half() {
        let seconds = [1, 1, 2, 4, 8, 16, 30, 30].map(Span::from_seconds);
        for (failures, most) in (0..).zip(seconds) {
            assert_eq!(wait(failures, 0), most);
            assert_eq!(wait(failures, u8::MAX), Span::from_micros(most.micros() / 2));
        }
        assert_eq!(wait(u32::MAX, 0), MOST);
    }
}
