//! The registry of brokers, read for those who wait, and kept free of brokers that are gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::Feed;
use super::run::changed;
use crate::domain::feed::{Beats, BrokerRecord, InstanceId, Registry, Run, Seen};
use crate::domain::time::{Moment, Span};
use crate::store::{Changed, StoreError};
use crate::telemetry::metrics;

/// How often it is read while somebody waits, if nobody says that it changed.
const WHILE_WAITING: Duration = Duration::from_millis(20);
/// How often it is read else.
const ELSE: Duration = Duration::from_secs(1);

/// Reads the registry for everybody at once.
#[derive(Debug, Default)]
pub(super) struct RegistryReader {
    latest: watch::Sender<Option<Arc<Registry>>>,
    waiting: AtomicUsize,
    wanted: Notify,
    beats: Mutex<Beats>,
    seen: Mutex<Seen>,
}

/// As long as it is there, the registry is read on every change.
pub(super) struct Waiting<'a> {
    reader: &'a RegistryReader,
    latest: watch::Receiver<Option<Arc<Registry>>>,
}

impl RegistryReader {
    /// Somebody waits; the first read begins after this.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.wanted.notify_one();
        Waiting { reader: self, latest: self.latest.subscribe() }
    }

    /// The verifiers that were in it at that instant or came later; `None` if that is not known.
    pub(super) fn seen_since(&self, then: Moment) -> Option<BTreeMap<Run, String>> {
        self.seen.lock().since(then)
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }
}

impl Waiting<'_> {
    /// As it was last read.
    pub(super) fn latest(&mut self) -> Option<Arc<Registry>> {
        self.latest.borrow_and_update().clone()
    }

    /// Ends when it was read again.
    pub(super) async fn changed(&mut self) {
        changed(&mut self.latest).await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.reader.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Feed {
    /// The registry as it was last read; for people.
    pub fn brokers(&self) -> Option<Arc<Registry>> {
        self.registry.latest.borrow().clone()
    }

    /// The same, each time that it is read.
    pub fn registry(&self) -> watch::Receiver<Option<Arc<Registry>>> {
        self.registry.latest.subscribe()
    }

    /// The brokers that the store lists now, each with how long its beat was seen to stand still; for people.
    ///
    /// # Errors
    /// The store's.
    pub async fn brokers_now(&self) -> Result<Vec<(BrokerRecord, Span)>, StoreError> {
        let (_, records) = self.parts.feed.brokers().await?;
        let (beats, now) = (self.registry.beats.lock(), self.moment());
        let with_age = |record| {
            let age = beats.age(&record, now);
            (record, age)
        };
        Ok(records.into_iter().map(with_age).collect())
    }

    /// Reads the registry as often as somebody needs it.
    pub(super) async fn follow_registry(self: Arc<Self>) {
        let mut changes = self.parts.feed.changes(Changed::Registry);
        loop {
            if let Err(error) = self.read_registry().await {
                self.hear(&error);
                // Reads of the partitions tell when the store is away.
                tracing::debug!(%error, "the registry of brokers was not read");
            }
            let is_awaited = self.registry.is_awaited();
            let pause = if is_awaited { WHILE_WAITING } else { ELSE };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = changed(&mut changes), if is_awaited => {}
                () = self.registry.wanted.notified() => {}
            }
        }
    }

    // INVARIANT (fencing, rule 3): who waits goes by when a read was sent, so no read from before RECORDED counts.
    pub(super) async fn read_registry(&self) -> Result<(), StoreError> {
        let sent = self.moment();
        let (incarnation, records) = self.parts.feed.brokers().await?;
        let known = self.core.lock().registry_known(incarnation, self.present());
        let Some(incarnation_known) = known else { return Ok(()) };
        let is_first = self.settings.first == Some(incarnation);
        metrics::brokers_registered(records.len());
        let lapse = self.settings.terms.drift.lapse(self.settings.terms.delta_max);
        let still = self.registry.beats.lock().still(&records, self.moment(), lapse);
        let reader = self.settings.identity.instance;
        let registry = Registry { reader, sent, incarnation_known, is_first, records };
        self.registry.seen.lock().look(&registry, lapse);
        self.registry.latest.send_replace(Some(Arc::new(registry)));
        for (instance, beat) in still {
            self.forget(instance, beat).await?;
        }
        Ok(())
    }

    /// Removes the record of a broker that is gone, and never its own.
    async fn forget(&self, instance: InstanceId, beat: u64) -> Result<(), StoreError> {
        if instance != self.settings.identity.instance
            && self.parts.feed.forget(instance, beat).await?
        {
            tracing::info!(%instance, "a broker that is gone was removed from the registry");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
