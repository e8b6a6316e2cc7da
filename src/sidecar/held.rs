//! An answer that stays open while the work runs that it let in: one JSON object a line.
//!
//! ```text
//!  {"active":true,…}                                 at once
//!  {"revoked":true,"reason":"…","message":"…"}       when the credential dies: stop
//!  (an empty line)                                   now and then, to find out that nobody listens any more
//! ```
//!
//! The work is over when the caller hangs up: it closes the connection, or resets the stream of HTTP/2. A caller that dies has
//! hung up.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::stream;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, interval_at};

use super::verdict;
use crate::verifier::Admission;

/// How often an empty line is sent.
const BEAT: Duration = Duration::from_secs(15);

/// An admission that lasts for as long as somebody reads.
struct Held {
    first: Option<Value>,
    admission: Admission,
    is_told: bool,
    beats: Interval,
    _permit: OwnedSemaphorePermit,
}

/// The lines of an answer.
pub(super) fn body(first: Value, admission: Admission, permit: OwnedSemaphorePermit) -> Body {
    let beats = interval_at(Instant::now() + BEAT, BEAT);
    let held = Held { first: Some(first), admission, is_told: false, beats, _permit: permit };
    Body::from_stream(stream::unfold(held, |mut held| async move {
        let line = held.line().await;
        Some((Ok::<_, Infallible>(Bytes::from(line)), held))
    }))
}

impl Held {
    async fn line(&mut self) -> String {
        if let Some(first) = self.first.take() {
            return format!("{first}\n");
        }
        tokio::select! {
            dead = self.admission.revoked(), if !self.is_told => {
                self.is_told = true;
                format!("{}\n", verdict::revoked(dead))
            }
            _ = self.beats.tick() => "\n".to_owned(),
        }
    }
}
