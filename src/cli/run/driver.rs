//! The task's side: begins it, says that its orchestrator is there, hears and looks how it stands, and ends it.
//!
//! Every call opens a connection with the identity that the files hold then: certificates of workloads are replaced more often
//! than commands end.

use std::mem;
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt as _, unfold};
use prost_types::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::Code;

use super::schedule::{beat_in, retry_in};
use super::tell::Tell;
use super::verdict::{Known, Over, Verdict};
use super::{at, chance, standard};
use crate::cli::arguments;
use crate::cli::client::Client;
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::following::{Following, is_refusal};
use crate::domain::time::Span;
use crate::proto::v1;

/// How often a heartbeat is promised where nobody says otherwise.
const HEARTBEAT: Span = Span::from_seconds(10);
/// How many missed intervals are silence, as the broker counts.
const SILENT_INTERVALS: u32 = 3;
/// No look at the task takes longer, or silence would come of waiting for one answer.
const LONGEST_LOOK: Duration = Duration::from_secs(10);
/// How long the end of the command is told to a broker that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the task stands, for those who keep its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Nothing is issued, and nothing that was issued is good.
    pub(super) is_suspended: bool,
    /// What was issued in earlier ones is dead.
    pub(super) epoch: u64,
}

/// How a task is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// As done.
    Completed,
    /// As failed, with the reason.
    Failed(String),
}

/// One task, and the caller who drives it or looks at it.
#[derive(Debug)]
pub(super) struct Driver {
    caller: Connection,
    /// Whether the task is ours to drive; else it is only looked at.
    drives: bool,
    known: Known,
    look_every: Duration,
    /// When the task ends by itself, by our clock.
    deadline: Option<Instant>,
    /// The broker lets nobody watch it, which was said.
    is_unwatched: bool,
    tell: Tell,
}

impl Driver {
    /// Begins a task.
    pub(super) async fn begin(
        caller: Connection,
        mut request: v1::BeginTaskRequest,
        stops_when_advanced: bool,
    ) -> Result<(Self, v1::Task), Failure> {
        let heartbeat =
            standard(*request.heartbeat_interval.get_or_insert(arguments::wire(HEARTBEAT)));
        let client = caller.open().await?;
        let (request_id, asked) = (request.request_id.clone(), Instant::now());
        let answer = client.change(&request_id, client.tasks().begin_task(request)).await?;
        let task = answer.task.ok_or(Failure::Answer("task"))?;
        let life = between(task.begin_time, task.deadline);
        let silence = task.begin_time.map(|begun| plus(begun, heartbeat * SILENT_INTERVALS));
        let driver = Self {
            drives: true,
            known: Known::of(&task, silence, stops_when_advanced),
            look_every: beat_in(heartbeat),
            deadline: life.and_then(|life| asked.checked_add(life)),
            is_unwatched: false,
            tell: Tell::new(caller.output(), &task.task_id),
            caller,
        };
        Ok((driver, task))
    }

    /// Looks at a task that somebody else drives.
    pub(super) async fn join(
        caller: Connection,
        task_id: String,
        stops_when_advanced: bool,
    ) -> Result<(Self, v1::Task), Failure> {
        let tell = Tell::new(caller.output(), &task_id);
        let task = get(&caller.open().await?, task_id).await?;
        let known = Known::of(&task, None, stops_when_advanced);
        let look_every = beat_in(standard(arguments::wire(HEARTBEAT)));
        let driver = Self {
            caller,
            drives: false,
            known,
            look_every,
            deadline: None,
            is_unwatched: false,
            tell,
        };
        Ok((driver, task))
    }

    /// What is said about the task.
    pub(super) fn tell(&self) -> &Tell {
        &self.tell
    }

    /// The task whenever it is another, as the broker tells it by itself; and that the broker does not, if that is so.
    pub(super) fn changes(&self) -> impl Stream<Item = Result<v1::Task, Failure>> + use<> {
        let following = Following::of(self.caller.clone(), self.known.task_id.clone());
        unfold(following, |mut following| async {
            let told = following.next(|failure, _| failure.code().is_some_and(is_no)).await;
            Some((told, following))
        })
    }

    /// Beats and looks until the task is over, and hears of its `changes` meanwhile; `nudge` is for those who have reason to look
    /// sooner.
    pub(super) async fn watch(
        &mut self,
        view: &watch::Sender<View>,
        nudge: &Notify,
        changes: impl Stream<Item = Result<v1::Task, Failure>>,
    ) -> Over {
        let mut changes = pin!(changes);
        let mut failures = 0_u32;
        let mut next = Instant::now() + self.look_every;
        let deadline = self.deadline;
        loop {
            let looked = tokio::select! {
                Some(changed) = changes.next() => {
                    // A look that is under way is begun again.
                    match self.hear(view, changed).await {
                        Some(over) => return over,
                        None => continue,
                    }
                }
                () = nudge.notified() => {
                    next = Instant::now();
                    continue;
                }
                () = at(deadline) => return Over::Ended("its deadline has passed".to_owned()),
                looked = async {
                    sleep_until(next).await;
                    timeout(LONGEST_LOOK, self.look()).await
                } => looked,
            };
            let problem = match looked {
                Ok(Ok((task, heartbeat))) => {
                    if failures > 0 {
                        self.tell.say("reached", "the broker answers again");
                    }
                    failures = 0;
                    next = Instant::now() + self.look_every;
                    if let Some(heartbeat) = heartbeat {
                        self.known.silence = heartbeat.silence_time;
                    }
                    match self.see(view, &task).await {
                        Some(over) => return over,
                        None => continue,
                    }
                }
                Ok(Err(failure)) if failure.code() == Some(Code::NotFound) => return unknown(),
                Ok(Err(failure)) => failure.to_string(),
                Err(_) => "it does not answer".to_owned(),
            };
            if failures == 0 {
                self.tell.say(
                    "unreached",
                    &format!("the task cannot be looked at: {problem}; trying again"),
                );
            }
            failures = failures.saturating_add(1);
            let wait = retry_in(failures, chance(), Duration::ZERO).min(self.look_every);
            next = Instant::now() + wait;
        }
    }

    /// What the broker tells by itself. A broker that does not is looked at as often as ever.
    async fn hear(
        &mut self,
        view: &watch::Sender<View>,
        changed: Result<v1::Task, Failure>,
    ) -> Option<Over> {
        match changed {
            Ok(task) => {
                if let Some(text) = self.watched() {
                    self.tell.say("watched", text);
                }
                self.see(view, &task).await
            }
            Err(failure) if failure.code() == Some(Code::NotFound) => Some(unknown()),
            Err(failure) => {
                if let Some(text) = self.unwatched(&failure) {
                    self.tell.say("unwatched", &text);
                }
                None
            }
        }
    }

    /// What to say when the broker tells by itself, if that is new.
    fn watched(&mut self) -> Option<&'static str> {
        mem::take(&mut self.is_unwatched).then_some("the broker tells of the task's changes again")
    }

    /// What to say when the broker does not let the task be watched, if that is new.
    fn unwatched(&mut self, failure: &Failure) -> Option<String> {
        let every = self.look_every.as_secs_f64();
        (!mem::replace(&mut self.is_unwatched, true)).then(|| {
            format!(
                "the task cannot be watched: {failure}; it is looked at every {every} s instead"
            )
        })
    }

    /// The task as it is, if that is news: shown to those who keep its credentials, resumed where it waits for us.
    async fn see(&mut self, view: &watch::Sender<View>, task: &v1::Task) -> Option<Over> {
        if self.known.is_older(task) {
            return None;
        }
        let verdict = self.known.judge(task);
        self.known.follow(task);
        match verdict {
            Verdict::Over(over) => return Some(over),
            Verdict::Active => self.show(view, false, task.epoch, ""),
            Verdict::Suspended { by_silence } => {
                self.show(view, true, task.epoch, &task.reason);
                if by_silence && self.drives {
                    // It waits for its orchestrator, and here we are.
                    self.resume(view, task.epoch).await;
                }
            }
        }
        None
    }

    /// A heartbeat, if the task is ours, and the task as it is then.
    async fn look(&self) -> Result<(v1::Task, Option<v1::HeartbeatResponse>), Failure> {
        let client = self.caller.open().await?;
        let mut heartbeat = None;
        if self.drives {
            let request_id = uuid::Uuid::new_v4().to_string();
            let task_id = self.known.task_id.clone();
            let request = v1::HeartbeatRequest { request_id: request_id.clone(), task_id };
            match client.change(&request_id, client.tasks().heartbeat(request)).await {
                Ok(answer) => heartbeat = Some(answer),
                // It is suspended, or has ended; the task itself says more.
                Err(failure) if failure.code() == Some(Code::FailedPrecondition) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok((get(&client, self.known.task_id.clone()).await?, heartbeat))
    }

    fn show(&self, view: &watch::Sender<View>, is_suspended: bool, epoch: u64, why: &str) {
        let (before, now) = (*view.borrow(), View { is_suspended, epoch });
        if before == now {
            return;
        }
        match (before.is_suspended, is_suspended) {
            (false, true) => {
                let why = if why.is_empty() { String::new() } else { format!(": {why}") };
                self.tell.say(
                    "suspended",
                    &format!("the task is suspended{why}; its credentials are dead"),
                );
            }
            (true, false) => {
                self.tell.say("resumed", &format!("the task goes on, in epoch {epoch}"))
            }
            (false, false) => self.tell.say(
                "advanced",
                &format!(
                    "the task changed, and is in epoch {epoch}; what was issued before is dead"
                ),
            ),
            (true, true) => {}
        }
        view.send_replace(now);
    }

    async fn resume(&self, view: &watch::Sender<View>, expected_epoch: u64) {
        let resumed = async {
            let client = self.caller.open().await?;
            let request_id = uuid::Uuid::new_v4().to_string();
            let task_id = self.known.task_id.clone();
            let request =
                v1::ResumeTaskRequest { request_id: request_id.clone(), task_id, expected_epoch };
            client.change(&request_id, client.tasks().resume_task(request)).await
        };
        match resumed.await {
            Ok(_) => self.show(view, false, expected_epoch, ""),
            Err(failure) => {
                self.tell.say("suspended", &format!("the task cannot be resumed: {failure}"));
            }
        }
    }

    /// Ends the task, once, however often the broker must be asked; gives up after half a minute, when silence acts.
    pub(super) async fn end(&self, ending: &Ending) -> Result<(), Failure> {
        let request_id = uuid::Uuid::new_v4().to_string();
        let give_up = Instant::now() + PATIENCE;
        let mut failures = 0_u32;
        loop {
            let failure = match self.try_to_end(ending, &request_id).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            failures = failures.saturating_add(1);
            let wait = retry_in(failures, chance(), failure.retry_after());
            let is_final = failure.code().is_some_and(|code| !may_pass(code));
            if is_final || Instant::now() + wait >= give_up {
                return Err(failure);
            }
            sleep(wait).await;
        }
    }

    async fn try_to_end(&self, ending: &Ending, request_id: &str) -> Result<(), Failure> {
        let client = self.caller.open().await?;
        let mut tasks = client.tasks();
        let (id, task_id) = (request_id.to_owned(), self.known.task_id.clone());
        match ending {
            Ending::Completed => {
                let reason = "exit status 0".to_owned();
                let request = v1::CompleteTaskRequest {
                    request_id: id,
                    task_id,
                    reason,
                    ..Default::default()
                };
                client.change(request_id, tasks.complete_task(request)).await?;
            }
            Ending::Failed(reason) => {
                let reason = reason.clone();
                let request =
                    v1::FailTaskRequest { request_id: id, task_id, reason, ..Default::default() };
                client.change(request_id, tasks.fail_task(request)).await?;
            }
        }
        Ok(())
    }
}

async fn get(client: &Client, task_id: String) -> Result<v1::Task, Failure> {
    let request = v1::GetTaskRequest { task_id };
    client.read(client.tasks().get_task(request)).await?.task.ok_or(Failure::Answer("task"))
}

/// A task that is not there any more, or not for us.
fn unknown() -> Over {
    Over::Ended("it is not known any more, or not ours".to_owned())
}

/// Whether the broker does not let it be watched. What passes with a connection is no such answer.
fn is_no(code: Code) -> bool {
    is_refusal(code) || code == Code::ResourceExhausted
}

/// Whether trying again may help.
fn may_pass(code: Code) -> bool {
    !matches!(
        code,
        Code::FailedPrecondition
            | Code::NotFound
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::Unimplemented
    )
}

/// How long from one time of the broker's to another; `None` if one is missing or they are the wrong way round.
pub(super) fn between(from: Option<Timestamp>, to: Option<Timestamp>) -> Option<Duration> {
    let since_1970 = |time: Timestamp| {
        let seconds = u64::try_from(time.seconds).ok()?;
        Some(Duration::new(seconds, u32::try_from(time.nanos).ok()?))
    };
    since_1970(to?)?.checked_sub(since_1970(from?)?)
}

fn plus(time: Timestamp, length: Duration) -> Timestamp {
    let nanos = i64::from(time.nanos) + i64::from(length.subsec_nanos());
    let seconds = i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    Timestamp {
        seconds: time.seconds.saturating_add(seconds).saturating_add(nanos / 1_000_000_000),
        nanos: i32::try_from(nanos % 1_000_000_000).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
