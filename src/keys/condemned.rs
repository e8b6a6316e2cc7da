//! Keys of ours that were quarantined: they are out of use for good, whatever was lifted since.

use std::collections::{BTreeMap, BTreeSet};

use super::KeysError;
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::scope::Scope;
use crate::domain::time::Stamp;
use crate::store::{Entries, Query, Store};

/// Names of keys that were ever quarantined: `kid`s, and subject key identifiers in hex.
#[derive(Clone, Debug, Default)]
pub(super) struct Condemned(BTreeSet<String>);

impl Condemned {
    /// By the blocks of partition 0, where a quarantine is written last. They are never dropped.
    pub(super) fn of(blocks: Vec<(Scope, u64)>) -> Self {
        let keys = blocks.into_iter().filter_map(|(scope, count)| match scope {
            Scope::Key(id) if count > 0 => Some(id),
            _ => None,
        });
        Self(keys.collect())
    }

    pub(super) fn holds(&self, key_id: &str) -> bool {
        self.0.contains(key_id)
    }
}

/// When each of these keys was last quarantined.
pub(super) async fn since(
    store: &dyn Store,
    key_ids: impl Iterator<Item = String>,
) -> Result<BTreeMap<String, Stamp>, KeysError> {
    let reach: Vec<_> = key_ids.map(|id| Scope::Key(id).reach()).collect();
    if reach.is_empty() {
        return Ok(BTreeMap::new());
    }
    let entries = Entries::Raised { tasks: Vec::new(), reach, leases: Vec::new() };
    let snapshot = store.read(Query::new(Partition::ZERO, Vec::new(), entries)).await?;
    let raised = snapshot.raised.into_iter().filter_map(|(entry, at)| match entry {
        Entry::Watermark(Scope::Key(id), _) => Some((id, at)),
        _ => None,
    });
    Ok(raised.collect())
}
