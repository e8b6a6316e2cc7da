//! Ids are names and not capabilities: what is somebody else's looks like what never was.

use leasehold::proto::v1;
use tonic::{Code, Response, Status};

use super::site::{AGENT, GRANT, OTHER_AGENT, OTHER_ORCHESTRATOR, Site, request_id};

const UNKNOWN_TASK: &str = "tsk_0000000000000000000000000009";
const UNKNOWN_LEASE: &str = "lse_0000000000000000000000000009";

/// What a refused caller sees of a thing.
fn seen<M: std::fmt::Debug>(answer: Result<Response<M>, Status>) -> (Code, String, Vec<u8>) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

#[tokio::test]
async fn class_03_task_of_another_orchestrator_is_not_there_for_any_rpc() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut client = site.tasks(OTHER_ORCHESTRATOR);
    for id in [UNKNOWN_TASK, &task.task_id] {
        let (task_id, reason, expected_epoch) = (id.to_owned(), String::new(), 1);
        let mut answers = Vec::new();
        let request_id = request_id;
        let request = v1::AdvanceTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            expected_epoch,
            ..Default::default()
        };
        answers.push(seen(client.advance_task(request).await));
        let request = v1::SuspendTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            reason: reason.clone(),
            ..Default::default()
        };
        answers.push(seen(client.suspend_task(request).await));
        let request = v1::ResumeTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            expected_epoch,
        };
        answers.push(seen(client.resume_task(request).await));
        let request = v1::CompleteTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            reason: reason.clone(),
            ..Default::default()
        };
        answers.push(seen(client.complete_task(request).await));
        let request = v1::FailTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            reason: reason.clone(),
            ..Default::default()
        };
        answers.push(seen(client.fail_task(request).await));
        let request = v1::CancelTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            reason,
            ..Default::default()
        };
        answers.push(seen(client.cancel_task(request).await));
        let request = v1::HeartbeatRequest { request_id: request_id(), task_id: task_id.clone() };
        answers.push(seen(client.heartbeat(request).await));
        let request = v1::DelegateTaskRequest {
            request_id: request_id(),
            parent_task_id: task_id.clone(),
            expected_epoch,
            agent: AGENT.into(),
            authorization_details: GRANT.into(),
            ..Default::default()
        };
        answers.push(seen(client.delegate_task(request).await));
        answers.push(seen(client.get_task(v1::GetTaskRequest { task_id }).await));
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(answers[0].0, Code::NotFound);
    }
    let after = site.get(&task).await;
    assert_eq!(
        (after.state, after.epoch, after.update_time),
        (task.state, task.epoch, task.update_time)
    );
    let listed = client.list_tasks(v1::ListTasksRequest::default()).await.unwrap().into_inner();
    assert!(listed.tasks.is_empty());
}

#[tokio::test]
async fn class_03_lease_of_another_agent_is_not_there_for_any_rpc() {
    let site = Site::start().await;
    let task = site.begin().await;
    let lease = site.issue(&task).await.lease.unwrap();
    let mut client = site.credentials(OTHER_AGENT);
    let mut unknown_and_foreign = Vec::new();
    for id in [UNKNOWN_LEASE, &lease.lease_id] {
        let lease_id = id.to_owned();
        let request = v1::RenewCredentialRequest {
            request_id: request_id(),
            lease_id: lease_id.clone(),
            ..Default::default()
        };
        let renewed = seen(client.renew_credential(request).await);
        let request =
            v1::ReleaseCredentialRequest { request_id: request_id(), lease_id: lease_id.clone() };
        let released = seen(client.release_credential(request).await);
        let got = seen(client.get_lease(v1::GetLeaseRequest { lease_id }).await);
        assert_eq!((&renewed, &released), (&got, &got));
        assert_eq!(got.0, Code::NotFound);
        unknown_and_foreign.push(got);
    }
    assert_eq!(unknown_and_foreign[0], unknown_and_foreign[1]);
    let request = v1::GetLeaseRequest { lease_id: lease.lease_id.clone() };
    let own = site.credentials(AGENT).get_lease(request).await.unwrap().into_inner();
    assert_eq!(own.lease.unwrap().state(), v1::LeaseState::Active, "nothing happened to it");
}

#[tokio::test]
async fn class_03_task_of_another_agent_issues_nothing_and_says_nothing() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut client = site.credentials(OTHER_AGENT);
    let foreign = client.issue_credential(super::site::token_request(&task)).await;
    let unknown = v1::Task { task_id: UNKNOWN_TASK.into(), ..task.clone() };
    let unknown = client.issue_credential(super::site::token_request(&unknown)).await;
    assert_eq!(seen(foreign), seen(unknown));
    let request = v1::ListLeasesRequest { task_id: task.task_id, ..Default::default() };
    assert_eq!(client.list_leases(request).await.unwrap_err().code(), Code::NotFound);
}
