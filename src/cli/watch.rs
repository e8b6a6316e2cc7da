//! `leasehold task watch`: one line for each change of a task, until it has ended.

use std::process::ExitCode;

use clap::Args;
use tonic::Code;

use super::arguments;
use super::connection::Connection;
use super::failure::Failure;
use super::following::{Before, Following, is_refusal};
use super::show;
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

impl Watch {
    /// Prints the task and its changes.
    pub(super) async fn run(self, connection: Connection) -> Result<ExitCode, Failure> {
        let output = connection.output();
        let mut following = Following::of(connection, self.task);
        loop {
            let task = following.next(is_final).await?;
            show::change(&task).print(output)?;
            match task.state() {
                TaskState::Active | TaskState::Suspended => {}
                TaskState::Completed => return Ok(ExitCode::SUCCESS),
                _ => return Ok(ExitCode::from(NOT_COMPLETED)),
            }
        }
    }
}

/// Whether watching again is of no use. What passes is waited out once there was a first answer; and who was let in and no longer
/// is may have another certificate by now.
fn is_final(failure: &Failure, before: Before) -> bool {
    let is_over = match failure.code() {
        Some(Code::Unauthenticated) => !before.was_open,
        Some(code) => is_refusal(code),
        None => matches!(failure, Failure::Usage(_) | Failure::Read { .. }),
    };
    is_over || !before.was_told
}
