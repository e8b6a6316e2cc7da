//! What a caller is told when a call fails: one table (STANDARDS.md section 9, FORMATS.md, Reasons).
//!
//! Every answer has an `ErrorInfo` with a stable reason. What went wrong inside is logged and never sent.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::watches::Full;
use crate::broker::error::BrokerError;
use crate::domain::refusal::Refusal;
use crate::feed::{Elsewhere, Misuse};
use crate::identity::authn::AuthnError;
use crate::store::StoreError;
use crate::telemetry::metrics;

const DOMAIN: &str = "leasehold";
/// After how long it is worth asking a store again that was away.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// After how long it is worth asking a broker again that had no room.
const ROOM_RETRY: Duration = Duration::from_millis(500);
/// After how long it is worth trying again what another caller was faster with.
const RACE_RETRY: Duration = Duration::from_millis(50);

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut answer = Answer::new(code(&refusal), refusal.reason(), refusal.to_string());
        match &refusal {
            Refusal::RequestInvalid { field, problem } => {
                answer.details.add_bad_request_violation(*field, problem);
            }
            Refusal::AuthorizationDetailsInvalid(problem) => {
                answer.details.add_bad_request_violation("authorization_details", problem);
            }
            Refusal::EpochStale { current, .. } => {
                let subject = format!("epoch:{current}");
                let text = refusal.to_string();
                answer.details.add_precondition_failure_violation("EPOCH", subject, text);
            }
            Refusal::ProofNonceRequired { nonce } => {
                let nonces = HashMap::from([("nonce".to_owned(), nonce.clone())]);
                answer.details.set_error_info(refusal.reason(), DOMAIN, nonces);
                let mut status = Self::from(answer);
                // It is base64url, which metadata may hold.
                if let Ok(nonce) = nonce.parse() {
                    status.metadata_mut().insert("dpop-nonce", nonce);
                }
                return status;
            }
            _ => {}
        }
        answer.into()
    }
}

fn code(refusal: &Refusal) -> Code {
    match refusal {
        Refusal::RequestInvalid { .. } | Refusal::AuthorizationDetailsInvalid(_) => {
            Code::InvalidArgument
        }
        Refusal::NotFound(_) => Code::NotFound,
        Refusal::RoleMissing(_)
        | Refusal::PolicyDenied(_)
        | Refusal::TargetNotAllowed(_)
        | Refusal::GrantWidens(_) => Code::PermissionDenied,
        Refusal::EpochStale { .. }
        | Refusal::TaskEnded(_)
        | Refusal::TaskSuspended(_)
        | Refusal::LeaseRevoked
        | Refusal::Quarantined
        | Refusal::InstanceMismatch
        | Refusal::TtlBelowMinimum { .. }
        | Refusal::CeilingReached => Code::FailedPrecondition,
        Refusal::RequestIdReused => Code::AlreadyExists,
        Refusal::ProofInvalid(_) | Refusal::ProofReplayed | Refusal::ProofNonceRequired { .. } => {
            Code::Unauthenticated
        }
    }
}

impl From<BrokerError> for Status {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Refused(refusal) => refusal.into(),
            BrokerError::Store(error) => of_store(&error),
            BrokerError::RateLimited { retry_after_millis, .. } => {
                let text = error.to_string();
                Answer::new(Code::ResourceExhausted, "RATE_LIMITED", text)
                    .retry(Duration::from_millis(retry_after_millis))
                    .into()
            }
            BrokerError::Unregistered => away(error.to_string()),
            BrokerError::NotDurable => {
                Answer::new(Code::Unavailable, "NOT_DURABLE", error.to_string())
                    .retry(STORE_RETRY)
                    .into()
            }
            BrokerError::Contended => {
                Answer::new(Code::Aborted, "CONTENDED", error.to_string()).retry(RACE_RETRY).into()
            }
            BrokerError::SigningKeyQuarantined { retry_after_millis, .. } => {
                let reason = "SIGNING_KEY_QUARANTINED";
                let answer = Answer::new(Code::Unavailable, reason, error.to_string());
                match retry_after_millis {
                    Some(millis) => answer.retry(Duration::from_millis(millis)).into(),
                    None => answer.into(),
                }
            }
            BrokerError::Entropy(_) => {
                tracing::error!(%error, "no randomness");
                away("the broker has no randomness; try again, or another broker")
            }
            BrokerError::Mint(_) => {
                tracing::error!(%error, "a credential could not be made");
                internal()
            }
        }
    }
}

fn of_store(error: &StoreError) -> Status {
    match error {
        StoreError::Closed(_) => {
            let text = "a part of the store is closed until it is recovered; try again with the same `request_id`";
            Answer::new(Code::Unavailable, "PARTITION_CLOSED", text).retry(STORE_RETRY).into()
        }
        StoreError::Unavailable(_) => {
            tracing::debug!(%error, "the store is away");
            away("the store does not answer; try again with the same `request_id`")
        }
        // That the broker is not ready says so once.
        StoreError::OtherStore => away(
            "the broker's store is another one than it was started over, until an operator restarts it; try another broker",
        ),
        StoreError::NotInitialised | StoreError::Misconfigured(_) => {
            tracing::error!(%error, "the store cannot be used");
            away("the store cannot be used; an operator must look at the broker's log")
        }
        StoreError::Corrupt(_) => {
            tracing::error!(%error, "the store holds something unreadable");
            internal()
        }
    }
}

impl From<AuthnError> for Status {
    fn from(error: AuthnError) -> Self {
        let text = error.to_string();
        if error.is_retriable() {
            return away(text);
        }
        Answer::new(Code::Unauthenticated, "IDENTITY_UNVERIFIED", text).into()
    }
}

/// There is no room for the call now.
pub(super) fn no_room() -> Status {
    let text = "the broker is at its limit; try again";
    Answer::new(Code::ResourceExhausted, "RATE_LIMITED", text).retry(ROOM_RETRY).into()
}

/// The broker stops, and with it what goes on.
pub(super) fn stopping() -> Status {
    away("the broker is stopping; connect to another one, or again in a moment")
}

/// The connection is as old as one may be, and closed.
pub(super) fn connect_again() -> Status {
    away("this connection has lasted as long as one may; connect again")
}

/// There are as many watches of tasks as there may be.
pub(super) fn too_many_watches(full: Full) -> Status {
    let text = match full {
        Full::Broker(most) => format!(
            "this broker has all of the {most} watches of tasks that it may; end some, or ask another broker"
        ),
        Full::Principal(most) => format!(
            "you have all of the {most} watches of tasks that a principal may have at one broker; end some first"
        ),
    };
    Answer::new(Code::ResourceExhausted, "RATE_LIMITED", text).retry(STORE_RETRY).into()
}

/// A stream of revocations on which nobody subscribed.
pub(super) fn nobody_subscribed() -> Status {
    let text = "no `subscribe` came: send it as soon as the stream is open";
    Answer::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text).into()
}

/// A stream of revocations that its verifier did not keep up with.
pub(super) fn fell_behind() -> Status {
    let text = "this stream did not keep up with what is revoked; subscribe again";
    Answer::new(Code::ResourceExhausted, "FELL_BEHIND", text).retry(RACE_RETRY).into()
}

impl From<Elsewhere> for Status {
    fn from(elsewhere: Elsewhere) -> Self {
        away(elsewhere.to_string())
    }
}

impl From<Misuse> for Status {
    fn from(misuse: Misuse) -> Self {
        let field = match misuse {
            Misuse::Full(_) | Misuse::Greedy(_) => {
                let text = misuse.to_string();
                return Answer::new(Code::ResourceExhausted, "RATE_LIMITED", text)
                    .retry(STORE_RETRY)
                    .into();
            }
            Misuse::Closed => return fell_behind(),
            Misuse::Elsewhere(elsewhere) => return elsewhere.into(),
            Misuse::InstanceTaken => "subscribe.instance",
            Misuse::SequenceNotRaised => "keep_alive.sequence",
            Misuse::NeverSent(_) => "acknowledgement",
        };
        Refusal::invalid(field, misuse.to_string()).into()
    }
}

/// The call took longer than it may. What it changes may have been changed.
pub(super) fn too_late() -> Status {
    let text = "the deadline passed before the answer; repeat the call with the same `request_id`";
    Answer::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", text).into()
}

/// `grpc-timeout` is there and cannot be read.
pub(super) fn bad_timeout() -> Status {
    Refusal::invalid("grpc-timeout", "1 to 8 digits and one of `H`, `M`, `S`, `m`, `u`, `n`").into()
}

/// The request's bytes are not a message of the RPC.
pub(super) fn undecodable() -> Status {
    let problem =
        "is not one uncompressed message of this RPC of at most 64 KiB; compare `leasehold.v1`";
    Refusal::invalid("request", problem).into()
}

/// A request that came past the gate. It does not happen; if it does, it goes no further.
pub(super) fn not_admitted() -> Status {
    tracing::error!("a request reached a handler without having been admitted for it");
    internal()
}

fn away(text: impl Into<String>) -> Status {
    Answer::new(Code::Unavailable, "DEPENDENCY_UNAVAILABLE", text).retry(STORE_RETRY).into()
}

fn internal() -> Status {
    Answer::new(Code::Internal, "INTERNAL", "the broker failed; its log says why").into()
}

struct Answer {
    code: Code,
    text: String,
    details: ErrorDetails,
}

impl Answer {
    fn new(code: Code, reason: &'static str, text: impl Into<String>) -> Self {
        metrics::refused(reason);
        let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
        Self { code, text: text.into(), details }
    }

    fn retry(mut self, after: Duration) -> Self {
        self.details.set_retry_info(Some(after));
        self
    }
}

impl From<Answer> for Status {
    fn from(answer: Answer) -> Self {
        Self::with_error_details(answer.code, answer.text, answer.details)
    }
}

#[cfg(test)]
mod tests;
