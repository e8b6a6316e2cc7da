//! Reading: records and revocations of a partition, its indexes, its events.

use super::RedisStore;
use super::keys::{self, Keys};
use super::script::{Call, Reply, array, bytes, text, unexpected};
use crate::domain::certificate::IssuedCertificate;
use crate::domain::feed::StoreId;
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::{Entry, Lattice};
use crate::domain::time::Stamp;
use crate::store::codec;
use crate::store::codec_certificate::{certificate, revocation_list};
use crate::store::codec_event;
use crate::store::codec_lease::lease;
use crate::store::{
    Entries, Index, Lane, Listing, Meta, Query, Record, RecordKey, Recorded, Snapshot, StoreError,
};

impl RedisStore {
    pub(super) async fn read_snapshot(&self, query: &Query) -> Result<Snapshot, StoreError> {
        // The whole set is read by those on the feed.
        let connection = match (&query.entries, query.lane) {
            (Entries::All, _) => &self.feed,
            (_, Lane::Ordinary) => &self.ordinary,
            (_, Lane::Ending) => &self.ending,
        };
        let value = connection.run(&self.scripts.read, &call(self.identity, query)).await?;
        let (_, mut reply) = Reply::parse(value, query.partition)?;
        let snapshot = snapshot(query, &mut reply)?;
        self.saw(query.partition, snapshot.meta.stamp);
        Ok(snapshot)
    }

    pub(super) async fn list_names(&self, listing: &Listing) -> Result<Vec<String>, StoreError> {
        let keys = Keys(listing.partition);
        let (key, from, to, by) = match listing.index {
            Index::Leases(task) => return self.leases(listing, task).await,
            Index::Due(now) => (keys.due(), "-inf".to_owned(), now.to_string(), "BYSCORE"),
            Index::Tasks if listing.after.is_empty() => {
                (keys.tasks(), "-".to_owned(), "+".to_owned(), "BYLEX")
            }
            Index::Tasks => (keys.tasks(), format!("({}", listing.after), "+".to_owned(), "BYLEX"),
        };
        let limit = listing.limit.to_string();
        let arguments = [&from, &to, by, "LIMIT", "0", &limit].map(str::to_owned);
        let answer = self.ask(listing.partition, "ZRANGE", key, arguments.into()).await?;
        answer.into_iter().map(text).collect()
    }

    /// The list is in the order of issue, so that it is tidied as it grows; all of it is read for each page.
    async fn leases(&self, listing: &Listing, task: TaskId) -> Result<Vec<String>, StoreError> {
        let keys = Keys(listing.partition);
        let call = self.call([keys.meta(), keys.leases(task), keys.named_leases(task)]);
        let value = self.upkeep.run(&self.scripts.leases, &call).await?;
        let (_, mut reply) = Reply::parse(value, listing.partition)?;
        let now = reply.number()?;
        let mut leases = Vec::new();
        for entry in reply.values()?.into_iter().flatten() {
            let (id, until) = listed(&entry)?;
            if until > now {
                leases.push(LeaseId::new(listing.partition, id));
            }
        }
        // A lease that was renewed is listed again.
        leases.sort_unstable();
        leases.dedup();
        let mut names: Vec<_> = leases.iter().map(LeaseId::to_string).collect();
        let named = array(reply.next()?)?;
        if !named.is_empty() {
            names.extend(named.into_iter().map(text).collect::<Result<Vec<_>, _>>()?);
            names.sort_unstable();
            names.dedup();
        }
        let first = names.partition_point(|name| *name <= listing.after);
        Ok(names.into_iter().skip(first).take(listing.limit).collect())
    }

    pub(super) async fn events_after(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        let arguments = [format!("({after}-0"), "+".into(), "COUNT".into(), limit.to_string()];
        let key = Keys(partition).events();
        let events = self.ask(partition, "XRANGE", key, arguments.into()).await?;
        events.into_iter().map(event).collect()
    }

    pub(super) async fn certificates_after(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        let arguments = [&format!("({after}"), "+inf", "BYSCORE", "LIMIT", "0", &limit.to_string()];
        let arguments = arguments.map(str::to_owned).into();
        let key = Keys(partition).certificates();
        let answer = self.ask(partition, "ZRANGE", key, arguments).await?;
        answer.into_iter().map(|value| certificate(&bytes(value)?)).collect()
    }

    async fn ask(
        &self,
        partition: Partition,
        command: &str,
        key: String,
        arguments: Vec<String>,
    ) -> Result<Vec<redis::Value>, StoreError> {
        let mut call = self.call([Keys(partition).meta(), key]);
        call.arg(command).list(arguments);
        let value = self.upkeep.run(&self.scripts.ask, &call).await?;
        Reply::parse(value, partition)?.1.next().and_then(array)
    }
}

fn call(store: Option<StoreId>, query: &Query) -> Call {
    let keys = Keys(query.partition);
    let records = query.records.iter().map(|key| keys.record(key));
    let keys = [keys.meta(), keys.set(), keys.blocks()].into_iter().chain(records);
    let mut call = Call::on_store(store, keys.collect::<Vec<_>>());
    let fields = match &query.entries {
        Entries::All => {
            call.arg("all");
            return call;
        }
        Entries::Blocks => {
            call.arg("blocks").list(Vec::new());
            return call;
        }
        Entries::None => Vec::new(),
        Entries::Hitting { tasks, reach, lease } => {
            let fences = tasks.iter().map(|task| keys::fence(*task));
            let scopes = reach.iter().flat_map(|r| [keys::watermark(*r), keys::block(*r)]);
            fences.chain(scopes).chain(lease.map(keys::lease)).collect()
        }
        Entries::Raised { tasks, reach, leases } => {
            let fences = tasks.iter().map(|task| keys::fence(*task));
            let marks = reach.iter().map(|reach| keys::watermark(*reach));
            fences.chain(marks).chain(leases.iter().map(|lease| keys::lease(*lease))).collect()
        }
    };
    call.arg("some").list(fields);
    call
}

pub(super) fn meta(reply: &mut Reply) -> Result<Meta, StoreError> {
    let open = reply.text()? == "1";
    Ok(Meta {
        open,
        incarnation: reply.stamp()?,
        stamp: reply.stamp()?,
        now: reply.stamp()?,
        max_expiry: reply.stamp()?,
        floor: reply.stamp()?,
    })
}

fn snapshot(query: &Query, reply: &mut Reply) -> Result<Snapshot, StoreError> {
    let meta = meta(reply)?;
    let records = query.records.iter().zip(reply.values()?);
    let records = records.map(|(key, value)| value.map(|value| record(key, &value)).transpose());
    let records = records.collect::<Result<_, _>>()?;
    let mut lattice = Lattice::default();
    lattice.raise_floor(meta.floor);
    let (mut blocks, mut raised) = (Vec::new(), Vec::new());
    for value in reply.values()?.into_iter().flatten() {
        let (entry, stamp) = codec_event::raised_entry(&value)?;
        lattice.merge(&entry);
        match (&query.entries, entry) {
            (Entries::All | Entries::Blocks, Entry::Block(scope, count)) => {
                blocks.push((scope, count));
            }
            (Entries::Raised { .. }, entry) => raised.push((entry, stamp)),
            _ => {}
        }
    }
    blocks.sort_unstable();
    Ok(Snapshot { meta, records, lattice, blocks, raised })
}

/// A record from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub(super) fn record(key: &RecordKey, value: &[u8]) -> Result<Record, StoreError> {
    Ok(match key {
        RecordKey::Task(_) => Record::Task(Box::new(codec::task(value)?)),
        RecordKey::Lease(id) => Record::Lease(Box::new(lease(*id, value)?)),
        RecordKey::Keyring => {
            let (sealed, version) = codec::keyring(value)?;
            Record::Keyring(sealed, version)
        }
        RecordKey::RevocationList => {
            let (number, version) = revocation_list(value)?;
            Record::RevocationList(number, version)
        }
        RecordKey::Answer(_) => Record::Answer(Box::new(codec::answer(value)?)),
    })
}

/// A lease in the list of its task's: the bits of its id, and when it is over, in milliseconds.
fn listed(entry: &[u8]) -> Result<(u128, u64), StoreError> {
    let parts =
        entry.split_first_chunk().and_then(|(id, until)| Some((id, until.try_into().ok()?)));
    let (id, until) = parts.ok_or_else(|| unexpected("a lease in a list, of another length"))?;
    Ok((u128::from_be_bytes(*id), u64::from_le_bytes(until)))
}

/// An element of the stream: its id, and one field with its name.
pub(super) fn event(element: redis::Value) -> Result<Recorded, StoreError> {
    let fields = array(element)?.pop().ok_or_else(|| unexpected("an empty event"))?;
    let value = array(fields)?.pop().ok_or_else(|| unexpected("an empty event"))?;
    codec_event::event(&bytes(value)?)
}
