//! Webhooks: what happened is told to receivers, signed, at least once, in the order of each partition.
//!
//! ```text
//!  store: events of a partition ──page after `delivered`──▶ Delivery ──SET, POST──▶ receiver
//!                 ▲                                            │ 202
//!  registry ──records──▶ Shares: who delivers which partition  ▼
//!           ◀──beat──── `delivered` of each webhook ◀────── Progress
//! ```
//!
//! The store's events are the queue: nothing is held in memory, so a receiver that is slow or away holds up nothing but its own
//! position, and the number of events bounds how far back that may lie ([`crate::store::EVENTS_KEPT`]). Of several brokers one
//! delivers the events of a partition; how far it is, each broker writes in the registry, so that another goes on from there.

mod delivery;
mod receiver;
mod security_event;
mod share;
#[cfg(test)]
mod tests;

pub use receiver::{HttpReceiver, Post, Posted, ReceiverError};
pub use security_event::{EVENT_URI, GAP, MEDIA_TYPE, SecurityEvent, TYP, issuer};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::delivery::Delivery;
use crate::broker::seams::{Clock, Entropy};
use crate::domain::feed::{BrokerRecord, ReadPosition};
use crate::domain::id::Partition;
use crate::domain::principal::Name;
use crate::domain::time::{Span, Stamp};
use crate::domain::webhook::Interest;
use crate::feed::{Feed, Happened};
use crate::keys::SharedKeys;
use crate::store::{self, StoreError};

/// Deliveries to one receiver that are under way at a time, at one broker.
const AT_ONCE: usize = 8;

/// What deliveries are made of.
#[derive(Clone)]
pub struct Parts {
    /// Where tasks are read.
    pub store: Arc<dyn store::Store>,
    /// Where events are read.
    pub events: Arc<dyn store::Feed>,
    /// Who else delivers, and what says that there is something to deliver.
    pub feed: Arc<Feed>,
    /// What events are signed with.
    pub keys: SharedKeys,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Chance, for the pauses.
    pub entropy: Arc<dyn Entropy>,
}

/// One webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What brokers know it by.
    pub name: Name,
    /// `aud` of its events.
    pub audience: String,
    /// Which events it is for.
    pub interest: Interest,
    /// How long after it happened an event is tried at most.
    pub give_up_after: Span,
}

/// One webhook, as all that works for it see it.
struct Webhook {
    settings: Settings,
    receiver: Arc<dyn Post>,
    room: Semaphore,
    /// Whom to wake when there is something to deliver.
    wake: BTreeMap<Partition, Notify>,
    /// The partitions whose events this broker delivers.
    share: watch::Sender<BTreeSet<Partition>>,
    /// Up to where everything was delivered, or the receiver told that it was not.
    progress: Mutex<BTreeMap<Partition, ReadPosition>>,
    /// The oldest event of each partition that the receiver did not take when it was tried.
    waiting: Mutex<BTreeMap<Partition, Stamp>>,
}

impl Webhook {
    fn delivered(&self, partition: Partition) -> Option<ReadPosition> {
        self.progress.lock().get(&partition).copied()
    }

    /// Takes over how far others know that it is delivered.
    // INVARIANT (no event between two deliverers): what others have delivered is known before their partitions are taken over,
    // also of those that are gone, so that a delivery begins where the last one ended and never behind it.
    fn hear(&self, records: &[BrokerRecord]) {
        for (partition, read) in
            records.iter().filter_map(|r| r.webhooks.get(&self.settings.name)).flatten()
        {
            self.raise(*partition, *read);
        }
    }

    /// It is delivered up to there, unless it was further already.
    fn raise(&self, partition: Partition, to: ReadPosition) {
        let mut progress = self.progress.lock();
        let known = progress.entry(partition).or_insert(to);
        if known.at < to.at {
            *known = to;
        }
    }

    fn wake(&self, partition: Partition) {
        if let Some(wake) = self.wake.get(&partition) {
            wake.notify_one();
        }
    }
}

/// Every webhook of one broker.
pub struct Webhooks {
    parts: Parts,
    webhooks: Vec<Arc<Webhook>>,
}

impl Webhooks {
    /// Webhooks with their receivers, each where the brokers' records say that it stands; one that no record knows stands at the
    /// present. Made before this broker's first beat, which tells the others, and before it answers: what it commits is told.
    pub async fn new(parts: Parts, webhooks: Vec<(Settings, Arc<dyn Post>)>) -> Arc<Self> {
        let partitions = parts.feed.settings().partitions;
        let webhook = |(settings, receiver)| {
            Arc::new(Webhook {
                settings,
                receiver,
                room: Semaphore::new(AT_ONCE),
                wake: partitions.all().map(|partition| (partition, Notify::new())).collect(),
                share: watch::Sender::new(BTreeSet::new()),
                progress: Mutex::new(BTreeMap::new()),
                waiting: Mutex::new(BTreeMap::new()),
            })
        };
        let webhooks = Self { parts, webhooks: webhooks.into_iter().map(webhook).collect() };
        if let Err(error) = webhooks.stand().await {
            // Each delivery finds its own beginning then.
            tracing::warn!(%error, "webhooks may begin late: the store did not say where they stand");
        }
        webhooks.report();
        Arc::new(webhooks)
    }

    async fn stand(&self) -> Result<(), StoreError> {
        if self.webhooks.is_empty() {
            return Ok(());
        }
        let (_, records) = self.parts.events.brokers().await?;
        self.webhooks.iter().for_each(|webhook| webhook.hear(&records));
        for partition in self.parts.feed.settings().partitions.all() {
            let head = self.parts.events.page(partition, None, 1).await?.head;
            for webhook in &self.webhooks {
                if let (None, Some(head)) = (webhook.delivered(partition), head) {
                    webhook.raise(partition, head);
                }
            }
        }
        Ok(())
    }

    /// Starts everything; it ends with `stop`.
    pub fn spawn(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) {
        if self.webhooks.is_empty() {
            return;
        }
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.clone().share_out()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(self.clone().wake_on_events()));
        for webhook in &self.webhooks {
            for partition in self.parts.feed.settings().partitions.all() {
                let following = follow(self.parts.clone(), webhook.clone(), partition);
                tasks.spawn(stop.clone().run_until_cancelled_owned(following));
            }
        }
    }

    /// Wakes the deliveries that an event concerns. What is missed here is found at the next look.
    async fn wake_on_events(self: Arc<Self>) {
        let mut events = self.parts.feed.events();
        loop {
            match events.recv().await {
                Ok(Happened::Event(partition, recorded)) => {
                    let kind = recorded.event.kind;
                    let wanted = |webhook: &&Arc<Webhook>| webhook.settings.interest.is_in(kind);
                    self.webhooks.iter().filter(wanted).for_each(|webhook| webhook.wake(partition));
                }
                Ok(Happened::Gap(partition)) => {
                    self.webhooks.iter().for_each(|webhook| webhook.wake(partition));
                }
                Err(RecvError::Lagged(_)) => {
                    let all =
                        |webhook: &Arc<Webhook>| webhook.wake.values().for_each(Notify::notify_one);
                    self.webhooks.iter().for_each(all);
                }
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    fn report(&self) {
        let delivered = |webhook: &Arc<Webhook>| {
            (webhook.settings.name.clone(), webhook.progress.lock().clone())
        };
        self.parts.feed.report(self.webhooks.iter().map(delivered).collect());
    }
}

/// Delivers a partition's events as long as that is this broker's part.
async fn follow(parts: Parts, webhook: Arc<Webhook>, partition: Partition) {
    let mut share = webhook.share.subscribe();
    loop {
        // The sender is the webhook's own.
        let _ = share.wait_for(|share| share.contains(&partition)).await;
        let delivery = Delivery::new(parts.clone(), webhook.clone(), partition);
        tokio::select! {
            biased;
            _ = share.wait_for(|share| !share.contains(&partition)) => {}
            () = delivery.run() => {}
        }
        webhook.waiting.lock().remove(&partition);
    }
}
