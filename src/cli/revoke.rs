//! `leasehold revoke`: an operator ends one lease, or a task with all below it; whoever found a token ends its lease.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::arguments::{self, RequestId};
use super::client::Client;
use super::connection::Connection;
use super::failure::Failure;
use super::leaked;
use super::show::{self, Shown};
use super::task::Stop;
use super::waiting::Waiting;
use crate::proto::v1;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Revoke {
    #[command(subcommand)]
    what: Option<What>,
    /// File with a token that leaked, or a certificate in PEM; `-` for stdin. Having a token is the right to end its lease; for a
    /// certificate it takes an operator
    #[arg(long, value_name = "FILE", required = true)]
    token: Option<PathBuf>,
    /// Why; only for a certificate, as `--wait-for` and `--wait-timeout`
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Kill one lease: a credential leaked
    Lease(RevokeLease),
    /// End a task and all below it
    Task(Stop),
}

#[derive(Debug, Args)]
struct RevokeLease {
    /// The lease
    #[arg(value_parser = arguments::lease_id)]
    lease: String,
    /// Why
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    request: RequestId,
}

impl Revoke {
    /// Asks the broker.
    pub(super) async fn run(self, connection: &Connection) -> Result<Shown, Failure> {
        match (self.what, self.token) {
            (Some(What::Lease(lease)), _) => lease.run(&connection.open().await?).await,
            (Some(What::Task(task)), _) => revoke_task(task, &connection.open().await?).await,
            (None, Some(file)) => {
                leaked::revoke(&file, self.reason, self.waiting, connection).await
            }
            (None, None) => Err(Failure::Usage(
                "say what: `revoke lease`, `revoke task`, or `revoke --token -` with a token that leaked"
                    .to_owned(),
            )),
        }
    }
}

impl RevokeLease {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let Self { lease, reason, waiting, request } = self;
        let id = request.into_id();
        let request_id = id.clone();
        let request =
            v1::RevokeLeaseRequest { request_id, lease_id: lease, reason, ..Default::default() };
        let call = async |request| client.operators().revoke_lease(request).await;
        let answer = waiting.end(client, &id, request, call).await?;
        let lease = show::lease(&answer.lease.ok_or(Failure::Answer("lease"))?);
        Ok(show::with_revocation(lease, answer.revocation.as_ref(), waiting.wanted()))
    }
}

async fn revoke_task(stop: Stop, client: &Client) -> Result<Shown, Failure> {
    let Stop { task, reason, waiting, request } = stop;
    let id = request.into_id();
    let request_id = id.clone();
    let request = v1::RevokeTaskRequest { request_id, task_id: task, reason, ..Default::default() };
    let call = async |request| client.operators().revoke_task(request).await;
    let answer = waiting.end(client, &id, request, call).await?;
    let task = show::task(&answer.task.ok_or(Failure::Answer("task"))?);
    Ok(show::with_revocation(task, answer.revocation.as_ref(), waiting.wanted()))
}
