//! What to wait for before an ending is answered, and what is then told of it.

use prost_types::Duration;

use super::fields;
use crate::domain::refusal::Refusal;
use crate::domain::time::{Span, Stamp};
use crate::feed::{Outcome, PendingVerifier, WaitFor};
use crate::proto::v1;

/// Nobody waits longer.
const LONGEST: Span = Span::from_seconds(60);
/// Verifiers that an answer names: it stays a message of a size that everybody takes.
const NAMED_MOST: usize = 1_000;

/// A request that ends something, with the two fields that say how long its caller wants to wait.
pub(in crate::grpc) trait Ending {
    /// Takes them out. What they ask for does not belong to what is done: the same request may be repeated to wait for more.
    fn take_wait(&mut self) -> (i32, Option<Duration>);
}

macro_rules! endings {
    ($($request:ident),*) => {
        $(impl Ending for v1::$request {
            fn take_wait(&mut self) -> (i32, Option<Duration>) {
                (std::mem::take(&mut self.wait_for), self.wait_timeout.take())
            }
        })*
    };
}

endings!(
    AdvanceTaskRequest,
    SuspendTaskRequest,
    CompleteTaskRequest,
    FailTaskRequest,
    CancelTaskRequest,
    RevokeLeaseRequest,
    RevokeTaskRequest,
    QuarantineRequest
);

/// What a caller waits for, and for how long if it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::grpc) struct Wait {
    /// How far it is to be.
    pub(in crate::grpc) wait_for: WaitFor,
    /// A minute at most.
    pub(in crate::grpc) timeout: Option<Span>,
}

/// Takes what to wait for out of a request. A number that the contract does not have is refused, and never taken for less.
///
/// # Errors
/// [`Refusal::RequestInvalid`]
pub(in crate::grpc) fn wait(request: &mut impl Ending) -> Result<Wait, Refusal> {
    let (number, timeout) = request.take_wait();
    let wait_for = match v1::Enforcement::try_from(number) {
        Ok(v1::Enforcement::Unspecified | v1::Enforcement::Fenced) => WaitFor::Fenced,
        Ok(v1::Enforcement::Recorded) => WaitFor::Recorded,
        Ok(v1::Enforcement::Drained) => WaitFor::Drained,
        Err(_) => {
            let problem =
                format!("there is no enforcement {number}; say RECORDED, FENCED or DRAINED");
            return Err(Refusal::invalid("wait_for", problem));
        }
    };
    let timeout = timeout.map(|timeout| fields::span("wait_timeout", timeout)).transpose()?;
    if timeout.is_some_and(|timeout| timeout > LONGEST) {
        return Err(Refusal::invalid("wait_timeout", "at most a minute"));
    }
    Ok(Wait { wait_for, timeout })
}

/// What is known of a revocation that nobody waited for.
pub(in crate::grpc) fn recorded(recorded_at: Stamp) -> v1::Revocation {
    v1::Revocation {
        recorded_at: Some(fields::timestamp(recorded_at)),
        enforcement: v1::Enforcement::Recorded.into(),
        ..Default::default()
    }
}

/// What is known of a revocation.
pub(in crate::grpc) fn revocation(outcome: Outcome) -> v1::Revocation {
    let enforcement = match outcome.reached {
        WaitFor::Recorded => v1::Enforcement::Recorded,
        WaitFor::Fenced => v1::Enforcement::Fenced,
        WaitFor::Drained => v1::Enforcement::Drained,
    };
    v1::Revocation {
        recorded_at: Some(fields::timestamp(outcome.recorded_at)),
        fenced_at: outcome.fenced_at.map(fields::timestamp),
        drained_at: outcome.drained_at.map(fields::timestamp),
        enforcement: enforcement.into(),
        pending: outcome.pending.into_iter().take(NAMED_MOST).map(pending).collect(),
        fenced_at_latest: Some(fields::timestamp(outcome.fenced_at_latest)),
        undrained: outcome.undrained.into_iter().take(NAMED_MOST).collect(),
        drain_unknown: outcome.drain_unknown.into_iter().take(NAMED_MOST).collect(),
    }
}

fn pending(pending: PendingVerifier) -> v1::PendingVerifier {
    v1::PendingVerifier {
        instance: pending.instance.map(|instance| instance.to_string()).unwrap_or_default(),
        name: pending.name,
        broker: pending.broker,
        may_accept_until: Some(fields::timestamp(pending.may_accept_until)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(wait_for: i32, wait_timeout: Option<Duration>) -> Result<Wait, Refusal> {
        let request = v1::CompleteTaskRequest { wait_for, wait_timeout, ..Default::default() };
        wait(&mut request.clone())
    }

    #[test]
    fn nothing_said_means_fenced_and_what_is_said_is_meant() {
        for (number, wait_for) in [
            (0, WaitFor::Fenced),
            (1, WaitFor::Recorded),
            (2, WaitFor::Fenced),
            (3, WaitFor::Drained),
        ] {
            assert_eq!(asked(number, None), Ok(Wait { wait_for, timeout: None }));
        }
    }

    #[test]
    fn class_01_a_number_of_no_enforcement_is_refused_and_never_taken_for_less() {
        for number in [-1, 4, i32::MAX, i32::MIN] {
            let refusal = asked(number, None).unwrap_err();
            assert!(matches!(refusal, Refusal::RequestInvalid { field: "wait_for", .. }));
        }
    }

    #[test]
    fn class_15_a_wait_is_longer_than_nothing_and_no_longer_than_a_minute() {
        let timeout = |seconds, nanos| asked(1, Some(Duration { seconds, nanos }));
        assert_eq!(timeout(60, 0).unwrap().timeout, Some(Span::from_seconds(60)));
        for (seconds, nanos) in [(60, 1_000), (0, 0), (-1, 0), (1, -1), (i64::MAX, 0)] {
            assert!(timeout(seconds, nanos).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn what_was_taken_out_says_nothing_of_whether_two_requests_are_the_same() {
        let request = |wait_for, wait_timeout| v1::QuarantineRequest {
            scope: "all".into(),
            wait_for,
            wait_timeout,
            ..Default::default()
        };
        let (mut one, mut other) =
            (request(1, None), request(3, Some(Duration { seconds: 9, nanos: 0 })));
        let (first, second) = (wait(&mut one).unwrap(), wait(&mut other).unwrap());
        assert_ne!(first, second);
        assert_eq!(one, other);
    }

    #[test]
    fn class_15_an_answer_names_no_more_verifiers_than_fit_into_it() {
        let verifier = PendingVerifier {
            instance: None,
            name: "v".into(),
            broker: "b".into(),
            may_accept_until: Stamp::from_seconds(5),
        };
        let outcome = Outcome {
            reached: WaitFor::Recorded,
            recorded_at: Stamp::from_seconds(1),
            fenced_at: None,
            fenced_at_latest: Stamp::from_seconds(6),
            drained_at: None,
            pending: vec![verifier; NAMED_MOST + 1],
            undrained: Vec::new(),
            drain_unknown: Vec::new(),
        };
        let told = revocation(outcome);
        assert_eq!(told.pending.len(), NAMED_MOST);
        assert_eq!(told.enforcement(), v1::Enforcement::Recorded);
        assert_eq!(told.fenced_at, None);
    }
}
