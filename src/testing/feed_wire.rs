//! The messages of the feed as the surface reads and writes them, for who drives verifiers and brokers without one.

use crate::domain::refusal::Refusal;
use crate::feed::hub::{Message, Positions};
use crate::feed::{Settings, Subscriber};
use crate::grpc::convert::feed as convert;
use crate::proto::v1;

/// Who subscribes, as this principal.
///
/// # Errors
/// [`Refusal`] of what does not fit.
pub fn subscriber(subscribe: &v1::Subscribe, principal: &str) -> Result<Subscriber, Refusal> {
    convert::subscriber(subscribe, principal)
}

/// The first message to whoever subscribed.
pub fn subscribed(settings: &Settings) -> v1::WatchRevocationsResponse {
    convert::subscribed(settings)
}

/// Any other.
pub fn message(message: Message) -> v1::WatchRevocationsResponse {
    convert::message(message)
}

/// What a verifier says that it applied, in this field.
///
/// # Errors
/// [`Refusal`] of what does not fit.
pub fn positions(field: &'static str, told: &[v1::FeedPosition]) -> Result<Positions, Refusal> {
    convert::positions(field, told)
}
