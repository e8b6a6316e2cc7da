//! The way to a receiver: a push of one event (RFC 8935), and what the answer means.

use std::path::Path;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::security_event::MEDIA_TYPE;
use crate::domain::secret::Secret;
use crate::domain::time::Span;
use crate::fetch::{FetchError, Fetcher, Reach};

/// Where events go.
#[async_trait]
pub trait Post: Send + Sync {
    /// Hands one signed event over, once.
    async fn post(&self, token: &Secret) -> Posted;
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The receiver has it.
    Taken,
    /// The receiver cannot read it, and will not be able to (RFC 8935 section 2.4, `invalid_request`).
    Unreadable,
    /// The receiver does not have it, for all that is known.
    Failed {
        /// What happened: nothing of the event, and no text of the receiver's but an error code.
        why: String,
        /// How long the receiver wants to be left alone.
        retry_after: Option<Span>,
    },
}

impl Posted {
    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self::Failed { why: why.into(), retry_after: None }
    }
}

/// A receiver over HTTP.
#[derive(Debug)]
pub struct HttpReceiver {
    url: String,
    headers: HeaderMap,
    timeout: Span,
    fetcher: Fetcher,
}

/// A receiver cannot be pushed to. Nothing of a secret is in the error.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The CA file, or this machine's roots.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A bearer token with characters that no header has.
    #[error("the bearer token has characters that HTTP does not send; is it the right file?")]
    Bearer,
}

impl HttpReceiver {
    /// A receiver at a URL, whose server is known by the roots in `ca_file`, or without one this machine's. `bearer` is shown
    /// to it. At `danger_loopback` it lies on this machine, else anywhere but there: private addresses are the operator's choice.
    ///
    /// # Errors
    /// [`ReceiverError`]
    pub fn new(
        url: String,
        bearer: Option<&Secret>,
        ca_file: Option<&Path>,
        timeout: Span,
        danger_loopback: bool,
    ) -> Result<Self, ReceiverError> {
        let reach = if danger_loopback { Reach::Loopback } else { Reach::InCluster };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(bearer) = bearer {
            let value = Secret::new([b"Bearer ", bearer.expose()].concat());
            let value = HeaderValue::from_bytes(value.expose());
            let mut value = value.map_err(|_| ReceiverError::Bearer)?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { url, headers, timeout, fetcher: Fetcher::new(reach, ca_file)? })
    }
}

#[async_trait]
impl Post for HttpReceiver {
    async fn post(&self, token: &Secret) -> Posted {
        let (headers, body) = (self.headers.clone(), token.expose().to_vec());
        match self.fetcher.push(&self.url, headers, body, self.timeout).await {
            Err(error) => Posted::failed(error.to_string()),
            Ok(answer) => judged(answer.status, answer.retry_after, &answer.body),
        }
    }
}

/// What an answer means: 202 is the one that takes an event (RFC 8935 section 2.2); a page of a proxy that says 200 does not.
fn judged(status: StatusCode, retry_after: Option<Span>, body: &[u8]) -> Posted {
    if status == StatusCode::ACCEPTED {
        return Posted::Taken;
    }
    let code = (status == StatusCode::BAD_REQUEST).then(|| code(body)).flatten();
    match code.as_deref() {
        Some("invalid_request") => Posted::Unreadable,
        Some(code) => Posted::Failed { why: format!("it answers `{code}`"), retry_after },
        None => {
            let status = status.as_u16();
            let why = format!("it answers with status {status}; an event is taken by 202 alone");
            Posted::Failed { why, retry_after }
        }
    }
}

/// `err` of an error (RFC 8935 section 2.3), if it looks like one of the registered codes.
fn code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Fault {
        err: String,
    }
    let Fault { err } = serde_json::from_slice(body).ok()?;
    let is_code = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    ((1..=64).contains(&err.len()) && err.bytes().all(is_code)).then_some(err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_202_takes_an_event_and_only_invalid_request_is_final() {
        let judged = |status: u16, body: &str| {
            judged(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
        };
        assert_eq!(judged(202, "anything"), Posted::Taken);
        for status in [200, 201, 204, 302, 307, 404, 410, 429, 500, 503] {
            let body = r#"{"err":"invalid_request"}"#;
            assert!(matches!(judged(status, body), Posted::Failed { .. }), "{status}");
        }
        assert_eq!(judged(400, r#"{"err":"invalid_request"}"#), Posted::Unreadable);
        let answer = judged(400, r#"{"err":"invalid_audience","description":"hunter2"}"#);
        assert_eq!(answer, Posted::failed("it answers `invalid_audience`"));
        for body in ["", "{}", r#"{"err":7}"#, r#"{"err":""}"#, r#"{"err":"Bad\nhunter2"}"#] {
            let answer = judged(400, body);
            assert_eq!(
                answer,
                Posted::failed("it answers with status 400; an event is taken by 202 alone")
            );
        }
    }

    #[test]
    fn class_17_a_bearer_token_shows_nowhere() {
        let url = || "https://worker.example/events".to_owned();
        let receiver = |bearer: &str| {
            let bearer = Secret::from(bearer.to_owned());
            HttpReceiver::new(url(), Some(&bearer), None, Span::from_seconds(1), true)
        };
        let text = format!("{:?}", receiver("hunter2").unwrap());
        assert!(!text.contains("hunter2"), "{text}");
        let error = receiver("hunter2\n").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
