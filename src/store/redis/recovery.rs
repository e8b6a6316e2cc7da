//! Making a store, opening partitions whose server changed, and pruning.
//!
//! One server, so far: what it lost is what it had not yet written to its disk. With `appendfsync always` that is nothing that was
//! answered, and a new incarnation begins where the old one ended. Else everything from before is fenced.

use std::collections::HashMap;

use super::RedisStore;
use super::keys::Keys;
use super::script::{Call, Reply, array, text, unexpected};
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::time::{INFINITY, Span, Stamp};
use crate::store::incarnation::{self, begun};
use crate::store::{Constants, EVENTS_KEPT, Entries, Query, Recovered, StoreError, codec};

/// How often a partition may change under the hands of whoever recovers it.
const ATTEMPTS: usize = 100;

/// Which partitions get a new incarnation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that are closed.
    Closed,
    /// Every one, and everything from before is fenced: the store was put back from a backup.
    Restored,
}

impl RedisStore {
    /// Makes every partition, or none. A store that is there stays as it is.
    pub(super) async fn make(&self, constants: Constants) -> Result<(), StoreError> {
        let now = self.server_time().await?;
        let mut call = Call::default();
        let partitions: Vec<_> = constants.partitions.all().map(Keys).collect();
        for keys in &partitions {
            call.declare([keys.meta(), keys.set(), keys.events()]);
        }
        call.number(constants.partitions.get().into()).number(constants.delta_max.micros());
        let living = Entry::End(now, INFINITY);
        call.stamp(now).arg(self.durability().await?).arg(codec::entry_body(&living));
        for _ in partitions {
            call.arg(codec::event_body(&begun(
                self.entropy.as_ref(),
                vec![living.clone()],
                "the store was made",
            )?));
        }
        let value = self.ordinary.run(&self.scripts.make, &call).await?;
        match Reply::parse(value, Partition::ZERO)? {
            (word, _) if word == "made" => Ok(()),
            _ => self.read_constants().await?.must_be(constants),
        }
    }

    pub(super) async fn recover_all(&self, which: Which) -> Result<Vec<Recovered>, StoreError> {
        let durability = self.durability().await?;
        let mut recovered = Vec::new();
        for partition in self.constants.partitions.all() {
            recovered.extend(self.recover_one(partition, which, durability).await?);
        }
        Ok(recovered)
    }

    async fn recover_one(
        &self,
        partition: Partition,
        which: Which,
        durability: &str,
    ) -> Result<Option<Recovered>, StoreError> {
        let keys = Keys(partition);
        for _ in 0..ATTEMPTS {
            let query = Query::new(partition, Vec::new(), Entries::None);
            let meta = self.read_snapshot(&query).await?.meta;
            // INVARIANT (incarnations rise): above every stamp that this broker has seen, lost ones too.
            let seen = self.seen(partition);
            let new = meta.stamp.max(seen).next().max(meta.now);
            // What was answered is gone, whatever the settings say: a revocation may be among it.
            let is_lossy = which == Which::Restored || seen > meta.stamp;
            let (ended, living) =
                (Entry::End(meta.incarnation, meta.stamp), Entry::End(new, INFINITY));
            let entries = vec![ended.clone(), living.clone()];
            let cause = match which {
                Which::Closed => "the server changed",
                Which::Restored => incarnation::RESTORED,
            };
            let event = begun(self.entropy.as_ref(), entries, cause)?;
            let mut call = self.call([keys.meta(), keys.set(), keys.events()]);
            call.arg(if which == Which::Closed { "closed" } else { "any" });
            call.stamp(meta.incarnation).stamp(meta.stamp).stamp(new).arg(durability);
            call.arg(if is_lossy { "fence" } else { "keep" });
            call.arg(codec::entry_body(&ended)).arg(codec::entry_body(&living));
            call.arg(codec::event_body(&event));
            let value = self.ordinary.run(&self.scripts.recover, &call).await?;
            let (word, mut reply) = Reply::parse(value, partition)?;
            match word.as_str() {
                "open" => return Ok(None),
                "moved" => {}
                "recovered" => {
                    let fenced = reply.text()? == "1";
                    self.saw(partition, new);
                    return Ok(Some(Recovered { partition, old: meta.incarnation, new, fenced }));
                }
                _ => return Err(unexpected("an unknown word")),
            }
        }
        let problem = format!("partition {partition} does not stand still; stop the brokers first");
        Err(StoreError::Unavailable(problem))
    }

    pub(super) async fn prune_all(
        &self,
        partition: Partition,
        now: Stamp,
    ) -> Result<(), StoreError> {
        let keys = Keys(partition);
        let old = now.minus(Span::times(self.constants.delta_max, 2));
        let mut cursor = "0".to_owned();
        let mut scanned = false;
        loop {
            let mut call = self.call([keys.meta(), keys.set(), keys.events()]);
            call.declare([keys.certificates(), keys.certificate_ends()]);
            call.stamp(now).arg(cursor).stamp(old).number(EVENTS_KEPT);
            let value = self.upkeep.run(&self.scripts.prune, &call).await?;
            let (_, mut reply) = Reply::parse(value, partition)?;
            cursor = reply.text()?;
            scanned |= cursor == "0";
            if scanned && reply.text()? == "all" {
                return Ok(());
            }
        }
    }

    /// `durable` if the server answers a write only once it is on disk, else `lossy`.
    async fn durability(&self) -> Result<&'static str, StoreError> {
        let wanted =
            [("appendonly", "yes"), ("appendfsync", "always"), ("no-appendfsync-on-rewrite", "no")];
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(&wanted.map(|(name, _)| name));
        let answer = array(self.ordinary.send(&command).await?)?;
        let texts = answer.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let pairs = texts.chunks_exact(2).filter_map(|pair| pair.split_first());
        let set: HashMap<_, _> =
            pairs.filter_map(|(name, value)| Some((name, value.first()?))).collect();
        let holds =
            |(name, value): &(&str, &str)| set.get(&(*name).to_owned()).is_some_and(|v| v == value);
        Ok(if wanted.iter().all(holds) { "durable" } else { "lossy" })
    }

    async fn server_time(&self) -> Result<Stamp, StoreError> {
        let answer = array(self.ordinary.send(&redis::cmd("TIME")).await?)?;
        let parts = answer.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
        let number = |text: &String| text.parse::<u64>().ok();
        match parts.iter().map(number).collect::<Option<Vec<_>>>().as_deref() {
            Some([seconds, micros]) => {
                Ok(Stamp::from_seconds(*seconds).plus(Span::from_micros(*micros)))
            }
            _ => Err(unexpected("no time")),
        }
    }
}
