//! SPIFFE: ids, leaf rules, signing certificates, bundles. For the broker and for verifiers.
//!
//! Nothing here builds a chain: that a leaf keeps the rules says nothing about who signed it.

pub mod authority;
pub mod bundle;
mod certificate;
pub mod concatenated;
mod der;
pub mod endpoint;
pub mod id;
pub mod leaf;
pub mod task_certificate;
pub mod task_extension;
pub mod task_jwt_svid;
