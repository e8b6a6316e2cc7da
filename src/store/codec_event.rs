//! Lattice entries and events to wire records and back.

use prost::Message;

use crate::domain::event::{Event, EventKind};
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::task::State;
use crate::domain::time::Stamp;
use crate::proto::store as wire;
use crate::store::codec::{
    VERSION, bytes, corrupt, fence, lease_id, must_be_version, origin, scope, stamp, task_id,
};
use crate::store::{Recorded, StoreError};

pub(in crate::store) const KINDS: [(EventKind, wire::EventKind); 13] = [
    (EventKind::TaskBegun, wire::EventKind::TaskBegun),
    (EventKind::TaskDelegated, wire::EventKind::TaskDelegated),
    (EventKind::TaskAdvanced, wire::EventKind::TaskAdvanced),
    (EventKind::TaskSuspended, wire::EventKind::TaskSuspended),
    (EventKind::TaskResumed, wire::EventKind::TaskResumed),
    (EventKind::TaskEnded, wire::EventKind::TaskEnded),
    (EventKind::CredentialIssued, wire::EventKind::CredentialIssued),
    (EventKind::CredentialRenewed, wire::EventKind::CredentialRenewed),
    (EventKind::LeaseReleased, wire::EventKind::LeaseReleased),
    (EventKind::LeaseRevoked, wire::EventKind::LeaseRevoked),
    (EventKind::Quarantined, wire::EventKind::Quarantined),
    (EventKind::QuarantineLifted, wire::EventKind::QuarantineLifted),
    (EventKind::IncarnationBegun, wire::EventKind::IncarnationBegun),
];

/// An entry from its stored value; a watermark gets the origin of the value's header.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn entry(value: &[u8]) -> Result<Entry, StoreError> {
    Ok(raised_entry(value)?.0)
}

/// An entry from its stored value, and the commit that made or last raised it.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn raised_entry(value: &[u8]) -> Result<(Entry, Stamp), StoreError> {
    let record = wire::Entry::decode(value).map_err(corrupt)?;
    let origin = origin(record.incarnation, record.stamp)?;
    Ok((entry_from_wire(&record, origin)?, origin.stamp))
}

/// An event from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn event(value: &[u8]) -> Result<Recorded, StoreError> {
    let record = wire::Event::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    let origin = origin(record.incarnation, record.stamp)?;
    let kind = KINDS.iter().find(|(_, wire)| i32::from(*wire) == record.kind);
    let entries = record.entries.iter().map(|entry| entry_from_wire(entry, origin));
    let optional = |slice: &[u8]| (!slice.is_empty()).then(|| bytes::<32>(slice)).transpose();
    let event = Event {
        tag: record.tag,
        operation: optional(&record.operation)?,
        kind: kind.ok_or_else(|| corrupt("unknown event kind"))?.0,
        entries: entries.collect::<Result<_, _>>()?,
        actor: record.actor,
        cause: record.cause,
        task: (!record.task.is_empty()).then(|| task_id(&record.task)).transpose()?,
        state: match record.task_state {
            0 => None,
            number => Some(State::from_number(number).ok_or_else(|| corrupt("unknown state"))?),
        },
        lease: (!record.lease.is_empty()).then(|| lease_id(&record.lease)).transpose()?,
        jti: (!record.jti.is_empty()).then(|| bytes::<16>(&record.jti)).transpose()?,
        key_thumbprint: optional(&record.key_thumbprint)?,
    };
    let (stamp_, keep_until) = (origin.stamp, stamp(record.keep_until)?);
    Ok(Recorded { stamp: stamp_, incarnation: origin.incarnation, keep_until, event })
}

pub(in crate::store) fn event_to_wire(event: &Event) -> wire::Event {
    let kind = KINDS.iter().find(|(kind, _)| *kind == event.kind);
    let text = |id: Option<String>| id.unwrap_or_default();
    wire::Event {
        version: VERSION,
        tag: event.tag,
        operation: event.operation.map(|hash| hash.to_vec().into()).unwrap_or_default(),
        kind: kind.map_or(0, |(_, wire)| i32::from(*wire)),
        entries: event.entries.iter().map(entry_to_wire).collect(),
        actor: event.actor.clone(),
        cause: event.cause.clone(),
        task: text(event.task.map(|id| id.to_string())),
        lease: text(event.lease.map(|id| id.to_string())),
        jti: event.jti.map(|jti| jti.to_vec().into()).unwrap_or_default(),
        task_state: event.state.map_or(0, State::number),
        key_thumbprint: event.key_thumbprint.map(|t| t.to_vec().into()).unwrap_or_default(),
        ..Default::default()
    }
}

pub(in crate::store) fn entry_to_wire(entry: &Entry) -> wire::Entry {
    let record = |kind: wire::EntryKind| wire::Entry {
        version: VERSION,
        kind: kind.into(),
        ..Default::default()
    };
    match entry {
        Entry::Fence(task, fence) => wire::Entry {
            task: task.to_string(),
            epoch: fence.epoch.get(),
            branch: fence.branch.get(),
            ..record(wire::EntryKind::Fence)
        },
        Entry::Watermark(scope, _) => {
            wire::Entry { scope: scope.to_string(), ..record(wire::EntryKind::Watermark) }
        }
        Entry::Block(scope, count) => wire::Entry {
            scope: scope.to_string(),
            count: *count,
            ..record(wire::EntryKind::Block)
        },
        Entry::Lease(lease) => {
            wire::Entry { lease: lease.to_string(), ..record(wire::EntryKind::Lease) }
        }
        Entry::End(incarnation, last) => wire::Entry {
            ended_incarnation: incarnation.micros(),
            last_stamp: last.micros(),
            ..record(wire::EntryKind::End)
        },
    }
}

fn entry_from_wire(record: &wire::Entry, origin: Origin) -> Result<Entry, StoreError> {
    must_be_version(record.version)?;
    let kind = wire::EntryKind::try_from(record.kind).map_err(corrupt)?;
    Ok(match kind {
        wire::EntryKind::Unspecified => return Err(corrupt("an entry of no kind")),
        wire::EntryKind::Fence => {
            Entry::Fence(task_id(&record.task)?, fence(record.epoch, record.branch))
        }
        wire::EntryKind::Watermark => Entry::Watermark(scope(&record.scope)?, origin),
        wire::EntryKind::Block => Entry::Block(scope(&record.scope)?, record.count),
        wire::EntryKind::Lease => Entry::Lease(lease_id(&record.lease)?),
        wire::EntryKind::End => {
            Entry::End(stamp(record.ended_incarnation)?, stamp(record.last_stamp)?)
        }
    })
}
