//! May it: the question that policy answers, and the permit that only an allow makes.
//!
//! No engine error, empty policy or unknown value is ever an allow.

use async_trait::async_trait;

use crate::domain::grant::Grant;
use crate::domain::id::TaskId;
use crate::domain::path::Counter;
use crate::domain::principal::{Name, Principal};
use crate::domain::refusal::Refusal;
use crate::domain::task::Task;
use crate::domain::time::Stamp;

pub mod grant;

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An orchestrator begins a root task.
    Begin,
    /// An orchestrator changes a task.
    Advance,
    /// A child is begun under a task.
    Delegate,
    /// An agent asks for a credential.
    Issue,
    /// An agent asks for another one under the same lease.
    Renew,
}

/// All that policy may look at.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// What is about to be done.
    pub action: Action,
    /// Who asks.
    pub principal: &'a Principal,
    /// Which running copy of it.
    pub instance: &'a str,
    /// The task as it would be, or is: purpose, labels, step, class, owner, tier, grant, lineage.
    pub task: &'a Task,
    /// The resource; empty where none is named.
    pub audience: &'a str,
    /// What is asked for.
    pub asked: &'a Grant,
    /// When.
    pub now: Stamp,
}

/// What an engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No, for this reason; the caller reads it.
    Deny(Refusal),
}

/// An engine could not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the policy engine failed: {0}")]
pub struct PolicyError(pub String);

/// A policy engine.
#[async_trait]
pub trait Policy: Send + Sync {
    /// Answers one question.
    ///
    /// # Errors
    /// [`PolicyError`] if it cannot; that is a no.
    async fn ask(&self, question: &Question<'_>) -> Result<Verdict, PolicyError>;

    /// Which policies these are, for records.
    fn version(&self) -> String;
}

/// Policy's allow, for one caller, task, epoch, audience and grant, at one time. Made only by [`decide`].
#[derive(Clone, Debug)]
pub struct Permit {
    principal: Principal,
    task: TaskId,
    class: Name,
    epoch: Counter,
    audience: String,
    grant: Grant,
    decided_at: Stamp,
}

impl Permit {
    /// Who may.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// For which task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The task's agent class.
    pub fn class(&self) -> &Name {
        &self.class
    }

    /// In which epoch of it.
    pub fn epoch(&self) -> Counter {
        self.epoch
    }

    /// At which resource.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// What.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// When it was decided.
    pub fn decided_at(&self) -> Stamp {
        self.decided_at
    }

    /// A permit that nobody decided.
    #[cfg(test)]
    pub(crate) fn undecided(
        (principal, class): (Principal, Name),
        (task, epoch): (TaskId, Counter),
        (audience, grant): (String, Grant),
        decided_at: Stamp,
    ) -> Self {
        Self { principal, class, task, epoch, audience, grant, decided_at }
    }
}

/// Asks the engine, and makes its allow a permit.
///
/// # Errors
/// The engine's reason, or [`Refusal::PolicyDenied`] if the engine failed.
pub async fn decide(policy: &dyn Policy, question: &Question<'_>) -> Result<Permit, Refusal> {
    match policy.ask(question).await {
        Ok(Verdict::Allow) => Ok(Permit {
            principal: question.principal.clone(),
            task: question.task.id,
            class: question.task.class.clone(),
            epoch: question.task.epoch,
            audience: question.audience.to_owned(),
            grant: question.asked.clone(),
            decided_at: question.now,
        }),
        Ok(Verdict::Deny(refusal)) => Err(refusal),
        Err(error) => {
            tracing::error!(%error, action = ?question.action, "policy did not answer, so it is a no");
            Err(Refusal::PolicyDenied("the policy engine did not answer; try again later".into()))
        }
    }
}

#[cfg(test)]
mod tests;
