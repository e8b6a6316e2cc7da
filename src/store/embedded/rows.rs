//! Rows as a commit sees them: what it wrote, over what its group wrote, over what the disk has.

use std::collections::BTreeMap;
use std::ops::Bound;

use fjall::{Keyspace, Readable, Slice};

use crate::domain::id::Partition;
use crate::domain::time::{INFINITY, Stamp};
use crate::store::StoreError;
use crate::store::codec::{corrupt, stamp};
use crate::store::embedded::keys::{self, Key};

/// Where single rows come from.
pub(super) trait Source {
    /// The row's value; `None` if there is none.
    fn get(&self, key: &[u8]) -> Result<Option<Slice>, StoreError>;
}

/// Rows to write together; `None` removes.
#[derive(Default)]
pub(super) struct Rows(BTreeMap<Key, Option<Slice>>);

impl Rows {
    pub(super) fn put(&mut self, key: Key, value: Vec<u8>) {
        self.0.insert(key, Some(value.into()));
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.0.insert(key, None);
    }

    /// How many it removes.
    pub(super) fn removed(&self) -> usize {
        self.0.values().filter(|row| row.is_none()).count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lays later rows over these.
    // Not `BTreeMap::append`, which builds the whole map anew: a group's commits would cost the square of their number.
    pub(super) fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = (Key, Option<Slice>)> {
        self.0.into_iter()
    }
}

/// One commit in the making. If it is dropped, nothing happened.
pub(super) struct Transaction<'a> {
    disk: &'a Keyspace,
    group: &'a Rows,
    pub(super) own: Rows,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(disk: &'a Keyspace, group: &'a Rows) -> Self {
        Self { disk, group, own: Rows::default() }
    }

    /// Writes a row that is over at `until`, when it is dropped; infinity: never.
    pub(super) fn put_until(
        &mut self,
        partition: Partition,
        key: Key,
        until: Stamp,
        record: Vec<u8>,
    ) -> Result<(), StoreError> {
        if let Some(before) = self.get(&key)? {
            let (before, _) = timed(&before)?;
            if before < INFINITY {
                self.own.remove(keys::expiry(partition, before, &key));
            }
        }
        if until < INFINITY {
            self.own.put(keys::expiry(partition, until, &key), Vec::new());
        }
        self.own.put(key, with_time(until, record));
        Ok(())
    }

    /// Keys on disk from `prefix` to before `end`, at most `limit`; the group's own rows are not among them.
    pub(super) fn keys_on_disk(
        &self,
        prefix: Key,
        end: Key,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        let rows = self.disk.range(prefix..end).take(limit);
        rows.map(|row| Ok(row.key().map_err(broken)?.to_vec())).collect()
    }
}

impl Source for Transaction<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        match self.own.0.get(key).or_else(|| self.group.0.get(key)) {
            Some(written) => Ok(written.clone()),
            None => self.disk.get(key).map_err(broken),
        }
    }
}

/// The disk at one instant.
pub(super) struct View {
    pub(super) tree: Keyspace,
    pub(super) snapshot: fjall::Snapshot,
}

impl View {
    /// At most `limit` rows below `prefix`, those after `prefix` and `after`, in order.
    pub(super) fn below(
        &self,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> + use<> {
        let start = Bound::Excluded([prefix, after].concat());
        let range = (start, Bound::Excluded(keys::end_of(prefix)));
        let rows = self.snapshot.range(&self.tree, range).take(limit);
        rows.map(|row| row.into_inner().map_err(broken))
    }

    /// The value of the last row below `prefix`.
    pub(super) fn last_below(&self, prefix: &[u8]) -> Result<Option<Slice>, StoreError> {
        let range = (Bound::Excluded(prefix.to_vec()), Bound::Excluded(keys::end_of(prefix)));
        let last = self.snapshot.range(&self.tree, range).next_back();
        last.map(|row| row.value().map_err(broken)).transpose()
    }
}

impl Source for View {
    fn get(&self, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.snapshot.get(&self.tree, key).map_err(broken)
    }
}

/// A value with the time in front of it: when the row is over, or when a task is due.
pub(super) fn with_time(time: Stamp, record: Vec<u8>) -> Vec<u8> {
    [time.micros().to_be_bytes().as_slice(), &record].concat()
}

/// The time in front of a value, and the rest.
pub(super) fn timed(value: &[u8]) -> Result<(Stamp, &[u8]), StoreError> {
    let (time, record) = value.split_first_chunk().ok_or_else(|| corrupt("a row without time"))?;
    Ok((stamp(u64::from_be_bytes(*time))?, record))
}

/// What the storage engine says, as the store's error.
pub(super) fn broken(error: fjall::Error) -> StoreError {
    match error {
        fjall::Error::Locked => {
            StoreError::Misconfigured("another process has it open; stop that one first".to_owned())
        }
        error => StoreError::Unavailable(error.to_string()),
    }
}
