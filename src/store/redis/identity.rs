//! Which store a server holds.

use super::RedisStore;
use super::connection::misconfigured;
use super::keys::Keys;
use super::script::{Call, Reply};
use crate::domain::feed::StoreId;
use crate::domain::id::Partition;
use crate::store::StoreError;

/// Whether a store is to be the one that it was.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// It is.
    Kept,
    /// What else was copied from the same data is another.
    Anew,
}

impl RedisStore {
    /// The store's identity; it gets one if it has none, or another one if it is to differ from every copy of it.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if its partitions are not of one store. [`StoreError::NotInitialised`]; or it is away.
    pub(super) async fn identify(&self, which: Identity) -> Result<StoreId, StoreError> {
        let mut random = [0; 8];
        let drawn = self.entropy.fill(&mut random);
        drawn.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let metas = self.constants.partitions.all().map(|partition| Keys(partition).meta());
        let mut call = Call::on(metas.collect::<Vec<_>>());
        call.number(StoreId::drawn(random).number());
        call.arg(if which == Identity::Anew { "anew" } else { "keep" });
        let value = self.ordinary.run(&self.scripts.identify, &call).await?;
        let (word, mut reply) = Reply::parse(value, Partition::ZERO)?;
        let known = if word == "identity" { StoreId::from_number(reply.number()?) } else { None };
        known.ok_or_else(|| {
            misconfigured(
                "its partitions are not all of one store; empty the database and put one backup back whole, or run \
                 `leasehold store init` for a new store",
            )
        })
    }

    /// A call of a script that does nothing on any other store.
    pub(super) fn call(&self, keys: impl Into<Vec<String>>) -> Call {
        Call::on_store(self.identity, keys)
    }
}
