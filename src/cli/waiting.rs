//! How far an ending is to be before a command says that it is done, and what is shown meanwhile.

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tonic::{Request, Response, Status};

use super::arguments;
use super::client::Client;
use super::failure::Failure;
use super::show;
use crate::domain::time::Span;
use crate::proto::v1;

/// Nobody waits longer, and the answer takes a while too.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
/// What is answered so soon is not worth a word.
const SOON: Duration = Duration::from_millis(300);
/// How often it is asked who is still pending.
const LOOK: Duration = Duration::from_secs(1);
/// What such a question waits for itself: not for anybody, only for the broker to look.
const GLANCE: Span = Span::from_millis(50);

/// What to wait for.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Waiting {
    /// How far it is to be: recorded by the store; refused by every subscribed verifier, which is the default; or also nothing
    /// running any more that one of them had let in. Exit code 3 if it is recorded but did not come so far
    #[arg(long, value_enum, value_name = "ENFORCEMENT")]
    wait_for: Option<WaitFor>,
    /// How long to wait at most, up to `60s`; default: until it is certain, and `10s` for drained
    #[arg(long, value_name = "TIME", value_parser = arguments::span)]
    wait_timeout: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitFor {
    Recorded,
    Fenced,
    Drained,
}

/// A request that ends something, and its answer.
pub(super) trait Ending: Clone {
    /// Sets the fields that say what to wait for.
    fn set_wait(&mut self, wait_for: v1::Enforcement, timeout: Option<prost_types::Duration>);
}

/// What such a request is answered with.
pub(super) trait Ended {
    /// How far it is.
    fn revocation(&self) -> Option<&v1::Revocation>;
}

macro_rules! endings {
    ($($request:ident => $answer:ident),* $(,)?) => {
        $(impl Ending for v1::$request {
            fn set_wait(&mut self, wait_for: v1::Enforcement, timeout: Option<prost_types::Duration>) {
                self.wait_for = wait_for.into();
                self.wait_timeout = timeout;
            }
        }
        impl Ended for v1::$answer {
            fn revocation(&self) -> Option<&v1::Revocation> {
                self.revocation.as_ref()
            }
        })*
    };
}

endings!(
    AdvanceTaskRequest => AdvanceTaskResponse,
    SuspendTaskRequest => SuspendTaskResponse,
    CompleteTaskRequest => CompleteTaskResponse,
    FailTaskRequest => FailTaskResponse,
    CancelTaskRequest => CancelTaskResponse,
    RevokeLeaseRequest => RevokeLeaseResponse,
    RevokeTaskRequest => RevokeTaskResponse,
    QuarantineRequest => QuarantineResponse,
);

impl Waiting {
    /// What the answer must say for the command to have done what was asked for.
    pub(super) fn wanted(self) -> v1::Enforcement {
        match self.wait_for {
            Some(WaitFor::Recorded) => v1::Enforcement::Recorded,
            Some(WaitFor::Fenced) | None => v1::Enforcement::Fenced,
            Some(WaitFor::Drained) => v1::Enforcement::Drained,
        }
    }

    /// Whether the command line says anything of it.
    pub(super) fn is_said(self) -> bool {
        self.wait_for.is_some() || self.wait_timeout.is_some()
    }

    /// Sends an ending and waits for its answer. On a terminal it shows meanwhile who is waited for.
    pub(super) async fn end<R, A, F>(
        self,
        client: &Client,
        request_id: &str,
        request: R,
        call: impl Fn(Request<R>) -> F,
    ) -> Result<A, Failure>
    where
        R: Ending,
        A: Ended,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let ask = |wait_for, timeout: Option<Span>| {
            let mut message = request.clone();
            message.set_wait(wait_for, timeout.map(arguments::wire));
            let mut asked = Request::new(message);
            asked.set_timeout(CALL_TIMEOUT);
            client.change(request_id, call(asked))
        };
        let answer = ask(self.wanted(), self.wait_timeout);
        if !client.is_live {
            return answer.await;
        }
        tokio::pin!(answer);
        let mut line = Line { is_shown: false };
        let mut next = SOON;
        loop {
            tokio::select! {
                answer = &mut answer => {
                    line.clear();
                    return answer;
                }
                () = tokio::time::sleep(next) => next = LOOK,
            }
            // The same request, so that it ends nothing twice; what it is answered is only looked at.
            let glance = ask(v1::Enforcement::Fenced, Some(GLANCE));
            tokio::select! {
                answer = &mut answer => {
                    line.clear();
                    return answer;
                }
                glance = glance => {
                    if let Some(revocation) = glance.ok().as_ref().and_then(Ended::revocation) {
                        line.show(&show::pending(revocation));
                    }
                }
            }
        }
    }
}

/// One line on the terminal that is written over again and again.
struct Line {
    is_shown: bool,
}

impl Line {
    fn show(&mut self, text: &str) {
        self.is_shown = true;
        let mut err = std::io::stderr();
        // Whether it can be shown decides nothing.
        let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
    }

    fn clear(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
