//! When to renew, when to try again, when to say that we are there: pure, and the same as in `clients/`.

use std::time::Duration;

/// No renewal follows another sooner, however short the life.
const SOONEST: Duration = Duration::from_secs(1);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);
const MOST_DOUBLINGS: u32 = 10;

/// How long after a credential was asked for the next one is due: at two thirds of its `life`, up to a tenth of it earlier so
/// that many do not ask at once; and at its end where asking earlier gains nothing (`extensible` is false where the task's
/// deadline or the lease's ceiling set the end). `random` is in [0, 1).
pub(super) fn renew_in(life: Duration, extensible: bool, random: f64) -> Duration {
    let share = if extensible { 2.0 / 3.0 - random / 10.0 } else { 1.0 };
    life.mul_f64(share).max(SOONEST)
}

/// How long to wait after the `failures`-th failure in a row: twice as long each time, up to half a minute, half of it left to
/// chance; never less than the broker `asked` for.
pub(in crate::cli) fn retry_in(failures: u32, random: f64, asked: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(MOST_DOUBLINGS);
    let most = FIRST_RETRY.saturating_mul(1 << doublings).min(LAST_RETRY);
    most.mul_f64(0.5 + random / 2.0).max(asked)
}

/// How long lies between heartbeats, so that each comes within the `interval` that is promised.
pub(super) fn beat_in(interval: Duration) -> Duration {
    interval / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn renewal_is_due_between_a_half_and_two_thirds_of_a_life() {
        let life = Duration::from_secs(300);
        assert_eq!(renew_in(life, true, 0.0), seconds(200.0));
        assert_eq!(renew_in(life, true, 0.5), seconds(185.0));
        assert!(renew_in(life, true, 0.999_999) > seconds(169.9));
    }

    #[test]
    fn what_cannot_be_extended_is_not_asked_for_before_its_end() {
        assert_eq!(renew_in(Duration::from_secs(300), false, 0.9), seconds(300.0));
    }

    #[test]
    fn a_life_that_is_over_is_renewed_soon_and_not_at_once() {
        assert_eq!(renew_in(Duration::ZERO, true, 0.0), SOONEST);
        assert_eq!(renew_in(Duration::ZERO, false, 0.0), SOONEST);
    }

    #[test]
    fn each_failure_doubles_the_wait_up_to_half_a_minute() {
        let longest = |failures| retry_in(failures, 1.0, Duration::ZERO);
        let waits = [1, 2, 3, 6, 7, 8, 1_000].map(longest);
        assert_eq!(waits, [0.5, 1.0, 2.0, 16.0, 30.0, 30.0, 30.0].map(seconds));
        assert_eq!(retry_in(1, 0.0, Duration::ZERO), seconds(0.25));
    }

    #[test]
    fn the_broker_is_not_asked_again_before_it_wants_to_be() {
        assert_eq!(retry_in(1, 0.3, Duration::from_secs(7)), seconds(7.0));
    }
}
