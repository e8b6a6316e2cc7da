//! WatchRevocations: one verifier's stream. What it says is judged before it is told more, and its identity again and again.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use super::convert::feed as convert;
use super::recheck::Recheck;
use super::status;
use crate::domain::refusal::Refusal;
use crate::feed::hub::Next;
use crate::feed::{Elsewhere, Feed, Stream};
use crate::proto::v1;
use crate::proto::v1::watch_revocations_request::Message;

/// How often it is asked whether the caller still is one.
const RECHECK: Duration = Duration::from_secs(1);
/// How soon it has to subscribe: until then it holds a place that others wait for.
const FIRST: Duration = Duration::from_secs(2);
/// Messages of the verifier that are taken before it is sent the next one.
const TAKEN_AT_ONCE: usize = 16;

pub(super) type Answers = BoxStream<'static, Result<v1::WatchRevocationsResponse, Status>>;

struct Session {
    stream: Stream,
    inbound: Streaming<v1::WatchRevocationsRequest>,
    recheck: Recheck,
    recheck_at: Instant,
    first: Option<v1::WatchRevocationsResponse>,
    is_over: bool,
}

/// Takes the first message, which subscribes, and answers with everything from then on.
pub(super) async fn watch(
    feed: &std::sync::Arc<Feed>,
    principal: &str,
    recheck: Recheck,
    mut inbound: Streaming<v1::WatchRevocationsRequest>,
) -> Result<Answers, Status> {
    recheck.check().await?;
    let first = timeout(FIRST, inbound.message()).await.map_err(|_| status::nobody_subscribed())?;
    let first = first?.and_then(|first| first.message);
    let Some(Message::Subscribe(subscribe)) = first else {
        return Err(Refusal::invalid("message", "the first message is a `subscribe`").into());
    };
    let subscriber = convert::subscriber(&subscribe, principal)?;
    let session = Session {
        stream: feed.subscribe(subscriber)?,
        inbound,
        recheck,
        recheck_at: Instant::now() + RECHECK,
        first: Some(convert::subscribed(feed.settings())),
        is_over: false,
    };
    Ok(unfold(session, |mut session| async move {
        let answer = session.next().await?;
        Some((answer, session))
    })
    .boxed())
}

impl Session {
    async fn next(&mut self) -> Option<Result<v1::WatchRevocationsResponse, Status>> {
        if self.is_over {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        match self.advance().await {
            Ok(Some(answer)) => Some(Ok(answer)),
            Ok(None) => None,
            Err(status) => {
                self.is_over = true;
                Some(Err(status))
            }
        }
    }

    /// What is sent next; `None`: the verifier is done.
    async fn advance(&mut self) -> Result<Option<v1::WatchRevocationsResponse>, Status> {
        loop {
            if self.stream.stopping().is_cancelled() {
                return Err(status::stopping());
            }
            if Instant::now() >= self.recheck_at {
                self.recheck.check().await?;
                self.recheck_at = Instant::now() + RECHECK;
            }
            // What the verifier says is taken also while there is always something to send.
            for _ in 0..TAKEN_AT_ONCE {
                let Some(message) = self.inbound.message().now_or_never() else { break };
                let Some(message) = message? else { return Ok(None) };
                self.take(message)?;
            }
            match self.stream.next() {
                Next::Message(message) => return Ok(Some(convert::message(message))),
                Next::Overflowed => return Err(status::fell_behind()),
                Next::Elsewhere => return Err(Elsewhere.into()),
                Next::Nothing => {}
            }
            let message = tokio::select! {
                () = self.stream.wait() => continue,
                () = self.stream.stopping().cancelled() => continue,
                () = tokio::time::sleep_until(self.recheck_at) => continue,
                message = self.inbound.message() => message?,
            };
            let Some(message) = message else { return Ok(None) };
            self.take(message)?;
        }
    }

    fn take(&self, request: v1::WatchRevocationsRequest) -> Result<(), Status> {
        match request.message {
            Some(Message::KeepAlive(keep_alive)) => self.stream.keep_alive(keep_alive.sequence)?,
            Some(Message::Acknowledgement(acknowledgement)) => {
                let applied =
                    convert::positions("acknowledgement.applied", &acknowledgement.applied)?;
                let drained =
                    convert::positions("acknowledgement.drained", &acknowledgement.drained)?;
                self.stream.acknowledge(&applied, &drained)?;
            }
            Some(Message::Subscribe(_)) => {
                return Err(
                    Refusal::invalid("message", "only the first one is a `subscribe`").into()
                );
            }
            None => {
                let problem = "a `keep_alive` or an `acknowledgement` is expected";
                return Err(Refusal::invalid("message", problem).into());
            }
        }
        Ok(())
    }
}
