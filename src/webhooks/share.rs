//! Which partitions this broker delivers, and from where on: both from the registry of brokers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Webhook, Webhooks};
use crate::domain::feed::{Beats, InstanceId, Registry};
use crate::domain::time::{Moment, Span};
use crate::domain::webhook::deliverer;
use crate::telemetry::metrics;

/// A broker whose record did not change for so long is taken to be gone, and others deliver what it did. If it is not, events
/// come twice.
const GONE_AFTER: Span = Span::from_seconds(5);
/// How often it is looked at what waits, though the registry was not read.
const LOOK: Duration = Duration::from_secs(1);

impl Webhooks {
    /// Deals out the partitions anew each time that the registry was read, and tells the registry how far this broker is.
    pub(super) async fn share_out(self: Arc<Self>) {
        let mut registry = self.parts.feed.registry();
        let mut beats = Beats::default();
        loop {
            if let Some(registry) = registry.borrow_and_update().clone() {
                let now = Moment::new(self.parts.clock.elapsed());
                let gone = beats.still(&registry.records, now, GONE_AFTER);
                let gone: BTreeSet<_> = gone.into_iter().map(|(instance, _)| instance).collect();
                self.webhooks.iter().for_each(|webhook| self.deal(webhook, &registry, &gone));
            }
            self.report();
            self.webhooks.iter().for_each(|webhook| self.measure(webhook));
            tokio::select! {
                changed = registry.changed() => if changed.is_err() { std::future::pending().await },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn deal(&self, webhook: &Webhook, registry: &Registry, gone: &BTreeSet<InstanceId>) {
        let name = &webhook.settings.name;
        webhook.hear(&registry.records);
        let lives = registry.records.iter().filter(|record| !gone.contains(&record.instance));
        let delivering = lives.filter(|record| record.webhooks.contains_key(name));
        let brokers: Vec<_> = delivering.map(|record| record.instance).collect();
        let settings = self.parts.feed.settings();
        let own = settings.identity.instance;
        let is_own =
            |partition: &_| deliverer(name, *partition, brokers.iter().copied()) == Some(own);
        let share: BTreeSet<_> = settings.partitions.all().filter(is_own).collect();
        webhook.share.send_if_modified(|known| {
            let is_new = *known != share;
            *known = share;
            is_new
        });
    }

    fn measure(&self, webhook: &Webhook) {
        let oldest = webhook.waiting.lock().values().min().copied();
        let waited = oldest.map_or(Span::ZERO, |oldest| self.parts.clock.now().since(oldest));
        metrics::webhook_behind(webhook.settings.name.as_str(), waited.to_std());
    }
}
