//! A start of the store ends every incarnation at its last stamp, and begins a new one. Nothing that was answered is lost, so
//! the floor stays, unless an operator says that the store was put back from a backup.

use fjall::Keyspace;

use crate::broker::seams::Entropy;
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::time::{INFINITY, Stamp};
use crate::store::codec::event_body;
use crate::store::embedded::rows::{Rows, Transaction};
use crate::store::embedded::state::{State, keep_first};
use crate::store::embedded::writes::Writing;
use crate::store::incarnation::{RESTORED, begun};
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
    (clock, entropy): (Stamp, &dyn Entropy),
    loss: Loss,
) -> Result<(Rows, Vec<Recovered>), StoreError> {
    let (mut rows, mut recovered) = (Rows::default(), Vec::new());
    for partition in constants.partitions.all() {
        let mut transaction = Transaction::new(tree, &rows);
        recovered.push(begin(&mut transaction, partition, (clock, entropy), loss)?);
        let own = transaction.own;
        rows.extend(own);
    }
    Ok((rows, recovered))
}

fn begin(
    rows: &mut Transaction<'_>,
    partition: Partition,
    (clock, entropy): (Stamp, &dyn Entropy),
    loss: Loss,
) -> Result<Recovered, StoreError> {
    let old = State::read(rows, partition)?;
    let stamp = old.stamp.next().max(clock);
    if partition == Partition::ZERO && old.incarnation == Stamp::ZERO {
        keep_first(&mut rows.own, stamp);
    }
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
    let cause = if fenced { RESTORED } else { "the store was opened" };
    let event = begun(entropy, entries, cause)?;
    writing.event(event_body(&event));
    writing.finish();
    Ok(Recovered { partition, old: old.incarnation, new: stamp, fenced })
}
