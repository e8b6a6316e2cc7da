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
    v1::introspect_credential_request::Credential,
    ext_authz::attribute_context::HttpRequest,
    workload_api::X509svid,
    workload_api::X509svidResponse
);

/// What the store keeps, `leasehold.store.v1`.
pub mod store {
    tonic::include_proto!("leasehold.store.v1");
}

/// The SPIFFE Workload API, which has no package.
pub mod workload_api {
    tonic::include_proto!("_");
}

/// What Envoy asks of an external authorization, `envoy.service.auth.v3`.
pub mod ext_authz {
    tonic::include_proto!("envoy.service.auth.v3");
}

/// The descriptors of the contract, for reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("leasehold");

/// The name of a code in gRPC's own spelling.
pub fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
