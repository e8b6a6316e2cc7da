//! Who may call what: one table, RPC × role × ownership (DESIGN.md section 8).
//!
//! The table is an exhaustive `match`: an RPC without a row does not compile. Ownership failures answer NotFound, so that ids
//! of others cannot be told from ids that never were.

use crate::domain::lease::Lease;
use crate::domain::principal::Name;
use crate::domain::refusal::Refusal;
use crate::domain::role::{self, RoleEntry, Roles};
use crate::domain::scope::{Scope, scopes_of};
use crate::domain::task::Task;
use crate::identity::VerifiedCaller;
use crate::store::Lane;

/// Every call of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as in the contract")]
pub enum Rpc {
    BeginTask,
    DelegateTask,
    AdvanceTask,
    SuspendTask,
    ResumeTask,
    CompleteTask,
    FailTask,
    CancelTask,
    Heartbeat,
    GetTask,
    ListTasks,
    WatchTask,
    IssueCredential,
    RenewCredential,
    ReleaseCredential,
    GetLease,
    ListLeases,
    IntrospectCredential,
    WatchRevocations,
    GetTrustBundle,
    RevokeLease,
    RevokeTask,
    Quarantine,
    LiftQuarantine,
    ListTiers,
    GetStatus,
}

impl Rpc {
    /// On which lane of the store it is done.
    pub(super) fn lane(self) -> Lane {
        if self.is_ending() { Lane::Ending } else { Lane::Ordinary }
    }

    /// Whether it takes something away: endings have admission of their own, and go first when there is not enough for all
    /// (DESIGN.md section 6, Lanes).
    pub fn is_ending(self) -> bool {
        match self {
            Self::AdvanceTask
            | Self::SuspendTask
            | Self::CompleteTask
            | Self::FailTask
            | Self::CancelTask
            | Self::ReleaseCredential
            | Self::RevokeLease
            | Self::RevokeTask
            | Self::Quarantine => true,
            Self::BeginTask
            | Self::DelegateTask
            | Self::ResumeTask
            | Self::Heartbeat
            | Self::GetTask
            | Self::ListTasks
            | Self::WatchTask
            | Self::IssueCredential
            | Self::RenewCredential
            | Self::GetLease
            | Self::ListLeases
            | Self::IntrospectCredential
            | Self::WatchRevocations
            | Self::GetTrustBundle
            | Self::LiftQuarantine
            | Self::ListTiers
            | Self::GetStatus => false,
        }
    }
}

impl Rpc {
    /// Whether it may change something in the store.
    pub fn is_mutation(self) -> bool {
        match self {
            Self::BeginTask
            | Self::DelegateTask
            | Self::AdvanceTask
            | Self::SuspendTask
            | Self::ResumeTask
            | Self::CompleteTask
            | Self::FailTask
            | Self::CancelTask
            | Self::Heartbeat
            | Self::IssueCredential
            | Self::RenewCredential
            | Self::ReleaseCredential
            | Self::RevokeLease
            | Self::RevokeTask
            | Self::Quarantine
            | Self::LiftQuarantine => true,
            Self::GetTask
            | Self::ListTasks
            | Self::WatchTask
            | Self::GetLease
            | Self::ListLeases
            | Self::IntrospectCredential
            | Self::WatchRevocations
            | Self::GetTrustBundle
            | Self::ListTiers
            | Self::GetStatus => false,
        }
    }
}

/// What a caller is to the thing that it asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// An orchestrator, of no particular task.
    Orchestrator,
    /// Of the role entry that began the task's tree.
    TaskOrchestrator,
    /// The agent that the task is for.
    TaskAgent,
    /// The agent that delegated the task.
    DelegatingAgent,
    /// The holder of the lease.
    Holder,
    /// A verifier; whether the credential's audience names it is judged where the audience is known.
    Verifier,
    /// An operator, whatever the thing.
    Operator,
    /// Anybody, even without an identity.
    Everyone,
}

/// The table. The first relation that holds is the one in which the caller acts.
pub fn relations(rpc: Rpc) -> &'static [Relation] {
    use Relation::{
        DelegatingAgent, Everyone, Holder, Operator, Orchestrator, TaskAgent, TaskOrchestrator,
        Verifier,
    };
    match rpc {
        Rpc::BeginTask => &[Orchestrator],
        Rpc::DelegateTask => &[TaskOrchestrator, TaskAgent],
        Rpc::AdvanceTask | Rpc::Heartbeat => &[TaskOrchestrator],
        Rpc::SuspendTask | Rpc::ResumeTask => &[TaskOrchestrator, Operator],
        Rpc::CompleteTask | Rpc::FailTask => &[TaskOrchestrator, DelegatingAgent],
        Rpc::CancelTask => &[TaskOrchestrator, DelegatingAgent, Operator],
        Rpc::GetTask | Rpc::ListTasks | Rpc::WatchTask => {
            &[TaskOrchestrator, TaskAgent, DelegatingAgent, Operator]
        }
        Rpc::IssueCredential => &[TaskAgent],
        Rpc::RenewCredential | Rpc::ReleaseCredential => &[Holder],
        Rpc::GetLease | Rpc::ListLeases => &[Holder, TaskOrchestrator, Operator],
        Rpc::IntrospectCredential => &[Verifier, Operator],
        Rpc::WatchRevocations => &[Verifier],
        Rpc::GetTrustBundle => &[Everyone],
        Rpc::RevokeLease
        | Rpc::RevokeTask
        | Rpc::Quarantine
        | Rpc::LiftQuarantine
        | Rpc::ListTiers
        | Rpc::GetStatus => &[Operator],
    }
}

/// A caller whose identity was checked and whose roles are known.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: VerifiedCaller,
    roles: Roles,
}

impl Caller {
    /// Looks up a verified caller's roles.
    ///
    /// # Errors
    /// [`Refusal::PolicyDenied`] if it matches two agent classes.
    pub fn new(identity: VerifiedCaller, entries: &[RoleEntry]) -> Result<Self, Refusal> {
        let roles = role::roles(entries, identity.principal(), identity.claims())?;
        Ok(Self { identity, roles })
    }

    /// Who it is, as it was proved.
    pub fn identity(&self) -> &VerifiedCaller {
        &self.identity
    }

    /// What it may be.
    pub fn roles(&self) -> &Roles {
        &self.roles
    }

    /// The scopes by which a quarantine stops the caller itself: its principal, and its trust domain or issuer.
    pub fn scopes(&self) -> Vec<Scope> {
        scopes_of(self.identity.principal())
    }

    /// Those by which it stops the caller from driving a task of this role entry.
    pub fn scopes_as_driver(&self, entry: &Name) -> Vec<Scope> {
        let drives = self.roles.orchestrator.contains(entry);
        let entry = drives.then(|| Scope::Orchestrator(entry.clone()));
        self.scopes().into_iter().chain(entry).collect()
    }

    /// Whether the caller has a role that the RPC needs at all; asked before anything is looked up.
    ///
    /// # Errors
    /// [`Refusal::RoleMissing`] names the role.
    pub fn admit(&self, rpc: Rpc) -> Result<(), Refusal> {
        let relations = relations(rpc);
        if relations.iter().any(|relation| self.could_be(*relation)) {
            return Ok(());
        }
        Err(Refusal::RoleMissing(relations.first().map_or("operator", |r| role_name(*r))))
    }

    fn could_be(&self, relation: Relation) -> bool {
        match relation {
            Relation::Orchestrator | Relation::TaskOrchestrator => {
                !self.roles.orchestrator.is_empty()
            }
            Relation::TaskAgent | Relation::DelegatingAgent | Relation::Holder => {
                self.roles.agent.is_some()
            }
            Relation::Verifier => self.roles.verifier,
            Relation::Operator => self.roles.operator,
            Relation::Everyone => true,
        }
    }

    /// In which relation the caller may act on a task.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if in none.
    pub fn on_task(&self, rpc: Rpc, task: &Task) -> Result<Relation, Refusal> {
        let holds = |relation: &&Relation| self.is(**relation, task);
        relations(rpc).iter().find(holds).copied().ok_or(Refusal::NotFound("task"))
    }

    /// In which relation the caller may act on a lease. Its record alone tells: one look-up, as for a lease that never was.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if in none.
    pub fn on_lease(&self, rpc: Rpc, lease: &Lease) -> Result<Relation, Refusal> {
        let holds = |relation: &&Relation| match relation {
            Relation::Holder => self.holds(lease),
            Relation::TaskOrchestrator => self.orchestrates(lease),
            Relation::Operator => self.roles.operator,
            Relation::Orchestrator
            | Relation::TaskAgent
            | Relation::DelegatingAgent
            | Relation::Verifier
            | Relation::Everyone => false,
        };
        relations(rpc).iter().find(holds).copied().ok_or(Refusal::NotFound("lease"))
    }

    /// Whether the lease is the caller's own.
    pub fn holds(&self, lease: &Lease) -> bool {
        self.roles.agent.is_some() && lease.draft.holder == *self.identity.principal()
    }

    /// Whether the lease's task belongs to a role entry of the caller's: that entry is in its reach.
    fn orchestrates(&self, lease: &Lease) -> bool {
        let reach = |entry: &Name| Scope::Orchestrator(entry.clone()).reach();
        self.roles.orchestrator.iter().any(|entry| lease.draft.reach.contains(&reach(entry)))
    }

    fn is(&self, relation: Relation, task: &Task) -> bool {
        if !self.could_be(relation) {
            return false;
        }
        match relation {
            Relation::TaskOrchestrator => self.roles.orchestrator.contains(&task.orchestrator),
            Relation::TaskAgent => self.roles.agent.as_ref().is_some_and(|class| {
                class.name == task.class
                    && task.agent.covers(self.identity.principal(), &class.name)
            }),
            Relation::DelegatingAgent => {
                task.delegated_by.as_ref() == Some(self.identity.principal())
            }
            Relation::Operator | Relation::Everyone => true,
            Relation::Orchestrator | Relation::Holder | Relation::Verifier => false,
        }
    }
}

fn role_name(relation: Relation) -> &'static str {
    match relation {
        Relation::Orchestrator | Relation::TaskOrchestrator => "`orchestrator`",
        Relation::TaskAgent | Relation::DelegatingAgent | Relation::Holder => "`agent`",
        Relation::Verifier => "`verifier`",
        Relation::Operator | Relation::Everyone => "`operator`",
    }
}
