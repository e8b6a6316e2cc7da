//! The calls in JSON, `POST /v1/verify` and `POST /v1/admit`: what is asked, and what is no question.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::question::{No, Question};
use super::{Sidecar, held, verdict};
use crate::jose::{base64url, certificate_thumbprint};
use crate::telemetry::metrics;
use crate::verifier::{Admission, Refused, Scheme};

/// Bytes of a question: a token and a certificate of 8 KiB each, a proof of 6 KiB, a path, actions.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a question may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A question as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    /// The value of the header `Authorization`; none: nothing was shown.
    authorization: Option<String>,
    /// The values of the header `DPoP`, each that came.
    #[serde(default)]
    dpop: Vec<String>,
    /// The method, which a proof is for.
    #[serde(default)]
    method: String,
    /// The path as the client wrote it, which a proof is for.
    #[serde(default)]
    path: String,
    /// The client certificate of the connection, in PEM.
    certificate: Option<String>,
    /// Instead of it its SHA-256 in base64url.
    certificate_sha256: Option<String>,
    /// What the grant must have; it may be empty and not be left out.
    actions: Vec<String>,
}

/// What came is no question.
struct Bad(StatusCode, String);

impl Bad {
    fn call(what: impl Into<String>) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, what.into())
    }

    fn answer(self, surface: &'static str) -> Response {
        metrics::sidecar_answered(surface, metrics::UNREADABLE);
        verdict::answer(self.0, &json!({ "error": "bad_call", "message": self.1 }))
    }
}

impl Sidecar {
    /// `POST /v1/verify`: answers once.
    pub(super) async fn verify(&self, request: Request) -> Response {
        let call = match Call::read(request).await {
            Ok(call) => call,
            Err(bad) => return bad.answer("verify"),
        };
        let answer = match self.put(&call).await {
            Ok(Ok(admission)) => {
                let yes = verdict::yes(&admission, &self.parts.verifier);
                self.parts.lingering.keep(admission).map_or_else(|_| Err(No::full()), |()| Ok(yes))
            }
            Ok(Err(no)) => Err(no),
            Err(bad) => return bad.answer("verify"),
        };
        Self::answered("verify", &answer);
        match answer {
            Ok(yes) => verdict::answer(StatusCode::OK, &yes),
            Err(no) => verdict::no(&no),
        }
    }

    /// `POST /v1/admit`: the answer stays open for as long as the work runs.
    pub(super) async fn admit(&self, request: Request) -> Response {
        let call = match Call::read(request).await {
            Ok(call) => call,
            Err(bad) => return bad.answer("admit"),
        };
        let Ok(permit) = Arc::clone(&self.parts.held).try_acquire_owned() else {
            let full = Err::<(), _>(No::full());
            Self::answered("admit", &full);
            return verdict::no(&No::full());
        };
        let answer = match self.put(&call).await {
            Ok(answer) => answer,
            Err(bad) => return bad.answer("admit"),
        };
        Self::answered("admit", &answer);
        match answer {
            Err(no) => verdict::no(&no),
            Ok(admission) => {
                let yes = verdict::yes(&admission, &self.parts.verifier);
                let mut response = Response::new(held::body(yes, admission, permit));
                let (kind, keep) = ("application/x-ndjson", "no-store");
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
                response
            }
        }
    }

    async fn put(&self, call: &Call) -> Result<Result<Admission, No>, Bad> {
        let certificate = call.thumbprint()?;
        let proof = match call.dpop.as_slice() {
            [] => None,
            [proof] if !call.method.is_empty() && !call.path.is_empty() => Some(proof.as_str()),
            [_] => {
                return Err(Bad::call("say `method` and `path`: what `dpop` proves is for them"));
            }
            _ => {
                let twice = Refused::Malformed("a header with a credential or a proof came twice");
                return Ok(Err(self.refuse(twice, Scheme::Dpop)));
            }
        };
        let actions: Vec<&str> = call.actions.iter().map(String::as_str).collect();
        let question = Question {
            authorization: call.authorization.as_deref(),
            proof,
            certificate,
            method: &call.method,
            path: &call.path,
            actions: &actions,
        };
        Ok(self.ask(question).await)
    }
}

impl Call {
    async fn read(request: Request) -> Result<Self, Bad> {
        // A browser sends other kinds to a loopback address for any page, and this one only after it asked.
        let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        if kind.is_none_or(|kind| !kind.starts_with(b"application/json")) {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Bad(status, "send JSON, as `application/json`".to_owned()));
        }
        let body = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), MAX_BODY_BYTES)).await;
        let late =
            || Bad(StatusCode::REQUEST_TIMEOUT, "the question did not come to its end".to_owned());
        let large = || {
            let text = format!("a question has at most {MAX_BODY_BYTES} bytes");
            Bad(StatusCode::PAYLOAD_TOO_LARGE, text)
        };
        Self::parse(&body.map_err(|_| late())?.map_err(|_| large())?)
    }

    fn parse(body: &Bytes) -> Result<Self, Bad> {
        serde_json::from_slice(body).map_err(|error| Bad::call(told(&error)))
    }

    fn thumbprint(&self) -> Result<Option<[u8; 32]>, Bad> {
        let none = || Bad::call("`certificate_sha256` is not 32 bytes in base64url");
        match (&self.certificate, &self.certificate_sha256) {
            (None, None) => Ok(None),
            (None, Some(text)) => {
                let bytes = base64url::decode(text).and_then(|bytes| bytes.try_into().ok());
                bytes.ok_or_else(none).map(Some)
            }
            (Some(pem), None) => {
                let thumbprint = thumbprint(pem.as_bytes());
                thumbprint.ok_or_else(|| Bad::call("`certificate` is not in PEM")).map(Some)
            }
            (Some(_), Some(_)) => {
                Err(Bad::call("give `certificate` or `certificate_sha256`, and not both"))
            }
        }
    }
}

/// The SHA-256 of the first certificate in PEM.
pub(super) fn thumbprint(pem: &[u8]) -> Option<[u8; 32]> {
    let leaf = CertificateDer::from_pem_slice(pem).ok()?;
    Some(certificate_thumbprint(&leaf))
}

/// What serde says of names that it does not know or misses. What it says of values could have a token in it.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_about_names = ["unknown field", "missing field", "duplicate field"];
    match (error.is_data(), is_about_names.iter().any(|about| text.starts_with(about))) {
        (true, true) => text,
        (true, false) => {
            format!("a value before column {} has another type than it must have", error.column())
        }
        (false, _) => format!("at column {} this is no JSON any more", error.column()),
    }
}
