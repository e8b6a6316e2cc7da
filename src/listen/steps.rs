//! Work that lets threads which wait for the processor go first between its steps.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::thread;
use std::time::Duration;

use hyper::rt;
use tokio::time::Instant;

/// So long after it gave its core up a thread does so again, at the end of the step that it is at.
const TURN: Duration = Duration::from_micros(200);

thread_local! {
    /// When this thread gave its core up last.
    static GAVE_UP: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Does something step by step, and lets others go first between turns.
///
/// However low a thread's priority is, the system may leave a core to it until its clock ticks, for 4 ms on many: as long as a whole
/// ending takes.
pub(super) async fn in_steps<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        let now = Instant::now();
        if GAVE_UP.get().is_none_or(|at| now.duration_since(at) >= TURN) {
            thread::yield_now();
            GAVE_UP.set(Some(Instant::now()));
        }
        polled
    })
    .await
}

/// Where the requests of a connection are answered: on the threads of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Executor {
    /// They go first, or nobody does.
    First,
    /// They let others go first.
    InSteps,
}

impl<F> rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, request: F) {
        match self {
            Self::First => tokio::spawn(request),
            Self::InSteps => tokio::spawn(async { in_steps(request).await }),
        };
    }
}
