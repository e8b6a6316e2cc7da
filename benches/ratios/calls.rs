//! Who calls the broker: an orchestrator that begins and ends tasks, and agents that ask for tokens.

use leasehold::playground::{AUDIENCE, Workload};
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::issue_credential_request::Credential as Wanted;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::proto::v1::{
    AccessTokenRequest, AdvanceTaskRequest, BeginTaskRequest, CompleteTaskRequest, Enforcement,
    IssueCredentialRequest, IssueCredentialResponse, Revocation,
};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::Outcome;
use crate::load::Caller;
use crate::world::INSTANCE;

const HALF_AN_HOUR: i64 = 1_800;

/// Begins and ends tasks.
#[derive(Clone)]
pub(crate) struct Orchestrator {
    client: TaskServiceClient<Channel>,
}

impl Orchestrator {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { client: TaskServiceClient::new(channel) }
    }

    /// The id of a new task of the agent's.
    pub(crate) async fn begin(&mut self) -> Outcome<String> {
        let begun = self.client.begin_task(task()).await?.into_inner().task;
        Ok(begun.ok_or("no task was begun")?.task_id)
    }

    /// Ends a task, and waits for so much.
    pub(crate) async fn complete(
        &mut self,
        task: &str,
        wait_for: Enforcement,
    ) -> Outcome<Revocation> {
        let request = CompleteTaskRequest {
            request_id: Uuid::new_v4().to_string(),
            task_id: task.to_owned(),
            reason: "the summary is written".to_owned(),
            wait_for: wait_for.into(),
            ..CompleteTaskRequest::default()
        };
        let done = self.client.complete_task(request).await?.into_inner();
        done.revocation.ok_or_else(|| "nothing was revoked".into())
    }

    /// Ends a task's credentials of this epoch, and waits for so much.
    pub(crate) async fn advance(
        &mut self,
        task: &str,
        epoch: u64,
        wait_for: Enforcement,
    ) -> Outcome<Revocation> {
        let request = AdvanceTaskRequest {
            request_id: Uuid::new_v4().to_string(),
            task_id: task.to_owned(),
            expected_epoch: epoch,
            wait_for: wait_for.into(),
            ..AdvanceTaskRequest::default()
        };
        let done = self.client.advance_task(request).await?.into_inner();
        done.revocation.ok_or_else(|| "nothing was revoked".into())
    }
}

/// Asks for tokens for its task, bound to its certificate.
#[derive(Clone)]
pub(crate) struct Agent {
    client: CredentialServiceClient<Channel>,
    task_id: String,
}

impl Agent {
    pub(crate) fn new(channel: Channel, task_id: String) -> Self {
        Self { client: CredentialServiceClient::new(channel), task_id }
    }

    /// The same agent, for another task.
    pub(crate) fn of(&self, task_id: String) -> Self {
        Self { client: self.client.clone(), task_id }
    }

    pub(crate) fn request(&self) -> IssueCredentialRequest {
        IssueCredentialRequest {
            request_id: Uuid::new_v4().to_string(),
            task_id: self.task_id.clone(),
            audience: AUDIENCE.to_owned(),
            credential: Some(Wanted::AccessToken(AccessTokenRequest::default())),
            ..IssueCredentialRequest::default()
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: IssueCredentialRequest,
    ) -> Outcome<IssueCredentialResponse> {
        Ok(self.client.issue_credential(request).await?.into_inner())
    }

    /// A new token.
    pub(crate) async fn issue(&mut self) -> Outcome<String> {
        let issued = self.send(self.request()).await?;
        match issued.credential {
            Some(credential) if !credential.access_token.is_empty() => Ok(credential.access_token),
            _ => Err("the broker issued no token".into()),
        }
    }
}

impl Caller for Agent {
    async fn run(&mut self) -> Outcome<()> {
        self.issue().await.map(drop)
    }
}

fn task() -> BeginTaskRequest {
    let actions = format!(
        r#"[{{"type":"resource_access","audience":"{AUDIENCE}","actions":["read","annotate"]}}]"#
    );
    BeginTaskRequest {
        request_id: Uuid::new_v4().to_string(),
        agent: Workload::Summarizer.spiffe_id(INSTANCE),
        purpose: "Summarize the quarterly report".to_owned(),
        authorization_details: actions,
        tier: "standard".to_owned(),
        duration: Some(prost_types::Duration { seconds: HALF_AN_HOUR, nanos: 0 }),
        ..BeginTaskRequest::default()
    }
}
