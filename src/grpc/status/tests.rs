//! What an error says, and what it keeps to itself.

use super::*;
use crate::broker::seams::EntropyError;
use crate::domain::clamp::Clamp;
use crate::domain::id::Partition;
use crate::domain::task::State;

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "leasehold");
    info.reason
}

#[test]
fn every_refusal_has_the_code_of_the_table_and_its_own_reason() {
    let short = Refusal::TtlBelowMinimum { clamp: Clamp::Tier, seconds: 1, minimum: 10 };
    for (refusal, code) in [
        (Refusal::invalid("step", "long"), Code::InvalidArgument),
        (Refusal::AuthorizationDetailsInvalid("x".into()), Code::InvalidArgument),
        (Refusal::NotFound("task"), Code::NotFound),
        (Refusal::RoleMissing("`agent`"), Code::PermissionDenied),
        (Refusal::PolicyDenied("x".into()), Code::PermissionDenied),
        (Refusal::TargetNotAllowed("x".into()), Code::PermissionDenied),
        (Refusal::GrantWidens("x".into()), Code::PermissionDenied),
        (Refusal::EpochStale { expected: 1, current: 2 }, Code::FailedPrecondition),
        (Refusal::TaskEnded(State::Completed), Code::FailedPrecondition),
        (Refusal::TaskSuspended("x"), Code::FailedPrecondition),
        (Refusal::LeaseRevoked, Code::FailedPrecondition),
        (Refusal::Quarantined, Code::FailedPrecondition),
        (Refusal::InstanceMismatch, Code::FailedPrecondition),
        (short, Code::FailedPrecondition),
        (Refusal::CeilingReached, Code::FailedPrecondition),
        (Refusal::RequestIdReused, Code::AlreadyExists),
        (Refusal::ProofInvalid("x".into()), Code::Unauthenticated),
        (Refusal::ProofReplayed, Code::Unauthenticated),
        (Refusal::ProofNonceRequired { nonce: "x".into() }, Code::Unauthenticated),
    ] {
        let expected = (code, refusal.reason());
        let status = Status::from(refusal);
        assert_eq!((status.code(), reason(&status).as_str()), expected);
    }
}

#[test]
fn invalid_request_names_its_field() {
    for (refusal, field) in [
        (Refusal::invalid("request_id", "must be a UUID"), "request_id"),
        (Refusal::AuthorizationDetailsInvalid("empty".into()), "authorization_details"),
    ] {
        let bad = Status::from(refusal).get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, field);
    }
}

#[test]
fn a_nonce_that_is_required_comes_with_the_refusal() {
    let status = Status::from(Refusal::ProofNonceRequired { nonce: "bm9uY2U".into() });
    assert_eq!(status.metadata().get("dpop-nonce").unwrap(), "bm9uY2U");
    assert_eq!(status.get_details_error_info().unwrap().metadata["nonce"], "bm9uY2U");
}

#[test]
fn stale_epoch_says_which_is_current() {
    let status = Status::from(Refusal::EpochStale { expected: 3, current: 4 });
    let failure = status.get_details_precondition_failure().unwrap();
    assert_eq!(failure.violations[0].subject, "epoch:4");
}

#[test]
fn whoever_should_try_again_is_told_when() {
    let limited = BrokerError::RateLimited { what: "", limit: 5, retry_after_millis: 40 };
    for (error, code, expected) in [
        (limited, Code::ResourceExhausted, "RATE_LIMITED"),
        (BrokerError::Contended, Code::Aborted, "CONTENDED"),
        (BrokerError::Entropy(EntropyError), Code::Unavailable, "DEPENDENCY_UNAVAILABLE"),
        (StoreError::Unavailable("x".into()).into(), Code::Unavailable, "DEPENDENCY_UNAVAILABLE"),
        (StoreError::Closed(Partition::ZERO).into(), Code::Unavailable, "PARTITION_CLOSED"),
        (StoreError::NotInitialised.into(), Code::Unavailable, "DEPENDENCY_UNAVAILABLE"),
    ] {
        let status = Status::from(error);
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected));
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
}

#[test]
fn class_17_what_went_wrong_inside_does_not_leave() {
    let secret = "redis://user:hunter2@10.0.0.7";
    for error in [
        BrokerError::from(StoreError::Unavailable(secret.into())),
        StoreError::Corrupt(secret.into()).into(),
        StoreError::Misconfigured(secret.into()).into(),
        BrokerError::Mint(secret.into()),
    ] {
        let status = Status::from(error);
        let details = String::from_utf8_lossy(status.details()).into_owned();
        assert!(!status.message().contains("hunter2") && !details.contains("hunter2"));
    }
}
