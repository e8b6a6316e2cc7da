//! `leasehold revoke`: an operator ends one lease, or a task with all below it.

use clap::{Args, Subcommand};

use super::arguments::{self, RequestId};
use super::client::Client;
use super::failure::Failure;
use super::show::{self, Shown};
use super::task::Stop;
use crate::proto::v1;

#[derive(Debug, Subcommand)]
pub(super) enum Revoke {
    /// Kill one lease: a credential leaked
    Lease(RevokeLease),
    /// End a task and all below it
    Task(Stop),
}

#[derive(Debug, Args)]
pub(super) struct RevokeLease {
    /// The lease
    #[arg(value_parser = arguments::lease_id)]
    lease: String,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    request: RequestId,
}

impl Revoke {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let mut service = client.operators();
        match self {
            Self::Lease(RevokeLease { lease, reason, request }) => {
                let id = request.into_id();
                let request_id = id.clone();
                let request = v1::RevokeLeaseRequest {
                    request_id,
                    lease_id: lease,
                    reason,
                    ..Default::default()
                };
                let answer = client.change(&id, service.revoke_lease(request)).await?;
                let lease = show::lease(&answer.lease.ok_or(Failure::Answer("lease"))?);
                Ok(show::with_revocation(lease, answer.revocation.as_ref()))
            }
            Self::Task(Stop { task, reason, request }) => {
                let id = request.into_id();
                let request_id = id.clone();
                let request = v1::RevokeTaskRequest {
                    request_id,
                    task_id: task,
                    reason,
                    ..Default::default()
                };
                let answer = client.change(&id, service.revoke_task(request)).await?;
                let task = show::task(&answer.task.ok_or(Failure::Answer("task"))?);
                Ok(show::with_revocation(task, answer.revocation.as_ref()))
            }
        }
    }
}
