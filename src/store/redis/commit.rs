//! A commit as `commit.lua` reads it, and what the script answers.

use super::connection::misconfigured;
use super::keys::{self, Keys};
use super::read::record;
use super::script::{Call, Reply, unexpected};
use crate::domain::clamp::{Clamp, Expiry, Limit};
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::store::codec::{self, corrupt};
use crate::store::{
    Commit, CredentialTimes, Denial, Guard, IssueTimes, LEASE_KEPT, Outcome, Receipt, RecordKey,
    Replay, StoreError, Write,
};

/// Seconds above this are this: sums with a time stay exact in a double.
const MOST_SECONDS: u64 = 1 << 52;
/// Tag of the stamp, the first field of every record; eight bytes follow.
const STAMP_TAG: u8 = 0x09;

/// The arguments, phase by phase, in the order of the script.
///
/// # Errors
/// [`StoreError::Corrupt`] for a commit that makes no sense: Redis would not take back what it wrote before it noticed.
pub(super) fn call(commit: &Commit) -> Result<Call, StoreError> {
    let keys = Keys(commit.partition);
    let mut call = Call::on([keys.meta(), keys.set(), keys.events(), keys.due(), keys.tasks()]);
    call.stamp(commit.at_least);
    replay(&mut call, keys, commit.replay.as_ref());
    call.maybe(commit.floor).length(commit.guards.len());
    for guard in &commit.guards {
        call.key(keys.record(&guard.key)).arg(lasting(&guard.key)).arg(version(guard));
    }
    call.maybe(commit.before);
    call.list(commit.unblocked.iter().map(|reach| keys::block(*reach)).collect());
    match &commit.unmarked {
        Some((reach, origin)) if !reach.is_empty() => {
            call.list(reach.iter().map(|reach| keys::watermark(*reach)).collect());
            call.stamp(origin.incarnation).stamp(origin.stamp);
        }
        _ => {
            call.list(Vec::new());
        }
    }
    call.arg(commit.unrevoked.map(keys::lease).unwrap_or_default());
    claims(&mut call, keys, &commit.writes);
    times(&mut call, keys, commit.times.as_ref());
    call.arg(commit.event.as_ref().map(codec::event_body).unwrap_or_default());
    call.length(commit.entries.len());
    for entry in &commit.entries {
        call.arg(merge(entry)?).arg(keys::entry(entry)).arg(codec::entry_body(entry));
    }
    writes(&mut call, keys, commit)?;
    Ok(call)
}

fn replay(call: &mut Call, keys: Keys, replay: Option<&Replay>) {
    let Some(replay) = replay else {
        call.arg("0").arg("").arg("").arg("");
        return;
    };
    call.key(keys.record(&RecordKey::Answer(replay.key)));
    call.arg(if replay.checked { "checked" } else { "once" });
    call.maybe(replay.keep_until).arg(codec::answer_body(replay));
}

/// Whether a record stays until it is removed, or has a time of its own.
fn lasting(key: &RecordKey) -> &'static str {
    match key {
        RecordKey::Task(_) | RecordKey::Keyring => "lasts",
        RecordKey::Lease(_) | RecordKey::Answer(_) => "timed",
    }
}

/// How a record of this version begins; one that does not exist is empty.
fn version(guard: &Guard) -> Vec<u8> {
    let Some(version) = guard.version else { return Vec::new() };
    [&[STAMP_TAG][..], &version.micros().to_le_bytes()].concat()
}

fn claims(call: &mut Call, keys: Keys, writes: &[Write]) {
    let claims = writes.iter().filter_map(|write| match write {
        Write::ProvedKey { key, task, keep_until } => Some((key, task, keep_until)),
        Write::Task { .. } | Write::Lease(_) | Write::Keyring(_) | Write::DropTask { .. } => None,
    });
    call.length(claims.clone().count());
    for (key, task, keep_until) in claims {
        call.key(keys.claim(key)).stamp(*keep_until).arg(codec::proved_key_body(*task));
    }
}

fn times(call: &mut Call, keys: Keys, times: Option<&IssueTimes>) {
    let Some(times) = times else {
        call.arg("none");
        return;
    };
    call.arg("times").key(keys.ceiling(&times.ceiling_key)).stamp(times.ceiling_keep_until);
    call.arg(codec::ceiling_body());
    call.maybe(times.lease_origin.map(|origin| origin.incarnation));
    call.maybe(times.lease_origin.map(|origin| origin.stamp));
    call.number(times.limits.minimum_seconds.min(MOST_SECONDS));
    call.length(times.limits.limits.len());
    for (clamp, limit) in &times.limits.limits {
        let (kind, seconds) = match limit {
            Limit::After(seconds) => ("after", seconds),
            Limit::At(second) => ("at", second),
            Limit::AfterFirstIssue(seconds) => ("first", seconds),
        };
        call.number(clamp.number()).arg(kind).number(*seconds.min(&MOST_SECONDS));
    }
}

fn merge(entry: &Entry) -> Result<&'static str, StoreError> {
    match entry {
        Entry::Fence(..) => Ok("fence"),
        Entry::Block(..) => Ok("block"),
        Entry::Watermark(..) | Entry::Lease(_) => Ok("replace"),
        Entry::End(..) => Err(corrupt("a commit ends no incarnation; recovery does")),
    }
}

fn writes(call: &mut Call, keys: Keys, commit: &Commit) -> Result<(), StoreError> {
    let is_claim = |write: &&Write| matches!(write, Write::ProvedKey { .. });
    call.length(commit.writes.iter().filter(|write| !is_claim(write)).count());
    for write in &commit.writes {
        match write {
            Write::Task { task, due } => {
                call.arg("task").key(keys.record(&RecordKey::Task(task.id)));
                call.arg(task.id.to_string()).stamp(*due);
                call.arg(if task.state.is_ended() { "ended" } else { "open" });
                call.arg(codec::task_body(task));
            }
            Write::Lease(draft) => {
                if commit.times.is_none() {
                    return Err(corrupt("a lease is written without its credential's times"));
                }
                call.arg("lease").key(keys.record(&RecordKey::Lease(draft.id)));
                call.key(keys.leases(draft.path.own().task));
                call.arg(draft.id.to_string()).number(LEASE_KEPT.micros());
                call.arg(codec::lease_body(draft));
            }
            Write::Keyring(sealed) => {
                call.arg("keyring").key(keys.record(&RecordKey::Keyring));
                call.arg(codec::keyring_body(sealed));
            }
            Write::ProvedKey { .. } => {}
            Write::DropTask { task, answer_key } => {
                call.arg("drop").key(keys.record(&RecordKey::Task(*task)));
                call.key(keys.record(&RecordKey::Answer(*answer_key))).arg(task.to_string());
            }
        }
    }
    Ok(())
}

/// What became of the commit.
///
/// # Errors
/// [`StoreError::Corrupt`] for a record that cannot be read.
pub(super) fn outcome(
    commit: &Commit,
    word: &str,
    reply: &mut Reply,
) -> Result<Outcome, StoreError> {
    Ok(match word {
        "done" => Outcome::Done(receipt(commit, reply)?),
        "replayed" => Outcome::Replayed(Box::new(codec::answer(&reply.bytes()?)?)),
        "stale" => {
            let values = reply.values()?;
            let fresh = commit.guards.iter().zip(values).map(|(guard, value)| {
                let record = value.map(|value| record(&guard.key, &value)).transpose()?;
                Ok((guard.key, record))
            });
            Outcome::Stale(fresh.collect::<Result<_, StoreError>>()?)
        }
        "too short" => {
            let clamp = match reply.number()? {
                0 => Clamp::Tier, // no limit at all
                number => Clamp::from_number(number).ok_or_else(|| unexpected("unknown clamp"))?,
            };
            // Nothing that the caller does gets more than the ceiling.
            let seconds = if clamp == Clamp::LeaseCeiling { 0 } else { reply.number()? };
            Outcome::Denied(Denial::TooShort { clamp, seconds })
        }
        "exhausted" => return Err(misconfigured("a clock is past the last stamp")),
        "reused" => Outcome::Denied(Denial::RequestIdReused),
        "overdue" => Outcome::Denied(Denial::Overdue),
        "quarantined" => Outcome::Denied(Denial::Quarantined),
        "lease over" => Outcome::Denied(Denial::LeaseOver),
        "key claimed" => Outcome::Denied(Denial::KeyClaimed),
        _ => return Err(unexpected("an unknown word")),
    })
}

fn receipt(commit: &Commit, reply: &mut Reply) -> Result<Receipt, StoreError> {
    let origin = Origin { incarnation: reply.stamp()?, stamp: reply.stamp()? };
    if commit.times.is_none() {
        return Ok(Receipt { origin, credential: None });
    }
    let first_issue = reply.stamp()?;
    let lease_origin = Origin { incarnation: reply.stamp()?, stamp: reply.stamp()? };
    let expires_seconds = reply.number()?;
    let clamp = Clamp::from_number(reply.number()?).ok_or_else(|| unexpected("unknown clamp"))?;
    let expiry = Expiry { expires_seconds, clamp };
    Ok(Receipt { origin, credential: Some(CredentialTimes { first_issue, lease_origin, expiry }) })
}
