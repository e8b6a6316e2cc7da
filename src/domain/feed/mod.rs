//! Fencing: how "dead everywhere" is known (DESIGN.md section 5), as rules on facts that somebody else brings.
//!
//! ```text
//!  broker    reads, beats ──▶ AsOf ──▶ age ──▶ answer to a keep-alive ──▶ Freshness    verifier
//!            acks of verifiers ──▶ Subscribers ──▶ BrokerRecord ──▶ the store's registry
//!  ending    RECORDED, the registry read after it ──▶ Ending::judge ──▶ FENCED, or who might still accept
//! ```
//!
//! Each rule whose absence has a counterexample stands where it is kept, as `INVARIANT (fencing, rule n)`.

mod as_of;
mod drift;
mod ending;
mod freshness;
mod position;
mod registry;
mod seen;
mod subscribers;

pub use as_of::AsOf;
pub use drift::Drift;
pub use ending::{Drain, Ending, Pending, Progress, Terms};
pub use freshness::Freshness;
pub use position::{InstanceId, Owner, ReadPosition, Run, StoreId};
pub use registry::{Beats, BrokerRecord, Registry, VerifierRecord, Webhooks};
pub use seen::Seen;
pub use subscribers::Subscribers;
