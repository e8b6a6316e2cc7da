//! What the workloads do, each with what must come of it.

use std::collections::HashMap;
use std::future::Future;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tonic::{Response, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use super::client::{ClientIdentity, web_client};
use super::setup::Stage;
use super::timeline::{Mishap, Seen};
use crate::playground::{AUDIENCE, Workload};
use crate::proto::v1::issue_credential_request::Credential as Wanted;
use crate::proto::v1::{
    AccessTokenRequest, AdvanceTaskRequest, BeginTaskRequest, CompleteTaskRequest,
    DelegateTaskRequest, Enforcement, IssueCredentialRequest, IssueCredentialResponse,
    LiftQuarantineRequest, QuarantineRequest, Revocation, Task, TaskState, TtlClamp,
    X509SvidRequest,
};

const MINUTES: i64 = 60;

/// What the documents API answers; a refusal for another reason is not the one that a step is about.
pub(super) const ACCEPTED: &str = "200";
/// To credentials that are dead.
pub(super) const DEAD: &str = "401: the credential is not active";
/// To a token that is shown with another key than its own.
pub(super) const STOLEN: &str = "401: the token is bound to another key";

/// What the agent holds of one epoch.
pub(super) struct Held {
    pub(super) token: String,
    pub(super) certificate: reqwest::Client,
}

/// Everything that can be done on a stage.
pub(super) struct Acts<'a> {
    pub(super) stage: &'a Stage,
}

impl<'a> Acts<'a> {
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self { stage }
    }

    /// Where all this happens, in a line.
    pub(super) fn scene(&self) -> String {
        let Stage { grpc, http, store, .. } = self.stage;
        let api = self.stage.api.address;
        format!(
            "Broker: gRPC {grpc}, HTTPS {http}, {store}.\n  Documents API: HTTPS {api}. Every connection is mutual TLS."
        )
    }

    /// These actions on the documents, as RFC 9396 says it.
    pub(super) fn grant(actions: &[&str]) -> String {
        let entry = json!({ "type": "resource_access", "audience": AUDIENCE, "actions": actions });
        Value::Array(vec![entry]).to_string()
    }

    pub(super) async fn begin(&self, actions: &[&str]) -> Result<Seen<Task>, Mishap> {
        let request = BeginTaskRequest {
            request_id: request_id(),
            agent: self.stage.id_of(Workload::Summarizer),
            purpose: "Summarize the quarterly report".to_owned(),
            authorization_details: Self::grant(actions),
            tier: "standard".to_owned(),
            duration: Some(duration(10 * MINUTES)),
            ..BeginTaskRequest::default()
        };
        let answer = self.stage.orchestrator.tasks().begin_task(request).await;
        let task = task(done(answer)?.task)?;
        expect("an active task in epoch 1", &describe(&task), "active, epoch 1")?;
        let note = format!("may {}, for 10 minutes; epoch 1", actions.join(" and "));
        Ok(Seen { value: task, note })
    }

    pub(super) async fn advance(&self, request: AdvanceTaskRequest) -> Result<Seen<()>, Mishap> {
        let next = format!("active, epoch {}", request.expected_epoch + 1);
        let request = AdvanceTaskRequest { request_id: request_id(), ..request };
        let answer = done(self.stage.orchestrator.tasks().advance_task(request).await)?;
        let task = task(answer.task)?;
        expect("the next epoch", &describe(&task), &next)?;
        fenced(answer.revocation.as_ref())?;
        Ok(Seen { value: (), note: format!("epoch {}; FENCED", task.epoch) })
    }

    pub(super) async fn complete(&self, task_id: &str) -> Result<Seen<Revocation>, Mishap> {
        let request = CompleteTaskRequest {
            request_id: request_id(),
            task_id: task_id.to_owned(),
            reason: "the summary is written".to_owned(),
            ..Default::default()
        };
        let answer = done(self.stage.orchestrator.tasks().complete_task(request).await)?;
        let state = task(answer.task)?.state();
        expect("a completed task", state.as_str_name(), TaskState::Completed.as_str_name())?;
        let revocation = fenced(answer.revocation.as_ref())?.clone();
        Ok(Seen { value: revocation, note: "FENCED".to_owned() })
    }

    pub(super) async fn delegate(
        &self,
        parent: &str,
        actions: &[&str],
    ) -> Result<Seen<Task>, Mishap> {
        let request = self.delegation(parent, actions);
        let answer = self.stage.summarizer.tasks().delegate_task(request).await;
        let task = task(done(answer)?.task)?;
        expect("a child", &task.parent_task_id, parent)?;
        Ok(Seen { value: task, note: format!("may {}, for 2 minutes", actions.join(" and ")) })
    }

    pub(super) async fn refused_delegation(
        &self,
        parent: &str,
        actions: &[&str],
    ) -> Result<Seen<()>, Mishap> {
        let request = self.delegation(parent, actions);
        refusal(self.stage.summarizer.tasks().delegate_task(request), "GRANT_WIDENS").await
    }

    fn delegation(&self, parent: &str, actions: &[&str]) -> DelegateTaskRequest {
        DelegateTaskRequest {
            request_id: request_id(),
            parent_task_id: parent.to_owned(),
            expected_epoch: 2,
            agent: self.stage.id_of(Workload::Researcher),
            purpose: "Find the numbers behind the report".to_owned(),
            authorization_details: Self::grant(actions),
            duration: Some(duration(2 * MINUTES)),
            ..DelegateTaskRequest::default()
        }
    }

    pub(super) async fn token(&self, who: Workload, task_id: &str) -> Result<Seen<String>, Mishap> {
        let answer =
            self.stage.caller(who).credentials().issue_credential(for_token(task_id)).await;
        let answer = done(answer)?;
        let note = format!("{}; bound to the agent's own key", lifetime(&answer));
        let credential = answer.credential.unwrap_or_default();
        match credential.access_token.as_str() {
            "" => Err(Mishap::Failed("the answer holds no token".to_owned())),
            token => Ok(Seen { value: token.to_owned(), note }),
        }
    }

    pub(super) async fn refused_token(
        &self,
        who: Workload,
        task_id: &str,
        reason: &str,
    ) -> Result<Seen<()>, Mishap> {
        let mut credentials = self.stage.caller(who).credentials();
        refusal(credentials.issue_credential(for_token(task_id)), reason).await
    }

    /// A certificate for a key that is made here, and a client that shows it.
    pub(super) async fn certificate(
        &self,
        who: Workload,
        task_id: &str,
    ) -> Result<Seen<reqwest::Client>, Mishap> {
        let key = KeyPair::generate().map_err(failed)?;
        let csr = CertificateParams::default().serialize_request(&key).map_err(failed)?;
        let csr_der = csr.der().to_vec();
        let wanted = Wanted::X509Svid(X509SvidRequest { csr_der });
        let request = issue_request(task_id, wanted);
        let answer = done(self.stage.caller(who).credentials().issue_credential(request).await)?;
        let note = format!("{}; the key never left the agent", lifetime(&answer));
        let chain = answer.credential.unwrap_or_default().certificate_chain_der;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let client = web_client(&self.stage.root_file(), ClientIdentity { chain, key });
        Ok(Seen { value: client.map_err(failed)?, note })
    }

    /// Shows a token to the documents API over the connection of `who`.
    pub(super) async fn call_with_token(
        &self,
        who: Workload,
        token: &str,
        expected: &str,
    ) -> Result<Seen<()>, Mishap> {
        let request = self.stage.caller(who).web.get(self.url("/documents")).bearer_auth(token);
        answered(request, expected).await
    }

    /// Shows a certificate to the documents API.
    pub(super) async fn call_with_certificate(
        &self,
        client: &reqwest::Client,
        expected: &str,
    ) -> Result<Seen<()>, Mishap> {
        answered(client.get(self.url("/certificate/documents")), expected).await
    }

    pub(super) async fn quarantine(&self) -> Result<Seen<()>, Mishap> {
        let request = QuarantineRequest {
            request_id: request_id(),
            scope: self.scope(),
            reason: "it reads what it should not".to_owned(),
            ..Default::default()
        };
        let answer = done(self.stage.operator.operator().quarantine(request).await)?;
        fenced(answer.revocation.as_ref())?;
        Ok(Seen { value: (), note: "FENCED: whatever it holds is dead".to_owned() })
    }

    pub(super) async fn lift(&self) -> Result<Seen<()>, Mishap> {
        let request = LiftQuarantineRequest {
            request_id: request_id(),
            scope: self.scope(),
            reason: "it was a false alarm".to_owned(),
        };
        done(self.stage.operator.operator().lift_quarantine(request).await)?;
        Ok(Seen { value: (), note: String::new() })
    }

    fn scope(&self) -> String {
        format!("principal:{}", self.stage.id_of(Workload::Summarizer))
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.stage.api.address)
    }
}

fn for_token(task_id: &str) -> IssueCredentialRequest {
    issue_request(task_id, Wanted::AccessToken(AccessTokenRequest::default()))
}

fn issue_request(task_id: &str, wanted: Wanted) -> IssueCredentialRequest {
    IssueCredentialRequest {
        request_id: request_id(),
        task_id: task_id.to_owned(),
        audience: AUDIENCE.to_owned(),
        credential: Some(wanted),
        ..IssueCredentialRequest::default()
    }
}

fn done<T>(answer: Result<Response<T>, Status>) -> Result<T, Mishap> {
    answer.map(Response::into_inner).map_err(|status| Mishap::Failed(status.message().to_owned()))
}

/// A call that must be refused for this reason.
async fn refusal<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
    reason: &str,
) -> Result<Seen<()>, Mishap> {
    let found = match call.await {
        Ok(_) => "success".to_owned(),
        Err(status) => status.get_details_error_info().map_or_else(
            || format!("{:?}: {}", status.code(), status.message()),
            |info| info.reason,
        ),
    };
    expect(reason, &found, reason)?;
    Ok(Seen { value: (), note: found })
}

async fn answered(request: reqwest::RequestBuilder, expected: &str) -> Result<Seen<()>, Mishap> {
    let (found, _) = answer(request).await?;
    expect(expected, &found, expected)?;
    Ok(Seen { value: (), note: found })
}

/// The status of an answer, with the reason if it says one; and what else is in it.
pub(super) async fn answer(
    request: reqwest::RequestBuilder,
) -> Result<(String, HashMap<String, Value>), Mishap> {
    let answer = request.send().await.map_err(failed)?;
    let found = answer.status().as_u16();
    let body: HashMap<String, Value> = answer.json().await.unwrap_or_default();
    let why = body.get("error").and_then(Value::as_str).unwrap_or_default();
    let found = if why.is_empty() { found.to_string() } else { format!("{found}: {why}") };
    Ok((found, body))
}

fn task(task: Option<Task>) -> Result<Task, Mishap> {
    task.ok_or_else(|| Mishap::Failed("the answer holds no task".to_owned()))
}

fn describe(task: &Task) -> String {
    let state = task.state().as_str_name().trim_start_matches("TASK_STATE_").to_lowercase();
    format!("{state}, epoch {}", task.epoch)
}

/// An ending waits until no verifier that follows the feed accepts what it ended.
fn fenced(revocation: Option<&Revocation>) -> Result<&Revocation, Mishap> {
    let fenced = revocation.filter(|it| it.enforcement() == Enforcement::Fenced);
    fenced.ok_or_else(|| Mishap::Failed("the answer does not say that it is fenced".to_owned()))
}

pub(super) fn expect(what: &str, found: &str, wanted: &str) -> Result<(), Mishap> {
    if found == wanted {
        return Ok(());
    }
    Err(Mishap::Otherwise { expected: what.to_owned(), found: found.to_owned() })
}

/// How long a credential lives, and which limit says so.
fn lifetime(answer: &IssueCredentialResponse) -> String {
    let clamp = match answer.ttl_clamp() {
        TtlClamp::Tier => "its tier",
        TtlClamp::TaskDeadline => "its task's deadline",
        other => other.as_str_name(),
    };
    let seconds = |time: Option<prost_types::Timestamp>| time.map_or(0, |time| time.seconds);
    let issued = answer.lease.as_ref().and_then(|lease| lease.issue_time);
    format!("lives {} s, by {clamp}", seconds(answer.expire_time) - seconds(issued))
}

pub(super) fn failed(fault: impl std::fmt::Display) -> Mishap {
    Mishap::Failed(fault.to_string())
}

fn request_id() -> String {
    Uuid::new_v4().to_string()
}

fn duration(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}
