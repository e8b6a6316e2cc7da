//! WatchTask: one task as it is, told again when it is another. It is read again whenever something happened, so that nothing
//! queues up, only the newest is ever told, and nothing older after it; and who watches is judged each time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::time::Instant;
use tonic::Status;

use super::convert::task as convert;
use super::recheck::Recheck;
use super::watches::Place;
use crate::broker::Broker;
use crate::broker::TaskView;
use crate::broker::access::Caller;
use crate::domain::id::TaskId;
use crate::proto::v1;

/// How often it is asked whether the caller still is one.
const RECHECK: Duration = Duration::from_secs(1);

pub(super) type Answers = BoxStream<'static, Result<v1::WatchTaskResponse, Status>>;

struct Session {
    broker: Arc<Broker>,
    recheck: Recheck,
    recheck_at: Instant,
    place: Place,
    task: TaskId,
    /// What is told next, if it was read already.
    first: Option<TaskView>,
    told: Option<v1::Task>,
    is_over: bool,
}

/// Reads the task, and answers with it and with everything that it is from then on.
pub(super) async fn watch(
    broker: Arc<Broker>,
    caller: &Caller,
    recheck: Recheck,
    mut place: Place,
    task: TaskId,
) -> Result<Answers, Status> {
    let first = broker.watched_task(caller, task).await?;
    place.hear_of(first.task.lineage.iter().map(|hop| hop.task));
    let recheck_at = Instant::now() + RECHECK;
    let (first, told, is_over) = (Some(first), None, false);
    let session = Session { broker, recheck, recheck_at, place, task, first, told, is_over };
    Ok(unfold(session, |mut session| async move {
        let answer = session.next().await?;
        Some((answer, session))
    })
    .boxed())
}

impl Session {
    async fn next(&mut self) -> Option<Result<v1::WatchTaskResponse, Status>> {
        if self.is_over {
            return None;
        }
        let next = match self.first.take() {
            Some(first) => Ok(first),
            None => self.changed().await,
        };
        self.is_over = next.as_ref().map_or(true, |view| view.standing.state.is_ended());
        Some(next.map(|view| {
            self.told = Some(shown(&view));
            v1::WatchTaskResponse { task: Some(convert::task(view)) }
        }))
    }

    /// The task when it is another than was told.
    async fn changed(&mut self) -> Result<TaskView, Status> {
        loop {
            let caller = tokio::select! {
                biased;
                status = self.recheck.away() => return Err(status),
                () = tokio::time::sleep_until(self.recheck_at) => {
                    self.recheck.caller().await?;
                    self.recheck_at = Instant::now() + RECHECK;
                    continue;
                }
                () = self.place.happened() => self.recheck.caller().await?,
            };
            let view = {
                let _turn = self.place.turn().await;
                self.broker.watched_task(&caller, self.task).await?
            };
            if self.told.as_ref() != Some(&shown(&view)) {
                return Ok(view);
            }
        }
    }
}

/// What makes it another one: all that a caller sees, but for when its record was written last. A heartbeat changes only that.
fn shown(view: &TaskView) -> v1::Task {
    v1::Task { update_time: None, ..convert::task(view.clone()) }
}

#[cfg(test)]
mod tests;
