//! What a partition knows of itself, and what was fixed when the store was made: rows of eight-byte numbers.

use crate::domain::id::{Partition, PartitionCount};
use crate::domain::time::{Span, Stamp};
use crate::store::codec::{corrupt, stamp};
use crate::store::embedded::keys;
use crate::store::embedded::rows::{Rows, Source};
use crate::store::{Constants, StoreError};

/// The version of these rows that this code writes, and the newest that it reads.
const VERSION: u64 = 1;

/// The record of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The incarnation that lives; zero before the first.
    pub(super) incarnation: Stamp,
    /// The last commit.
    pub(super) stamp: Stamp,
    /// Largest expiry ever committed.
    pub(super) max_expiry: Stamp,
    /// Credentials of earlier incarnations are dead.
    pub(super) floor: Stamp,
    /// How many events there are.
    pub(super) events: u64,
}

impl State {
    pub(super) fn read(source: &impl Source, partition: Partition) -> Result<Self, StoreError> {
        let row = source.get(&keys::state(partition))?.ok_or(StoreError::NotInitialised)?;
        let [incarnation, last, max_expiry, floor, events] = numbers(&row)?;
        Ok(Self {
            incarnation: stamp(incarnation)?,
            stamp: stamp(last)?,
            max_expiry: stamp(max_expiry)?,
            floor: stamp(floor)?,
            events,
        })
    }

    pub(super) fn write(&self, rows: &mut Rows, partition: Partition) {
        let stamps = [self.incarnation, self.stamp, self.max_expiry, self.floor];
        let numbers = stamps.map(Stamp::micros).into_iter().chain([self.events]);
        rows.put(keys::state(partition), row(numbers));
    }
}

/// The constants; `None` if the store was never made.
pub(super) fn constants(source: &impl Source) -> Result<Option<Constants>, StoreError> {
    let Some(row) = source.get(&keys::CONSTANTS)? else { return Ok(None) };
    let [count, delta_max] = numbers(&row)?;
    let count = u16::try_from(count).ok().and_then(PartitionCount::new);
    let partitions = count.ok_or_else(|| corrupt("the number of partitions"))?;
    Ok(Some(Constants { partitions, delta_max: Span::from_micros(delta_max) }))
}

/// The first incarnation of partition 0; `None` in a store that began it before that was kept.
pub(super) fn first(source: &impl Source) -> Result<Option<Stamp>, StoreError> {
    let Some(row) = source.get(&keys::FIRST)? else { return Ok(None) };
    let [first] = numbers(&row)?;
    stamp(first).map(Some)
}

/// Keeps the incarnation in which partition 0 lives for the first time.
pub(super) fn keep_first(rows: &mut Rows, incarnation: Stamp) {
    rows.put(keys::FIRST.to_vec(), row([incarnation.micros()]));
}

/// The rows of a store that was just made: no partition has lived yet.
pub(super) fn new_store(constants: Constants) -> Rows {
    let mut rows = Rows::default();
    let numbers = [u64::from(constants.partitions.get()), constants.delta_max.micros()];
    rows.put(keys::CONSTANTS.to_vec(), row(numbers));
    for partition in constants.partitions.all() {
        State::default().write(&mut rows, partition);
    }
    rows
}

fn row(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    [VERSION].into_iter().chain(numbers).flat_map(u64::to_be_bytes).collect()
}

fn numbers<const N: usize>(row: &[u8]) -> Result<[u64; N], StoreError> {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut numbers = chunks.iter().map(|chunk| u64::from_be_bytes(*chunk));
    match numbers.next() {
        Some(VERSION) if rest.is_empty() => {}
        version => return Err(corrupt(format!("a state of version {version:?}"))),
    }
    let numbers: Vec<u64> = numbers.collect();
    numbers.try_into().map_err(|_| corrupt("a state of another length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_version_or_length_is_refused() {
        let good = row([1, 2]);
        assert_eq!(numbers::<2>(&good).unwrap(), [1, 2]);
        let newer: Vec<u8> = [2, 1, 2].into_iter().flat_map(u64::to_be_bytes).collect();
        for bad in
            [&newer[..], &good[..23], &good[..16], &[], &[good.clone(), good.clone()].concat()]
        {
            assert!(matches!(numbers::<2>(bad), Err(StoreError::Corrupt(_))), "{bad:?}");
        }
    }
}
