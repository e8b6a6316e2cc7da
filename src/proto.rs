//! Code generated from `proto/`: wire messages, and the records that the store keeps.
#![allow(
    missing_docs,
    clippy::all,
    clippy::as_conversions,
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

/// Says that there is something, and not what.
macro_rules! redact {
    ($($message:ty),+) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "(…)"))
            }
        }
    )+};
}

redact!(
    v1::Credential,
    v1::IntrospectCredentialRequest,
    v1::introspect_credential_request::Credential
);

/// What the store keeps, `leasehold.store.v1`.
pub mod store {
    tonic::include_proto!("leasehold.store.v1");
}

/// The descriptors of the contract, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("leasehold");
