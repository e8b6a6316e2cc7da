//! A store in memory, written as plainly as possible: the yardstick of the real ones, and fast in unit tests.

mod feed;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::broker::seams::Clock;
use crate::domain::certificate::{IssuedCertificate, is_listed};
use crate::domain::event::Event;
use crate::domain::feed::{BrokerRecord, InstanceId};
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::{Entry, Fence, Lattice};
use crate::domain::lease::Lease;
use crate::domain::path::Origin;
use crate::domain::scope::Reach;
use crate::domain::task::Task;
use crate::domain::time::{INFINITY, Stamp};
use crate::store::changes::Changes;
use crate::store::codec::stamped;
use crate::store::{
    Answer, AnswerKey, Changed, Commit, Constants, CredentialTimes, Denial, EVENTS_KEPT, Entries,
    Index, LEASE_KEPT, Listing, Meta, Outcome, Query, Receipt, Record, RecordKey, Recorded,
    Recovered, Snapshot, Store, StoreError, Subject, Upkeep, Write, Written,
};
use crate::testing::store_contract::samples::lease;

/// Leases, tasks and revocations in memory.
pub struct ModelStore {
    clock: Arc<dyn Clock>,
    constants: Constants,
    /// The first incarnation of partition 0.
    first: Stamp,
    parts: Mutex<BTreeMap<Partition, Part>>,
    brokers: Mutex<BTreeMap<InstanceId, BrokerRecord>>,
    changes: Changes,
}

/// One partition. What is dropped by itself has the time from which on it is gone.
#[derive(Default)]
struct Part {
    incarnation: Stamp,
    stamp: Stamp,
    max_expiry: Stamp,
    floor: Stamp,
    tasks: BTreeMap<String, (Task, Stamp)>,
    leases: BTreeMap<LeaseId, (Lease, Stamp)>,
    certificates: BTreeMap<Stamp, IssuedCertificate>,
    keyring: Option<(Vec<u8>, Stamp)>,
    revocation_list: Option<(u64, Stamp)>,
    answers: BTreeMap<AnswerKey, (Answer, Stamp)>,
    first_issues: BTreeMap<[u8; 32], (Stamp, Stamp)>,
    claims: BTreeMap<[u8; 32], (TaskId, Stamp)>,
    proofs: BTreeMap<[u8; 32], ([u8; 32], Stamp)>,
    /// With the time from which on it is gone, and the commit that made or last raised it.
    entries: BTreeMap<String, (Entry, Stamp, Stamp)>,
    events: BTreeMap<Stamp, Recorded>,
}

impl ModelStore {
    /// A new store in its first incarnation.
    pub fn new(clock: Arc<dyn Clock>, constants: Constants) -> Self {
        let mut store = Self {
            clock,
            constants,
            first: Stamp::ZERO,
            parts: Mutex::default(),
            brokers: Mutex::default(),
            changes: Changes::default(),
        };
        store.restart();
        let zero = store.parts.lock().get(&Partition::ZERO).map(|part| part.incarnation);
        store.first = zero.unwrap_or_default();
        store
    }

    /// Ends the incarnation of every partition and starts another one, as a restart does.
    pub fn restart(&self) {
        let mut parts = self.parts.lock();
        for partition in self.constants.partitions.all() {
            parts.entry(partition).or_default().begin(self.clock.now());
        }
        self.changes.tell_all();
    }

    /// The same where something that was answered may be missing: everything from before is fenced.
    pub fn restart_after_loss(&self) {
        self.restart();
        self.parts.lock().values_mut().for_each(|part| part.floor = part.incarnation);
    }

    fn part<T>(
        &self,
        partition: Partition,
        f: impl FnOnce(&mut Part) -> T,
    ) -> Result<T, StoreError> {
        self.parts.lock().get_mut(&partition).map(f).ok_or(StoreError::NotInitialised)
    }
}

#[async_trait]
impl Store for ModelStore {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let clock = self.clock.now();
        let partition = commit.partition;
        let is_awaited = commit.event.as_ref().is_some_and(Event::is_awaited);
        commit.must_answer()?;
        let outcome =
            self.part(partition, |part| part.commit(commit, clock).unwrap_or_else(|no| no))?;
        if is_awaited && matches!(outcome, Outcome::Done(_)) {
            self.changes.tell(Changed::Partition(partition));
        }
        Ok(outcome)
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        let clock = self.clock.now();
        self.part(query.partition, |part| part.read(&query, clock))
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        let clock = self.clock.now();
        self.part(listing.partition, |part| part.list(&listing, clock))
    }
}

#[async_trait]
impl Upkeep for ModelStore {
    async fn recover(&self) -> Result<Vec<Recovered>, StoreError> {
        Ok(Vec::new())
    }

    async fn prune(&self, partition: Partition, now: Stamp) -> Result<(), StoreError> {
        self.part(partition, |part| part.prune(now, self.constants))
    }

    async fn events(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.part(partition, |part| {
            part.events.range(after.next()..).take(limit).map(|(_, event)| event.clone()).collect()
        })
    }

    async fn certificates(
        &self,
        partition: Partition,
        after: Stamp,
        limit: usize,
    ) -> Result<Vec<IssuedCertificate>, StoreError> {
        self.part(partition, |part| {
            let later = part.certificates.range(after.next()..);
            later.take(limit).map(|(_, certificate)| certificate.clone()).collect()
        })
    }

    fn constants(&self) -> Constants {
        self.constants
    }
}

impl Part {
    fn begin(&mut self, clock: Stamp) {
        let old = Origin { incarnation: self.incarnation, stamp: self.stamp };
        self.stamp = self.stamp.next().max(clock);
        self.incarnation = self.stamp;
        let ended = Entry::End(old.incarnation, old.stamp);
        let living = Entry::End(self.incarnation, INFINITY);
        let entries = match old.incarnation {
            Stamp::ZERO => vec![living],
            _ => vec![ended, living],
        };
        entries.iter().for_each(|entry| self.merge(entry));
        self.announce(entries);
    }

    /// `Err` is whatever else than done.
    fn commit(&mut self, commit: Commit, clock: Stamp) -> Result<Outcome, Outcome> {
        let stamp = self.stamp.next().max(clock).max(commit.at_least);
        let origin = Origin { incarnation: self.incarnation, stamp };
        let replayed = self.check(&commit, stamp)?;
        if let Some(answer) = replayed {
            return Ok(Outcome::Replayed(Box::new(answer)));
        }
        let credential = match &commit.times {
            None => None,
            Some(times) => {
                let known = self.first_issues.get(&times.ceiling_key);
                let known = known.filter(|(_, until)| *until > stamp);
                let first_issue = known.map_or(stamp, |(first, _)| *first);
                Some(times.resolve(origin, first_issue).map_err(Outcome::Denied)?)
            }
        };
        self.stamp = stamp;
        if let Some((times, issue)) = credential.zip(commit.times.as_ref()) {
            let expires = Stamp::from_seconds(times.expiry.expires_seconds);
            self.max_expiry = self.max_expiry.max(expires);
            let until = self.first_issues.get(&issue.ceiling_key).map_or(Stamp::ZERO, |(_, u)| *u);
            let until = until.max(issue.ceiling_keep_until);
            self.first_issues.insert(issue.ceiling_key, (times.first_issue, until));
        }
        let written = commit.lease().cloned();
        for write in commit.writes {
            self.write(write, origin, credential);
        }
        let own = |entry: &Entry| match entry {
            Entry::Watermark(scope, _) => Entry::Watermark(scope.clone(), origin),
            other => other.clone(),
        };
        if let Some(mut event) = commit.event {
            event.entries = event.entries.iter().map(own).collect();
            event.entries.iter().for_each(|entry| self.merge(entry));
            self.keep(event);
        }
        if let Some(replay) = commit.replay {
            let subject = match replay.subject {
                Subject::Task(task) => Subject::Task(Box::new(stamped(*task, stamp))),
                Subject::Lease(Written::Renewed) => Subject::Lease(Box::new(lease(
                    written.unwrap(),
                    Receipt { origin, credential },
                ))),
                Subject::Lease(Written::Issued) => {
                    return Ok(Outcome::Done(Receipt { origin, credential }));
                }
                Subject::Scope(text) => Subject::Scope(text),
            };
            let answer = Answer { request_hash: replay.request_hash, origin, subject };
            self.answers.insert(replay.key, (answer, replay.keep_until.unwrap_or(INFINITY)));
        }
        Ok(Outcome::Done(Receipt { origin, credential }))
    }

    /// Everything that can refuse but the expiry; the earlier answer, if this is a replay.
    fn check(&self, commit: &Commit, stamp: Stamp) -> Result<Option<Answer>, Outcome> {
        let mut replayed = None;
        if let Some(replay) = &commit.replay {
            let lease = RecordKey::Lease(replay.lease(commit.partition));
            let records = [RecordKey::Answer(replay.key), lease].map(|key| self.record(key, stamp));
            replayed = match records {
                [Some(Record::Answer(answer)), _] => Some(*answer),
                [_, Some(Record::Lease(lease))] => Answer::of_issue(*lease),
                _ => None,
            };
            if let Some(answer) = &replayed {
                if answer.request_hash != replay.request_hash {
                    return Err(Outcome::Denied(Denial::RequestIdReused));
                }
                if !replay.checked {
                    return Err(Outcome::Replayed(Box::new(answer.clone())));
                }
            }
        }
        let now: Vec<_> =
            commit.guards.iter().map(|g| (g.key, self.record(g.key, stamp))).collect();
        let stands = |(guard, (_, record)): (&crate::store::Guard, &(_, Option<Record>))| {
            record.as_ref().map(Record::version) == guard.version
        };
        let floor_stands = commit.floor.is_none_or(|floor| floor == self.floor);
        if !floor_stands || !commit.guards.iter().zip(&now).all(stands) {
            return Err(Outcome::Stale(now));
        }
        let deny = |denial, refused| if refused { Err(Outcome::Denied(denial)) } else { Ok(()) };
        let lattice = self.lattice(|_| true);
        deny(Denial::Overdue, commit.before.is_some_and(|before| stamp >= before))?;
        deny(Denial::Quarantined, lattice.blocks(&commit.unblocked))?;
        let marked = |(reach, origin): &(Vec<_>, Origin)| lattice.reaches(reach, *origin);
        deny(Denial::Quarantined, commit.unmarked.as_ref().is_some_and(marked))?;
        let over = |lease| self.entries.contains_key(&name(&Entry::Lease(lease)));
        deny(Denial::LeaseOver, commit.unrevoked.is_some_and(over))?;
        for write in &commit.writes {
            if let Write::ProvedKey { key, task, .. } = write
                && let Some((owner, until)) = self.claims.get(key)
            {
                deny(Denial::KeyClaimed, owner != task && *until > stamp)?;
            }
            if let Write::ShownProof { id, request, .. } = write
                && let Some((with, until)) = self.proofs.get(id)
            {
                deny(Denial::ProofShown, with != request && *until > stamp)?;
            }
        }
        Ok(replayed)
    }

    fn write(&mut self, write: Write, origin: Origin, credential: Option<CredentialTimes>) {
        match write {
            Write::Task { task, due } => {
                let due = if task.state.is_ended() { due.max(self.max_expiry) } else { due };
                self.tasks.insert(task.id.to_string(), (stamped(*task, origin.stamp), due));
            }
            Write::Lease(draft) => {
                let lease = lease((*draft).clone(), Receipt { origin, credential });
                let until = Stamp::from_seconds(lease.expires_seconds).plus(LEASE_KEPT);
                self.leases.insert(lease.draft.id, (lease, until));
            }
            Write::Certificate(draft) => {
                let expires_seconds = credential.unwrap().expiry.expires_seconds;
                if is_listed(origin.stamp.seconds(), expires_seconds) {
                    let issued = IssuedCertificate { draft: *draft, origin, expires_seconds };
                    self.certificates.insert(origin.stamp, issued);
                }
            }
            Write::RevocationList(number) => {
                self.revocation_list = Some((number, origin.stamp));
            }
            Write::Keyring(sealed) => self.keyring = Some((sealed, origin.stamp)),
            Write::ProvedKey { key, task, keep_until } => {
                let known = self.claims.get(&key).map_or(Stamp::ZERO, |(_, until)| *until);
                self.claims.insert(key, (task, keep_until.max(known)));
            }
            Write::ShownProof { id, request, keep_until } => {
                let known = self.proofs.get(&id).map_or(Stamp::ZERO, |(_, until)| *until);
                self.proofs.insert(id, (request, keep_until.max(known)));
            }
            Write::DropTask { task, answer_key } => {
                self.tasks.remove(&task.to_string());
                self.answers.remove(&answer_key);
            }
        }
    }

    /// An entry of the same name moves upward only, and is kept the longer.
    fn merge(&mut self, new: &Entry) {
        let Some((known, keep_until, raised)) = self.entries.get_mut(&name(new)) else {
            self.entries.insert(name(new), (new.clone(), self.max_expiry, self.stamp));
            return;
        };
        *raised = self.stamp;
        *keep_until = self.max_expiry.max(*keep_until);
        match (known, new) {
            (Entry::Fence(_, known), Entry::Fence(_, new)) => {
                let (epoch, branch) = (known.epoch.max(new.epoch), known.branch.max(new.branch));
                *known = Fence { epoch, branch };
            }
            (Entry::Watermark(_, known), Entry::Watermark(_, new)) => *known = (*known).max(*new),
            (Entry::Block(_, known), Entry::Block(_, new)) => *known = (*known).max(*new),
            (Entry::End(_, known), Entry::End(_, new)) => *known = (*known).min(*new),
            _ => {}
        }
    }

    fn record(&self, key: RecordKey, now: Stamp) -> Option<Record> {
        match key {
            RecordKey::Task(id) => {
                let (task, _) = self.tasks.get(&id.to_string())?;
                Some(Record::Task(Box::new(task.clone())))
            }
            RecordKey::Lease(id) => {
                let (lease, until) = self.leases.get(&id)?;
                (*until > now).then(|| Record::Lease(Box::new(lease.clone())))
            }
            RecordKey::Keyring => {
                self.keyring.clone().map(|(sealed, version)| Record::Keyring(sealed, version))
            }
            RecordKey::RevocationList => {
                let (number, version) = self.revocation_list?;
                Some(Record::RevocationList(number, version))
            }
            RecordKey::Answer(key) => {
                let (answer, until) = self.answers.get(&key)?;
                (*until > now).then(|| Record::Answer(Box::new(answer.clone())))
            }
        }
    }

    /// Ends, and the entries that are wanted.
    fn lattice(&self, wanted: impl Fn(&Entry) -> bool) -> Lattice {
        let mut lattice = Lattice::default();
        lattice.raise_floor(self.floor);
        let entries = self.entries.values().map(|(entry, ..)| entry);
        entries
            .filter(|entry| matches!(entry, Entry::End(..)) || wanted(entry))
            .for_each(|entry| lattice.merge(entry));
        lattice
    }

    fn read(&self, query: &Query, clock: Stamp) -> Snapshot {
        let now = clock.max(self.stamp);
        let lattice = match &query.entries {
            Entries::None => self.lattice(|_| false),
            Entries::All => self.lattice(|_| true),
            Entries::Blocks => self.lattice(|entry| matches!(entry, Entry::Block(..))),
            Entries::Hitting { tasks, reach, lease } => self.lattice(|entry| match entry {
                Entry::Fence(task, _) => tasks.contains(task),
                Entry::Watermark(scope, _) | Entry::Block(scope, _) => {
                    reach.contains(&scope.reach())
                }
                Entry::Lease(over) => *lease == Some(*over),
                Entry::End(..) => true,
            }),
            Entries::Raised { tasks, reach, leases } => {
                self.lattice(|entry| can_hit(entry, tasks, reach, leases))
            }
        };
        let raised = match &query.entries {
            Entries::Raised { tasks, reach, leases } => {
                let all = self.entries.values();
                let hitting = all.filter(|(entry, ..)| can_hit(entry, tasks, reach, leases));
                hitting.map(|(entry, _, raised)| (entry.clone(), *raised)).collect()
            }
            _ => Vec::new(),
        };
        let blocks = self.entries.values().filter_map(|(entry, ..)| match entry {
            Entry::Block(scope, count) => Some((scope.clone(), *count)),
            _ => None,
        });
        let mut blocks: Vec<_> = blocks.collect();
        blocks.sort_unstable();
        Snapshot {
            meta: self.meta(clock),
            records: query.records.iter().map(|key| self.record(*key, now)).collect(),
            lattice,
            blocks: match query.entries {
                Entries::All | Entries::Blocks => blocks,
                Entries::None | Entries::Hitting { .. } | Entries::Raised { .. } => Vec::new(),
            },
            raised,
        }
    }

    fn meta(&self, clock: Stamp) -> Meta {
        Meta {
            incarnation: self.incarnation,
            open: true,
            stamp: self.stamp,
            now: clock.max(self.stamp),
            max_expiry: self.max_expiry,
            floor: self.floor,
        }
    }

    fn list(&self, listing: &Listing, clock: Stamp) -> Vec<String> {
        let now = clock.max(self.stamp);
        let mut names: Vec<String> = match listing.index {
            Index::Tasks => self.tasks.keys().cloned().collect(),
            Index::Leases(task) => {
                let live = self.leases.values().filter(|(_, until)| *until > now);
                let own = live.filter(|(lease, _)| lease.draft.path.own().task == task);
                own.map(|(lease, _)| lease.draft.id.to_string()).collect()
            }
            Index::Due(until) => {
                let due = self.tasks.iter().filter(|(_, (_, due))| *due <= until);
                let mut due: Vec<_> = due.map(|(name, (_, due))| (*due, name.clone())).collect();
                due.sort();
                due.truncate(listing.limit);
                return due.into_iter().map(|(_, name)| name).collect();
            }
        };
        names.retain(|name| *name > listing.after);
        names.truncate(listing.limit);
        names
    }

    fn prune(&mut self, now: Stamp, constants: Constants) {
        self.stamp = self.stamp.max(now);
        self.leases.retain(|_, (_, until)| *until > now);
        self.answers.retain(|_, (_, until)| *until > now);
        self.first_issues.retain(|_, (_, until)| *until > now);
        self.claims.retain(|_, (_, until)| *until > now);
        self.proofs.retain(|_, (_, until)| *until > now);
        self.certificates.retain(|_, issued| Stamp::from_seconds(issued.expires_seconds) > now);
        self.entries.retain(|_, (entry, keep_until, _)| match entry.kill() {
            Some(kill) => kill.lasts() || *keep_until > now,
            None => true,
        });
        let horizon = now.minus(constants.delta_max.times(2));
        let kept = usize::try_from(EVENTS_KEPT).unwrap_or(usize::MAX);
        while self.events.len() > kept
            && self.events.first_key_value().is_some_and(|(stamp, _)| *stamp < horizon)
        {
            self.events.pop_first();
        }
    }
}

fn can_hit(entry: &Entry, tasks: &[TaskId], reach: &[Reach], leases: &[LeaseId]) -> bool {
    match entry {
        Entry::Fence(task, _) => tasks.contains(task),
        Entry::Watermark(scope, _) => reach.contains(&scope.reach()),
        Entry::Lease(lease) => leases.contains(lease),
        Entry::Block(..) | Entry::End(..) => false,
    }
}

/// What an entry is about: one of each name.
fn name(entry: &Entry) -> String {
    match entry {
        Entry::Fence(task, _) => format!("fence {task}"),
        Entry::Watermark(scope, _) => format!("watermark {scope}"),
        Entry::Block(scope, _) => format!("block {scope}"),
        Entry::Lease(lease) => format!("lease {lease}"),
        Entry::End(incarnation, _) => format!("end {incarnation}"),
    }
}
