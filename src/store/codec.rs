//! Records to bytes and back. A stored value is a header that the commit makes, then a body that is encoded here.
//!
//! Decoding is strict: an unknown number, a name that does not parse or a record of a newer version is
//! [`StoreError::Corrupt`], never a default.

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::domain::clamp::{Clamp, Expiry};
use crate::domain::event::Event;
use crate::domain::grant::Grant;
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::{Entry, Fence};
use crate::domain::path::{Counter, Hop, Origin};
use crate::domain::principal::{Name, Principal};
use crate::domain::scope::Scope;
use crate::domain::task::{Agent, OnSilence, Pin, State, Task};
use crate::domain::time::{Span, Stamp};
use crate::proto::store as wire;
use crate::store::StoreError;
use crate::store::codec_event::{entry_to_wire, event_to_wire};
use crate::store::codec_lease::lease_from_wire;
use crate::store::records::{Answer, CredentialTimes, Replay, Subject, Written};

/// The version of records that this code writes, and the newest that it reads.
pub(in crate::store) const VERSION: u32 = 1;

/// The field of an answer's lease.
const ANSWER_LEASE: u32 = 12;

/// The fields that a commit sets, as they stand in front of every body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// The commit.
    pub origin: Origin,
    /// Largest expiry committed by then.
    pub keep_until: Stamp,
    /// Of a lease and its answers.
    pub credential: Option<CredentialTimes>,
    /// Of a ceiling.
    pub first_issue: Option<Stamp>,
}

/// The bytes of a header.
pub fn header_bytes(header: &Header) -> Vec<u8> {
    let times = header.credential;
    wire::Header {
        stamp: header.origin.stamp.micros(),
        incarnation: header.origin.incarnation.micros(),
        keep_until: header.keep_until.micros(),
        expires: times.map_or(0, |t| t.expiry.expires_seconds),
        clamp: times.map_or(0, |t| t.expiry.clamp.number()),
        first_issue: times
            .map(|t| t.first_issue)
            .or(header.first_issue)
            .unwrap_or_default()
            .micros(),
        lease_incarnation: times.map_or(0, |t| t.lease_origin.incarnation.micros()),
        lease_stamp: times.map_or(0, |t| t.lease_origin.stamp.micros()),
    }
    .encode_to_vec()
}

/// The header of a stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn header(value: &[u8]) -> Result<Header, StoreError> {
    let header = wire::Header::decode(value).map_err(corrupt)?;
    let credential = match header.expires {
        0 => None,
        _ => Some(times(&header)?),
    };
    Ok(Header {
        origin: origin(header.incarnation, header.stamp)?,
        keep_until: stamp(header.keep_until)?,
        credential,
        first_issue: Some(stamp(header.first_issue)?),
    })
}

pub(in crate::store) fn times(header: &wire::Header) -> Result<CredentialTimes, StoreError> {
    Ok(CredentialTimes {
        first_issue: stamp(header.first_issue)?,
        lease_origin: origin(header.lease_incarnation, header.lease_stamp)?,
        expiry: Expiry {
            expires_seconds: header.expires,
            clamp: Clamp::from_number(header.clamp).ok_or_else(|| corrupt("unknown clamp"))?,
        },
    })
}

/// The body of a task's record.
pub fn task_body(task: &Task) -> Vec<u8> {
    task_to_wire(task).encode_to_vec()
}

/// A task from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn task(value: &[u8]) -> Result<Task, StoreError> {
    task_from_wire(wire::Task::decode(value).map_err(corrupt)?)
}

/// The body of the keyring's record.
pub fn keyring_body(sealed: &[u8]) -> Vec<u8> {
    let sealed = sealed.to_vec().into();
    wire::Keyring { version: VERSION, sealed, ..Default::default() }.encode_to_vec()
}

/// The sealed keyring and its version, from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn keyring(value: &[u8]) -> Result<(Vec<u8>, Stamp), StoreError> {
    let record = wire::Keyring::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    Ok((record.sealed.to_vec(), stamp(record.stamp)?))
}

/// The body of a ceiling's record.
pub fn ceiling_body() -> Vec<u8> {
    wire::Ceiling { version: VERSION, ..Default::default() }.encode_to_vec()
}

/// The body of a claimed key's record: equal bodies are claims of the same task.
pub fn proved_key_body(task: TaskId) -> Vec<u8> {
    let task = task.to_string();
    wire::ProvedKey { version: VERSION, task, ..Default::default() }.encode_to_vec()
}

/// Whose a claimed key is, from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn proved_key(value: &[u8]) -> Result<TaskId, StoreError> {
    let record = wire::ProvedKey::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    task_id(&record.task)
}

/// The body of a shown proof's record: equal bodies are of the same request.
pub fn shown_proof_body(request: &[u8; 32]) -> Vec<u8> {
    let request = request.to_vec().into();
    wire::ShownProof { version: VERSION, request, ..Default::default() }.encode_to_vec()
}

/// With which request a proof was shown, from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn shown_proof(value: &[u8]) -> Result<[u8; 32], StoreError> {
    let record = wire::ShownProof::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    bytes(&record.request)
}

/// The body of a lattice entry; a watermark's origin is left to the commit.
pub fn entry_body(entry: &Entry) -> Vec<u8> {
    entry_to_wire(entry).encode_to_vec()
}

/// The body of an event.
pub fn event_body(event: &Event) -> Vec<u8> {
    event_to_wire(event).encode_to_vec()
}

/// The body of a stored answer; if it is about a lease, what stands in front of the lease's terms and own bytes, so many
/// together.
///
/// # Errors
/// [`StoreError::Corrupt`] if it is about a lease that is not written.
pub fn answer_head(
    replay: &Replay,
    lease: Option<(LeaseId, usize)>,
) -> Result<Vec<u8>, StoreError> {
    let subject = match &replay.subject {
        Subject::Task(task) => Some(wire::answer::Subject::Task(task_to_wire(task))),
        Subject::Scope(text) => Some(wire::answer::Subject::Scope(text.clone())),
        Subject::Lease(_) => None,
    };
    let answer = wire::Answer {
        version: VERSION,
        request_hash: replay.request_hash.to_vec().into(),
        subject,
        ..Default::default()
    };
    let mut head = answer.encode_to_vec();
    if let Subject::Lease(Written::Renewed) = replay.subject {
        let missing = || corrupt("an answer about a lease that is not written");
        let (id, length) = lease.ok_or_else(missing)?;
        let id = wire::Lease { id: id.to_string(), ..Default::default() }.encode_to_vec();
        let length = u64::try_from(id.len().saturating_add(length)).map_err(corrupt)?;
        encode_key(ANSWER_LEASE, WireType::LengthDelimited, &mut head);
        encode_varint(length, &mut head);
        head.extend(id);
    }
    Ok(head)
}

/// A stored answer from its value. What it is about gets the times of the answer's own commit.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn answer(value: &[u8]) -> Result<Answer, StoreError> {
    let record = wire::Answer::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    let subject = match record.subject.ok_or_else(|| corrupt("an answer about nothing"))? {
        wire::answer::Subject::Task(task) => {
            let task = wire::Task { stamp: record.stamp, incarnation: record.incarnation, ..task };
            Subject::Task(Box::new(task_from_wire(task)?))
        }
        wire::answer::Subject::Lease(lease) => {
            Subject::Lease(Box::new(lease_from_wire(wire::Lease {
                stamp: record.stamp,
                incarnation: record.incarnation,
                keep_until: record.keep_until,
                expires: record.expires,
                clamp: record.clamp,
                first_issue: record.first_issue,
                lease_incarnation: record.lease_incarnation,
                lease_stamp: record.lease_stamp,
                ..lease
            })?))
        }
        wire::answer::Subject::Scope(text) => Subject::Scope(text),
    };
    Ok(Answer {
        request_hash: bytes(&record.request_hash)?,
        origin: origin(record.incarnation, record.stamp)?,
        subject,
    })
}

/// A task as it stands once `receipt`'s commit wrote it: the stamps that the body leaves to the commit are filled in.
pub fn stamped(mut task: Task, stamp: Stamp) -> Task {
    task.version = stamp;
    task.begun = task.begun.or(Some(stamp));
    task.commanded = task.commanded.or(Some(stamp));
    task
}

fn task_to_wire(task: &Task) -> wire::Task {
    wire::Task {
        version: VERSION,
        id: task.id.to_string(),
        lineage: task.lineage.iter().map(hop_to_wire).collect(),
        orchestrator: task.orchestrator.to_string(),
        agent: task.agent.to_string(),
        agent_class: task.class.to_string(),
        purpose: task.purpose.clone(),
        owner: task.owner.clone(),
        labels: task.labels.clone().into_iter().collect(),
        grant: task.grant.to_json(),
        tier: task.tier.to_string(),
        freshness_millis: task.freshness.millis(),
        step: task.step.clone(),
        checkpoint: task.checkpoint.clone().into(),
        deadline: task.deadline.micros(),
        heartbeat_micros: task.heartbeat.map_or(0, Span::micros),
        silence_at: task.silence_at.map_or(0, Stamp::micros),
        on_silence: match task.on_silence {
            OnSilence::Suspend => 1,
            OnSilence::Fail => 2,
        },
        instances: task.instances,
        pins: task.pins.iter().map(pin_to_wire).collect(),
        state: task.state.number(),
        epoch: task.epoch.get(),
        branch: task.branch.get(),
        branch_floor: task.branch_floor.get(),
        live_children: task.live_children,
        reason: task.reason.clone(),
        suspended_by_operator: task.suspended_by_operator,
        begun: task.begun.map_or(0, Stamp::micros),
        commanded: task.commanded.map_or(0, Stamp::micros),
        delegated_by: task.delegated_by.as_ref().map(ToString::to_string).unwrap_or_default(),
        answer_key: task.answer_key.to_vec().into(),
        ..Default::default()
    }
}

fn task_from_wire(record: wire::Task) -> Result<Task, StoreError> {
    must_be_version(record.version)?;
    let version = stamp(record.stamp)?;
    let or_version = |micros| match micros {
        0 => Ok(version),
        micros => stamp(micros),
    };
    Ok(Task {
        id: task_id(&record.id)?,
        version,
        lineage: record.lineage.iter().map(hop).collect::<Result<_, _>>()?,
        orchestrator: name(&record.orchestrator)?,
        agent: Agent::parse(&record.agent).ok_or_else(|| corrupt("agent"))?,
        class: name(&record.agent_class)?,
        purpose: record.purpose,
        owner: record.owner,
        labels: record.labels.into_iter().collect(),
        grant: grant(&record.grant)?,
        tier: name(&record.tier)?,
        freshness: millis(record.freshness_millis)?,
        step: record.step,
        checkpoint: record.checkpoint.to_vec(),
        deadline: stamp(record.deadline)?,
        heartbeat: some(record.heartbeat_micros).map(Span::from_micros),
        silence_at: some(record.silence_at).map(stamp).transpose()?,
        on_silence: match record.on_silence {
            1 => OnSilence::Suspend,
            2 => OnSilence::Fail,
            _ => return Err(corrupt("unknown on_silence")),
        },
        instances: record.instances,
        pins: record.pins.iter().map(pin).collect::<Result<_, _>>()?,
        state: State::from_number(record.state).ok_or_else(|| corrupt("unknown task state"))?,
        epoch: Counter::new(record.epoch),
        branch: Counter::new(record.branch),
        branch_floor: Counter::new(record.branch_floor),
        live_children: record.live_children,
        reason: record.reason,
        suspended_by_operator: record.suspended_by_operator,
        begun: Some(or_version(record.begun)?),
        commanded: Some(or_version(record.commanded)?),
        delegated_by: match record.delegated_by.as_str() {
            "" => None,
            text => Some(principal(text)?),
        },
        answer_key: bytes(&record.answer_key)?,
    })
}

pub(in crate::store) fn hop_to_wire(hop: &Hop) -> wire::Hop {
    wire::Hop { task: hop.task.to_string(), counter: hop.counter.get() }
}

pub(in crate::store) fn hop(record: &wire::Hop) -> Result<Hop, StoreError> {
    Ok(Hop { task: task_id(&record.task)?, counter: Counter::new(record.counter) })
}

fn pin_to_wire(pin: &Pin) -> wire::Pin {
    wire::Pin { principal: pin.principal.to_string(), instance: pin.instance.clone() }
}

fn pin(record: &wire::Pin) -> Result<Pin, StoreError> {
    Ok(Pin { principal: principal(&record.principal)?, instance: record.instance.clone() })
}

pub(in crate::store) fn must_be_version(version: u32) -> Result<(), StoreError> {
    if version == VERSION {
        return Ok(());
    }
    Err(corrupt(format!("record of version {version}; this program knows version {VERSION}")))
}

/// A hash that may be left out.
pub(in crate::store) fn thumbprint(hash: &[u8]) -> Result<Option<[u8; 32]>, StoreError> {
    if hash.is_empty() { Ok(None) } else { bytes(hash).map(Some) }
}

fn some(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

pub(in crate::store) fn millis(number: u64) -> Result<Span, StoreError> {
    let span = Span::from_millis(number);
    // It would be another length when it is written again.
    (span.millis() == number).then_some(span).ok_or_else(|| corrupt("a length of 2^64 µs or more"))
}

pub(in crate::store) fn stamp(micros: u64) -> Result<Stamp, StoreError> {
    Stamp::from_micros(micros).ok_or_else(|| corrupt("a stamp of 2^53 or more"))
}

pub(in crate::store) fn origin(incarnation: u64, number: u64) -> Result<Origin, StoreError> {
    Ok(Origin { incarnation: stamp(incarnation)?, stamp: stamp(number)? })
}

pub(in crate::store) fn task_id(text: &str) -> Result<TaskId, StoreError> {
    TaskId::parse(text).map_err(corrupt)
}

pub(in crate::store) fn lease_id(text: &str) -> Result<LeaseId, StoreError> {
    LeaseId::parse(text).map_err(corrupt)
}

pub(in crate::store) fn scope(text: &str) -> Result<Scope, StoreError> {
    Scope::parse(text).map_err(corrupt)
}

pub(in crate::store) fn fence(epoch: u64, branch: u64) -> Fence {
    Fence { epoch: Counter::new(epoch), branch: Counter::new(branch) }
}

pub(in crate::store) fn grant(json: &str) -> Result<Grant, StoreError> {
    Grant::parse(json).map_err(corrupt)
}

pub(in crate::store) fn name(text: &str) -> Result<Name, StoreError> {
    Name::parse(text).map_err(corrupt)
}

pub(in crate::store) fn principal(text: &str) -> Result<Principal, StoreError> {
    Principal::parse(text).map_err(corrupt)
}

pub(in crate::store) fn bytes<const N: usize>(slice: &[u8]) -> Result<[u8; N], StoreError> {
    slice.try_into().map_err(|_| corrupt(format!("{} bytes where {N} belong", slice.len())))
}

pub(in crate::store) fn corrupt(problem: impl ToString) -> StoreError {
    StoreError::Corrupt(problem.to_string())
}

#[cfg(test)]
mod tests;
