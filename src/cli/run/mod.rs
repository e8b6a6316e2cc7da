//! `leasehold task run` and `task join`: a command with the credentials of a task, and no longer than the task.
//!
//! ```text
//!  begin ─▶ issue ─▶ hand over ─▶ start ─▶ (watch · heartbeats · renewals · socket · signals) ─▶ take back ─▶ complete or fail
//!                                               └ the task ends elsewhere ─▶ take back ─▶ stop the command
//! ```
//!
//! Who is killed with SIGKILL cleans nothing up. The command dies with us then (`bound`), the heartbeats stop, and silence does
//! at the broker what we no longer can.

mod arguments;
mod bound;
mod command;
mod descent;
mod driver;
mod exits;
mod handed;
mod keeper;
mod schedule;
mod socket;
mod tell;
mod verdict;

use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use rustix::process::{Signal, geteuid};
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::failure::Failure;
use crate::broker::seams::{Entropy as _, SystemEntropy};
use crate::domain::grant::Grant;
use crate::proto::v1;
use arguments::{Common, Terms};
use command::{Running, Signals};
use driver::{Driver, Ending, View};
use handed::Handed;
use keeper::Keeper;
use verdict::Over;

pub(super) use arguments::{Join, Run};
pub(super) use bound::{Bound, NAME as BOUND};
pub(super) use schedule::retry_in;

/// What the command does not inherit: whose identity the command line names, since it has no use for the orchestrator's; and what
/// a `task run` around this one handed to us, which is of another task.
const NOT_INHERITED: [&str; 13] = [
    "LEASEHOLD_CERT",
    "LEASEHOLD_KEY",
    "LEASEHOLD_TOKEN_FILE",
    "LEASEHOLD_AGENT_CERT",
    "LEASEHOLD_AGENT_KEY",
    "LEASEHOLD_AGENT_TOKEN_FILE",
    handed::TASK,
    handed::EPOCH,
    handed::AUDIENCE,
    handed::TOKEN_FILE,
    handed::SOCKET,
    handed::CERT,
    handed::KEY,
];

/// A task with its credentials, before and while the command runs.
struct Session {
    driver: Driver,
    /// Whether the task ends with the command.
    ends_task: bool,
    agent: Arc<Connection>,
    keepers: Vec<Keeper>,
    nudge: Arc<Notify>,
    view: watch::Sender<View>,
    handed: Handed,
    socket: Option<UnixListener>,
    common: Common,
}

/// How it came to an end.
enum Outcome {
    /// The command ended.
    Exited(ExitStatus),
    /// The task did, and the command was stopped.
    Over(Over),
    /// The command cannot be waited for.
    Lost(std::io::Error),
}

/// What is left to do when the command is over.
enum Parting {
    /// The task has ended, or is somebody else's.
    Nothing,
    /// The task is to end, if it is the command's.
    End(Ending),
    /// It goes on without the command, for whoever changed it.
    GiveBack,
}

impl Run {
    /// Begins the task, runs the command, ends the task.
    pub(super) async fn run(self, connection: Connection) -> ExitCode {
        let output = connection.output();
        let agent = self.agent.caller(&connection);
        let run = async {
            let request = self.begin.into_request()?;
            let mut signals = Signals::listen().map_err(Failure::Signals)?;
            let begun = tokio::select! {
                begun = Driver::begin(connection, request, self.common.stop_when_advanced) => begun?,
                signal = signals.stop() => return Ok(interrupted(signal)),
            };
            let (driver, task) = begun;
            let deadline = super::show::time(task.deadline).unwrap_or_default();
            driver
                .tell()
                .say("begun", &format!("task {} is begun, until {deadline}", task.task_id));
            run(driver, task, (agent, true), self.common, signals).await
        };
        exit(run.await, output)
    }
}

impl Join {
    /// Runs the command under the task as it is.
    pub(super) async fn run(self, connection: Connection) -> ExitCode {
        let output = connection.output();
        let run = async {
            let signals = Signals::listen().map_err(Failure::Signals)?;
            let (driver, task) =
                Driver::join(connection.clone(), self.task, self.common.stop_when_advanced).await?;
            run(driver, task, (connection, false), self.common, signals).await
        };
        exit(run.await, output)
    }
}

fn exit(ran: Result<u8, Failure>, output: super::show::Output) -> ExitCode {
    ExitCode::from(ran.unwrap_or_else(|failure| {
        failure.print(output);
        exits::FAILED
    }))
}

/// A signal came before there was a command.
fn interrupted(signal: Signal) -> u8 {
    eprintln!("leasehold: told to stop before the command was started");
    u8::try_from(128 + signal.as_raw()).unwrap_or(exits::FAILED)
}

/// From the task to the exit code. Where nothing was started, the task fails at once; one that goes on has its leases back.
async fn run(
    driver: Driver,
    task: v1::Task,
    (agent, ends_task): (Connection, bool),
    common: Common,
    mut signals: Signals,
) -> Result<u8, Failure> {
    let (agent, mut keepers) = (Arc::new(agent), Vec::new());
    let abandon = async |keepers: &[Keeper], reason: String| {
        let (about, failed) = ((ends_task, &driver, &*agent), Parting::End(Ending::Failed(reason)));
        if let Err(failure) = part(about, &failed, leases(keepers)).await {
            driver.tell().say("unended", &format!("the task could not be ended: {failure}"));
        }
    };
    let prepared = tokio::select! {
        prepared = Session::prepare(&driver, &task, (&agent, &mut keepers), &common) => prepared,
        signal = signals.stop() => {
            let reason = format!("signal {} before the command was started", signal.as_raw());
            abandon(&keepers, reason).await;
            return Ok(interrupted(signal));
        }
    };
    let (nudge, handed, socket) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            abandon(&keepers, format!("the command was not started: {failure}")).await;
            return Err(failure);
        }
    };
    // INVARIANT (main thread): the command dies with the thread that starts it, so this is awaited and never spawned.
    let running = Running::start(&common.command, &handed.environment, &NOT_INHERITED);
    let running = match running {
        Ok(running) => running,
        Err(fault) => {
            abandon(&keepers, format!("the command was not started: {fault}")).await;
            return Err(Failure::Usage(format!("the command cannot be started: {fault}")));
        }
    };
    let (view, _) = watch::channel(View { is_suspended: false, epoch: task.epoch });
    let session =
        Session { driver, ends_task, agent, keepers, nudge, view, handed, socket, common };
    session.live(running, signals).await
}

type Prepared = (Arc<Notify>, Handed, Option<UnixListener>);

impl Session {
    /// Issues the first tokens, and puts them where the command finds them.
    async fn prepare(
        driver: &Driver,
        task: &v1::Task,
        (agent, keepers): (&Arc<Connection>, &mut Vec<Keeper>),
        common: &Common,
    ) -> Result<Prepared, Failure> {
        let audiences = common.audiences(&audiences_of(task));
        let nudge = Arc::new(Notify::new());
        let terms = common.terms(agent)?;
        common.must_suit(audiences.len())?;
        for audience in audiences {
            let about = (task.task_id.clone(), audience);
            let around = (nudge.clone(), driver.tell().clone());
            keepers.push(Keeper::first(agent.clone(), terms, about, around).await?);
        }
        let mut handed = Handed::new()?;
        let socket = common.hand_over(&mut handed, keepers, agent, task)?;
        Ok((nudge, handed, socket))
    }

    /// Runs until the command or the task ends, whichever is first, and then ends the other.
    async fn live(mut self, mut running: Running, mut signals: Signals) -> Result<u8, Failure> {
        let outcome = self.until_either_ends(&mut running, &mut signals).await;
        let Self { driver, ends_task, agent, keepers, handed, common, .. } = self;
        let (tell, grace) = (driver.tell(), super::arguments::standard(common.grace));
        // What the command was handed is gone before anything else happens.
        let leases = leases(&keepers);
        drop((keepers, handed));
        let (parting, code) = match outcome {
            Outcome::Exited(status) => (Parting::End(ending(status)), command::code(status)),
            Outcome::Over(over) => {
                let (why, parting) = told(over);
                tell.say(
                    "over",
                    &format!("the task is over for the command: {why}; it is stopped"),
                );
                stop(&mut running, grace, tell).await;
                (parting, exits::TASK_OVER)
            }
            Outcome::Lost(fault) => {
                let why = Failure::Command(fault).to_string();
                tell.say("lost", &format!("{why}; it is stopped"));
                stop(&mut running, grace, tell).await;
                (Parting::End(Ending::Failed(why)), exits::FAILED)
            }
        };
        if !descent::leave_nothing().await {
            tell.say("left", "something that the command started cannot be killed");
        }
        let ended = tokio::select! {
            ended = part((ends_task, &driver, &*agent), &parting, leases) => ended,
            signal = signals.insist() => {
                tell.say("unended", "told to stop before the broker said that the task has ended; it ends by itself");
                return Ok(u8::try_from(128 + signal.as_raw()).unwrap_or(exits::UNENDED));
            }
        };
        match ended {
            Ok(()) => Ok(code),
            Err(failure) => {
                let text = format!(
                    "the end of the task could not be recorded: {failure}; it ends by itself"
                );
                tell.say("unended", &text);
                Ok(if code == 0 { exits::UNENDED } else { code })
            }
        }
    }

    async fn until_either_ends(&mut self, running: &mut Running, signals: &mut Signals) -> Outcome {
        let slots: Vec<_> = self
            .keepers
            .iter()
            .map(|keeper| (keeper.audience().to_owned(), keeper.slot()))
            .collect();
        let socket = self.socket.take();
        let (view, changes) = (&self.view, self.driver.changes());
        let keep = self.keepers.iter_mut().map(|keeper| Box::pin(keeper.keep(view.subscribe())));
        let served = async {
            match socket {
                Some(socket) => match socket::serve(socket, slots, geteuid()).await {},
                None => std::future::pending::<()>().await,
            }
        };
        tokio::select! {
            status = running.exited(signals) => status.map_or_else(Outcome::Lost, Outcome::Exited),
            over = self.driver.watch(view, &self.nudge, changes) => Outcome::Over(over),
            (over, _, _) = select_all(keep) => Outcome::Over(over),
            () = served => std::future::pending().await,
        }
    }
}

fn ending(status: ExitStatus) -> Ending {
    if status.success() { Ending::Completed } else { Ending::Failed(command::words(status)) }
}

/// Why the task is over, in words, and what is left to do about it.
fn told(over: Over) -> (String, Parting) {
    match over {
        Over::Ended(why) => (why, Parting::Nothing),
        Over::Advanced(why) => (why, Parting::GiveBack),
        Over::Quarantined => {
            let why = "a quarantine blocks its agent".to_owned();
            (why.clone(), Parting::End(Ending::Failed(why)))
        }
    }
}

async fn stop(running: &mut Running, grace: Duration, tell: &tell::Tell) {
    if let Err(fault) = running.stop(grace).await {
        tell.say("left", &format!("the command cannot be stopped: {fault}"));
    }
}

fn leases(keepers: &[Keeper]) -> Vec<String> {
    keepers.iter().filter_map(Keeper::lease_id).map(str::to_owned).collect()
}

/// Ends a task that ends with the command; of one that goes on, gives the leases back.
async fn part(
    (ends_task, driver, agent): (bool, &Driver, &Connection),
    parting: &Parting,
    leases: Vec<String>,
) -> Result<(), Failure> {
    match parting {
        Parting::Nothing => Ok(()),
        Parting::End(ending) if ends_task => driver.end(ending).await,
        Parting::End(_) | Parting::GiveBack => release(agent, leases).await,
    }
}

/// Gives the leases of a task back that goes on without us.
async fn release(agent: &Connection, leases: Vec<String>) -> Result<(), Failure> {
    let client = agent.open().await?;
    let releases = leases.into_iter().map(async |lease_id| {
        let request_id = uuid::Uuid::new_v4().to_string();
        let request = v1::ReleaseCredentialRequest { request_id: request_id.clone(), lease_id };
        client.change(&request_id, client.credentials().release_credential(request)).await
    });
    let over = |failure: &Failure| {
        matches!(failure.reason(), "LEASE_REVOKED" | "TASK_ENDED" | "NOT_FOUND")
    };
    let failed = join_all(releases).await.into_iter().filter_map(Result::err);
    failed.filter(|failure| !over(failure)).map(Err).next().unwrap_or(Ok(()))
}

/// The audiences of the task's grant, each once.
fn audiences_of(task: &v1::Task) -> Vec<String> {
    let mut audiences = Vec::new();
    if let Ok(grant) = Grant::parse(&task.authorization_details) {
        for entry in grant.entries() {
            let audience = entry.audience().to_string();
            if !audiences.contains(&audience) {
                audiences.push(audience);
            }
        }
    }
    audiences
}

/// A number in [0, 1), so that not all ask at the same time; nothing hangs on its quality.
pub(super) fn chance() -> f64 {
    let mut bytes = [0; 4];
    let _ = SystemEntropy.fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// A time that may never come.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The wire's duration in the standard library's; one that is none is nothing.
fn standard(duration: prost_types::Duration) -> Duration {
    Duration::try_from(duration).unwrap_or_default()
}
