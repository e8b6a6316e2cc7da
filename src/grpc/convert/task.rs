//! Tasks: requests to begin, delegate and advance one, and how one is shown.

use prost_types::{Duration, Timestamp};

use super::fields;
use crate::broker::request::{Deadline, TaskSpec};
use crate::broker::{AdvanceRequest, TaskView};
use crate::domain::refusal::Refusal;
use crate::domain::task::State;
use crate::domain::time::Span;
use crate::proto::v1;

pub(in crate::grpc) fn begin(request: v1::BeginTaskRequest) -> Result<TaskSpec, Refusal> {
    let deadline = match (request.deadline, request.duration) {
        (None, None) => return Err(Refusal::invalid("deadline", "give `deadline` or `duration`")),
        given => deadline(given)?,
    };
    let grant = fields::grant(&request.authorization_details)?;
    let tier = fields::name("tier", &request.tier)?;
    Ok(TaskSpec {
        agent: fields::agent(&request.agent)?,
        purpose: request.purpose,
        owner: request.owner,
        labels: request.labels,
        grant: grant.ok_or_else(missing_grant)?,
        tier: Some(tier.ok_or_else(|| Refusal::invalid("tier", "name a tier"))?),
        deadline,
        heartbeat: heartbeat(request.heartbeat_interval)?,
        step: request.step,
        checkpoint: request.checkpoint,
        instances: request.instances,
    })
}

pub(in crate::grpc) fn delegate(request: v1::DelegateTaskRequest) -> Result<TaskSpec, Refusal> {
    Ok(TaskSpec {
        agent: fields::agent(&request.agent)?,
        purpose: request.purpose,
        owner: request.owner,
        labels: request.labels,
        grant: fields::grant(&request.authorization_details)?.ok_or_else(missing_grant)?,
        tier: fields::name("tier", &request.tier)?,
        deadline: deadline((request.deadline, request.duration))?,
        heartbeat: heartbeat(request.heartbeat_interval)?,
        step: request.step,
        checkpoint: request.checkpoint,
        instances: request.instances,
    })
}

pub(in crate::grpc) fn advance(request: v1::AdvanceTaskRequest) -> Result<AdvanceRequest, Refusal> {
    let grant = match request.authorization_details.as_deref() {
        None => None,
        Some(json) => Some(fields::grant(json)?.ok_or_else(missing_grant)?),
    };
    Ok(AdvanceRequest {
        expected_epoch: epoch(request.expected_epoch)?,
        grant,
        step: request.step,
        checkpoint: request.checkpoint,
        agent: request.agent.as_deref().map(fields::agent).transpose()?,
        keep_children: request.keep_children,
    })
}

/// The epoch that a caller means; counters begin at 1.
pub(in crate::grpc) fn epoch(number: u64) -> Result<u64, Refusal> {
    if number == 0 {
        return Err(Refusal::invalid("expected_epoch", "the task's epoch as you know it, from 1"));
    }
    Ok(number)
}

fn deadline(given: (Option<Timestamp>, Option<Duration>)) -> Result<Deadline, Refusal> {
    match given {
        (Some(time), None) => fields::stamp("deadline", time).map(Deadline::At),
        (None, Some(length)) => fields::span("duration", length).map(Deadline::After),
        (None, None) => Ok(Deadline::Parent),
        (Some(_), Some(_)) => {
            Err(Refusal::invalid("duration", "stands beside `deadline`; give one of them"))
        }
    }
}

fn heartbeat(interval: Option<Duration>) -> Result<Option<Span>, Refusal> {
    interval.map(|length| fields::span("heartbeat_interval", length)).transpose()
}

fn missing_grant() -> Refusal {
    Refusal::AuthorizationDetailsInvalid("empty; name at least one entry".into())
}

/// A task as the contract shows it, with its effective state.
pub(in crate::grpc) fn task(view: TaskView) -> v1::Task {
    let TaskView { task, standing } = view;
    v1::Task {
        task_id: task.id.to_string(),
        root_task_id: task.root().to_string(),
        parent_task_id: task.parent().map(|hop| hop.task.to_string()).unwrap_or_default(),
        state: state(standing.state).into(),
        cause_task_id: standing.cause.map(|task| task.to_string()).unwrap_or_default(),
        epoch: task.epoch.get(),
        branch: task.branch.get(),
        branch_floor: task.branch_floor.get(),
        orchestrator: task.orchestrator.to_string(),
        agent: task.agent.to_string(),
        agent_class: task.class.to_string(),
        authorization_details: task.grant.to_json(),
        tier: task.tier.to_string(),
        freshness: Some(fields::duration(task.freshness)),
        begin_time: task.begun.map(fields::timestamp),
        update_time: Some(fields::timestamp(task.version)),
        deadline: Some(fields::timestamp(task.deadline)),
        end_time: task.ended_at().map(fields::timestamp),
        heartbeat_interval: task.heartbeat.map(fields::duration),
        depth: u32::try_from(task.depth()).unwrap_or(u32::MAX),
        instances: task.instances,
        live_children: task.live_children,
        suspended_by_operator: task.suspended_by_operator,
        purpose: task.purpose,
        owner: task.owner,
        labels: task.labels,
        step: task.step,
        checkpoint: task.checkpoint,
        reason: task.reason,
    }
}

fn state(state: State) -> v1::TaskState {
    match state {
        State::Active => v1::TaskState::Active,
        State::Suspended => v1::TaskState::Suspended,
        State::Completed => v1::TaskState::Completed,
        State::Failed => v1::TaskState::Failed,
        State::Cancelled => v1::TaskState::Cancelled,
        State::Expired => v1::TaskState::Expired,
        State::Revoked => v1::TaskState::Revoked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANT: &str = r#"[{"type":"resource_access","audience":"https://a","actions":["read"]}]"#;

    fn request() -> v1::BeginTaskRequest {
        v1::BeginTaskRequest {
            agent: "spiffe://prod.example/agents/a".into(),
            authorization_details: GRANT.into(),
            tier: "standard".into(),
            duration: Some(Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        }
    }

    /// The field that a refusal names.
    fn field(change: impl FnOnce(&mut v1::BeginTaskRequest)) -> &'static str {
        let mut request = request();
        change(&mut request);
        match begin(request).unwrap_err() {
            Refusal::RequestInvalid { field, .. } => field,
            Refusal::AuthorizationDetailsInvalid(_) => "authorization_details",
            other => panic!("{other}"),
        }
    }

    #[test]
    fn class_01_what_is_missing_or_malformed_is_refused_by_its_name() {
        begin(request()).unwrap();
        assert_eq!(field(|r| r.agent.clear()), "agent");
        assert_eq!(field(|r| r.agent = "*".into()), "agent");
        assert_eq!(field(|r| r.tier.clear()), "tier");
        assert_eq!(field(|r| r.tier = "Standard".into()), "tier");
        assert_eq!(field(|r| r.authorization_details.clear()), "authorization_details");
        assert_eq!(field(|r| r.authorization_details = "[]".into()), "authorization_details");
        assert_eq!(field(|r| r.duration = None), "deadline");
        assert_eq!(field(|r| r.duration = Some(Duration::default())), "duration");
        assert_eq!(field(|r| r.deadline = Some(Timestamp::default())), "duration");
        let interval = Some(Duration { seconds: -1, nanos: 0 });
        assert_eq!(field(|r| r.heartbeat_interval = interval), "heartbeat_interval");
    }

    #[test]
    fn class_21_empty_grant_in_an_advance_is_refused_and_not_taken_for_as_before() {
        let request = |details: Option<&str>| v1::AdvanceTaskRequest {
            expected_epoch: 1,
            authorization_details: details.map(Into::into),
            ..Default::default()
        };
        assert!(advance(request(Some(""))).is_err());
        assert!(advance(request(None)).unwrap().grant.is_none());
        assert!(advance(v1::AdvanceTaskRequest::default()).is_err(), "no epoch expected");
    }
}
