//! One stream of a Workload API, followed for as long as the broker runs.
//!
//! ```text
//!  open ── first message ──┬── message … ── REFRESH ──▶ open a new one, then let the old one go
//!   ▲                      └── failure ──▶ wait (backoff) ──┐
//!   └───────────────────────────────────────────────────────┘
//! ```
//!
//! An agent speaks only when something changes, and an agent that hangs is as silent as one with nothing to say. So the
//! stream is opened anew every [`REFRESH`]: each answer is the whole state and confirms it, whether it changed or not.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Code, Status, Streaming};

use super::backoff;
use crate::broker::seams::{Clock, Entropy};
use crate::domain::time::{Span, Stamp};

/// How often the whole state is asked for.
pub const REFRESH: Span = Span::from_seconds(60);
/// How long the agent may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What an agent says.
#[derive(Debug)]
pub enum News<T> {
    /// The whole state.
    State {
        /// What it is.
        state: T,
        /// When it was asked for; when it came, if that was unasked.
        asked: Stamp,
    },
    /// We are entitled to nothing: whatever it said before is withdrawn (SPIFFE Workload API section 5.2).
    Nothing,
    /// It does not have this kind at all (administratively disabled, or not built).
    Unsupported,
    /// It cannot be asked, for this reason. What it said before was not taken back.
    Away(String),
}

impl<T> News<T> {
    /// The same news of another form.
    pub fn map<U>(self, form: impl FnOnce(T) -> U) -> News<U> {
        match self {
            Self::State { state, asked } => News::State { state: form(state), asked },
            Self::Nothing => News::Nothing,
            Self::Unsupported => News::Unsupported,
            Self::Away(reason) => News::Away(reason),
        }
    }
}

/// Opens the stream.
pub type Open<T> = Box<dyn Fn() -> BoxFuture<'static, Result<Streaming<T>, Status>> + Send + Sync>;

/// One stream of one agent.
pub struct Following<T> {
    /// Where and what, for the log.
    pub name: String,
    /// Opens the stream.
    pub open: Open<T>,
    /// What `asked` is measured by.
    pub clock: Arc<dyn Clock>,
    /// For waits that differ from broker to broker.
    pub entropy: Arc<dyn Entropy>,
}

impl<T: Send + 'static> Following<T> {
    /// Hands on what the agent says, in its order. Ends only if the agent finds the question itself wrong: then asking
    /// again is not allowed.
    pub async fn run(self, mut told: impl FnMut(News<T>) + Send) {
        let mut failures = 0_u32;
        loop {
            let state = |state, asked| {
                if failures > 0 {
                    tracing::info!(stream = self.name, "the Workload API answers again");
                }
                failures = 0;
                told(News::State { state, asked });
            };
            let end = self.until_it_ends(state).await;
            let (code, fault) = (crate::proto::code_name(end.code()), reason(&end));
            if end.code() == Code::InvalidArgument {
                tracing::error!(
                    stream = self.name,
                    fault,
                    "the Workload API finds our question wrong, so it is not asked again"
                );
                return told(News::Away(fault));
            }
            failures = failures.saturating_add(1);
            if failures == 1 {
                tracing::warn!(stream = self.name, code, fault, "the Workload API is asked again");
            }
            told(match end.code() {
                Code::PermissionDenied => News::Nothing,
                Code::Unimplemented => News::Unsupported,
                _ => News::Away(fault),
            });
            sleep(backoff::wait(failures, self.jitter()).to_std()).await;
        }
    }

    async fn until_it_ends(&self, mut state: impl FnMut(T, Stamp) + Send) -> Status {
        let mut held = None;
        loop {
            let asked = self.clock.now();
            // The old stream goes when the new one has spoken.
            let (mut stream, first) = match timeout(ANSWER, self.opened()).await {
                Ok(Ok(opened)) => opened,
                Ok(Err(fault)) => return fault,
                Err(_) => return Status::deadline_exceeded("no answer within 10 seconds"),
            };
            drop(held.take());
            state(first, asked);
            let until = Instant::now() + REFRESH.to_std();
            while let Ok(message) = timeout_at(until, stream.message()).await {
                match message {
                    Ok(Some(message)) => state(message, self.clock.now()),
                    Ok(None) => return ended(),
                    Err(fault) => return fault,
                }
            }
            held = Some(stream);
        }
    }

    async fn opened(&self) -> Result<(Streaming<T>, T), Status> {
        let mut stream = (self.open)().await?;
        let first = stream.message().await?.ok_or_else(ended)?;
        Ok((stream, first))
    }

    /// None where there is no randomness: waiting as long as everybody does no harm.
    fn jitter(&self) -> u8 {
        let mut jitter = [0];
        let _ = self.entropy.fill(&mut jitter);
        let [jitter] = jitter;
        jitter
    }
}

/// What the agent says, or what is at the bottom of not reaching it.
fn reason(end: &Status) -> String {
    let mut cause: Option<&dyn Error> = end.source();
    let mut text = end.message().to_owned();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

fn ended() -> Status {
    Status::unavailable("the agent closed the stream")
}
