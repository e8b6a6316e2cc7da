//! complete, fail, cancel and revoke: the task is over, and everything below it.

use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::request::{Idempotency, check_reason};
use crate::broker::{Broker, Revoked, TaskView};
use crate::domain::decide::Command;
use crate::domain::id::TaskId;
use crate::domain::refusal::Refusal;
use crate::domain::task::State;

impl Broker {
    /// Ends a task in the way of `rpc`. When this answers, nothing is issued for it or below it any more. Ending it again in
    /// the same way answers the first result.
    ///
    /// # Errors
    /// The task is not the caller's, or has ended in another way.
    pub async fn end(
        &self,
        caller: &Caller,
        id: &Idempotency,
        rpc: Rpc,
        task: TaskId,
        reason: String,
    ) -> Result<(TaskView, Revoked), BrokerError> {
        let Some(state) = end_state(rpc) else {
            return Err(Refusal::invalid("task_id", "this call does not end a task").into());
        };
        caller.admit(rpc)?;
        let (line, _) = self.line_for(caller, rpc, task).await?;
        check_reason(&reason)?;
        let command = Command::End { state, reason };
        self.task_revoked(self.command((caller, id), line, command).await?).await
    }
}

fn end_state(rpc: Rpc) -> Option<State> {
    [
        (Rpc::CompleteTask, State::Completed),
        (Rpc::FailTask, State::Failed),
        (Rpc::CancelTask, State::Cancelled),
        (Rpc::RevokeTask, State::Revoked),
    ]
    .into_iter()
    .find_map(|(ending, state)| (ending == rpc).then_some(state))
}
