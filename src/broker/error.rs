//! Why a verb failed, by whose fault: the caller's request, the rules, or what the broker depends on.

use crate::broker::seams::EntropyError;
use crate::domain::refusal::Refusal;
use crate::feed::NotDurable;
use crate::store::StoreError;

/// A verb's failure. `grpc::status` and `http::oauth` have one table each that makes an answer of it.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not answer, or is closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was written may be lost.
    #[error(
        "the store changed while this was written, so it may be lost: try again with the same `request_id`"
    )]
    NotDurable,
    /// More requests than the limit allows.
    #[error("more {what} than {limit} a second; slow down")]
    RateLimited {
        /// What there is too much of, and from whom.
        what: &'static str,
        /// Requests a second.
        limit: u32,
        /// Milliseconds after which it is worth trying again.
        retry_after_millis: u64,
    },
    /// Too many brokers or orchestrators changed the same records at once.
    #[error("the task kept changing while this was decided; try again")]
    Contended,
    /// The store's registry does not hold this broker yet.
    #[error("this broker is not registered with the store yet; try again, or another broker")]
    Unregistered,
    /// The key that signs what was asked for was quarantined, and its successor does not sign yet.
    #[error("the key that signs {what}, `{key_id}`, is quarantined; {}", successor(*retry_after_millis))]
    SigningKeyQuarantined {
        /// What it signs.
        what: &'static str,
        /// Its `kid`, or a CA's subject key identifier in hex.
        key_id: String,
        /// When its successor signs; `None`: it gets none by itself.
        retry_after_millis: Option<u64>,
    },
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The credential could not be made.
    #[error("the credential could not be made: {0}")]
    Mint(String),
}

/// When it goes on.
fn successor(retry_after_millis: Option<u64>) -> String {
    match retry_after_millis {
        Some(millis) => {
            format!("its successor signs in {} s: try again then", millis.div_ceil(1_000))
        }
        None => {
            "an operator must give the broker another certificate authority, and start it again"
                .to_owned()
        }
    }
}

impl From<NotDurable> for BrokerError {
    fn from(error: NotDurable) -> Self {
        match error {
            NotDurable::Changed => Self::NotDurable,
            NotDurable::Store(error) => Self::Store(error),
        }
    }
}
