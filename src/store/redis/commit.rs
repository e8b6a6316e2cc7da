//! A commit as `commit.lua` reads it, and what the script answers.

use super::connection::misconfigured;
use super::keys::{self, Keys};
use super::read::record;
use super::script::{Call, Reply, unexpected};
use crate::domain::certificate::LONGEST_UNLISTED_SECONDS;
use crate::domain::clamp::{Clamp, Expiry, Limit};
use crate::domain::event::Event;
use crate::domain::feed::StoreId;
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::store::codec::{self, corrupt, origin, stamp};
use crate::store::codec_certificate::{certificate_body, revocation_list_body};
use crate::store::codec_lease::{self, LeaseBytes, lease_bytes};
use crate::store::{
    Answer, Commit, CredentialTimes, Denial, Guard, IssueTimes, LEASE_KEPT, Outcome, Receipt,
    RecordKey, StoreError, Subject, Write, Written,
};

/// Seconds above this are this: sums with a time stay exact in a double.
const MOST_SECONDS: u64 = 1 << 52;
/// Tag of the stamp, the first field of every record; eight bytes follow.
const STAMP_TAG: u8 = 0x09;

/// The arguments, phase by phase, in the order of the script.
///
/// # Errors
/// [`StoreError::Corrupt`] for a commit that makes no sense: Redis would not take back what it wrote before it noticed.
pub(super) fn call(store: Option<StoreId>, commit: &Commit) -> Result<Call, StoreError> {
    let keys = Keys(commit.partition);
    commit.must_answer()?;
    let lease = commit.lease().map(|draft| (draft.id, lease_bytes(draft)));
    let keys_of_all = [keys.meta(), keys.set(), keys.events(), keys.blocks()];
    let mut call = Call::on_store(store, keys_of_all);
    head(&mut call, keys, commit);
    if let Some(replay) = &commit.replay {
        let lease = lease.as_ref().map(|(id, bytes)| (*id, bytes.length()));
        call.arg(codec::answer_head(replay, lease)?);
    }
    for guard in &commit.guards {
        call.key(keys.record(&guard.key)).flag(lasts(&guard.key)).arg(version(guard));
    }
    call.args(commit.unblocked.iter().map(|reach| keys::block(*reach)));
    if let Some((reach, origin)) = marks(commit) {
        call.args(reach.iter().map(|reach| keys::watermark(*reach)));
        call.stamp(origin.incarnation).stamp(origin.stamp);
    }
    call.arg(commit.unrevoked.map(keys::lease).unwrap_or_default());
    for claim in claims(keys, commit) {
        call.key(claim.key).stamp(claim.keep_until).arg(claim.refusal).arg(claim.body);
    }
    commit.times.iter().for_each(|wanted| times(&mut call, wanted));
    call.arg(commit.event.as_ref().map(codec::event_body).unwrap_or_default());
    for entry in commit.entries() {
        call.arg(merge(entry)?).arg(keys::entry(entry)).arg(codec::entry_body(entry));
    }
    writes(&mut call, keys, commit, lease.map(|(_, bytes)| bytes))?;
    Ok(call)
}

/// What the script reads first: times, keys, and how many of everything follow.
fn head(call: &mut Call, keys: Keys, commit: &Commit) {
    call.stamp(commit.at_least).maybe(commit.floor).maybe(commit.before);
    match &commit.replay {
        Some(replay) => {
            call.key(keys.record(&RecordKey::Answer(replay.key)));
            call.declare([keys.record(&RecordKey::Lease(replay.lease(commit.partition)))]);
            call.flag(replay.checked).maybe(replay.keep_until);
            call.flag(matches!(replay.subject, Subject::Lease(Written::Issued)))
        }
        None => call.no_key().flag(false).maybe(None).flag(false),
    };
    call.length(commit.guards.len()).length(commit.unblocked.len());
    let claimed = claims(keys, commit).count();
    call.length(marks(commit).map_or(0, |(reach, _)| reach.len())).length(claimed);
    match &commit.times {
        Some(times) => call.key(keys.ceiling(&times.ceiling_key)),
        None => call.no_key(),
    };
    call.length(commit.entries().len()).length(commit.writes.len().saturating_sub(claimed));
    call.flag(commit.event.as_ref().is_some_and(Event::is_awaited));
}

fn marks(commit: &Commit) -> Option<&(Vec<Reach>, Origin)> {
    commit.unmarked.as_ref().filter(|(reach, _)| !reach.is_empty())
}

/// Whether a record stays until it is removed, rather than having a time of its own.
fn lasts(key: &RecordKey) -> bool {
    match key {
        RecordKey::Task(_) | RecordKey::Keyring | RecordKey::RevocationList => true,
        RecordKey::Lease(_) | RecordKey::Answer(_) => false,
    }
}

/// How a record of this version begins; one that does not exist is empty.
fn version(guard: &Guard) -> Vec<u8> {
    let Some(version) = guard.version else { return Vec::new() };
    [&[STAMP_TAG][..], &version.micros().to_le_bytes()].concat()
}

/// Something that belongs to whoever came first.
struct Claim {
    key: String,
    keep_until: Stamp,
    body: Vec<u8>,
    /// What the script answers if it belongs to another.
    refusal: &'static str,
}

fn claims(keys: Keys, commit: &Commit) -> impl Iterator<Item = Claim> {
    commit.writes.iter().filter_map(move |write| match write {
        Write::ProvedKey { key, task, keep_until } => Some(Claim {
            key: keys.claim(key),
            keep_until: *keep_until,
            body: codec::proved_key_body(*task),
            refusal: "key claimed",
        }),
        Write::ShownProof { id, request, keep_until } => Some(Claim {
            key: keys.shown_proof(id),
            keep_until: *keep_until,
            body: codec::shown_proof_body(request),
            refusal: "proof shown",
        }),
        Write::Task { .. }
        | Write::Lease(_)
        | Write::Certificate(_)
        | Write::Keyring(_)
        | Write::RevocationList(_)
        | Write::DropTask { .. } => None,
    })
}

fn times(call: &mut Call, times: &IssueTimes) {
    call.stamp(times.ceiling_keep_until).arg(codec::ceiling_body());
    call.maybe(times.lease_origin.map(|origin| origin.incarnation));
    call.maybe(times.lease_origin.map(|origin| origin.stamp));
    call.number(times.limits.minimum_seconds.min(MOST_SECONDS));
    call.length(times.limits.limits.len());
    for (clamp, limit) in &times.limits.limits {
        let (origin, seconds) = match limit {
            Limit::At(second) => (1, second),
            Limit::After(seconds) => (2, seconds),
            Limit::AfterFirstIssue(seconds) => (3, seconds),
        };
        call.number(clamp.number()).number(origin).number(*seconds.min(&MOST_SECONDS));
    }
}

fn merge(entry: &Entry) -> Result<&'static str, StoreError> {
    match entry {
        Entry::Fence(..) => Ok("fence"),
        Entry::Block(..) => Ok("block"),
        Entry::Watermark(..) if entry.kill().is_some_and(|kill| kill.lasts()) => Ok("lasting"),
        Entry::Watermark(..) | Entry::Lease(_) => Ok("replace"),
        Entry::End(..) => Err(corrupt("a commit ends no incarnation; recovery does")),
    }
}

fn writes(
    call: &mut Call,
    keys: Keys,
    commit: &Commit,
    mut lease: Option<LeaseBytes>,
) -> Result<(), StoreError> {
    for write in &commit.writes {
        match write {
            Write::Task { task, due } => {
                call.arg("task").key(keys.record(&RecordKey::Task(task.id)));
                call.key(keys.due()).key(keys.tasks()).stamp(*due).flag(task.state.is_ended());
                call.arg(task.id.to_string()).arg(codec::task_body(task));
            }
            Write::Lease(draft) => {
                let bytes = lease.take().filter(|_| commit.times.is_some());
                let bytes =
                    bytes.ok_or_else(|| corrupt("a lease without times, or a second one"))?;
                call.arg("lease").key(keys.record(&RecordKey::Lease(draft.id)));
                call.key(keys.leases(draft.path.own().task)).key(keys.terms(&bytes.name));
                call.number(LEASE_KEPT.micros());
                call.arg(draft.id.random().to_be_bytes()).arg(bytes.own).arg(bytes.terms);
            }
            Write::Certificate(draft) => {
                commit.times.as_ref().ok_or_else(|| corrupt("a certificate without times"))?;
                call.arg("certificate").key(keys.certificates()).key(keys.certificate_ends());
                call.number(LONGEST_UNLISTED_SECONDS).arg(certificate_body(draft));
            }
            Write::Keyring(sealed) => {
                call.arg("lasting").key(keys.record(&RecordKey::Keyring));
                call.arg(codec::keyring_body(sealed));
            }
            Write::RevocationList(number) => {
                call.arg("lasting").key(keys.record(&RecordKey::RevocationList));
                call.arg(revocation_list_body(*number));
            }
            Write::ProvedKey { .. } | Write::ShownProof { .. } => {}
            Write::DropTask { task, answer_key } => {
                call.arg("drop").key(keys.record(&RecordKey::Task(*task)));
                call.key(keys.record(&RecordKey::Answer(*answer_key)));
                call.key(keys.due()).key(keys.tasks()).arg(task.to_string());
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
        "replayed lease" => Outcome::Replayed(Box::new(issued(commit, &reply.bytes()?)?)),
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
        "proof shown" => Outcome::Denied(Denial::ProofShown),
        _ => return Err(unexpected("an unknown word")),
    })
}

/// The answer that a lease is to the request that it was issued for.
fn issued(commit: &Commit, value: &[u8]) -> Result<Answer, StoreError> {
    let asked = || unexpected("an answer to no request");
    let replay = commit.replay.as_ref().ok_or_else(asked)?;
    let lease = codec_lease::lease(replay.lease(commit.partition), value)?;
    Answer::of_issue(lease).ok_or_else(asked)
}

fn receipt(commit: &Commit, reply: &mut Reply) -> Result<Receipt, StoreError> {
    if commit.times.is_none() {
        let [incarnation, stamp] = reply.packed()?;
        return Ok(Receipt { origin: origin(incarnation, stamp)?, credential: None });
    }
    let [
        incarnation,
        committed,
        first_issue,
        lease_incarnation,
        lease_stamp,
        expires_seconds,
        clamp,
    ] = reply.packed()?;
    let clamp = Clamp::from_number(clamp).ok_or_else(|| unexpected("unknown clamp"))?;
    let credential = CredentialTimes {
        first_issue: stamp(first_issue)?,
        lease_origin: origin(lease_incarnation, lease_stamp)?,
        expiry: Expiry { expires_seconds, clamp },
    };
    Ok(Receipt { origin: origin(incarnation, committed)?, credential: Some(credential) })
}
