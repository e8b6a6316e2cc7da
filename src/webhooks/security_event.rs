//! What a receiver is sent: a Security Event Token (RFC 8417) about one event of the store.
//!
//! It is no credential, and is signed by keys that sign nothing else, in the name of an issuer of its own. So whoever takes one for
//! an access token or an identity finds another `typ`, another key, another issuer, and neither `sub` nor `exp`.

use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::domain::event::Event;
use crate::domain::feed::ReadPosition;
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::principal::Name;
use crate::domain::secret::Secret;
use crate::domain::task::Task;
use crate::domain::time::Stamp;
use crate::domain::webhook::name_of;
use crate::jose::{SigningKey, SigningKeyError, base64url};
use crate::store::Recorded;
use crate::store::feed::position;

/// `typ` of its header (RFC 8417 section 2.3).
pub const TYP: &str = "secevent+jwt";
/// Its media type (RFC 8417 section 7.2).
pub const MEDIA_TYPE: &str = "application/secevent+jwt";
/// What the names of events are behind in `events`.
pub const EVENT_URI: &str = "urn:leasehold:event:";
/// The event that says that others were not delivered.
pub const GAP: &str = "gap";

/// `iss` of the events of a broker with this base URL; its keys lie below, at `/keys`.
pub fn issuer(base_url: &str) -> String {
    format!("{base_url}/events")
}

/// One event for one receiver. Signing it again gives the same but for `iat` and the key.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityEvent {
    /// The same each time that it is delivered, by whichever broker.
    pub jti: String,
    /// When it happened.
    pub time: Stamp,
    /// The root of the task's tree: `txn` of its credentials too.
    pub txn: Option<String>,
    /// The task, lease or scope that it is about.
    pub subject: Option<String>,
    /// Its name behind [`EVENT_URI`].
    pub name: &'static str,
    /// What happened.
    pub payload: Map<String, Value>,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    jti: &'a str,
    iat: u64,
    toe: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    txn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_id: Option<SubjectId<'a>>,
    events: Value,
}

/// RFC 9493 section 3.2.4.
#[derive(Serialize)]
struct SubjectId<'a> {
    format: &'static str,
    id: &'a str,
}

impl SecurityEvent {
    /// What was committed in a partition, for a webhook of this name; with what is known of its task.
    pub fn of(
        webhook: &Name,
        partition: Partition,
        recorded: &Recorded,
        task: Option<&Task>,
    ) -> Self {
        let event = &recorded.event;
        let mut payload = payload(event, task);
        payload.insert("partition".into(), partition.to_string().into());
        payload.insert("incarnation".into(), recorded.incarnation.micros().to_string().into());
        payload.insert("stamp".into(), recorded.stamp.micros().to_string().into());
        let scope = event.entries.iter().find_map(|entry| match entry {
            Entry::Block(scope, _) => Some(scope.to_string()),
            _ => None,
        });
        let task_id = event.task.map(|id| id.to_string());
        let lease_id = event.lease.map(|id| id.to_string());
        Self {
            jti: jti(webhook, partition, &[position(recorded)]),
            time: recorded.stamp,
            txn: task.map(|task| task.root().to_string()),
            subject: task_id.or(lease_id).or(scope),
            name: name_of(event.kind),
            payload,
        }
    }

    /// That events after a position and up to another were not delivered, or may not have been.
    pub fn gap(
        webhook: &Name,
        partition: Partition,
        after: Option<ReadPosition>,
        until: ReadPosition,
    ) -> Self {
        let nowhere = ReadPosition { at: Origin::default(), tag: 0 };
        let after = after.unwrap_or(nowhere);
        let mut payload = Map::new();
        payload.insert("partition".into(), partition.to_string().into());
        payload.insert("after".into(), after.at.stamp.micros().to_string().into());
        payload.insert("until".into(), until.at.stamp.micros().to_string().into());
        Self {
            jti: jti(webhook, partition, &[after, until]),
            time: until.at.stamp,
            txn: None,
            subject: None,
            name: GAP,
            payload,
        }
    }

    /// Signs it for an audience.
    ///
    /// # Errors
    /// [`SigningKeyError`]
    pub fn sign(
        &self,
        key: &SigningKey,
        issuer: &str,
        audience: &str,
        now: Stamp,
    ) -> Result<Secret, SigningKeyError> {
        let claims = Claims {
            iss: issuer,
            aud: audience,
            jti: &self.jti,
            iat: now.seconds(),
            toe: self.time.seconds(),
            txn: self.txn.as_deref(),
            sub_id: self.subject.as_deref().map(|id| SubjectId { format: "opaque", id }),
            events: json!({ format!("{EVENT_URI}{}", self.name): self.payload }),
        };
        key.sign(TYP, &claims)
    }
}

/// A name for what happened at these positions, the same whoever tells of it, and another for each webhook.
fn jti(webhook: &Name, partition: Partition, at: &[ReadPosition]) -> String {
    let mut text = format!("{webhook}/{partition}");
    for ReadPosition { at, tag } in at {
        let (incarnation, stamp) = (at.incarnation.micros(), at.stamp.micros());
        text.push_str(&format!("/{incarnation}/{stamp}/{tag:016x}"));
    }
    base64url::encode(digest(&SHA256, text.as_bytes()))
}

fn payload(event: &Event, task: Option<&Task>) -> Map<String, Value> {
    let mut members = Map::new();
    let mut add = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            members.insert(name.to_owned(), value);
        }
    };
    add("task", event.task.map(|id| id.to_string().into()));
    add("state", event.state.map(|state| state.name().into()));
    add("lease", event.lease.map(|id| id.to_string().into()));
    add("credential", event.jti.map(|jti| base64url::encode(jti).into()));
    for entry in &event.entries {
        match entry {
            Entry::Fence(id, fence) if Some(*id) == event.task => {
                add("epoch", Some(fence.epoch.get().into()));
                add("branch", Some(fence.branch.get().into()));
            }
            Entry::Block(scope, _) => add("scope", Some(scope.to_string().into())),
            _ => {}
        }
    }
    add("orchestrator", task.map(|task| task.orchestrator.as_str().into()));
    add("agent", task.map(|task| task.agent.to_string().into()));
    add("class", task.map(|task| task.class.as_str().into()));
    add("tier", task.map(|task| task.tier.as_str().into()));
    add("actor", Some(event.actor.clone().into()));
    add("cause", (!event.cause.is_empty()).then(|| event.cause.clone().into()));
    members
}

#[cfg(test)]
mod tests;
