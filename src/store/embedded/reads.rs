//! What readers see: one instant of the disk, which holds nothing that is not durable.

use std::collections::BTreeSet;

use crate::domain::certificate::IssuedCertificate;
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::{Entry, Lattice};
use crate::domain::scope::Scope;
use crate::domain::time::Stamp;
use crate::store::codec::corrupt;
use crate::store::codec_certificate::certificate;
use crate::store::codec_event;
use crate::store::embedded::checks::{merge, record};
use crate::store::embedded::keys::{self, Key};
use crate::store::embedded::rows::{Source, View, timed};
use crate::store::embedded::state::State;
use crate::store::{Entries, Index, Listing, Meta, Query, Recorded, Snapshot, StoreError};

pub(super) fn read(view: &View, query: &Query, clock: Stamp) -> Result<Snapshot, StoreError> {
    let partition = query.partition;
    let meta = meta(view, partition, clock)?;
    let mut lattice = Lattice::default();
    lattice.raise_floor(meta.floor);
    let (mut blocks, mut raised) = (Vec::new(), Vec::new());
    match &query.entries {
        Entries::None => merge_all(view, &keys::ends(partition), &mut lattice, &mut blocks)?,
        Entries::All => merge_all(view, &keys::entries(partition), &mut lattice, &mut blocks)?,
        Entries::Blocks => {
            merge_all(view, &keys::ends(partition), &mut lattice, &mut blocks)?;
            merge_all(view, &keys::blocks(partition), &mut lattice, &mut blocks)?;
        }
        Entries::Hitting { tasks, reach, lease } => {
            merge_all(view, &keys::ends(partition), &mut lattice, &mut blocks)?;
            let fences = tasks.iter().map(|task| keys::fence(partition, *task));
            let marks = reach.iter().map(|reach| keys::watermark(partition, reach));
            let blocks = reach.iter().map(|reach| keys::block(partition, reach));
            let over = lease.iter().map(|lease| keys::ended_lease(partition, *lease));
            for key in fences.chain(marks).chain(blocks).chain(over) {
                merge(view, &key, &mut lattice)?;
            }
        }
        Entries::Raised { tasks, reach, leases } => {
            merge_all(view, &keys::ends(partition), &mut lattice, &mut blocks)?;
            let fences = tasks.iter().map(|task| keys::fence(partition, *task));
            let marks = reach.iter().map(|reach| keys::watermark(partition, reach));
            let over = leases.iter().map(|lease| keys::ended_lease(partition, *lease));
            for key in fences.chain(marks).chain(over) {
                if let Some(row) = view.get(&key)? {
                    raised.push(codec_event::raised_entry(timed(&row)?.1)?);
                }
            }
            raised.iter().for_each(|(entry, _)| lattice.merge(entry));
        }
    }
    let records = query.records.iter().map(|key| record(view, partition, key, meta.now));
    Ok(Snapshot { meta, records: records.collect::<Result<_, _>>()?, lattice, blocks, raised })
}

pub(super) fn meta(view: &View, partition: Partition, clock: Stamp) -> Result<Meta, StoreError> {
    let state = State::read(view, partition)?;
    Ok(Meta {
        incarnation: state.incarnation,
        open: true,
        stamp: state.stamp,
        now: clock.max(state.stamp),
        max_expiry: state.max_expiry,
        floor: state.floor,
    })
}

/// Merges every entry below a prefix; the blocks among them too, in order.
fn merge_all(
    view: &View,
    prefix: &[u8],
    lattice: &mut Lattice,
    blocks: &mut Vec<(Scope, u64)>,
) -> Result<(), StoreError> {
    for row in view.below(prefix, &[], usize::MAX) {
        let entry = codec_event::entry(timed(&row?.1)?.1)?;
        lattice.merge(&entry);
        if let Entry::Block(scope, count) = entry {
            blocks.push((scope, count));
        }
    }
    blocks.sort_unstable();
    Ok(())
}

pub(super) fn list(
    view: &View,
    listing: &Listing,
    clock: Stamp,
) -> Result<Vec<String>, StoreError> {
    let partition = listing.partition;
    let now = meta(view, partition, clock)?.now;
    let after = listing.after.as_bytes();
    let mut names = Vec::new();
    match listing.index {
        Index::Tasks => {
            let prefix = keys::tasks(partition);
            for row in view.below(&prefix, after, listing.limit) {
                names.push(name(row?.0.strip_prefix(prefix.as_slice()))?);
            }
        }
        Index::Leases(task) => {
            let leases = leases(view, listing, task, now)?;
            names.extend(leases.iter().take(listing.limit).map(LeaseId::to_string));
        }
        Index::Due(until) => {
            for row in view.below(&keys::dues(partition), &[], listing.limit) {
                let (key, _) = row?;
                let (due, task) = keys::time_and_rest(&key).ok_or_else(|| corrupt("a due time"))?;
                if due > until {
                    break;
                }
                names.push(name(Some(task))?);
            }
        }
    }
    Ok(names)
}

/// The leases of a task whose time is not over, in order: the first ones of both indexes.
fn leases(
    view: &View,
    listing: &Listing,
    task: TaskId,
    now: Stamp,
) -> Result<BTreeSet<LeaseId>, StoreError> {
    let (partition, after) = (listing.partition, listing.after.as_str());
    let bits = match after {
        "" => Vec::new(),
        after => LeaseId::parse(after).map_err(corrupt)?.random().to_be_bytes().to_vec(),
    };
    let mut leases = BTreeSet::new();
    let by_bits = (keys::leases(partition, task), bits);
    for rest in living(view, &by_bits, listing.limit, now)? {
        let bits = rest.as_slice().try_into().map_err(|_| corrupt("an id of another length"))?;
        leases.insert(LeaseId::new(partition, u128::from_be_bytes(bits)));
    }
    let by_name = (keys::named_leases(partition, task), after.as_bytes().to_vec());
    for rest in living(view, &by_name, listing.limit, now)? {
        leases.insert(LeaseId::parse(&name(Some(&rest))?).map_err(corrupt)?);
    }
    Ok(leases)
}

/// What follows the prefix in the keys of rows whose time is not over, after a key: at most `limit`.
fn living(
    view: &View,
    (prefix, after): &(Key, Key),
    limit: usize,
    now: Stamp,
) -> Result<Vec<Key>, StoreError> {
    let mut rests = Vec::new();
    for row in view.below(prefix, after, usize::MAX) {
        let (key, value) = row?;
        if rests.len() >= limit {
            break;
        }
        if timed(&value)?.0 > now {
            rests.extend(key.strip_prefix(prefix.as_slice()).map(<[u8]>::to_vec));
        }
    }
    Ok(rests)
}

pub(super) fn certificates(
    view: &View,
    partition: Partition,
    after: Stamp,
    limit: usize,
) -> Result<Vec<IssuedCertificate>, StoreError> {
    State::read(view, partition)?;
    let after = after.micros().to_be_bytes();
    let rows = view.below(&keys::certificates(partition), &after, limit);
    rows.map(|row| certificate(timed(&row?.1)?.1)).collect()
}

pub(super) fn events(
    view: &View,
    partition: Partition,
    after: Stamp,
    limit: usize,
) -> Result<Vec<Recorded>, StoreError> {
    State::read(view, partition)?;
    let after = after.micros().to_be_bytes();
    let rows = view.below(&keys::events(partition), &after, limit);
    rows.map(|row| codec_event::event(&row?.1)).collect()
}

fn name(bytes: Option<&[u8]>) -> Result<String, StoreError> {
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.map(str::to_owned).ok_or_else(|| corrupt("a name in an index"))
}
