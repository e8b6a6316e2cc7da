//! A start of the store ends every incarnation at its last stamp, and begins a new one. Nothing that was answered is lost, so
//! the floor stays, unless an operator says that the store was put back from a backup.

use fjall::Keyspace;

use crate::domain::event::{Event, EventKind};
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::time::{INFINITY, Stamp};
use crate::store::codec::event_body;
use crate::store::embedded::rows::{Rows, Transaction};
use crate::store::embedded::state::State;
use crate::store::embedded::writes::Writing;
use crate::store::{Constants, Recovered, StoreError};

/// Whether something that was answered may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// No.
    Impossible,
    /// Yes: everything from before is fenced.
    Possible,
}

/// The rows that begin a new incarnation of every partition.
pub(super) fn begin_all(
    tree: &Keyspace,
    constants: Constants,
    clock: Stamp,
    loss: Loss,
) -> Result<(Rows, Vec<Recovered>), StoreError> {
    let (mut rows, mut recovered) = (Rows::default(), Vec::new());
    for partition in constants.partitions.all() {
        let mut transaction = Transaction::new(tree, &rows);
        recovered.push(begin(&mut transaction, partition, clock, loss)?);
        let own = transaction.own;
        rows.append(own);
    }
    Ok((rows, recovered))
}

fn begin(
    rows: &mut Transaction<'_>,
    partition: Partition,
    clock: Stamp,
    loss: Loss,
) -> Result<Recovered, StoreError> {
    let old = State::read(rows, partition)?;
    let stamp = old.stamp.next().max(clock);
    let living = Entry::End(stamp, INFINITY);
    let entries = match old.incarnation {
        Stamp::ZERO => vec![living],
        ended => vec![Entry::End(ended, old.stamp), living],
    };
    let fenced = loss == Loss::Possible;
    let floor = if fenced { stamp } else { old.floor };
    let state = State { incarnation: stamp, stamp, floor, ..old };
    let mut writing = Writing::new(rows, partition, state);
    for entry in &entries {
        writing.merge(entry)?;
    }
    writing.event(event_body(&begun(entries)));
    writing.finish();
    Ok(Recovered { partition, old: old.incarnation, new: stamp, fenced })
}

fn begun(entries: Vec<Entry>) -> Event {
    Event {
        // A tag tells histories apart that have the same stamps; an incarnation is its own.
        tag: 0,
        operation: None,
        kind: EventKind::IncarnationBegun,
        entries,
        actor: "broker".to_owned(),
        cause: "the store was opened".to_owned(),
        task: None,
        state: None,
        lease: None,
        jti: None,
        key_thumbprint: None,
    }
}
