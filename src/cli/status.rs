//! `leasehold status`: the broker, its store, and who is on its feed.

use clap::Args;

use super::client::Client;
use super::failure::Failure;
use super::show::{self, Shown};
use crate::proto::v1;

#[derive(Debug, Args)]
pub(super) struct Status {}

impl Status {
    /// Asks the broker.
    pub(super) async fn run(self, client: &Client) -> Result<Shown, Failure> {
        let mut service = client.operators();
        Ok(show::status(&client.read(service.get_status(v1::GetStatusRequest {})).await?))
    }
}
