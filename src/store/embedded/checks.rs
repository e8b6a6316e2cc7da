//! Everything that can refuse a commit before its times are known, in the order of the contract's picture.

use crate::domain::id::{LeaseId, Partition};
use crate::domain::lattice::{Entry, Lattice};
use crate::domain::lease::Lease;
use crate::domain::time::Stamp;
use crate::store::codec_certificate::revocation_list;
use crate::store::embedded::keys::{self, Key};
use crate::store::embedded::rows::{Source, timed};
use crate::store::{Answer, Commit, Denial, Outcome, Record, RecordKey, Replay, StoreError, Write};
use crate::store::{codec, codec_event, codec_lease};

/// Why a commit goes no further.
pub(super) enum Stop {
    /// It is answered without being written.
    Answered(Outcome),
    /// It could not be judged.
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<Denial> for Stop {
    fn from(denial: Denial) -> Self {
        Self::Answered(Outcome::Denied(denial))
    }
}

/// Whether the commit may be written at this stamp; the answer, if it was given before.
pub(super) fn check(
    rows: &impl Source,
    commit: &Commit,
    (stamp, floor): (Stamp, Stamp),
) -> Result<Option<Answer>, Stop> {
    let partition = commit.partition;
    let earlier = match &commit.replay {
        Some(replay) => earlier_answer(rows, partition, replay, stamp)?,
        None => None,
    };
    versions(rows, commit, floor, stamp)?;
    if commit.before.is_some_and(|before| stamp >= before) {
        return Err(Denial::Overdue.into());
    }
    revocations(rows, commit)?;
    claims(rows, commit, stamp)?;
    Ok(earlier)
}

/// What belongs to whoever came first belongs to nobody else.
fn claims(rows: &impl Source, commit: &Commit, now: Stamp) -> Result<(), Stop> {
    let partition = commit.partition;
    for write in &commit.writes {
        match write {
            Write::ProvedKey { key, task, .. } => {
                let known = row(rows, &keys::claim(partition, key), now)?;
                if let Some(known) = known
                    && codec::proved_key(&known)? != *task
                {
                    return Err(Denial::KeyClaimed.into());
                }
            }
            Write::ShownProof { id, request, .. } => {
                let known = row(rows, &keys::shown_proof(partition, id), now)?;
                if let Some(known) = known
                    && codec::shown_proof(&known)? != *request
                {
                    return Err(Denial::ProofShown.into());
                }
            }
            Write::Task { .. }
            | Write::Lease(_)
            | Write::Certificate(_)
            | Write::Keyring(_)
            | Write::RevocationList(_)
            | Write::DropTask { .. } => {}
        }
    }
    Ok(())
}

fn earlier_answer(
    rows: &impl Source,
    partition: Partition,
    replay: &Replay,
    now: Stamp,
) -> Result<Option<Answer>, Stop> {
    let answer = match record(rows, partition, &RecordKey::Answer(replay.key), now)? {
        Some(Record::Answer(answer)) => Some(*answer),
        _ => lease(rows, partition, replay.lease(partition), now)?.and_then(Answer::of_issue),
    };
    let Some(answer) = answer else { return Ok(None) };
    if answer.request_hash != replay.request_hash {
        return Err(Denial::RequestIdReused.into());
    }
    if !replay.checked {
        return Err(Stop::Answered(Outcome::Replayed(Box::new(answer))));
    }
    Ok(Some(answer))
}

/// All guarded records come back if one has moved on.
fn versions(rows: &impl Source, commit: &Commit, floor: Stamp, now: Stamp) -> Result<(), Stop> {
    let (partition, guards) = (commit.partition, &commit.guards);
    let mut current = commit.floor.is_none_or(|decided| decided == floor);
    for guard in guards {
        let version = match row(rows, &keys::record(partition, &guard.key), now)? {
            Some(record) => Some(codec::header(&record)?.origin.stamp),
            None => None,
        };
        current &= version == guard.version;
    }
    if current {
        return Ok(());
    }
    let fresh = guards.iter().map(|g| Ok((g.key, record(rows, partition, &g.key, now)?)));
    Err(Stop::Answered(Outcome::Stale(fresh.collect::<Result<_, StoreError>>()?)))
}

fn revocations(rows: &impl Source, commit: &Commit) -> Result<(), Stop> {
    let mut lattice = Lattice::default();
    for reach in &commit.unblocked {
        merge(rows, &keys::block(commit.partition, reach), &mut lattice)?;
    }
    if lattice.blocks(&commit.unblocked) {
        return Err(Denial::Quarantined.into());
    }
    if let Some((marked, origin)) = &commit.unmarked {
        for reach in marked {
            merge(rows, &keys::watermark(commit.partition, reach), &mut lattice)?;
        }
        if lattice.reaches(marked, *origin) {
            return Err(Denial::Quarantined.into());
        }
    }
    if let Some(lease) = commit.unrevoked
        && rows.get(&keys::ended_lease(commit.partition, lease))?.is_some()
    {
        return Err(Denial::LeaseOver.into());
    }
    Ok(())
}

/// Merges the entry under a key, if there is one.
pub(super) fn merge(
    rows: &impl Source,
    key: &Key,
    lattice: &mut Lattice,
) -> Result<(), StoreError> {
    if let Some(entry) = entry(rows, key)? {
        lattice.merge(&entry);
    }
    Ok(())
}

/// The entry under a key.
pub(super) fn entry(rows: &impl Source, key: &Key) -> Result<Option<Entry>, StoreError> {
    let row = rows.get(key)?;
    row.map(|row| codec_event::entry(timed(&row)?.1)).transpose()
}

/// A record, unless its time is over.
pub(super) fn record(
    rows: &impl Source,
    partition: Partition,
    key: &RecordKey,
    now: Stamp,
) -> Result<Option<Record>, StoreError> {
    if let RecordKey::Lease(id) = key {
        let lease = lease(rows, partition, *id, now)?;
        return Ok(lease.map(|lease| Record::Lease(Box::new(lease))));
    }
    let Some(record) = row(rows, &keys::record(partition, key), now)? else { return Ok(None) };
    Ok(Some(match key {
        RecordKey::Task(_) => Record::Task(Box::new(codec::task(&record)?)),
        RecordKey::Lease(id) => Record::Lease(Box::new(codec_lease::lease(*id, &record)?)),
        RecordKey::Keyring => {
            let (sealed, version) = codec::keyring(&record)?;
            Record::Keyring(sealed, version)
        }
        RecordKey::RevocationList => {
            let (number, version) = revocation_list(&record)?;
            Record::RevocationList(number, version)
        }
        RecordKey::Answer(_) => Record::Answer(Box::new(codec::answer(&record)?)),
    }))
}

/// A lease, unless its time is over.
fn lease(
    rows: &impl Source,
    partition: Partition,
    id: LeaseId,
    now: Stamp,
) -> Result<Option<Lease>, StoreError> {
    let own = row(rows, &keys::record(partition, &RecordKey::Lease(id)), now)?;
    own.map(|own| with_terms(rows, partition, id, own)).transpose()
}

/// A lease from its own bytes and the terms that they name.
pub(super) fn with_terms(
    rows: &impl Source,
    partition: Partition,
    id: LeaseId,
    mut own: Vec<u8>,
) -> Result<Lease, StoreError> {
    if let Some(name) = codec_lease::terms_of(&own)
        && let Some(terms) = rows.get(&keys::terms(partition, &name))?
    {
        own.extend_from_slice(timed(&terms)?.1);
    }
    codec_lease::lease(id, &own)
}

/// The value of a row whose time is not over. A task's time is when it is due, which ends nothing.
pub(super) fn row(
    rows: &impl Source,
    key: &Key,
    now: Stamp,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(row) = rows.get(key)? else { return Ok(None) };
    let (until, record) = timed(&row)?;
    let stands = keys::is_task(key) || until > now;
    Ok(stands.then(|| record.to_vec()))
}
