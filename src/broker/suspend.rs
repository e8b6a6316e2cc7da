//! suspend and resume: everything below stops, and can go on.

use crate::broker::access::{Caller, Relation, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::request::{Idempotency, check_reason};
use crate::broker::{Broker, Revoked, TaskView};
use crate::domain::decide::Command;
use crate::domain::id::TaskId;

impl Broker {
    /// Suspends a task. When this answers, nothing is issued for it or below it, and what was issued is dead for good.
    ///
    /// # Errors
    /// The task is not the caller's, or has ended.
    pub async fn suspend(
        &self,
        caller: &Caller,
        id: &Idempotency,
        task: TaskId,
        reason: String,
    ) -> Result<(TaskView, Revoked), BrokerError> {
        caller.admit(Rpc::SuspendTask)?;
        let (line, relation) = self.line_for(caller, Rpc::SuspendTask, task).await?;
        let by_operator = relation == Relation::Operator;
        check_reason(&reason)?;
        let command = Command::Suspend { reason, by_operator };
        self.task_revoked(self.command((caller, id), line, command).await?).await
    }

    /// Lets a suspended task go on.
    ///
    /// # Errors
    /// The task is not the caller's, has ended, is in another epoch, lies below a suspended one, or was suspended by an
    /// operator while the caller is none.
    pub async fn resume(
        &self,
        caller: &Caller,
        id: &Idempotency,
        task: TaskId,
        expected_epoch: u64,
    ) -> Result<TaskView, BrokerError> {
        caller.admit(Rpc::ResumeTask)?;
        let (line, _) = self.line_for(caller, Rpc::ResumeTask, task).await?;
        let by_operator = caller.roles().operator;
        let command = Command::Resume { expected_epoch, by_operator };
        let done = self.command((caller, id), line, command).await?;
        Ok(self.view_of(done.task, &done.line))
    }
}
