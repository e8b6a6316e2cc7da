//! Code generated from `proto/`: wire messages, and the records that the store keeps.
#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "generated; documented in the .proto files"
)]

/// The contract, `leasehold.v1`.
pub mod v1 {
    tonic::include_proto!("leasehold.v1");
}

/// What the store keeps, `leasehold.store.v1`.
pub mod store {
    tonic::include_proto!("leasehold.store.v1");
}

/// The descriptors of the contract, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("leasehold");
