//! What somebody is answered who is not let in (RFC 6750 section 3, RFC 9449 section 7.1), and the same as a gRPC status.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use super::body::GuardedBody;
use crate::verifier::refused::{Fault, Refused};

/// `domain` of the error's details.
const DOMAIN: &str = "leasehold";

pub(super) fn to<R>(
    refused: &Refused,
    challenges: &[(HeaderName, String)],
    request: &HeaderMap,
) -> Response<GuardedBody<R>> {
    let content_type = request.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut response = match content_type {
        Some(kind) if kind.starts_with("application/grpc") => status(refused).into_http(),
        _ => text(refused),
    };
    // Of gRPC they are metadata: without the nonce among them, nobody could make a proof with it.
    for (name, challenge) in challenges {
        if let Ok(challenge) = HeaderValue::from_str(challenge) {
            response.headers_mut().append(name, challenge);
        }
    }
    response
}

fn text<R>(refused: &Refused) -> Response<GuardedBody<R>> {
    let mut response = Response::new(GuardedBody::text(format!("{refused}\n")));
    *response.status_mut() = refused.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if refused.is_retriable() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn status(refused: &Refused) -> Status {
    let code = match refused.fault() {
        Fault::Request => Code::InvalidArgument,
        Fault::Nothing | Fault::Credential | Fault::Proof => Code::Unauthenticated,
        Fault::Scope => Code::PermissionDenied,
        Fault::Unknown => Code::Unavailable,
    };
    let message = refused.to_string();
    let info = ErrorInfo {
        reason: refused.reason().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: BTreeMap::new(),
    };
    let info = Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec(),
    };
    let details = RpcStatus { code: code.into(), message: message.clone(), details: vec![info] };
    Status::with_details(code, message, details.encode_to_vec().into())
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}
