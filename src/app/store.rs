//! Which store, and its life: made, opened, closed.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::{AppError, Seams};
use crate::config::Config;
use crate::config::store::{RedisConfig, StoreConfig};
use crate::domain::time::Span;
use crate::store::embedded::EmbeddedStore;
use crate::store::redis::{RedisStore, Settings};
use crate::store::{Constants, Feed, Recovered, Store, StoreError, Upkeep};

/// An open store, as the contracts see it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) upkeep: Arc<dyn Upkeep>,
    pub(super) feed: Arc<dyn Feed>,
    embedded: Option<Arc<EmbeddedStore>>,
}

impl Opened {
    /// Writes what waits.
    pub(super) async fn close(self) {
        if let Some(store) = self.embedded
            && tokio::task::spawn_blocking(move || store.close()).await.is_err()
        {
            tracing::error!("the store could not be closed in order");
        }
    }
}

/// The kind's name, as status shows it.
pub(super) fn kind(config: &StoreConfig) -> &'static str {
    match config {
        StoreConfig::Embedded { .. } => "embedded",
        StoreConfig::Redis(_) => "redis",
    }
}

/// Opens it; what is no ending is done on the threads of `ordinary`, if it is done on a runtime's.
pub(super) async fn open(
    config: &Config,
    seams: &Seams,
    ordinary: Handle,
) -> Result<Opened, AppError> {
    match &config.store {
        StoreConfig::Embedded { path } => {
            let (path, seams) = (path.clone(), seams.clone());
            let opening = tokio::task::spawn_blocking(move || {
                EmbeddedStore::open(&path, seams.clock, &*seams.entropy)
            });
            let store = opening.await.map_err(panicked)??;
            Ok(Opened {
                store: store.clone(),
                upkeep: store.clone(),
                feed: store.clone(),
                embedded: Some(store),
            })
        }
        StoreConfig::Redis(redis) => {
            let settings = redis_settings(redis)?;
            let entropy = seams.entropy.clone();
            let connected = RedisStore::connect_on(ordinary, &settings, entropy).await;
            let store = Arc::new(connected.map_err(away(redis))?);
            Ok(Opened { store: store.clone(), upkeep: store.clone(), feed: store, embedded: None })
        }
    }
}

/// Makes the store of a configuration: `leasehold store init`.
///
/// # Errors
/// [`AppError::Store`] if there is one already, which stays as it is; or if it cannot be made.
pub async fn make_store(config: &Config, constants: Constants) -> Result<(), AppError> {
    match &config.store {
        StoreConfig::Embedded { path } => {
            let path = path.clone();
            let making = tokio::task::spawn_blocking(move || EmbeddedStore::init(&path, constants));
            Ok(making.await.map_err(panicked)??)
        }
        StoreConfig::Redis(redis) => {
            let (settings, seams) = (redis_settings(redis)?, Seams::system());
            RedisStore::init(&settings, constants, seams.entropy).await.map_err(away(redis))
        }
    }
}

/// Makes the store of a configuration, unless there is one; with the default constants but for `delta_max`, if one is given.
///
/// # Errors
/// [`AppError`] if there is none and it cannot be made.
pub async fn make_store_if_missing(
    config: &Config,
    delta_max: Option<Span>,
) -> Result<(), AppError> {
    let seams = Seams::system();
    match open(config, &seams, Handle::current()).await {
        Ok(opened) => {
            opened.close().await;
            Ok(())
        }
        Err(AppError::Store(StoreError::NotInitialised)) => {
            let default = Constants::DEFAULT;
            let delta_max = delta_max.unwrap_or(default.delta_max);
            make_store(config, Constants { delta_max, ..default }).await
        }
        Err(error) => Err(error),
    }
}

/// Fences everything in a store that was put back from a backup: `leasehold store restored`. No broker may run meanwhile.
///
/// # Errors
/// [`AppError::Store`] if there is no store or it cannot be written.
pub async fn store_was_restored(config: &Config) -> Result<Vec<Recovered>, AppError> {
    let seams = Seams::system();
    match &config.store {
        StoreConfig::Embedded { path } => {
            let path = path.clone();
            let fencing = tokio::task::spawn_blocking(move || {
                EmbeddedStore::restored(&path, &*seams.clock, &*seams.entropy)
            });
            Ok(fencing.await.map_err(panicked)??)
        }
        StoreConfig::Redis(redis) => {
            let settings = redis_settings(redis)?;
            RedisStore::restored(&settings, seams.entropy).await.map_err(away(redis))
        }
    }
}

/// Names the server that does not answer.
fn away(redis: &RedisConfig) -> impl Fn(StoreError) -> AppError {
    |error| match error {
        StoreError::Unavailable(problem) => AppError::StoreAway { url: redis.url.clone(), problem },
        error => error.into(),
    }
}

fn redis_settings(redis: &RedisConfig) -> Result<Settings, AppError> {
    let password = redis.password.as_ref().map(|source| source.read()).transpose()?;
    Ok(Settings {
        url: redis.url.clone(),
        ca_file: redis.ca_file.clone(),
        client_files: redis.client.as_ref().map(|c| (c.cert_file.clone(), c.key_file.clone())),
        username: redis.username.clone(),
        password,
        response_timeout: redis.response_timeout,
    })
}

fn panicked(_: tokio::task::JoinError) -> StoreError {
    StoreError::Unavailable("it failed while it was opened; its log says why".to_owned())
}
