//! The body of an answer: it keeps the admission until it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use prost::bytes::Bytes;

use crate::verifier::admission::Admission;

/// What the service answers, or what the guard does.
pub struct GuardedBody<R> {
    service: Option<(Pin<Box<R>>, Arc<Admission>)>,
    guard: Option<Bytes>,
}

impl<R> GuardedBody<R> {
    pub(super) fn of(body: R, admission: Arc<Admission>) -> Self {
        Self { service: Some((Box::pin(body), admission)), guard: None }
    }

    pub(super) fn text(text: String) -> Self {
        Self { service: None, guard: Some(text.into()) }
    }
}

impl<R> Default for GuardedBody<R> {
    fn default() -> Self {
        Self { service: None, guard: None }
    }
}

impl<R> std::fmt::Debug for GuardedBody<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuardedBody")
    }
}

impl<R: Body<Data = Bytes>> Body for GuardedBody<R> {
    type Data = Bytes;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, R::Error>>> {
        match &mut self.service {
            Some((body, _)) => body.as_mut().poll_frame(context),
            None => Poll::Ready(self.guard.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.service {
            Some((body, _)) => body.is_end_stream(),
            None => self.guard.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.service {
            Some((body, _)) => body.size_hint(),
            None => {
                let length = self.guard.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
        }
    }
}
