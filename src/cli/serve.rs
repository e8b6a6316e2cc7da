//! `leasehold serve`: a broker, until it is told to stop.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use super::signals::until_stopped;
use crate::app::{self, Sockets};
use crate::config::store::StoreConfig;
use crate::config::{self, Config};
use crate::telemetry;

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "leasehold.toml")]
    config: PathBuf,
}

impl Serve {
    /// Answers until Ctrl-C or SIGTERM, then lets running requests end.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = config::load(&self.config)?;
        telemetry::init(config.log.format, &config.log.filter)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        make_embedded_store(&config).await?;
        let sockets = Sockets::bind(&config).await?;
        let broker = app::start(config, sockets).await?;
        let metrics = broker.metrics.map(tracing::field::display);
        tracing::info!(grpc = %broker.grpc, http = %broker.http, metrics, "the broker answers");
        until_stopped().await.map_err(Failure::Signals)?;
        tracing::info!("stopping: running requests may end");
        broker.stop().await;
        Ok(())
    }
}

/// An empty folder is a new store. An empty Redis server may be one that has lost everything: `leasehold store init` says
/// that it is new.
async fn make_embedded_store(config: &Config) -> Result<(), Failure> {
    match config.store {
        StoreConfig::Embedded { .. } => Ok(app::make_store_if_missing(config, None).await?),
        StoreConfig::Redis(_) => Ok(()),
    }
}
