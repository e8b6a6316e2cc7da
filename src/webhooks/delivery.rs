//! The events of one partition on their way to one receiver, in their order.
//!
//! What cannot be delivered in time is passed over, and before anything else is delivered the receiver is told of the gap. Until it
//! has been told, the position that others go on from stays before the gap, so that it learns of it from whoever delivers next.

use std::sync::Arc;
use std::time::Duration;

use super::receiver::Posted;
use super::security_event::{SecurityEvent, issuer};
use super::{Parts, Webhook};
use crate::domain::event::EventKind;
use crate::domain::feed::ReadPosition;
use crate::domain::id::Partition;
use crate::domain::task::Task;
use crate::domain::time::Stamp;
use crate::domain::webhook::pause;
use crate::store::feed::position;
use crate::store::{Continuity, Entries, Lane, Query, Record, RecordKey, Recorded, StoreError};
use crate::telemetry::metrics;

/// Events of one page.
const PAGE: usize = 64;
/// How often a partition is looked at though nothing said that there is something.
const IDLE: Duration = Duration::from_secs(5);
/// How long to wait when the store does not answer.
const AWAY: Duration = Duration::from_secs(1);

/// The deliverer of one partition to one webhook.
pub(super) struct Delivery {
    parts: Parts,
    webhook: Arc<Webhook>,
    partition: Partition,
    /// Up to where events were read.
    at: Option<ReadPosition>,
    /// The last of those that the receiver does not know that it lacks.
    missed: Option<ReadPosition>,
    /// Failures in a row.
    failures: u32,
}

impl Delivery {
    /// Goes on from where the last one ended.
    pub(super) fn new(parts: Parts, webhook: Arc<Webhook>, partition: Partition) -> Self {
        let at = webhook.delivered(partition);
        Self { parts, webhook, partition, at, missed: None, failures: 0 }
    }

    /// Delivers whatever comes.
    pub(super) async fn run(mut self) {
        loop {
            match self.step().await {
                Ok(true) => {}
                Ok(false) => self.idle().await,
                Err(error) => {
                    tracing::debug!(partition = %self.partition, %error, "events cannot be read");
                    tokio::time::sleep(AWAY).await;
                }
            }
        }
    }

    async fn idle(&self) {
        match self.webhook.wake.get(&self.partition) {
            Some(wake) => drop(tokio::time::timeout(IDLE, wake.notified()).await),
            None => tokio::time::sleep(IDLE).await,
        }
    }

    /// Reads on and delivers that; whether there is more.
    async fn step(&mut self) -> Result<bool, StoreError> {
        let page = self.parts.events.page(self.partition, self.at, PAGE).await?;
        let more = match page.events {
            Continuity::Continued(events) => {
                for event in &events {
                    self.take(event).await?;
                    self.passed(position(event));
                }
                page.more
            }
            // Nothing of a webhook that is new was promised before.
            Continuity::Broken if self.at.is_none() => {
                page.head.into_iter().for_each(|head| self.passed(head));
                false
            }
            Continuity::Broken => {
                self.miss(page.head.or(self.at), "lost");
                self.at = page.head;
                false
            }
        };
        while let Some(gap) = self.gap() {
            self.offer(&gap).await;
        }
        Ok(more)
    }

    /// Everything up to there was delivered, or need not be.
    fn passed(&mut self, at: ReadPosition) {
        self.at = Some(at);
        // INVARIANT (no silent gap): others go on from before what the receiver does not know that it lacks.
        if self.missed.is_none() {
            self.webhook.raise(self.partition, at);
        }
    }

    /// Delivers one event, or gives it up.
    async fn take(&mut self, recorded: &Recorded) -> Result<(), StoreError> {
        let settings = &self.webhook.settings;
        let kind = recorded.event.kind;
        // A quarantine is written in every partition, and in this one last.
        let is_switch = matches!(kind, EventKind::Quarantined | EventKind::QuarantineLifted);
        if !settings.interest.is_in(kind) || is_switch && self.partition != Partition::ZERO {
            return Ok(());
        }
        let task = self.task(recorded).await?;
        match &task {
            Some(task) if !settings.interest.is_in_task(task) => return Ok(()),
            // Whether it is wanted cannot be known any more.
            None if recorded.event.task.is_some() && settings.interest.depends_on_task() => {
                self.miss(Some(position(recorded)), "lost");
                return Ok(());
            }
            _ => {}
        }
        let name = &settings.name;
        let event = SecurityEvent::of(name, self.partition, recorded, task.as_ref());
        while !self.is_too_late(recorded.stamp) {
            if let Some(gap) = self.gap() {
                self.offer(&gap).await;
                continue;
            }
            match self.offer(&event).await {
                Offered::Taken => return Ok(()),
                Offered::Refused => break,
                Offered::Later => {}
            }
        }
        let outcome = if self.is_too_late(recorded.stamp) { "given_up" } else { "refused" };
        self.miss(Some(position(recorded)), outcome);
        Ok(())
    }

    fn is_too_late(&self, happened: Stamp) -> bool {
        self.parts.clock.now().since(happened) > self.webhook.settings.give_up_after
    }

    /// The task of an event, as it is now.
    async fn task(&self, recorded: &Recorded) -> Result<Option<Task>, StoreError> {
        let Some(id) = recorded.event.task else { return Ok(None) };
        let records = vec![RecordKey::Task(id)];
        let lane = Lane::Ordinary;
        let query = Query { partition: self.partition, records, entries: Entries::None, lane };
        let snapshot = self.parts.store.read(query).await?;
        Ok(snapshot.records.into_iter().flatten().find_map(|record| match record {
            Record::Task(task) => Some(*task),
            _ => None,
        }))
    }

    /// The receiver lacks something, up to there.
    fn miss(&mut self, until: Option<ReadPosition>, outcome: &'static str) {
        metrics::webhook_event(self.webhook.settings.name.as_str(), outcome);
        if self.missed.is_none() {
            tracing::warn!(
                webhook = %self.webhook.settings.name, partition = %self.partition, outcome,
                "an event was not delivered; its receiver will be told that there is a gap"
            );
        }
        self.missed = until;
    }

    /// What tells the receiver that it lacks something, if it does.
    fn gap(&self) -> Option<SecurityEvent> {
        let after = self.webhook.delivered(self.partition);
        let name = &self.webhook.settings.name;
        self.missed.map(|until| SecurityEvent::gap(name, self.partition, after, until))
    }

    /// Tries once, and pauses after a failure.
    async fn offer(&mut self, event: &SecurityEvent) -> Offered {
        let posted = self.post(event).await;
        let webhook = self.webhook.clone();
        let name = webhook.settings.name.as_str();
        let (why, retry_after) = match posted {
            Posted::Failed { why, retry_after } => (why, retry_after),
            Posted::Taken | Posted::Unreadable => {
                let is_taken = posted == Posted::Taken;
                self.answered(is_taken);
                if event.name == super::GAP {
                    self.told(is_taken);
                } else if is_taken {
                    metrics::webhook_event(name, "delivered");
                }
                return if is_taken { Offered::Taken } else { Offered::Refused };
            }
        };
        metrics::webhook_event(name, "failed");
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            tracing::warn!(webhook = %name, partition = %self.partition, %why, "an event was not taken; it is tried again");
        }
        webhook.waiting.lock().entry(self.partition).or_insert(event.time);
        let mut chance = [0; 4];
        // Without chance the pause is as short as it may be.
        let _ = self.parts.entropy.fill(&mut chance);
        let pause = pause(self.failures, retry_after, u32::from_be_bytes(chance));
        tokio::time::sleep(pause.to_std()).await;
        Offered::Later
    }

    /// The receiver is there.
    fn answered(&mut self, is_taken: bool) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(
                webhook = %self.webhook.settings.name, partition = %self.partition, is_taken,
                "the receiver answers again"
            );
        }
        self.webhook.waiting.lock().remove(&self.partition);
    }

    /// The receiver knows of the gap, or will not hear of it.
    fn told(&mut self, is_taken: bool) {
        let name = &self.webhook.settings.name;
        if !is_taken {
            tracing::error!(webhook = %name, partition = %self.partition, "the receiver cannot read that it lacks events");
        }
        metrics::webhook_event(name.as_str(), if is_taken { "gap" } else { "refused" });
        self.missed = None;
        self.at.into_iter().for_each(|at| self.webhook.raise(self.partition, at));
    }

    async fn post(&self, event: &SecurityEvent) -> Posted {
        let settings = &self.webhook.settings;
        // Nobody takes back what is given out, and nobody closes it.
        let _room = self.webhook.room.acquire().await;
        let (keys, now) = (self.parts.keys.load_full(), self.parts.clock.now());
        let Some(key) = keys.security_event_key(now) else {
            return Posted::failed("there is no key to sign events with");
        };
        // INVARIANT (quarantined key): what a key that leaked could have signed as well is not sent.
        if self.parts.feed.is_condemned(key.key().kid()) {
            return Posted::failed(
                "the key that signs events is quarantined; they wait for its successor",
            );
        }
        let issuer = issuer(&keys.settings().base_url);
        match event.sign(key.key(), &issuer, &settings.audience, now) {
            Ok(token) => self.webhook.receiver.post(&token).await,
            Err(error) => Posted::failed(error.to_string()),
        }
    }
}

/// What became of a try.
enum Offered {
    Taken,
    Refused,
    Later,
}
