//! gRPC: authentication, authorization, and the services of `leasehold.v1`.

pub mod listener;
pub mod tls;
