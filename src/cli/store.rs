//! `leasehold store`: what is done once to a store, and not by brokers.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::arguments;
use super::failure::Failure;
use super::show::Shown;
use crate::app;
use crate::config;
use crate::domain::id::PartitionCount;
use crate::domain::time::Span;
use crate::store::Constants;

#[derive(Debug, Subcommand)]
pub(super) enum Store {
    /// Make the store of a configuration; one that is there stays as it is
    Init(Init),
    /// Say that the store was put back from a backup: every credential from before is dead, and every task waits for its
    /// orchestrator. No broker may run meanwhile
    Restored(Restored),
}

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "leasehold.toml")]
    config: PathBuf,
    /// How many partitions it has for ever: a power of two, 1 to 256
    #[arg(long, value_name = "COUNT", value_parser = partitions, default_value = "16")]
    partitions: PartitionCount,
    /// The longest freshness that a tier may ever have, 1s to 300s
    #[arg(long, value_name = "SPAN", value_parser = delta_max, default_value = "30s")]
    delta_max: Span,
}

#[derive(Debug, Args)]
pub(super) struct Restored {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "leasehold.toml")]
    config: PathBuf,
}

impl Store {
    /// Does it to the store that the configuration names.
    pub(super) async fn run(self) -> Result<Shown, Failure> {
        match self {
            Self::Init(Init { config, partitions, delta_max }) => {
                let config = config::load(&config)?;
                app::make_store(&config, Constants { partitions, delta_max }).await?;
                let text = format!(
                    "there is a store of {} partitions; brokers can start",
                    partitions.get()
                );
                Ok(Shown::new(json!({ "partitions": partitions.get() }), text))
            }
            Self::Restored(Restored { config }) => {
                let recovered = app::store_was_restored(&config::load(&config)?).await?;
                let text = format!("{} partitions are fenced; brokers can start", recovered.len());
                Ok(Shown::new(json!({ "partitions": recovered.len() }), text))
            }
        }
    }
}

fn partitions(text: &str) -> Result<PartitionCount, String> {
    let count = text.parse().ok().and_then(PartitionCount::new);
    count.ok_or_else(|| "write a power of two, 1 to 256".to_owned())
}

fn delta_max(text: &str) -> Result<Span, String> {
    let bounds = Span::from_seconds(1)..=Span::from_seconds(300);
    let span = arguments::span(text)?;
    if bounds.contains(&span) { Ok(span) } else { Err("write 1s to 300s".to_owned()) }
}
