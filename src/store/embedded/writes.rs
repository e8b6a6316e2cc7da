//! A commit, applied: the checks, then its rows under one stamp.

use crate::domain::certificate::{CertificateDraft, is_listed};
use crate::domain::id::{LeaseId, Partition};
use crate::domain::lattice::{Entry, Fence};
use crate::domain::lease::Draft;
use crate::domain::path::Origin;
use crate::domain::task::Task;
use crate::domain::time::{INFINITY, Stamp};
use crate::store::codec::{self, Header};
use crate::store::codec_certificate::{certificate_body, revocation_list_body};
use crate::store::codec_lease::{self, LeaseBytes};
use crate::store::embedded::checks::{Stop, check, entry};
use crate::store::embedded::keys::{self, Key};
use crate::store::embedded::rows::{Source, Transaction, timed, with_time};
use crate::store::embedded::state::State;
use crate::store::{
    Commit, CredentialTimes, IssueTimes, LEASE_KEPT, Outcome, Receipt, RecordKey, Replay,
    StoreError, Subject, Write, Written,
};

/// Judges a commit and lays its rows into the transaction, whose rows stand only if it is done.
pub(super) fn apply(
    rows: &mut Transaction<'_>,
    commit: &Commit,
    clock: Stamp,
) -> Result<Outcome, StoreError> {
    match try_apply(rows, commit, clock) {
        Ok(outcome) | Err(Stop::Answered(outcome)) => Ok(outcome),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn try_apply(rows: &mut Transaction<'_>, commit: &Commit, clock: Stamp) -> Result<Outcome, Stop> {
    commit.must_answer()?;
    let state = State::read(rows, commit.partition)?;
    // INVARIANT (stamps increase): a commit's stamp is above every earlier one of its partition, whatever the clock says.
    let stamp = state.stamp.next().max(clock).max(commit.at_least);
    if stamp >= INFINITY {
        return Err(StoreError::Misconfigured("a clock is past the last stamp".into()).into());
    }
    if let Some(answer) = check(rows, commit, (stamp, state.floor))? {
        return Ok(Outcome::Replayed(Box::new(answer)));
    }
    let mut writing = Writing::new(rows, commit.partition, State { stamp, ..state });
    if let Some(times) = &commit.times {
        writing.issue(times)?;
    }
    for write in &commit.writes {
        writing.write(write)?;
    }
    for entry in commit.entries() {
        writing.merge(entry)?;
    }
    if let Some(event) = &commit.event {
        writing.event(codec::event_body(event));
    }
    if let Some(replay) = &commit.replay {
        writing.answer(replay)?;
    }
    Ok(Outcome::Done(writing.finish()))
}

/// The rows of one commit.
pub(super) struct Writing<'a, 'b> {
    rows: &'a mut Transaction<'b>,
    partition: Partition,
    state: State,
    credential: Option<CredentialTimes>,
    lease: Option<(LeaseId, LeaseBytes)>,
}

impl<'a, 'b> Writing<'a, 'b> {
    /// A commit of the state's stamp.
    pub(super) fn new(rows: &'a mut Transaction<'b>, partition: Partition, state: State) -> Self {
        Self { rows, partition, state, credential: None, lease: None }
    }

    /// Writes the partition's own state, which ends the commit.
    pub(super) fn finish(self) -> Receipt {
        self.state.write(&mut self.rows.own, self.partition);
        Receipt { origin: self.origin(), credential: self.credential }
    }

    fn origin(&self) -> Origin {
        Origin { incarnation: self.state.incarnation, stamp: self.state.stamp }
    }

    fn header(&self) -> Header {
        Header {
            origin: self.origin(),
            keep_until: self.state.max_expiry,
            credential: None,
            first_issue: None,
        }
    }

    /// The times of the credential, and what the ceiling counts from.
    fn issue(&mut self, times: &IssueTimes) -> Result<(), Stop> {
        let key = keys::ceiling(self.partition, &times.ceiling_key);
        let (mut until, mut first_issue) = (times.ceiling_keep_until, self.state.stamp);
        if let Some(known) = self.rows.get(&key)? {
            let (known_until, record) = timed(&known)?;
            until = until.max(known_until);
            if known_until > self.state.stamp {
                first_issue = codec::header(record)?.first_issue.unwrap_or(first_issue);
            }
        }
        let credential = times.resolve(self.origin(), first_issue)?;
        // INVARIANT (max_exp): it is never below the expiry of a credential of this partition.
        let expires = Stamp::from_seconds(credential.expiry.expires_seconds);
        self.state.max_expiry = self.state.max_expiry.max(expires);
        self.credential = Some(credential);
        let header = Header { first_issue: Some(first_issue), ..self.header() };
        self.put(key, until, &header, &codec::ceiling_body())?;
        Ok(())
    }

    fn write(&mut self, write: &Write) -> Result<(), StoreError> {
        match write {
            Write::Task { task, due } => self.task(task, *due),
            Write::Lease(draft) => self.lease(draft),
            Write::Certificate(draft) => self.certificate(draft),
            Write::RevocationList(number) => {
                let key = keys::record(self.partition, &RecordKey::RevocationList);
                self.put(key, INFINITY, &self.header(), &revocation_list_body(*number))
            }
            Write::Keyring(sealed) => {
                let key = keys::record(self.partition, &RecordKey::Keyring);
                self.put(key, INFINITY, &self.header(), &codec::keyring_body(sealed))
            }
            Write::ProvedKey { key, task, keep_until } => {
                let key = keys::claim(self.partition, key);
                self.claim(key, *keep_until, &codec::proved_key_body(*task))
            }
            Write::ShownProof { id, request, keep_until } => {
                let key = keys::shown_proof(self.partition, id);
                self.claim(key, *keep_until, &codec::shown_proof_body(request))
            }
            Write::DropTask { task, answer_key } => {
                let key = keys::record(self.partition, &RecordKey::Task(*task));
                if let Some(known) = self.rows.get(&key)? {
                    let (due, _) = timed(&known)?;
                    self.rows.own.remove(keys::due(self.partition, due, *task));
                }
                self.rows.own.remove(key);
                self.rows.own.remove(keys::record(self.partition, &RecordKey::Answer(*answer_key)));
                Ok(())
            }
        }
    }

    /// A claim stands as long as anyone asked.
    fn claim(&mut self, key: Key, until: Stamp, body: &[u8]) -> Result<(), StoreError> {
        let known = self.rows.get(&key)?;
        let known = known.map(|known| Ok::<_, StoreError>(timed(&known)?.0)).transpose()?;
        let until = known.unwrap_or_default().max(until);
        self.put(key, until, &self.header(), body)
    }

    fn task(&mut self, task: &Task, due: Stamp) -> Result<(), StoreError> {
        // An ended task's record outlives every credential that it could have issued.
        let due = if task.state.is_ended() { due.max(self.state.max_expiry) } else { due };
        let key = keys::record(self.partition, &RecordKey::Task(task.id));
        if let Some(known) = self.rows.get(&key)? {
            let (before, _) = timed(&known)?;
            self.rows.own.remove(keys::due(self.partition, before, task.id));
        }
        let record = record(&self.header(), &codec::task_body(task));
        self.rows.own.put(keys::due(self.partition, due, task.id), Vec::new());
        self.rows.own.put(key, with_time(due, record));
        Ok(())
    }

    fn lease(&mut self, draft: &Draft) -> Result<(), StoreError> {
        let Some(credential) = self.credential else {
            return Err(codec::corrupt("a lease without times"));
        };
        let until = Stamp::from_seconds(credential.expiry.expires_seconds).plus(LEASE_KEPT);
        let index = keys::lease_of(self.partition, draft.path.own().task, draft.id);
        self.rows.own.put(index, with_time(until, Vec::new()));
        let bytes = codec_lease::lease_bytes(draft);
        let header = Header { credential: Some(credential), ..self.header() };
        let key = keys::record(self.partition, &RecordKey::Lease(draft.id));
        self.rows.put_until(self.partition, key, until, bytes.value(&header))?;
        self.terms(&bytes, until)?;
        self.lease = Some((draft.id, bytes));
        Ok(())
    }

    /// Keeps the terms of a lease that is kept until then.
    // INVARIANT (terms outlast): they are kept longer than every lease that names them. They are written again only once that
    // would no longer be so.
    fn terms(&mut self, bytes: &LeaseBytes, until: Stamp) -> Result<(), StoreError> {
        let key = keys::terms(self.partition, &bytes.name);
        if let Some(known) = self.rows.get(&key)?
            && timed(&known)?.0 > until
        {
            return Ok(());
        }
        let longer = until.plus(LEASE_KEPT);
        self.rows.put_until(self.partition, key, longer, bytes.terms.clone())
    }

    fn certificate(&mut self, draft: &CertificateDraft) -> Result<(), StoreError> {
        let Some(credential) = self.credential else {
            return Err(codec::corrupt("a certificate without times"));
        };
        let expires = credential.expiry.expires_seconds;
        if !is_listed(self.state.stamp.seconds(), expires) {
            return Ok(());
        }
        let header = Header { credential: Some(credential), ..self.header() };
        let key = keys::certificate(self.partition, self.state.stamp);
        self.put(key, Stamp::from_seconds(expires), &header, &certificate_body(draft))
    }

    /// Merges an entry upward.
    // INVARIANT (lattice monotone): what is stored only ever kills more.
    // INVARIANT (kept until): an entry is kept until the largest expiry committed when it was made, or made again.
    pub(super) fn merge(&mut self, new: &Entry) -> Result<(), StoreError> {
        let key = keys::entry(self.partition, new);
        let new = match new {
            Entry::Watermark(scope, _) => Entry::Watermark(scope.clone(), self.origin()),
            other => other.clone(),
        };
        let merged = match entry(self.rows, &key)? {
            Some(before) => higher(before, new),
            None => new,
        };
        let until = match &merged {
            Entry::Block(..) => INFINITY,
            merged if merged.kill().is_some_and(|kill| kill.lasts()) => INFINITY,
            _ => self.state.max_expiry,
        };
        self.put(key, until, &self.header(), &codec::entry_body(&merged))
    }

    pub(super) fn event(&mut self, body: Vec<u8>) {
        let value = record(&self.header(), &body);
        self.rows.own.put(keys::event(self.partition, self.state.stamp), value);
        self.state.events = self.state.events.saturating_add(1);
    }

    fn answer(&mut self, replay: &Replay) -> Result<(), StoreError> {
        if let Subject::Lease(Written::Issued) = replay.subject {
            return Ok(());
        }
        let key = keys::record(self.partition, &RecordKey::Answer(replay.key));
        let header = Header { credential: self.credential, ..self.header() };
        let until = replay.keep_until.unwrap_or(INFINITY);
        let lease = self.lease.as_ref().map(|(id, bytes)| (*id, bytes.length()));
        let mut body = codec::answer_head(replay, lease)?;
        if let Subject::Lease(_) = replay.subject {
            let bytes = self.lease.iter().map(|(_, bytes)| bytes);
            bytes.for_each(|bytes| [&bytes.terms, &bytes.own].iter().for_each(|b| body.extend(*b)));
        }
        self.put(key, until, &header, &body)
    }

    fn put(
        &mut self,
        key: Key,
        until: Stamp,
        header: &Header,
        body: &[u8],
    ) -> Result<(), StoreError> {
        self.rows.put_until(self.partition, key, until, record(header, body))
    }
}

/// The join of two entries of one key.
fn higher(known: Entry, new: Entry) -> Entry {
    match (known, new) {
        (Entry::Fence(task, known), Entry::Fence(_, new)) => Entry::Fence(
            task,
            Fence { epoch: known.epoch.max(new.epoch), branch: known.branch.max(new.branch) },
        ),
        (Entry::Block(scope, known), Entry::Block(_, new)) => Entry::Block(scope, known.max(new)),
        (Entry::End(incarnation, known), Entry::End(_, new)) => {
            Entry::End(incarnation, known.min(new))
        }
        // The commit's own origin is above every earlier one of its partition; a lease has nothing to merge.
        (_, new) => new,
    }
}

fn record(header: &Header, body: &[u8]) -> Vec<u8> {
    [codec::header_bytes(header).as_slice(), body].concat()
}
