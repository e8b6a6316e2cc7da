//! `leasehold lease`: the records of issued credentials.

use clap::{Args, Subcommand};

use super::arguments::{self, Page, RequestId};
use super::client::Client;
use super::failure::Failure;
use super::show::{self, Shown};
use crate::proto::v1;

#[derive(Debug, Subcommand)]
pub(super) enum Lease {
    /// Show one lease
    Get(Get),
    /// Show the leases of a task
    List(List),
    /// Give a lease back; its credentials die
    Release(Release),
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The lease
    #[arg(value_parser = arguments::lease_id)]
    lease: String,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// The task
    #[arg(long, value_parser = arguments::task_id)]
    task: String,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, Args)]
pub(super) struct Release {
    /// The lease
    #[arg(value_parser = arguments::lease_id)]
    lease: String,
    #[command(flatten)]
    request: RequestId,
}

impl Lease {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let mut service = client.credentials();
        match self {
            Self::Get(get) => {
                let request = v1::GetLeaseRequest { lease_id: get.lease };
                let answer = client.read(service.get_lease(request)).await?;
                Ok(show::lease(&answer.lease.ok_or(Failure::Answer("lease"))?))
            }
            Self::List(list) => {
                let Page { page_size, page_token } = list.page;
                let request = v1::ListLeasesRequest { task_id: list.task, page_size, page_token };
                let answer = client.read(service.list_leases(request)).await?;
                Ok(show::leases(&answer.leases, &answer.next_page_token))
            }
            Self::Release(release) => {
                let id = release.request.into_id();
                let request_id = id.clone();
                let request = v1::ReleaseCredentialRequest { request_id, lease_id: release.lease };
                let answer = client.change(&id, service.release_credential(request)).await?;
                let lease = show::lease(&answer.lease.ok_or(Failure::Answer("lease"))?);
                Ok(show::with_revocation(
                    lease,
                    answer.revocation.as_ref(),
                    v1::Enforcement::Recorded,
                ))
            }
        }
    }
}
