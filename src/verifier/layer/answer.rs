//! What somebody is answered who is not let in (RFC 6750 section 3, RFC 9449 section 7.1), and the same as a gRPC status.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use prost::Message as _;
use prost_types::Any;
use tonic::{Code, Status};

use super::body::GuardedBody;
use crate::verifier::check::Scheme;
use crate::verifier::refused::{Fault, Refused};

/// What proofs may be signed with, as the challenge lists it.
const PROOF_ALGORITHMS: &str = "ES256 ES384 RS256 RS384 RS512 PS256 PS384 PS512";
/// `domain` of the error's details.
const DOMAIN: &str = "leasehold";

pub(super) fn to<R>(
    refused: &Refused,
    scheme: Scheme,
    request: &HeaderMap,
    takes_proofs: bool,
) -> Response<GuardedBody<R>> {
    let content_type = request.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return status(refused).into_http();
    }
    let mut response = Response::new(GuardedBody::text(format!("{refused}\n")));
    *response.status_mut() = match refused.fault() {
        Fault::Request => StatusCode::BAD_REQUEST,
        Fault::Nothing | Fault::Credential | Fault::Proof => StatusCode::UNAUTHORIZED,
        Fault::Scope => StatusCode::FORBIDDEN,
        Fault::Unknown => StatusCode::SERVICE_UNAVAILABLE,
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if refused.is_retriable() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    for challenge in challenges(refused, scheme, takes_proofs) {
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            headers.append(WWW_AUTHENTICATE, challenge);
        }
    }
    response
}

fn challenges(refused: &Refused, scheme: Scheme, takes_proofs: bool) -> Vec<String> {
    let error = match refused.fault() {
        Fault::Nothing => {
            let dpop = takes_proofs.then(|| format!("DPoP algs=\"{PROOF_ALGORITHMS}\""));
            return ["Bearer".to_owned()].into_iter().chain(dpop).collect();
        }
        Fault::Request => "invalid_request",
        Fault::Credential => "invalid_token",
        Fault::Proof => "invalid_dpop_proof",
        Fault::Scope => "insufficient_scope",
        Fault::Unknown => return Vec::new(),
    };
    let told = format!("error=\"{error}\", error_description=\"{}\"", quoted(&refused.to_string()));
    match scheme {
        Scheme::Dpop => vec![format!("DPoP {told}, algs=\"{PROOF_ALGORITHMS}\"")],
        Scheme::Bearer => vec![format!("Bearer {told}")],
    }
}

/// In the characters that a description may have (RFC 6750 section 3).
fn quoted(text: &str) -> String {
    let allowed = |c: char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    text.chars().map(|c| if allowed(c) { c } else { '?' }).collect()
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
