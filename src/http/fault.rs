//! What a client is told when a request fails: one table to the errors of OAuth (STANDARDS.md section 9).
//!
//! What went wrong inside is logged and never sent.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::broker::error::BrokerError;
use crate::domain::refusal::Refusal;
use crate::identity::authn::AuthnError;
use crate::store::StoreError;
use crate::telemetry::metrics;

/// Why a request failed.
#[derive(Debug)]
pub enum Fault {
    /// The form is not one.
    Form(String),
    /// The caller did not prove who it is.
    Identity(AuthnError),
    /// The verb failed.
    Broker(BrokerError),
    /// No place is free.
    NoRoom,
}

impl Fault {
    /// The HTTP status, and what OAuth calls it (RFC 6749 section 5.2, RFC 8707, RFC 9396, RFC 9449).
    pub fn status_and_error(&self) -> (StatusCode, &'static str) {
        let answer = Answer::of(self);
        (answer.status, answer.error)
    }
}

impl From<AuthnError> for Fault {
    fn from(error: AuthnError) -> Self {
        Self::Identity(error)
    }
}

impl From<BrokerError> for Fault {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

struct Answer {
    status: StatusCode,
    error: &'static str,
    reason: &'static str,
    text: String,
    retry_after_seconds: Option<u64>,
}

impl Answer {
    fn new(status: StatusCode, error: &'static str, reason: &'static str, text: String) -> Self {
        Self { status, error, reason, text, retry_after_seconds: None }
    }

    fn away(reason: &'static str) -> Self {
        let text = "a part that the broker depends on is away; try again".to_owned();
        Self {
            retry_after_seconds: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", reason, text)
        }
    }

    fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Form(text) => {
                let (error, reason) = ("invalid_request", "REQUEST_INVALID");
                Self::new(StatusCode::BAD_REQUEST, error, reason, text.clone())
            }
            Fault::Identity(error) if error.is_retriable() => Self::away("DEPENDENCY_UNAVAILABLE"),
            Fault::Identity(error) => {
                let reason = "IDENTITY_UNVERIFIED";
                Self::new(StatusCode::UNAUTHORIZED, "invalid_client", reason, error.to_string())
            }
            Fault::NoRoom => Self::away("RATE_LIMITED"),
            Fault::Broker(error) => Self::of_broker(error),
        }
    }

    fn of_broker(error: &BrokerError) -> Self {
        match error {
            BrokerError::Refused(refusal) => Self::of_refusal(refusal),
            BrokerError::RateLimited { retry_after_millis, .. } => {
                let (error_name, reason) = ("temporarily_unavailable", "RATE_LIMITED");
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self {
                    retry_after_seconds: Some(retry_after_millis.div_ceil(1_000)),
                    ..Self::new(status, error_name, reason, error.to_string())
                }
            }
            BrokerError::Contended => Self::away("CONTENDED"),
            BrokerError::SigningKeyQuarantined { retry_after_millis, .. } => {
                let (error_name, reason) = ("temporarily_unavailable", "SIGNING_KEY_QUARANTINED");
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self {
                    retry_after_seconds: retry_after_millis.map(|millis| millis.div_ceil(1_000)),
                    ..Self::new(status, error_name, reason, error.to_string())
                }
            }
            BrokerError::NotDurable => Self::away("NOT_DURABLE"),
            BrokerError::Unregistered => Self::away("DEPENDENCY_UNAVAILABLE"),
            BrokerError::Store(StoreError::Closed(_)) => Self::away("PARTITION_CLOSED"),
            BrokerError::Store(StoreError::Unavailable(_)) => {
                tracing::debug!(%error, "the store is away");
                Self::away("DEPENDENCY_UNAVAILABLE")
            }
            BrokerError::Store(_) | BrokerError::Entropy(_) => {
                tracing::error!(%error, "the store or the system cannot be used");
                Self::away("DEPENDENCY_UNAVAILABLE")
            }
            BrokerError::Mint(_) => {
                tracing::error!(%error, "a request failed inside");
                let text = "the broker failed; its log says why".to_owned();
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(status, "server_error", "INTERNAL", text)
            }
        }
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        let error = match refusal {
            Refusal::RequestInvalid { .. } | Refusal::NotFound(_) | Refusal::RequestIdReused => {
                "invalid_request"
            }
            Refusal::AuthorizationDetailsInvalid(_) => "invalid_authorization_details",
            Refusal::RoleMissing(_) | Refusal::PolicyDenied(_) | Refusal::Quarantined => {
                "unauthorized_client"
            }
            Refusal::TargetNotAllowed(_) => "invalid_target",
            Refusal::GrantWidens(_) => "invalid_scope",
            Refusal::EpochStale { .. }
            | Refusal::TaskEnded(_)
            | Refusal::TaskSuspended(_)
            | Refusal::LeaseRevoked
            | Refusal::InstanceMismatch
            | Refusal::TtlBelowMinimum { .. }
            | Refusal::CeilingReached => "invalid_grant",
            Refusal::ProofInvalid(_) | Refusal::ProofReplayed => "invalid_dpop_proof",
            Refusal::ProofNonceRequired { .. } => "use_dpop_nonce",
        };
        Self::new(StatusCode::BAD_REQUEST, error, refusal.reason(), refusal.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let answer = Answer::of(&self);
        metrics::refused(answer.reason);
        let body = json!({ "error": answer.error, "error_description": answer.text });
        let mut response = (answer.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if answer.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = answer.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::seams::EntropyError;
    use crate::domain::id::Partition;

    #[test]
    fn class_17_what_went_wrong_inside_does_not_leave_and_what_may_pass_is_retriable() {
        let secret = || "redis://user:hunter2@10.0.0.7".to_owned();
        let limited = BrokerError::RateLimited { what: "", limit: 5, retry_after_millis: 40 };
        for (error, status) in [
            (BrokerError::from(StoreError::Unavailable(secret())), 503),
            (StoreError::Closed(Partition::ZERO).into(), 503),
            (StoreError::Corrupt(secret()).into(), 503),
            (BrokerError::Entropy(EntropyError), 503),
            (BrokerError::Contended, 503),
            (limited, 429),
        ] {
            let answer = Answer::of(&Fault::Broker(error));
            assert_eq!(answer.status.as_u16(), status);
            assert!(answer.retry_after_seconds.is_some_and(|seconds| seconds > 0));
            assert!(!answer.text.contains("hunter2"), "{}", answer.text);
        }
        let answer = Answer::of(&Fault::Broker(BrokerError::Mint(secret())));
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!answer.text.contains("hunter2"), "{}", answer.text);
    }

    #[test]
    fn caller_without_identity_is_told_how_to_have_one() {
        let response = Fault::Identity(AuthnError::Missing).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
}
