//! Which events a webhook is for.

use crate::domain::event::EventKind;
use crate::domain::principal::Name;
use crate::domain::task::Task;

/// Every event by the name that configuration and receivers know it by.
pub const EVENTS: [(&str, EventKind); 13] = [
    ("task-begun", EventKind::TaskBegun),
    ("task-delegated", EventKind::TaskDelegated),
    ("task-advanced", EventKind::TaskAdvanced),
    ("task-suspended", EventKind::TaskSuspended),
    ("task-resumed", EventKind::TaskResumed),
    ("task-ended", EventKind::TaskEnded),
    ("credential-issued", EventKind::CredentialIssued),
    ("credential-renewed", EventKind::CredentialRenewed),
    ("lease-released", EventKind::LeaseReleased),
    ("lease-revoked", EventKind::LeaseRevoked),
    ("quarantined", EventKind::Quarantined),
    ("quarantine-lifted", EventKind::QuarantineLifted),
    ("incarnation-begun", EventKind::IncarnationBegun),
];

/// An event's name.
pub fn name_of(kind: EventKind) -> &'static str {
    EVENTS.iter().find(|(_, known)| *known == kind).map_or("unknown", |(name, _)| name)
}

/// What a webhook is for that names no events: what stops work that goes on elsewhere, and what lets it go on.
pub fn stops_work() -> Vec<EventKind> {
    vec![
        EventKind::TaskAdvanced,
        EventKind::TaskSuspended,
        EventKind::TaskResumed,
        EventKind::TaskEnded,
        EventKind::LeaseReleased,
        EventKind::LeaseRevoked,
        EventKind::Quarantined,
        EventKind::QuarantineLifted,
    ]
}

/// The events that a webhook is for. An empty list of names is no condition; those that are not empty must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Of these kinds.
    pub kinds: Vec<EventKind>,
    /// Of tasks of these orchestrators' entries.
    pub orchestrators: Vec<Name>,
    /// Of tasks of agents of these classes.
    pub classes: Vec<Name>,
    /// Of tasks of these tiers.
    pub tiers: Vec<Name>,
}

impl Interest {
    /// Whether events of this kind are wanted at all.
    pub fn is_in(&self, kind: EventKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Whether it depends on the task.
    pub fn depends_on_task(&self) -> bool {
        [&self.orchestrators, &self.classes, &self.tiers].into_iter().any(|names| !names.is_empty())
    }

    /// Whether events of this task are wanted.
    pub fn is_in_task(&self, task: &Task) -> bool {
        let holds = |names: &[Name], name: &Name| names.is_empty() || names.contains(name);
        holds(&self.orchestrators, &task.orchestrator)
            && holds(&self.classes, &task.class)
            && holds(&self.tiers, &task.tier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name_that_no_other_has() {
        for (n, (name, kind)) in EVENTS.iter().enumerate() {
            assert_eq!(name_of(*kind), *name);
            assert!(!EVENTS[..n].iter().any(|(other, known)| other == name || known == kind));
        }
    }
}
