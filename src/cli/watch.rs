//! `leasehold task watch`: one line for each change of a task, until it has ended.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;
use tonic::{Code, Streaming};

use super::arguments;
use super::client::Client;
use super::connection::Connection;
use super::failure::Failure;
use super::run::{chance, retry_in};
use super::show;
use crate::proto::v1;
use crate::proto::v1::TaskState;

/// The task has ended, and not as completed.
const NOT_COMPLETED: u8 = 4;

const HELP: &str = "\
The first line is the task as it is. Where the broker stops or cannot be reached any more, it
is watched again, and the next line has what was missed.

Exit status: 0 when the task is completed; 4 when it failed, was cancelled or revoked, or
expired; 1 when it cannot be watched.";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Watch {
    /// The task
    #[arg(value_parser = arguments::task_id)]
    task: String,
}

/// One watch after the other: none lasts longer than its connection, and brokers stop.
struct Following {
    connection: Connection,
    task_id: String,
    open: Option<(Client, Streaming<v1::WatchTaskResponse>)>,
    told: Option<v1::Task>,
    failures: u32,
}

impl Watch {
    /// Prints the task and its changes.
    pub(super) async fn run(self, connection: Connection) -> Result<ExitCode, Failure> {
        let output = connection.output();
        let (task_id, open, told) = (self.task, None, None);
        let mut following = Following { connection, task_id, open, told, failures: 0 };
        loop {
            let task = following.next().await?;
            show::change(&task).print(output)?;
            match task.state() {
                TaskState::Active | TaskState::Suspended => {}
                TaskState::Completed => return Ok(ExitCode::SUCCESS),
                _ => return Ok(ExitCode::from(NOT_COMPLETED)),
            }
        }
    }
}

impl Following {
    /// The task when it is another than was told. What passes is waited out, once there was a first answer.
    async fn next(&mut self) -> Result<v1::Task, Failure> {
        loop {
            let was_open = self.open.is_some();
            match self.message().await {
                Ok(Some(task)) => {
                    self.failures = 0;
                    // A watch that is opened anew begins with what may be known.
                    let shown = v1::Task { update_time: None, ..task.clone() };
                    if self.told.as_ref() != Some(&shown) {
                        self.told = Some(shown);
                        return Ok(task);
                    }
                }
                Ok(None) => self.wait(Duration::ZERO).await,
                Err(failure) if self.told.is_none() || is_final(&failure, was_open) => {
                    return Err(failure);
                }
                Err(failure) => self.wait(failure.retry_after()).await,
            }
        }
    }

    async fn message(&mut self) -> Result<Option<v1::Task>, Failure> {
        let (client, open) = match &mut self.open {
            Some(open) => open,
            None => {
                let client = self.connection.open().await?;
                let request = v1::WatchTaskRequest { task_id: self.task_id.clone() };
                let open = client.read(client.tasks().watch_task(request)).await?;
                self.open.insert((client, open))
            }
        };
        let told = open.message().await;
        let told = told.map_err(|status| Failure::of_call(&status, &client.broker, None))?;
        Ok(told.and_then(|told| told.task))
    }

    async fn wait(&mut self, asked: Duration) {
        self.open = None;
        self.failures = self.failures.saturating_add(1);
        sleep(retry_in(self.failures, chance(), asked)).await;
    }
}

/// Whether watching again is of no use. Who was let in and no longer is may have another certificate by now.
fn is_final(failure: &Failure, was_open: bool) -> bool {
    match failure.code() {
        Some(Code::Unauthenticated) => !was_open,
        Some(code) => matches!(
            code,
            Code::NotFound | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
        ),
        None => matches!(failure, Failure::Usage(_) | Failure::Read { .. }),
    }
}
