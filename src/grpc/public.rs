//! What anybody may ask without identity: health, and reflection where it is on. Bounded, since anybody may.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{deadline, status};

const CHECK: &str = "/grpc.health.v1.Health/Check";

/// Room for what goes on for as long as its client likes, and time for everything to begin.
pub(super) struct Public {
    streams: Arc<Semaphore>,
    timeout: Duration,
}

impl Public {
    pub(super) fn new(streams: usize, timeout: Duration) -> Self {
        Self { streams: Arc::new(Semaphore::new(streams)), timeout }
    }

    pub(super) async fn answer(&self, request: Request, next: Next) -> Response {
        let Some(timeout) = deadline::of(request.headers(), self.timeout) else {
            return status::bad_timeout().into_http();
        };
        // Whoever asks once is answered as long as the process lives: who asks may be about to restart it.
        let is_stream = request.uri().path() != CHECK;
        let place = is_stream.then(|| Arc::clone(&self.streams).try_acquire_owned());
        let Ok(place) = place.transpose() else {
            return status::no_room().into_http();
        };
        match tokio::time::timeout(timeout, next.run(request)).await {
            Ok(response) => response.map(|body| Body::new(Placed { body, _place: place })),
            Err(_) => status::too_late().into_http(),
        }
    }
}

/// A body that keeps its place until it ends.
struct Placed {
    body: Body,
    _place: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Placed {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
