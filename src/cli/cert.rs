//! `leasehold cert`: X.509-SVIDs for agents. The key is made here and stays here.

use clap::{Args, Subcommand};

use super::arguments;
use super::client::Client;
use super::credential::{self, Terms};
use super::failure::Failure;
use super::fresh_key::{FreshKey, KeyFiles};
use super::grant::GrantArguments;
use super::show::Shown;
use crate::proto::v1;
use crate::proto::v1::issue_credential_request::Credential;

#[derive(Debug, Subcommand)]
pub(super) enum Cert {
    /// Make a P-256 key, and get a certificate for it
    Issue(Issue),
    /// Make a new key, and get a new certificate under the same lease
    Renew(Renew),
}

#[derive(Debug, Args)]
pub(super) struct Issue {
    /// The task
    #[arg(long, value_parser = arguments::task_id)]
    task: String,
    /// The one resource that it is for; default: any within the grant
    #[arg(long, default_value = "", hide_default_value = true)]
    audience: String,
    #[command(flatten)]
    grant: GrantArguments,
    /// Only if the task is in this epoch
    #[arg(long, value_name = "EPOCH", default_value_t = 0, hide_default_value = true)]
    expected_epoch: u64,
    #[command(flatten)]
    files: KeyFiles,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// The lease
    #[arg(value_parser = arguments::lease_id)]
    lease: String,
    #[command(flatten)]
    files: KeyFiles,
    #[command(flatten)]
    terms: Terms,
}

impl Cert {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        match self {
            Self::Issue(issue) => issue.run(client).await,
            Self::Renew(renew) => {
                credential::renew(client, renew.terms, (Some(renew.files), None), renew.lease).await
            }
        }
    }
}

impl Issue {
    async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let key = FreshKey::generate()?;
        let csr_der = key.csr_der.clone();
        let request = v1::IssueCredentialRequest {
            task_id: self.task,
            expected_epoch: self.expected_epoch,
            audience: self.audience,
            authorization_details: self.grant.json().unwrap_or_default(),
            credential: Some(Credential::X509Svid(v1::X509SvidRequest { csr_der })),
            ..Default::default()
        };
        credential::issue(client, self.terms, (Some((key, self.files)), None), request).await
    }
}
