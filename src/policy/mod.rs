//! May it: the question that policy answers, and the permit that only an allow makes.

use crate::domain::grant::Grant;
use crate::domain::id::TaskId;
use crate::domain::path::Counter;
use crate::domain::principal::{Name, Principal};
use crate::domain::time::Stamp;

/// Policy allowed one credential. Only the engines of this module make one, and minting demands it.
#[derive(Clone, Debug)]
pub struct Permit {
    principal: Principal,
    class: Name,
    task: TaskId,
    epoch: Counter,
    audience: String,
    grant: Grant,
    decided_at: Stamp,
}

impl Permit {
    /// Whom it allows it.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The caller's agent class.
    pub fn class(&self) -> &Name {
        &self.class
    }

    /// For which task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// In which epoch of the task.
    pub fn epoch(&self) -> Counter {
        self.epoch
    }

    /// For which resource; empty only for a certificate.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// What the credential allows.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// When policy was asked.
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
