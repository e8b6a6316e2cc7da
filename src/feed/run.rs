//! What runs: one reader for each partition, the beat, and the registry's reader.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::core::Step;
use super::reader::Ask;
use super::{Feed, Happened};
use crate::domain::id::Partition;
use crate::domain::time::Span;
use crate::store::{Changed, Entries, Query, StoreError};
use crate::telemetry::metrics;

/// Events of one page, where there are many.
const PAGE: usize = 512;
/// Events of the first page: mostly there are few, and they are waited for. It saves work only.
const FIRST_PAGE: usize = 32;
/// Of so many verifiers each acknowledgement is looked at; of more, those together that come within the gap, which saves work only.
const FEW_RUNS: usize = 32;
/// Acknowledgements that come within so long after a write are written together.
const BEAT_GAP: Duration = Duration::from_millis(2);

impl Feed {
    /// Starts everything; it ends with the feed's `stop`. The broker's record stays in the registry.
    // INVARIANT (fencing, rule 10): the verifiers of a broker that stopped may be fresh for a while longer.
    pub fn spawn(self: &Arc<Self>, tasks: &TaskTracker) {
        for partition in self.settings.partitions.all() {
            let (feed, stop) = (self.clone(), self.stop.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(feed.follow(partition)).await;
            });
        }
        let (feed, stop) = (self.clone(), self.stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(feed.beat_on()).await;
        });
        let (feed, stop) = (self.clone(), self.stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(feed.follow_registry()).await;
        });
    }

    /// Reads a partition again and again: every so often, and at once when there is a reason.
    async fn follow(self: Arc<Self>, partition: Partition) {
        let mut changes = self.parts.feed.changes(Changed::Partition(partition));
        let mut is_away = false;
        loop {
            let read = self.read(partition).await;
            if let Err(error) = &read {
                self.hear(error);
            }
            metrics::feed_read(match &read {
                Ok(true) => "counted",
                Ok(false) => "closed",
                Err(_) => "failed",
            });
            if read.is_err() != is_away {
                is_away = read.is_err();
                match read {
                    // Said once, for all of them.
                    Err(StoreError::OtherStore) => {}
                    Err(error) => tracing::warn!(%partition, %error, "revocations cannot be read"),
                    Ok(_) => tracing::info!(%partition, "revocations can be read again"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.cadence.to_std()) => {}
                () = changed(&mut changes), if !is_away => {}
                () = look(&self, partition) => {}
            }
        }
    }

    /// Reads a partition until nothing is left; whether that counted.
    async fn read(&self, partition: Partition) -> Result<bool, StoreError> {
        let mut limit = FIRST_PAGE;
        loop {
            let ask = self.core.lock().ask(partition);
            // INVARIANT (fencing, rule 1): taken before the read is sent.
            let sent = self.present();
            let step = match ask {
                Ask::Page(after) => {
                    let page = self.parts.feed.page(partition, after, limit).await?;
                    let mut core = self.core.lock();
                    core.page(partition, page, sent, self.present())
                }
                Ask::Set => {
                    let query = Query::new(partition, vec![], Entries::All);
                    let set = self.parts.store.read(query).await?;
                    let mut core = self.core.lock();
                    core.set(partition, &set, self.present())
                }
            };
            metrics::feed_overflowed(step.overflows);
            if step.kills {
                self.acks.notify_one();
            }
            let (again, counted) = (step.again, step.counted);
            self.tell(partition, step);
            if !again {
                return Ok(counted);
            }
            limit = PAGE;
        }
    }

    fn tell(&self, partition: Partition, step: Step) {
        // That nobody listens is no error.
        if step.gap {
            let _ = self.events.send(Happened::Gap(partition));
        }
        for event in step.events {
            let _ = self.events.send(Happened::Event(partition, Arc::new(event)));
        }
    }

    /// Writes this broker's record again and again: every so often, and at once when somebody's acknowledgement moved it.
    async fn beat_on(self: Arc<Self>) {
        let mut told = None;
        let mut due = Instant::now();
        loop {
            let is_due = tokio::select! {
                () = tokio::time::sleep_until(due) => true,
                () = self.acks.notified() => false,
            };
            let (acked, runs) = {
                let core = self.core.lock();
                (core.acked(self.present()), core.runs())
            };
            if !is_due && told.as_ref() == Some(&acked) {
                if runs > FEW_RUNS {
                    tokio::time::sleep(BEAT_GAP).await;
                }
                continue;
            }
            due = Instant::now() + self.settings.cadence.to_std();
            let beat = self.beat().await;
            metrics::beat(if beat.is_ok() { "confirmed" } else { "failed" });
            match beat {
                Ok(()) => told = Some(acked),
                Err(error) => {
                    self.hear(&error);
                    tracing::debug!(%error, "the broker's record was not confirmed");
                }
            }
            let age = self.core.lock().age(self.present());
            metrics::feed_age(age.map(Span::to_std));
            tokio::time::sleep(BEAT_GAP).await;
        }
    }

    /// What an error of the store says of more than the call that it answers.
    pub(super) fn hear(&self, error: &StoreError) {
        let StoreError::OtherStore = error else { return };
        let mut core = self.core.lock();
        if core.went_elsewhere() {
            tracing::error!(%error, "nothing is begun, issued or ended here any more, and no verifier is served");
            // Whoever watches a task looks, and hears that nothing can be told of it here.
            for partition in self.settings.partitions.all() {
                let _ = self.events.send(Happened::Gap(partition));
            }
        }
        self.registered.send_replace(false);
    }

    /// Writes the record once.
    async fn beat(&self) -> Result<(), StoreError> {
        // INVARIANT (fencing, rule 9): the beat counts from when it was sent.
        let sent = self.present();
        let record = self.core.lock().record(sent);
        let Some(record) = record else {
            // What it says of partition 0 comes first.
            let page = self.parts.feed.page(Partition::ZERO, None, 1).await?;
            self.core.lock().registry_known(page.meta.incarnation, self.present());
            return Box::pin(self.beat()).await;
        };
        let confirmed = self.parts.feed.beat(&record).await;
        let (was_registered, is_registered) = {
            let mut core = self.core.lock();
            if let Ok(incarnation) = &confirmed {
                core.confirmed(*incarnation, sent, self.present());
            }
            let is_registered = core.is_registered();
            (self.registered.send_replace(is_registered), is_registered)
        };
        if was_registered != is_registered {
            if is_registered {
                tracing::info!(instance = %record.instance, "registered with the store");
                // Only what is read from now on counts.
                self.look.values().for_each(tokio::sync::Notify::notify_one);
            } else {
                tracing::warn!("the store's incarnation changed: registering again");
            }
        }
        confirmed.map(drop)
    }
}

async fn look(feed: &Feed, partition: Partition) {
    match feed.look.get(&partition) {
        Some(look) => look.notified().await,
        None => std::future::pending().await,
    }
}

/// Ends when a value changed; never, if nobody changes it any more.
pub(super) async fn changed<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
