//! Clocks, entropy and certificate authorities for tests. Insecure by design.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot be set up stops"
)]

pub mod bundle_endpoint;
pub mod ca;
pub mod clock;
pub mod entropy;
pub mod faulty_store;
pub mod feed_wire;
pub mod issuer;
pub mod keys;
pub mod model;
pub mod redis;
pub mod scenario;
pub mod store_contract;
pub mod trust;
pub mod workload_api;
pub mod world;
