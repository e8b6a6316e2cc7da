//! advance: the task changed, so its credentials die and it goes on in a new epoch.

use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::request::{Idempotency, check_checkpoint, check_step};
use crate::broker::{Broker, Revoked, TaskView};
use crate::domain::decide::{Advance, Command};
use crate::domain::grant::Grant;
use crate::domain::id::TaskId;
use crate::domain::line::Line;
use crate::domain::role::class_of;
use crate::domain::task::{Agent, Task};
use crate::policy::{self, Action, Question};

/// What changes; `None` is as before.
#[derive(Clone, Debug)]
pub struct AdvanceRequest {
    /// The epoch that the caller means.
    pub expected_epoch: u64,
    /// The new grant.
    pub grant: Option<Grant>,
    /// The new step; at most 63 bytes.
    pub step: Option<String>,
    /// The new checkpoint; at most 4,096 bytes.
    pub checkpoint: Option<Vec<u8>>,
    /// The agent that takes over.
    pub agent: Option<Agent>,
    /// Children live on; refused when grant or agent change.
    pub keep_children: bool,
}

impl Broker {
    /// Advances a task. When this answers, nothing is issued any more for its earlier epochs, nor for the children that ended.
    ///
    /// # Errors
    /// The task is not the caller's, not active or in another epoch; the grant is wider than the parent's; policy says no.
    pub async fn advance(
        &self,
        caller: &Caller,
        id: &Idempotency,
        task: TaskId,
        request: AdvanceRequest,
    ) -> Result<(TaskView, Revoked), BrokerError> {
        caller.admit(Rpc::AdvanceTask)?;
        let (line, _) = self.line_for(caller, Rpc::AdvanceTask, task).await?;
        check_step(request.step.as_deref().unwrap_or_default())?;
        check_checkpoint(request.checkpoint.as_deref().unwrap_or_default())?;
        let agent = match request.agent {
            None => None,
            Some(agent) => {
                let class = class_of(&self.settings.roles, &agent)?;
                self.tier_for(class, &line.own().tier)?;
                Some((agent, class.name.clone()))
            }
        };
        let advance = Advance {
            expected_epoch: request.expected_epoch,
            grant: request.grant,
            step: request.step,
            checkpoint: request.checkpoint,
            agent,
            keep_children: request.keep_children,
        };
        self.ask_about_change(caller, &line, &advance).await?;
        let command = Command::Advance(advance);
        self.task_revoked(self.command((caller, id), line, command).await?).await
    }

    async fn ask_about_change(
        &self,
        caller: &Caller,
        line: &Line,
        advance: &Advance,
    ) -> Result<(), BrokerError> {
        let mut task: Task = line.own().clone();
        task.grant = advance.grant.clone().unwrap_or(task.grant);
        task.step = advance.step.clone().unwrap_or(task.step);
        (task.agent, task.class) = advance.agent.clone().unwrap_or((task.agent, task.class));
        let question = Question {
            action: Action::Advance,
            principal: caller.identity().principal(),
            instance: caller.identity().instance(),
            audience: "",
            asked: &task.grant,
            task: &task,
            now: self.now(),
        };
        policy::decide(&*self.parts.policy, &question).await?;
        Ok(())
    }
}
