//! Strict JOSE: compact JWS, one algorithm per key, typed claims. For the broker and for verifiers.
//!
//! ```text
//!  text → Unverified ── KeySet ──▶ Claims → one function per kind of token
//!         (shape,       (signature)  (types of the registered claims)
//!          header)
//! ```
//!
//! There is no "verify any JWT": a caller names the `typ`, the algorithms and the keys of one kind (RFC 8725
//! sections 3.1, 3.11, 3.12), then asks [`Claims`] for what that kind requires.
//!
//! Keys implement the signer and verifier traits of `jsonwebtoken`'s provider seam over `ring`, each parsed once. Its
//! `encode` and `decode` are not used: they go through one provider per process, which a library must not choose for
//! the program it is in, and parse the private key at every call.

mod claimed;
mod claims;
mod jwk;
mod jws;
mod key_set;
mod public_key;
mod roca;
mod signing_key;

pub mod access_token;
pub mod base64url;
pub mod dpop;
pub mod execution_claim;
pub mod json;

pub use claimed::Claimed;
pub use claims::{ClaimError, Claims, Leeway, Times, Validity};
pub use jsonwebtoken::Algorithm;
pub use jwk::{JwkError, VerifyingKey};
pub use jws::{Expect, JwsError, MAX_COMPACT_BYTES, Typ, Unverified, verify};
pub use key_set::{KeySet, KeySetError, MAX_KEYS, MAX_SET_BYTES};
pub use public_key::{Curve, PublicKey, PublicKeyError, certificate_thumbprint};
pub use signing_key::{SigningKey, SigningKeyError};

/// What a caller accepts who verifies tokens of others: the asymmetric algorithms that `ring` has.
pub const FOREIGN_ALGORITHMS: &[Algorithm] = &[
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
