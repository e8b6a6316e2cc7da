//! Follows one task as long as it is asked to: one watch after the other, since none lasts longer than its connection, and brokers stop.

use std::time::Duration;

use tokio::time::sleep;
use tonic::{Code, Streaming};

use super::client::Client;
use super::connection::Connection;
use super::failure::Failure;
use super::run::{chance, retry_in};
use crate::proto::v1;

/// A task that is followed.
#[derive(Debug)]
pub(super) struct Following {
    connection: Connection,
    task_id: String,
    open: Option<(Client, Streaming<v1::WatchTaskResponse>)>,
    told: Option<v1::Task>,
    failures: u32,
    /// How long the broker wants to be left alone.
    asked: Duration,
}

/// What had come before a watch was lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The task was told at least once.
    pub(super) was_told: bool,
    /// This very watch had begun, so the caller had been let in.
    pub(super) was_open: bool,
}

impl Following {
    /// Nothing is asked yet.
    pub(super) fn of(connection: Connection, task_id: String) -> Self {
        let asked = Duration::ZERO;
        Self { connection, task_id, open: None, told: None, failures: 0, asked }
    }

    /// The task when it is another than was told. What went wrong is waited out, unless `is_told` says that the caller is to
    /// hear of it; asked again after that, it waits and tries again all the same.
    pub(super) async fn next(
        &mut self,
        is_told: impl Fn(&Failure, Before) -> bool,
    ) -> Result<v1::Task, Failure> {
        loop {
            let before = Before { was_told: self.told.is_some(), was_open: self.open.is_some() };
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
                Ok(None) => self.lost(Duration::ZERO),
                Err(failure) => {
                    self.lost(failure.retry_after());
                    if is_told(&failure, before) {
                        return Err(failure);
                    }
                }
            }
        }
    }

    async fn message(&mut self) -> Result<Option<v1::Task>, Failure> {
        let (client, open) = match &mut self.open {
            Some(open) => open,
            None => {
                if self.failures > 0 {
                    sleep(retry_in(self.failures, chance(), self.asked)).await;
                }
                let client = self.connection.open().await?;
                let request = v1::WatchTaskRequest { task_id: self.task_id.clone() };
                let open = client.read(client.tasks().watch_task(request)).await?;
                self.open.insert((client, open))
            }
        };
        let told = open.message().await;
        let told = told.map_err(|status| Failure::of_call(&status, client.called(), None))?;
        Ok(told.and_then(|told| told.task))
    }

    fn lost(&mut self, asked: Duration) {
        (self.open, self.asked) = (None, asked);
        self.failures = self.failures.saturating_add(1);
    }
}

/// Whether the broker says that this task is not to be watched by this caller, now and later.
pub(super) fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::NotFound | Code::PermissionDenied | Code::InvalidArgument | Code::Unimplemented
    )
}
