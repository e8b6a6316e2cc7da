//! Drops what is over: rows by the index of their times, events by their number and age.

use crate::domain::id::Partition;
use crate::domain::path::Hop;
use crate::domain::time::{Span, Stamp};
use crate::store::codec::corrupt;
use crate::store::embedded::checks::with_terms;
use crate::store::embedded::keys;
use crate::store::embedded::rows::{Source, Transaction, timed};
use crate::store::embedded::state::State;
use crate::store::{EVENTS_KEPT, StoreError};

/// At most so many rows of each kind in one go: a million leases that expire together do not hold up a revocation.
const MAX_ROWS: usize = 4_096;

/// Raises the partition's stamp to `now`, then drops what is over by then.
pub(super) fn prune(
    rows: &mut Transaction<'_>,
    partition: Partition,
    now: Stamp,
    delta_max: Span,
) -> Result<(), StoreError> {
    let before = State::read(rows, partition)?;
    let mut state = State { stamp: before.stamp.max(now), ..before };
    drop_expired(rows, partition, now)?;
    trim_events(rows, partition, &mut state, now.minus(delta_max.times(2)))?;
    if state != before {
        state.write(&mut rows.own, partition);
    }
    Ok(())
}

fn drop_expired(
    rows: &mut Transaction<'_>,
    partition: Partition,
    now: Stamp,
) -> Result<(), StoreError> {
    let end = keys::expiry(partition, now.next(), &[]);
    for index in rows.keys_on_disk(keys::expiries(partition), end, MAX_ROWS)? {
        let (until, key) = keys::time_and_rest(&index).ok_or_else(|| corrupt("an expiry"))?;
        // An earlier commit of the group may have moved the row's time.
        if let Some(row) = rows.get(key)?
            && let (time, record) = timed(&row)?
            && time == until
        {
            if let Some(id) = keys::lease(key) {
                let lease = with_terms(rows, partition, id, record.to_vec())?;
                let Hop { task, .. } = lease.draft.path.own();
                rows.own.remove(keys::lease_of(partition, task, id));
                let named = keys::named_lease_of(partition, task, id);
                if rows.get(&named)?.is_some() {
                    rows.own.remove(named);
                }
            }
            rows.own.remove(key.to_vec());
        }
        rows.own.remove(index);
    }
    Ok(())
}

fn trim_events(
    rows: &mut Transaction<'_>,
    partition: Partition,
    state: &mut State,
    horizon: Stamp,
) -> Result<(), StoreError> {
    let excess = usize::try_from(state.events.saturating_sub(EVENTS_KEPT)).unwrap_or(usize::MAX);
    let (first, end) = (keys::events(partition), keys::event(partition, horizon));
    for event in rows.keys_on_disk(first, end, excess.min(MAX_ROWS))? {
        if rows.get(&event)?.is_some() {
            rows.own.remove(event);
            state.events = state.events.saturating_sub(1);
        }
    }
    Ok(())
}
