//! Single fields: ids, times, lengths of time, names.

use prost_types::{Duration, Timestamp};

use crate::domain::grant::Grant;
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::principal::Name;
use crate::domain::refusal::Refusal;
use crate::domain::task::{Agent, State};
use crate::domain::time::{Span, Stamp};

const NANOS: i32 = 1_000_000_000;

pub(in crate::grpc) fn task_id(field: &'static str, text: &str) -> Result<TaskId, Refusal> {
    TaskId::parse(text).map_err(|error| Refusal::invalid(field, error.to_string()))
}

pub(in crate::grpc) fn lease_id(field: &'static str, text: &str) -> Result<LeaseId, Refusal> {
    LeaseId::parse(text).map_err(|error| Refusal::invalid(field, error.to_string()))
}

pub(super) fn agent(text: &str) -> Result<Agent, Refusal> {
    let problem =
        "a SPIFFE ID, one that ends in `/*`, `oidc:<issuer name>:<subject>` or `class:<name>`";
    Agent::parse(text).ok_or_else(|| Refusal::invalid("agent", problem))
}

/// A name; `None` if empty.
pub(super) fn name(field: &'static str, text: &str) -> Result<Option<Name>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    Name::parse(text).map(Some).map_err(|error| Refusal::invalid(field, error.to_string()))
}

/// Authorization details; `None` if empty.
pub(super) fn grant(json: &str) -> Result<Option<Grant>, Refusal> {
    if json.is_empty() { Ok(None) } else { Grant::parse(json).map(Some) }
}

/// A task's state; `None` if unspecified. A number that the contract does not have is refused.
pub(in crate::grpc) fn state(field: &'static str, number: i32) -> Result<Option<State>, Refusal> {
    if number == 0 {
        return Ok(None);
    }
    let state = u32::try_from(number).ok().and_then(State::from_number);
    state.map(Some).ok_or_else(|| Refusal::invalid(field, format!("there is no state {number}")))
}

/// A point in time, in microseconds of the Unix epoch below 2^53.
pub(super) fn stamp(field: &'static str, time: Timestamp) -> Result<Stamp, Refusal> {
    let problem = "a time from 1970 to 2255, with 0 to 999,999,999 nanoseconds";
    micros(time.seconds, time.nanos)
        .and_then(Stamp::from_micros)
        .ok_or_else(|| Refusal::invalid(field, problem))
}

/// A length of time that is longer than nothing.
pub(super) fn span(field: &'static str, length: Duration) -> Result<Span, Refusal> {
    let problem = "a length of time above zero, with 0 to 999,999,999 nanoseconds";
    micros(length.seconds, length.nanos)
        .filter(|micros| *micros > 0 && Stamp::from_micros(*micros).is_some())
        .map(Span::from_micros)
        .ok_or_else(|| Refusal::invalid(field, problem))
}

/// A length of time in whole seconds.
pub(super) fn seconds(field: &'static str, length: Duration) -> Result<u64, Refusal> {
    let span = span(field, length)?;
    if Span::from_seconds(span.seconds()) != span || length.nanos != 0 {
        return Err(Refusal::invalid(field, "whole seconds"));
    }
    Ok(span.seconds())
}

fn micros(seconds: i64, nanos: i32) -> Option<u64> {
    let seconds = u64::try_from(seconds).ok()?;
    let nanos = u64::try_from(nanos).ok().filter(|_| nanos < NANOS)?;
    seconds.checked_mul(1_000_000)?.checked_add(nanos / 1_000)
}

/// A stamp as the contract has it.
pub(in crate::grpc) fn timestamp(stamp: Stamp) -> Timestamp {
    let (seconds, nanos) = parts(stamp.micros());
    Timestamp { seconds, nanos }
}

/// A length of time as the contract has it.
pub(in crate::grpc) fn duration(span: Span) -> Duration {
    let (seconds, nanos) = parts(span.micros());
    Duration { seconds, nanos }
}

fn parts(micros: u64) -> (i64, i32) {
    let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
    (seconds, nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::INFINITY;

    #[test]
    fn class_04_times_that_no_stamp_holds_are_refused() {
        for (seconds, nanos) in [
            (-1, 0),
            (0, -1),
            (0, NANOS),
            (0, i32::MIN),
            (i64::MAX, 0),
            (i64::MIN, 0),
            (9_007_199_254, 740_992_000),
        ] {
            assert!(stamp("deadline", Timestamp { seconds, nanos }).is_err(), "{seconds} {nanos}");
            assert!(span("ttl", Duration { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
        let last = Timestamp { seconds: 9_007_199_254, nanos: 740_991_000 };
        assert_eq!(stamp("deadline", last), Ok(INFINITY));
    }

    #[test]
    fn class_04_ttl_of_nothing_or_of_parts_of_a_second_is_refused() {
        for (seconds, nanos) in [(0, 0), (0, 999), (1, 1), (1, 500_000_000)] {
            assert!(
                self::seconds("ttl", Duration { seconds, nanos }).is_err(),
                "{seconds} {nanos}"
            );
        }
        assert_eq!(self::seconds("ttl", Duration { seconds: 60, nanos: 0 }), Ok(60));
    }

    #[test]
    fn class_01_number_of_no_state_is_refused_and_not_taken_for_unspecified() {
        assert_eq!(state("state", 0), Ok(None));
        assert_eq!(state("state", 1), Ok(Some(State::Active)));
        for number in [-1, 8, i32::MAX, i32::MIN] {
            assert!(state("state", number).is_err(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn every_stamp_survives_the_wire(micros in 0u64..1 << 53) {
            let before = Stamp::saturating_from_micros(micros);
            prop_assert_eq!(stamp("deadline", timestamp(before)), Ok(before));
        }

        #[test]
        fn class_15_reading_a_time_is_total(seconds: i64, nanos: i32) {
            let _ = stamp("deadline", Timestamp { seconds, nanos });
            let _ = self::seconds("ttl", Duration { seconds, nanos });
        }
    }
}
