//! Hints that something changed, published by the scripts of every broker. They come over a connection of their own, which is made
//! anew after it broke; what is missed meanwhile is made up for by telling everybody to look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::{Client, RedisError, Value};
use tokio::sync::watch;
use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::keys::Keys;
use crate::domain::id::{Partition, PartitionCount};
use crate::store::Changed;
use crate::store::changes::Changes;

/// How long after a failure the next connection is tried.
const RETRY: Duration = Duration::from_secs(1);
/// After so long without a word the server is asked whether it is there: one that is cut off says nothing.
const QUIET: Duration = Duration::from_secs(10);

/// What the server tells of changes; nothing before the first one watches.
pub(super) struct Hints {
    listener: Arc<Listener>,
    task: OnceLock<AbortOnDropHandle<()>>,
}

struct Listener {
    client: Client,
    /// How long an answer may take.
    patience: Duration,
    changes: Changes,
    is_live: AtomicBool,
}

impl Hints {
    pub(super) fn new(client: Client, patience: Duration) -> Self {
        let (changes, is_live) = (Changes::default(), AtomicBool::new(false));
        let listener = Arc::new(Listener { client, patience, changes, is_live });
        Self { listener, task: OnceLock::new() }
    }

    /// Watches it. The first change comes once the server tells of those that follow. A runtime must be there.
    pub(super) fn watch(&self, of: Changed, partitions: PartitionCount) -> watch::Receiver<u64> {
        let mut receiver = self.listener.changes.watch(of);
        self.task.get_or_init(|| {
            let listening = Arc::clone(&self.listener).listen(channels(partitions));
            AbortOnDropHandle::new(tokio::spawn(listening))
        });
        // In this order: whoever goes live meanwhile finds the receiver there, and tells it.
        if self.listener.is_live.load(Ordering::Acquire) {
            receiver.mark_changed();
        }
        receiver
    }
}

/// Each key whose changes are published is the name of their channel, too.
fn channels(partitions: PartitionCount) -> HashMap<String, Changed> {
    let of = |partition| (Keys(partition).events(), Changed::Partition(partition));
    let registry = (Keys(Partition::ZERO).brokers(), Changed::Registry);
    partitions.all().map(of).chain([registry]).collect()
}

/// Why nothing is heard any more.
#[derive(Debug, thiserror::Error)]
enum Silence {
    #[error("the connection ended")]
    Ended,
    #[error("no answer came in time")]
    Slow(#[from] Elapsed),
    #[error("{0}")]
    Failed(#[from] RedisError),
}

impl Listener {
    async fn listen(self: Arc<Self>, channels: HashMap<String, Changed>) {
        let mut is_known = false;
        loop {
            let silence = self.hear(&channels).await;
            let was_live = self.is_live.swap(false, Ordering::AcqRel);
            if was_live || !is_known {
                tracing::warn!(%silence, "the Redis store tells of no changes: they are found later, by looking");
                is_known = true;
            }
            sleep(RETRY).await;
        }
    }

    /// Tells what it hears until it hears no more.
    async fn hear(&self, channels: &HashMap<String, Changed>) -> Silence {
        match self.try_hear(channels).await {
            Ok(()) => Silence::Ended,
            Err(silence) => silence,
        }
    }

    async fn try_hear(&self, channels: &HashMap<String, Changed>) -> Result<(), Silence> {
        let subscribing = async {
            let mut subscribed = self.client.get_async_pubsub().await?;
            subscribed.subscribe(channels.keys().collect::<Vec<_>>()).await?;
            Ok::<_, RedisError>(subscribed.split())
        };
        let (mut sink, mut messages) = timeout(self.patience, subscribing).await??;
        self.is_live.store(true, Ordering::Release);
        self.changes.tell_all();
        loop {
            match timeout(QUIET, messages.next()).await {
                Ok(Some(message)) => {
                    if let Some(changed) = channels.get(message.get_channel_name()) {
                        self.changes.tell(*changed);
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    timeout(self.patience, sink.ping::<Value>()).await??;
                }
            }
        }
    }
}
