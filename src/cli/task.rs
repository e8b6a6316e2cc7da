//! `leasehold task`: what orchestrators say about their work.

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use serde_json::json;

use super::arguments::{self, RequestId};
use super::client::Client;
use super::failure::Failure;
use super::grant::GrantArguments;
use super::run::{Join, Run};
use super::show::{self, Shown};
use super::waiting::Waiting;
use super::watch::Watch;
use crate::domain::time::Span;
use crate::proto::v1;

/// What is done with tasks.
#[derive(Debug, Subcommand)]
pub(super) enum TaskCommand {
    #[command(flatten)]
    Call(Box<Task>),
    /// Show one task, and again whenever it changes, until it has ended
    Watch(Watch),
    /// Begin a task, run a command with its credentials, and end the task with the command
    Run(Box<Run>),
    /// Run a command with the credentials of a task that somebody else drives
    Join(Box<Join>),
}

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Begin a task for an agent
    Begin(Begin),
    /// Begin a child of a task, with a grant no wider than the task's
    Delegate(Delegate),
    /// Say that a task changed: its credentials die, and it goes on in a new epoch
    Advance(Advance),
    /// Stop a task and all below it; its credentials die, and it can be resumed
    Suspend(Stop),
    /// Let a suspended task go on
    Resume(Resume),
    /// End a task as done
    Complete(Stop),
    /// End a task as failed
    Fail(Stop),
    /// End a task as not wanted any more
    Cancel(Stop),
    /// Say that the orchestrator is still there
    Heartbeat(Heartbeat),
    /// Show one task
    Get(Get),
    /// Show the tasks that you may see
    List(List),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("end").required(true).args(["deadline", "duration"]))]
pub(super) struct Begin {
    /// Who does it: a principal, a SPIFFE pattern ending in `/*`, or `class:<name>`
    #[arg(long)]
    agent: String,
    /// A tier that the agent's class may use
    #[arg(long)]
    tier: String,
    #[command(flatten)]
    grant: GrantArguments,
    /// When the task ends by itself, like `2026-11-22T15:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = arguments::time)]
    deadline: Option<prost_types::Timestamp>,
    /// The same, counted from now, like `1h`
    #[arg(long, value_parser = arguments::span)]
    duration: Option<Span>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    request: RequestId,
}

#[derive(Debug, Args)]
pub(super) struct Delegate {
    /// The task that it is a part of
    #[arg(long, value_name = "TASK", value_parser = arguments::task_id)]
    parent: String,
    /// The parent's epoch as you know it
    #[arg(long, value_name = "EPOCH")]
    expected_epoch: u64,
    /// Who does it
    #[arg(long)]
    agent: String,
    /// Default: the parent's tier
    #[arg(long)]
    tier: Option<String>,
    #[command(flatten)]
    grant: GrantArguments,
    /// When it ends by itself; default: with its parent
    #[arg(long, value_name = "TIME", value_parser = arguments::time)]
    deadline: Option<prost_types::Timestamp>,
    /// The same, counted from now
    #[arg(long, value_parser = arguments::span, conflicts_with = "deadline")]
    duration: Option<Span>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    request: RequestId,
}

/// What a new task says of itself.
#[derive(Debug, Args)]
struct About {
    /// What it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    purpose: String,
    /// Who answers for it; default: the owner of the agent's class
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// `key=value`; again for each
    #[arg(long = "label", value_name = "LABEL", value_parser = arguments::label)]
    labels: Vec<(String, String)>,
    /// How often you will send a heartbeat; three that are missed count as silence
    #[arg(long, value_name = "INTERVAL", value_parser = arguments::span)]
    heartbeat: Option<Span>,
    /// Where in the task the agent is
    #[arg(long, default_value = "", hide_default_value = true)]
    step: String,
    /// Something for the agent to continue from: text, or `@` and a file
    #[arg(long, value_parser = arguments::text_or_file)]
    checkpoint: Option<String>,
    /// How many running copies of the agent may work on it; default: 1
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    instances: u32,
}

#[derive(Debug, Args)]
pub(super) struct Advance {
    /// The task
    #[arg(value_parser = arguments::task_id)]
    task: String,
    /// The epoch that you know it in
    #[arg(long, value_name = "EPOCH")]
    expected_epoch: u64,
    #[command(flatten)]
    grant: GrantArguments,
    /// Where in the task the agent is now
    #[arg(long)]
    step: Option<String>,
    /// Something for the agent to continue from: text, or `@` and a file
    #[arg(long, value_parser = arguments::text_or_file)]
    checkpoint: Option<String>,
    /// Hand it over to another agent
    #[arg(long)]
    agent: Option<String>,
    /// Let its children live on; not where grant or agent change
    #[arg(long)]
    keep_children: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    request: RequestId,
}

#[derive(Debug, Args)]
pub(super) struct Stop {
    /// The task
    #[arg(value_parser = arguments::task_id)]
    pub(super) task: String,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    #[command(flatten)]
    pub(super) waiting: Waiting,
    #[command(flatten)]
    pub(super) request: RequestId,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// The task
    #[arg(value_parser = arguments::task_id)]
    task: String,
    /// The epoch that you know it in
    #[arg(long, value_name = "EPOCH")]
    expected_epoch: u64,
    #[command(flatten)]
    request: RequestId,
}

#[derive(Debug, Args)]
pub(super) struct Heartbeat {
    /// The task
    #[arg(value_parser = arguments::task_id)]
    task: String,
    #[command(flatten)]
    request: RequestId,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The task
    #[arg(value_parser = arguments::task_id)]
    task: String,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only tasks in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(flatten)]
    page: arguments::Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Active,
    Suspended,
    Completed,
    Failed,
    Cancelled,
    Expired,
    Revoked,
}

/// The calls that stop a task differ by name alone.
macro_rules! stop {
    ($client:ident, $stop:ident, $request:ident, $call:ident) => {{
        let id = $stop.request.into_id();
        let request_id = id.clone();
        let request = v1::$request {
            request_id,
            task_id: $stop.task,
            reason: $stop.reason,
            ..Default::default()
        };
        let call = async |request| $client.tasks().$call(request).await;
        let answer = $stop.waiting.end($client, &id, request, call).await?;
        stopped(answer.task, answer.revocation, $stop.waiting)
    }};
}

impl Task {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        match self {
            Self::Begin(begin) => begin.run(client).await,
            Self::Delegate(delegate) => delegate.run(client).await,
            Self::Advance(advance) => advance.run(client).await,
            Self::Suspend(stop) => stop!(client, stop, SuspendTaskRequest, suspend_task),
            Self::Resume(resume) => resume.run(client).await,
            Self::Complete(stop) => stop!(client, stop, CompleteTaskRequest, complete_task),
            Self::Fail(stop) => stop!(client, stop, FailTaskRequest, fail_task),
            Self::Cancel(stop) => stop!(client, stop, CancelTaskRequest, cancel_task),
            Self::Heartbeat(heartbeat) => heartbeat.run(client).await,
            Self::Get(get) => get.run(client).await,
            Self::List(list) => list.run(client).await,
        }
    }
}

fn shown(task: Option<v1::Task>) -> Result<Shown, Failure> {
    Ok(show::task(&task.ok_or(Failure::Answer("task"))?))
}

fn stopped(
    task: Option<v1::Task>,
    revocation: Option<v1::Revocation>,
    waiting: Waiting,
) -> Result<Shown, Failure> {
    Ok(show::with_revocation(shown(task)?, revocation.as_ref(), waiting.wanted()))
}

impl Begin {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let request = self.into_request()?;
        let request_id = request.request_id.clone();
        shown(client.change(&request_id, client.tasks().begin_task(request)).await?.task)
    }

    /// What is sent.
    pub(super) fn into_request(self) -> Result<v1::BeginTaskRequest, Failure> {
        let Some(authorization_details) = self.grant.json() else {
            return Err(Failure::Usage(
                "say what the task may do: `--grant 'https://ledger.example=read'` or `--authorization-details`"
                    .to_owned(),
            ));
        };
        Ok(v1::BeginTaskRequest {
            request_id: self.request.into_id(),
            agent: self.agent,
            purpose: self.about.purpose,
            owner: self.about.owner,
            labels: self.about.labels.into_iter().collect(),
            authorization_details,
            tier: self.tier,
            deadline: self.deadline,
            duration: self.duration.map(arguments::wire),
            heartbeat_interval: self.about.heartbeat.map(arguments::wire),
            step: self.about.step,
            checkpoint: self.about.checkpoint.unwrap_or_default().into_bytes(),
            instances: self.about.instances,
        })
    }
}

impl Delegate {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let Some(authorization_details) = self.grant.json() else {
            return Err(Failure::Usage(
                "say what the child may do, within its parent's grant: `--grant` or `--authorization-details`"
                    .to_owned(),
            ));
        };
        let request_id = self.request.into_id();
        let request = v1::DelegateTaskRequest {
            request_id: request_id.clone(),
            parent_task_id: self.parent,
            expected_epoch: self.expected_epoch,
            agent: self.agent,
            purpose: self.about.purpose,
            owner: self.about.owner,
            labels: self.about.labels.into_iter().collect(),
            authorization_details,
            tier: self.tier.unwrap_or_default(),
            deadline: self.deadline,
            duration: self.duration.map(arguments::wire),
            heartbeat_interval: self.about.heartbeat.map(arguments::wire),
            step: self.about.step,
            checkpoint: self.about.checkpoint.unwrap_or_default().into_bytes(),
            instances: self.about.instances,
        };
        shown(client.change(&request_id, client.tasks().delegate_task(request)).await?.task)
    }
}

impl Advance {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let request_id = self.request.into_id();
        let request = v1::AdvanceTaskRequest {
            request_id: request_id.clone(),
            task_id: self.task,
            expected_epoch: self.expected_epoch,
            authorization_details: self.grant.json(),
            step: self.step,
            checkpoint: self.checkpoint.map(String::into_bytes),
            agent: self.agent,
            keep_children: self.keep_children,
            ..Default::default()
        };
        let call = async |request| client.tasks().advance_task(request).await;
        let answer = self.waiting.end(client, &request_id, request, call).await?;
        stopped(answer.task, answer.revocation, self.waiting)
    }
}

impl Resume {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let request_id = self.request.into_id();
        let request = v1::ResumeTaskRequest {
            request_id: request_id.clone(),
            task_id: self.task,
            expected_epoch: self.expected_epoch,
        };
        shown(client.change(&request_id, client.tasks().resume_task(request)).await?.task)
    }
}

impl Heartbeat {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let request_id = self.request.into_id();
        let request = v1::HeartbeatRequest { request_id: request_id.clone(), task_id: self.task };
        let answer = client.change(&request_id, client.tasks().heartbeat(request)).await?;
        let silence = show::time(answer.silence_time);
        let text = match &silence {
            Some(time) => format!("silence counts from {time}, unless another heartbeat comes"),
            None => "the task expects no heartbeat".to_owned(),
        };
        Ok(Shown::new(json!({ "silence_time": silence }), text))
    }
}

impl Get {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let request = v1::GetTaskRequest { task_id: self.task };
        shown(client.read(client.tasks().get_task(request)).await?.task)
    }
}

impl List {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let state = self.state.map_or(v1::TaskState::Unspecified, v1::TaskState::from);
        let request = v1::ListTasksRequest {
            page_size: self.page.page_size,
            page_token: self.page.page_token,
            state: state.into(),
        };
        let answer = client.read(client.tasks().list_tasks(request)).await?;
        Ok(show::tasks(&answer.tasks, &answer.next_page_token))
    }
}

impl From<State> for v1::TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Suspended => Self::Suspended,
            State::Completed => Self::Completed,
            State::Failed => Self::Failed,
            State::Cancelled => Self::Cancelled,
            State::Expired => Self::Expired,
            State::Revoked => Self::Revoked,
        }
    }
}
