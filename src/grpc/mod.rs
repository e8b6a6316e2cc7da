//! gRPC: the services of `leasehold.v1` behind one gate.
//!
//! ```text
//!  listen → gate (who, may they, is there room, until when) → handler → convert → broker
//! ```

pub mod authz;
pub(crate) mod convert;
mod credentials;
mod deadline;
mod ending;
mod gate;
mod lanes;
mod operator;
mod public;
mod recheck;
mod revocations;
mod services;
mod status;
mod tasks;
mod verification;
mod watch;
mod watches;

pub use gate::CallLimits;
pub use lanes::LaneLimits;
pub use services::{Health, ReflectionError, router};
