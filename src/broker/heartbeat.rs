//! heartbeat: the orchestrator is still there.

use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::request::Idempotency;
use crate::broker::{Broker, TaskView};
use crate::domain::decide::Command;
use crate::domain::id::TaskId;

impl Broker {
    /// Puts silence off: three intervals from now.
    ///
    /// # Errors
    /// The task is not the caller's, is not active, or was begun without a heartbeat.
    pub async fn heartbeat(
        &self,
        caller: &Caller,
        id: &Idempotency,
        task: TaskId,
    ) -> Result<TaskView, BrokerError> {
        caller.admit(Rpc::Heartbeat)?;
        let (line, _) = self.line_for(caller, Rpc::Heartbeat, task).await?;
        let done = self.command((caller, id), line, Command::Heartbeat).await?;
        Ok(self.view_of(done.task, &done.line))
    }
}
