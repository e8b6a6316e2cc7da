//! This broker's place on the feed: who it is, and when it may answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{AppError, Seams, Sockets, store};
use crate::broker::seams::EntropyError;
use crate::config::Config;
use crate::domain::feed::{InstanceId, Terms};
use crate::feed::{Feed, Identity, Parts, Settings, cadence};

/// How long the start waits for the registration. A broker that is not registered by then answers no mutation until it is.
const REGISTRATION: Duration = Duration::from_secs(5);

/// The feed of a broker that answers on these sockets. Nothing runs yet.
pub(super) fn make(
    config: &Config,
    store: &store::Opened,
    seams: &Seams,
    listening: &Sockets,
    stop: &CancellationToken,
) -> Result<Arc<Feed>, AppError> {
    let address = listening.grpc.local_addr();
    let address = address.map_err(|fault| AppError::Socket("a bound socket".into(), fault))?;
    let constants = store.upkeep.constants();
    let smallest_delta = config.tiers.iter().map(|tier| tier.freshness).min();
    let settings = Settings {
        identity: Identity {
            instance: instance(seams)?,
            name: config.feed.name.clone().unwrap_or_else(|| host(address)),
            address: address.to_string(),
        },
        terms: Terms { drift: config.feed.drift, delta_max: constants.delta_max },
        partitions: constants.partitions,
        store: store.feed.identity(),
        first: store.feed.first(),
        streams: config.feed.streams,
        cadence: cadence(smallest_delta.unwrap_or(constants.delta_max)),
    };
    let parts =
        Parts { store: store.store.clone(), feed: store.feed.clone(), clock: seams.clock.clone() };
    Ok(Feed::new(parts, settings, stop.clone()))
}

/// Starts it. Ends when the broker is registered, or when that takes too long.
pub(super) async fn begin(feed: &Arc<Feed>, tasks: &TaskTracker) {
    feed.spawn(tasks);
    if tokio::time::timeout(REGISTRATION, feed.registered()).await.is_err() {
        tracing::error!(
            "not registered with the store: nothing is begun, issued or ended until it is"
        );
    }
}

/// Another one at each start of the process.
fn instance(seams: &Seams) -> Result<InstanceId, EntropyError> {
    let mut random = [0; 16];
    seams.entropy.fill(&mut random)?;
    Ok(InstanceId::new(u128::from_be_bytes(random)))
}

fn host(address: SocketAddr) -> String {
    let system = rustix::system::uname();
    match system.nodename().to_str() {
        Ok(name) if !name.is_empty() => name.to_owned(),
        _ => address.to_string(),
    }
}
