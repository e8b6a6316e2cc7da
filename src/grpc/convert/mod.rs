//! The one door between the contract's messages and the broker's types. Whatever is malformed ends here, by its field's name.

pub(super) mod credential;
pub(crate) mod feed;
pub(super) mod fields;
pub(super) mod operator;
pub(super) mod revocation;
pub(super) mod task;

use crate::broker::request::Idempotency;
use crate::domain::refusal::Refusal;

/// The request id of a mutation, with the hash of the whole request.
pub(super) fn idempotency(
    request_id: &str,
    rpc: &str,
    request: &impl prost::Message,
) -> Result<Idempotency, Refusal> {
    Idempotency::new(request_id, rpc, &request.encode_to_vec())
}
