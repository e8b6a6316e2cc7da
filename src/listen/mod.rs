//! From a listening socket to requests whose sender is known: TLS, connections and their limits, for gRPC and HTTP alike.

pub mod certificate;
pub mod connections;
pub mod serve;
pub mod tls;

mod corked;
mod refusals;
mod shares;
mod socket;
mod steps;

pub use shares::origin;
