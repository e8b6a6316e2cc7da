//! begin and delegate: a task comes to be.

use crate::broker::access::{Caller, Relation, Rpc};
use crate::broker::commit::{Attempt, Committed};
use crate::broker::error::BrokerError;
use crate::broker::request::{Deadline, Idempotency, TaskSpec};
use crate::broker::{Broker, TaskView};
use crate::domain::decide::{self, SILENT_INTERVALS};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::{Partition, TaskId};
use crate::domain::line::Line;
use crate::domain::path::Counter;
use crate::domain::principal::Name;
use crate::domain::refusal::Refusal;
use crate::domain::role::{AgentClass, class_of};
use crate::domain::scope::{Reach, Scope};
use crate::domain::task::{Agent, Pin, State, Task};
use crate::domain::tier::Tier;
use crate::domain::time::Stamp;
use crate::policy::{self, Action, Question};
use crate::store::{Commit, Guard, Lane, RecordKey, Replay, Subject, codec};

impl Broker {
    /// Begins a root task.
    ///
    /// # Errors
    /// The caller is no orchestrator, the request is out of bounds, the agent's class may not use the tier, policy says no,
    /// or a quarantine blocks it.
    pub async fn begin(
        &self,
        caller: &Caller,
        id: &Idempotency,
        spec: TaskSpec,
    ) -> Result<TaskView, BrokerError> {
        caller.admit(Rpc::BeginTask)?;
        let entry =
            caller.roles().orchestrator.first().ok_or(Refusal::RoleMissing("orchestrator"))?;
        let principal = caller.identity().principal().as_str();
        let count = self.parts.upkeep.constants().partitions;
        let partition = Partition::of_root(principal, &id.request_id(), count);
        let tier = spec.tier.clone().ok_or_else(|| {
            Refusal::invalid("tier", "name a tier; ListTiers and the configuration have them")
        })?;
        let spec_deadline = spec.deadline;
        self.must_have_heard(partition).await?;
        let task = self.new_task(caller, id, partition, entry.clone(), spec, &tier)?;
        if task.deadline <= self.store_now() || matches!(spec_deadline, Deadline::Parent) {
            let problem = "a root task needs a `deadline` in the future, or a `duration`";
            return Err(Refusal::invalid("deadline", problem).into());
        }
        let line = Line::new(vec![], task.clone()).ok_or(Refusal::NotFound("task"))?;
        self.ask_about(caller, &task, Action::Begin).await?;

        let mut commit = Commit::new(partition, Lane::Ordinary);
        commit.guards = vec![Guard { key: RecordKey::Task(task.id), version: None }];
        commit.unblocked = task_reach(caller, &line);
        commit.writes = vec![self.write(task.clone())];
        commit.replay = Some(self.begin_replay(caller, id, &task));
        let event = self.event(EventKind::TaskBegun, Some((caller, id)), &task.purpose)?;
        commit.event = Some(Event { task: Some(task.id), state: Some(State::Active), ..event });
        match self.attempt(commit).await? {
            Attempt::Settled(Committed::Done(receipt)) => {
                Ok(self.view_of(codec::stamped(task, receipt.origin.stamp), &line))
            }
            Attempt::Settled(Committed::Replayed(answer)) => self.replayed(answer.subject, &line),
            Attempt::Again | Attempt::Overdue => Err(BrokerError::Contended),
        }
    }

    /// Begins a child under a task's living branch.
    ///
    /// # Errors
    /// The parent is not the caller's, not active or in another epoch; the grant is wider; the tree would grow too deep or
    /// too wide; policy says no; or a quarantine blocks it.
    pub async fn delegate(
        &self,
        caller: &Caller,
        id: &Idempotency,
        parent: TaskId,
        expected_epoch: u64,
        spec: TaskSpec,
    ) -> Result<TaskView, BrokerError> {
        caller.admit(Rpc::DelegateTask)?;
        let (line, relation) = self.line_for(caller, Rpc::DelegateTask, parent).await?;
        if let Some((answer, _)) =
            self.answered((parent.partition(), Lane::Ordinary), caller, id).await?
        {
            return self.replayed(answer.subject, &line);
        }
        let entry = line.own().orchestrator.clone();
        let tier = spec.tier.clone().unwrap_or_else(|| line.own().tier.clone());
        let mut child = self.new_task(caller, id, parent.partition(), entry, spec, &tier)?;
        if relation == Relation::TaskAgent {
            child.delegated_by = Some(caller.identity().principal().clone());
        }
        let limits = (self.settings.limits.depth, self.settings.limits.fan_out);
        let child = &child;
        let built = self.commit_on(line, |line| async move {
            let line = &*line;
            // A handover since the line was cached takes the right to delegate with it.
            caller.on_task(Rpc::DelegateTask, line.own())?;
            if relation == Relation::TaskAgent {
                decide::pin(line.own(), pin_of(caller))?;
            }
            let times = (self.floor(parent.partition()), self.store_now());
            let change = decide::delegate(line, child.clone(), expected_epoch, limits, times)?;
            if change.task.deadline <= self.store_now() {
                return Err(Refusal::invalid("deadline", "lies in the past").into());
            }
            self.ask_about(caller, &change.task, Action::Delegate).await?;
            let ancestors: Vec<Task> = line.tasks().cloned().collect();
            let below =
                Line::new(ancestors, change.task.clone()).ok_or(Refusal::NotFound("task"))?;
            let mut commit = self.change_commit((line, times.0), &change, Some((caller, id)))?;
            commit.guards.push(Guard { key: RecordKey::Task(change.task.id), version: None });
            commit.before = line.due_at();
            commit.unblocked = task_reach(caller, &below);
            commit.replay = Some(self.begin_replay(caller, id, &change.task));
            Ok((commit, below))
        });
        let (committed, below) = built.await?;
        match committed {
            Committed::Done(receipt) => {
                let task = codec::stamped(below.own().clone(), receipt.origin.stamp);
                Ok(self.view_of(task, &below))
            }
            Committed::Replayed(answer) => self.replayed(answer.subject, &below),
        }
    }

    fn begin_replay(&self, caller: &Caller, id: &Idempotency, task: &Task) -> Replay {
        let subject = Subject::Task(Box::new(task.clone()));
        Replay { keep_until: None, ..self.replay(caller, id, subject) }
    }

    fn replayed<L>(&self, subject: Subject<L>, line: &Line) -> Result<TaskView, BrokerError> {
        match subject {
            Subject::Task(task) => Ok(self.view_of(*task, line)),
            Subject::Lease(_) | Subject::Scope(_) => Err(Refusal::RequestIdReused.into()),
        }
    }

    async fn ask_about(
        &self,
        caller: &Caller,
        task: &Task,
        action: Action,
    ) -> Result<(), BrokerError> {
        let question = Question {
            action,
            principal: caller.identity().principal(),
            instance: caller.identity().instance(),
            task,
            audience: "",
            asked: &task.grant,
            now: self.now(),
        };
        policy::decide(&*self.parts.policy, &question).await?;
        Ok(())
    }

    fn new_task(
        &self,
        caller: &Caller,
        id: &Idempotency,
        partition: Partition,
        orchestrator: Name,
        spec: TaskSpec,
        tier: &Name,
    ) -> Result<Task, BrokerError> {
        spec.check()?;
        let class = class_of(&self.settings.roles, &spec.agent)?;
        let tier = self.tier_for(class, tier)?;
        let now = self.store_now();
        let instances = spec.instances.max(1);
        if instances > self.settings.limits.instances {
            let most = self.settings.limits.instances;
            return Err(Refusal::invalid("instances", format!("at most {most}")).into());
        }
        Ok(Task {
            id: TaskId::new(partition, u128::from_be_bytes(self.random()?)),
            version: Stamp::ZERO,
            lineage: Vec::new(),
            orchestrator,
            agent: spec.agent,
            class: class.name.clone(),
            purpose: spec.purpose,
            owner: if spec.owner.is_empty() { class.owner.clone() } else { spec.owner },
            labels: spec.labels,
            grant: spec.grant,
            tier: tier.name.clone(),
            freshness: tier.freshness,
            step: spec.step,
            checkpoint: spec.checkpoint,
            deadline: match spec.deadline {
                Deadline::At(deadline) => deadline,
                Deadline::After(span) => now.plus(span),
                Deadline::Parent => crate::domain::time::INFINITY,
            },
            heartbeat: spec.heartbeat,
            silence_at: spec.heartbeat.map(|every| now.plus(every.times(SILENT_INTERVALS))),
            on_silence: tier.on_silence,
            instances,
            pins: Vec::new(),
            state: State::Active,
            epoch: Counter::FIRST,
            branch: Counter::FIRST,
            branch_floor: Counter::FIRST,
            live_children: 0,
            reason: String::new(),
            suspended_by_operator: false,
            begun: None,
            commanded: None,
            delegated_by: None,
            answer_key: self.answer_key(caller, id),
        })
    }

    /// The tier of that name, if the class may use it.
    pub(super) fn tier_for(&self, class: &AgentClass, tier: &Name) -> Result<&Tier, Refusal> {
        if !class.tiers.contains(tier) {
            return Err(Refusal::PolicyDenied(format!(
                "agent class `{}` may not use tier `{tier}`; an operator can add it to the class's `tiers`",
                class.name
            )));
        }
        self.settings.tiers.iter().find(|known| known.name == *tier).ok_or_else(|| {
            Refusal::invalid("tier", format!("there is no tier `{tier}` in the configuration"))
        })
    }
}

/// The instance that a caller is.
pub(super) fn pin_of(caller: &Caller) -> Pin {
    let identity = caller.identity();
    Pin { principal: identity.principal().clone(), instance: identity.instance().to_owned() }
}

/// Scopes that reach a task before anybody holds a credential of it, and the caller who begins it.
fn task_reach(caller: &Caller, line: &Line) -> Vec<Reach> {
    let task = line.own();
    let agent = match &task.agent {
        Agent::One(principal) => Some(principal.clone()),
        Agent::Pattern(_) | Agent::Class(_) => None,
    };
    let mut reach = line.reach(agent.as_ref());
    reach.push(Scope::Tier(task.tier.clone()).reach());
    reach.push(Scope::All.reach());
    reach.extend(caller.scopes().iter().map(Scope::reach));
    reach
}
