//! What a token says of itself before anybody checked it: enough to choose who is to check it, and for nothing else.

use serde_json::Value;

use super::base64url;
use super::json::{self, Object};
use super::jws::MAX_COMPACT_BYTES;

/// A stranger's words. Whichever check they lead to reads the token anew.
pub struct Claimed {
    header: Object,
    payload: Object,
}

impl Claimed {
    /// Reads header and payload; `None` if either is not strict JSON in base64url.
    pub fn of(compact: &str) -> Option<Self> {
        if compact.len() > MAX_COMPACT_BYTES {
            return None;
        }
        let mut parts = compact
            .split('.')
            .map(|part| json::parse_object(&base64url::decode(part)?, MAX_COMPACT_BYTES).ok());
        Some(Self { header: parts.next()??, payload: parts.next()?? })
    }

    /// Its `iss`, if that is text.
    pub fn issuer(&self) -> Option<&str> {
        self.payload.get("iss").and_then(Value::as_str)
    }

    /// Its `sub`, if that is text.
    pub fn subject(&self) -> Option<&str> {
        self.payload.get("sub").and_then(Value::as_str)
    }

    /// Whether its header has no member but `alg`, `kid` and `typ`.
    pub fn has_plain_header(&self) -> bool {
        self.header.keys().all(|name| matches!(name.as_str(), "alg" | "kid" | "typ"))
    }
}
