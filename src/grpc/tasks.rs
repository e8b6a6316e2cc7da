//! TaskService: the life of tasks, as their orchestrators drive it.

use std::sync::Arc;

use tonic::{Request, Response, Status, async_trait};

use super::authz::{admitted, admitted_to_end};
use super::convert::revocation::wait;
use super::convert::{fields, idempotency, task};
use super::recheck::Recheck;
use super::watches::Watches;
use super::{status, watch};
use crate::broker::Broker;
use crate::broker::access::Rpc;
use crate::proto::v1;
use crate::proto::v1::task_service_server::TaskService;

/// The handlers; each demands what the gate left for its own RPC.
pub(super) struct Tasks(pub(super) Arc<Broker>, pub(super) Arc<Watches>);

type Answer<M> = Result<Response<M>, Status>;

#[async_trait]
impl TaskService for Tasks {
    async fn begin_task(
        &self,
        request: Request<v1::BeginTaskRequest>,
    ) -> Answer<v1::BeginTaskResponse> {
        let (caller, request) = admitted(request, Rpc::BeginTask)?;
        let id = idempotency(&request.request_id, "BeginTask", &request)?;
        let view = self.0.begin(&caller, &id, task::begin(request)?).await?;
        Ok(Response::new(v1::BeginTaskResponse { task: Some(task::task(view)) }))
    }

    async fn delegate_task(
        &self,
        request: Request<v1::DelegateTaskRequest>,
    ) -> Answer<v1::DelegateTaskResponse> {
        let (caller, request) = admitted(request, Rpc::DelegateTask)?;
        let id = idempotency(&request.request_id, "DelegateTask", &request)?;
        let parent = fields::task_id("parent_task_id", &request.parent_task_id)?;
        let epoch = task::epoch(request.expected_epoch)?;
        let view = self.0.delegate(&caller, &id, parent, epoch, task::delegate(request)?).await?;
        Ok(Response::new(v1::DelegateTaskResponse { task: Some(task::task(view)) }))
    }

    async fn advance_task(
        &self,
        request: Request<v1::AdvanceTaskRequest>,
    ) -> Answer<v1::AdvanceTaskResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::AdvanceTask)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "AdvanceTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let verb = self.0.advance(&caller, &id, task, task::advance(request)?);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        let (task, revocation) = (Some(task::task(view)), Some(revocation));
        Ok(Response::new(v1::AdvanceTaskResponse { task, revocation }))
    }

    async fn suspend_task(
        &self,
        request: Request<v1::SuspendTaskRequest>,
    ) -> Answer<v1::SuspendTaskResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::SuspendTask)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "SuspendTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let verb = self.0.suspend(&caller, &id, task, request.reason);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        let (task, revocation) = (Some(task::task(view)), Some(revocation));
        Ok(Response::new(v1::SuspendTaskResponse { task, revocation }))
    }

    async fn resume_task(
        &self,
        request: Request<v1::ResumeTaskRequest>,
    ) -> Answer<v1::ResumeTaskResponse> {
        let (caller, request) = admitted(request, Rpc::ResumeTask)?;
        let id = idempotency(&request.request_id, "ResumeTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let epoch = task::epoch(request.expected_epoch)?;
        let view = self.0.resume(&caller, &id, task, epoch).await?;
        Ok(Response::new(v1::ResumeTaskResponse { task: Some(task::task(view)) }))
    }

    async fn complete_task(
        &self,
        request: Request<v1::CompleteTaskRequest>,
    ) -> Answer<v1::CompleteTaskResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::CompleteTask)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "CompleteTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let verb = self.0.end(&caller, &id, Rpc::CompleteTask, task, request.reason);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        let (task, revocation) = (Some(task::task(view)), Some(revocation));
        Ok(Response::new(v1::CompleteTaskResponse { task, revocation }))
    }

    async fn fail_task(
        &self,
        request: Request<v1::FailTaskRequest>,
    ) -> Answer<v1::FailTaskResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::FailTask)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "FailTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let verb = self.0.end(&caller, &id, Rpc::FailTask, task, request.reason);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        let (task, revocation) = (Some(task::task(view)), Some(revocation));
        Ok(Response::new(v1::FailTaskResponse { task, revocation }))
    }

    async fn cancel_task(
        &self,
        request: Request<v1::CancelTaskRequest>,
    ) -> Answer<v1::CancelTaskResponse> {
        let (caller, mut request, patience) = admitted_to_end(request, Rpc::CancelTask)?;
        let wait = wait(&mut request)?;
        let id = idempotency(&request.request_id, "CancelTask", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let verb = self.0.end(&caller, &id, Rpc::CancelTask, task, request.reason);
        let (view, revocation) = patience.run(&self.0, wait, verb).await?;
        let (task, revocation) = (Some(task::task(view)), Some(revocation));
        Ok(Response::new(v1::CancelTaskResponse { task, revocation }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Answer<v1::HeartbeatResponse> {
        let (caller, request) = admitted(request, Rpc::Heartbeat)?;
        let id = idempotency(&request.request_id, "Heartbeat", &request)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let view = self.0.heartbeat(&caller, &id, task).await?;
        let silence_time = view.task.silence_at.map(fields::timestamp);
        Ok(Response::new(v1::HeartbeatResponse { silence_time }))
    }

    async fn get_task(&self, request: Request<v1::GetTaskRequest>) -> Answer<v1::GetTaskResponse> {
        let (caller, request) = admitted(request, Rpc::GetTask)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let view = self.0.get_task(&caller, task).await?;
        Ok(Response::new(v1::GetTaskResponse { task: Some(task::task(view)) }))
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Answer<v1::ListTasksResponse> {
        let (caller, request) = admitted(request, Rpc::ListTasks)?;
        let state = fields::state("state", request.state)?;
        let page =
            self.0.list_tasks(&caller, request.page_size, &request.page_token, state).await?;
        Ok(Response::new(v1::ListTasksResponse {
            tasks: page.tasks.into_iter().map(task::task).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    type WatchTaskStream = watch::Answers;

    async fn watch_task(
        &self,
        mut request: Request<v1::WatchTaskRequest>,
    ) -> Answer<Self::WatchTaskStream> {
        let recheck = request.extensions_mut().remove::<Recheck>();
        let recheck = recheck.ok_or_else(status::not_admitted)?;
        let (caller, request) = admitted(request, Rpc::WatchTask)?;
        let task = fields::task_id("task_id", &request.task_id)?;
        let principal = caller.identity().principal().as_str();
        let place = self.1.open(principal, task).map_err(status::too_many_watches)?;
        watch::watch(self.0.clone(), &caller, recheck, place, task).await.map(Response::new)
    }
}
