//! Envoy's external authorization: may this request through, with which headers, or with what answer not?
//!
//! ```text
//!  headers `authorization` and `dpop`, method, path, client certificate    what is shown
//!  `leasehold.actions` of the route's context_extensions                   what it takes
//!   ─▶ yes: `x-leasehold-…` headers; those that the client sent, and the credential, are taken away
//!   ─▶ no: the status, headers and body of the answer
//! ```
//!
//! Whatever is wrong is answered as a no. An error of gRPC would let requests through wherever `failure_mode_allow` is set.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures_util::future::ready;
use futures_util::stream::once;
use prost::Message as _;
use serde_json::json;
use tokio::time::timeout;
use tonic::Code;
use tonic::codec::{Codec as _, EncodeBody, SingleMessageCompressionOverride};
use tonic_prost::ProstCodec;

use super::call::thumbprint;
use super::question::{No, Question};
use super::{Sidecar, verdict};
use crate::proto::ext_authz::attribute_context::HttpRequest;
use crate::proto::ext_authz::check_response::HttpResponse;
use crate::proto::ext_authz::header_value_option::HeaderAppendAction;
use crate::proto::ext_authz::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue,
    HeaderValueOption, HttpStatus, OkHttpResponse, Status as RpcStatus,
};
use crate::telemetry::metrics;
use crate::verifier::Admission;

/// Where the call is answered.
pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Where it is, in what is counted.
const SURFACE: &str = "ext_authz";
/// Bytes of a question: Envoy takes 60 KiB of headers from a client.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// What the route says of itself.
const ACTIONS: &str = "leasehold.actions";
/// What all our headers begin with.
const PREFIX: &str = "x-leasehold-";

/// Bytes before a message: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;

impl Sidecar {
    /// Answers a call of gRPC. It is read here, since a server of gRPC answers what it cannot read with an error.
    // INVARIANT (never an error): whatever comes, and if nothing does, there is an answer that says no.
    pub(super) async fn ext_authz(&self, request: Request) -> Response {
        let body = to_bytes(request.into_body(), PREFIX_BYTES + MAX_REQUEST_BYTES);
        let answer = match timeout(self.parts.options.patience, body).await {
            Err(_) => {
                unread(StatusCode::SERVICE_UNAVAILABLE, "the question did not come to its end")
            }
            Ok(Err(_)) => unread(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the question has more than 256 KiB; send fewer headers, and let the proxy send no body along",
            ),
            Ok(Ok(body)) => match message(&body) {
                None => unread(
                    StatusCode::BAD_REQUEST,
                    "the question is no `CheckRequest` with headers in UTF-8",
                ),
                Some(request) => self.check(&request.attributes.unwrap_or_default()).await,
            },
        };
        let mut codec = ProstCodec::<CheckResponse, CheckRequest>::default();
        let (one, compression) =
            (once(ready(Ok(answer))), SingleMessageCompressionOverride::default());
        let body = EncodeBody::new_server(codec.encoder(), one, None, compression, None);
        let kind = axum::http::HeaderValue::from_static("application/grpc");
        let mut response = Response::new(Body::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    async fn check(&self, attributes: &AttributeContext) -> CheckResponse {
        let http = attributes.request.as_ref().and_then(|request| request.http.clone());
        let http = http.unwrap_or_default();
        let actions = match actions(&attributes.context_extensions) {
            Ok(actions) => actions,
            Err(wrong) => return misconfigured(&wrong),
        };
        let certificate = match attributes.source.as_ref().map(|source| source.certificate.as_str())
        {
            None | Some("") => None,
            Some(encoded) => match decoded(encoded).and_then(|pem| thumbprint(&pem)) {
                Some(thumbprint) => Some(thumbprint),
                None => return misconfigured("`source.certificate` is not in percent-encoded PEM"),
            },
        };
        let header = |name: &str| http.headers.get(name).map(String::as_str);
        let question = Question {
            authorization: header("authorization"),
            proof: header("dpop"),
            certificate,
            method: &http.method,
            path: &http.path,
            actions: &actions,
        };
        let answer = self.ask(question).await.and_then(|admission| {
            let through = self.through(&admission, &http);
            self.parts.lingering.keep(admission).map(|()| through).map_err(|_| No::full())
        });
        Self::answered(SURFACE, &answer);
        answer.unwrap_or_else(|no| denied(&no))
    }

    fn through(&self, admission: &Admission, http: &HttpRequest) -> CheckResponse {
        let own = self.own_headers(admission);
        // INVARIANT (only ours): who stands behind trusts these names, and many servers take `_` in a name for `-`.
        let is_foreign = |name: &&String| {
            name.replace('_', "-").starts_with(PREFIX) && !own.contains_key(name.as_str())
        };
        let mut headers_to_remove: Vec<_> =
            http.headers.keys().filter(is_foreign).cloned().collect();
        if !self.parts.options.passes_credentials {
            headers_to_remove.extend(["authorization".to_owned(), "dpop".to_owned()]);
        }
        let headers = own.into_iter().map(|(name, value)| set(name, value)).collect();
        let ok = OkHttpResponse { headers, headers_to_remove };
        CheckResponse {
            status: Some(RpcStatus::default()),
            http_response: Some(HttpResponse::OkResponse(ok)),
        }
    }

    fn own_headers(&self, admission: &Admission) -> BTreeMap<&'static str, String> {
        let credential = admission.credential();
        let execution = credential.execution();
        let audience = &self.parts.verifier.checker().rules().audience;
        let tasks: Vec<_> = execution.path.hops().map(|hop| hop.task.to_string()).collect();
        let subject = credential.token().map(|token| token.subject.to_string());
        let mut headers = BTreeMap::from([
            ("x-leasehold-task", execution.path.own().task.to_string()),
            ("x-leasehold-epoch", execution.path.own().counter.get().to_string()),
            ("x-leasehold-path", tasks.join(" ")),
            ("x-leasehold-lease", execution.lease.to_string()),
            ("x-leasehold-subject", subject.unwrap_or_default()),
            ("x-leasehold-agent", credential.agent().map(ToString::to_string).unwrap_or_default()),
            ("x-leasehold-actions", verdict::actions(admission, audience).join(" ")),
            ("x-leasehold-expires-at", verdict::time(credential.expires()).unwrap_or_default()),
        ]);
        if !execution.step.is_empty() {
            headers.insert("x-leasehold-step", execution.step.clone());
        }
        headers.into_iter().map(|(name, value)| (name, encoded(&value))).collect()
    }
}

/// The one message of a call, which is not compressed.
fn message(body: &[u8]) -> Option<CheckRequest> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>()?;
    let [0, length @ ..] = prefix else { return None };
    let is_whole = usize::try_from(u32::from_be_bytes(*length)) == Ok(message.len());
    CheckRequest::decode(message).ok().filter(|_| is_whole)
}

/// What is to be judged is not known.
fn unread(status: StatusCode, why: &str) -> CheckResponse {
    metrics::sidecar_answered(SURFACE, metrics::UNREADABLE);
    let (code, error) = match status {
        StatusCode::SERVICE_UNAVAILABLE => (Code::Unavailable, "temporarily_unavailable"),
        _ => (Code::InvalidArgument, "invalid_request"),
    };
    let body = json!({ "error": error, "error_description": why });
    response(code, status, Vec::new(), body.to_string())
}

/// What the route takes to be allowed.
// INVARIANT (said, not guessed): a misspelt key would else be a route that takes nothing.
fn actions(said: &BTreeMap<String, String>) -> Result<Vec<&str>, String> {
    if let Some(other) = said.keys().find(|key| *key != ACTIONS) {
        return Err(format!(
            "`{other}` in `context_extensions` is not known; there is `{ACTIONS}`"
        ));
    }
    let actions = said.get(ACTIONS).ok_or_else(|| {
        format!("say which actions the route takes: `{ACTIONS}` in its `context_extensions`, with spaces between them")
    })?;
    Ok(actions.split_ascii_whitespace().collect())
}

fn denied(no: &No) -> CheckResponse {
    let code = match no.status() {
        StatusCode::BAD_REQUEST => Code::InvalidArgument,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
        _ => Code::Unauthenticated,
    };
    let body = json!({
        "error": no.error(),
        "error_description": no.message(),
        "reason": no.reason(),
        "retriable": no.is_retriable(),
    });
    // Challenges may stand in one header, and not every Envoy adds a second one (RFC 9110 section 11.6.1).
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in &no.headers {
        let header = headers.entry(name.as_str()).or_default();
        let comma = if header.is_empty() { "" } else { ", " };
        header.push_str(&format!("{comma}{value}"));
    }
    let headers = headers.into_iter().map(|(name, value)| set(name, value)).collect();
    response(code, no.status(), headers, body.to_string())
}

/// The proxy before us asks what makes no sense.
fn misconfigured(wrong: &str) -> CheckResponse {
    metrics::sidecar_answered(SURFACE, metrics::UNREADABLE);
    tracing::debug!("a question of Envoy's makes no sense: {wrong}");
    let body = json!({ "error": "server_error", "error_description": wrong });
    response(Code::Internal, StatusCode::INTERNAL_SERVER_ERROR, Vec::new(), body.to_string())
}

fn response(
    code: Code,
    status: StatusCode,
    mut headers: Vec<HeaderValueOption>,
    body: String,
) -> CheckResponse {
    headers.push(set("content-type", "application/json".to_owned()));
    headers.push(set("cache-control", "no-store".to_owned()));
    let status = Some(HttpStatus { code: i32::from(status.as_u16()) });
    CheckResponse {
        status: Some(RpcStatus { code: code.into(), message: String::new() }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status,
            headers,
            body,
        })),
    }
}

fn set(name: &str, value: String) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
    }
}

/// What a header can carry: whatever is not visible ASCII or a space, and `%`, as `%` and two digits.
fn encoded(value: &str) -> String {
    let byte = |byte: u8| match byte {
        b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(byte).collect()
}

/// Text in which `%` and two digits stand for a byte.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        };
        bytes.push(byte);
    }
    Some(bytes)
}
