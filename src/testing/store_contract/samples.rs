//! Tasks, leases and commits that a test changes where it matters.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::certificate::CertificateDraft;
use crate::domain::clamp::{Clamp, Limit, Limits};
use crate::domain::event::{Event, EventKind};
use crate::domain::grant::Grant;
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::Entry;
use crate::domain::lease::{Draft, Kind, Lease};
use crate::domain::path::{Counter, Hop, Path};
use crate::domain::principal::{Name, Principal};
use crate::domain::scope::Scope;
use crate::domain::task::{Agent, State, Task};
use crate::domain::time::{Span, Stamp};
use crate::store::{
    Commit, Guard, IssueTimes, Lane, Receipt, RecordKey, Replay, Subject, Write, Written,
};
use crate::testing::scenario;

/// The partition that the tests work in.
pub const P: Partition = Partition(1);

/// So many seconds after 1 January 2100, when every test begins.
pub fn at(seconds: u64) -> Stamp {
    Stamp::from_seconds(4_102_444_800 + seconds)
}

/// The task of that number.
pub fn task_id(number: u128) -> TaskId {
    TaskId::new(P, number)
}

/// The lease of that number.
pub fn lease_id(number: u128) -> LeaseId {
    LeaseId::new(P, number)
}

/// The scope of that text.
pub fn scope(text: &str) -> Scope {
    Scope::parse(text).unwrap()
}

/// An active task that was never committed.
pub fn task(number: u128) -> Task {
    Task {
        id: task_id(number),
        version: Stamp::ZERO,
        agent: Agent::Class(Name::parse("finance").unwrap()),
        labels: BTreeMap::from([("run".to_owned(), "7".to_owned())]),
        grant: grant(),
        step: String::new(),
        deadline: at(86_400),
        begun: None,
        commanded: None,
        answer_key: [u8::try_from(number & 0xff).unwrap(); 32],
        ..scenario::task("spiffe://td/agents/a")
    }
}

/// The grant of task and lease.
pub fn grant() -> Grant {
    let json =
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]}]"#;
    Grant::parse(json).unwrap()
}

/// A lease of a task that has no parent.
pub fn draft(number: u128, task: u128) -> Draft {
    let agent = Principal::parse("spiffe://prod.example/agents/finance/a").unwrap();
    Draft {
        id: lease_id(number),
        request: None,
        first: None,
        kind: Kind::AccessToken,
        holder: agent.clone(),
        instance: "pod-1".to_owned(),
        key_thumbprint: Some([7; 32]),
        jkt: None,
        public_key: None,
        authority: None,
        audience: "https://ledger.example".to_owned(),
        grant: grant(),
        tier: Name::parse("standard").unwrap(),
        freshness: Span::from_seconds(5),
        path: Path::new(Vec::new(), Hop { task: task_id(task), counter: Counter::FIRST }),
        reach: vec![scope("class:finance").reach()],
        jti: number.to_be_bytes(),
        renewals: 0,
        ceiling_seconds: 3_600,
        signing_key: "k1".to_owned(),
        step: String::new(),
        subject: agent.clone(),
        actors: vec![agent],
    }
}

/// The lease that request `key` asks for, of the task of that number.
pub fn named(key: u8, task: u128) -> Draft {
    Draft {
        id: LeaseId::of_request(P, &[key; 32]),
        request: Some([key; 32]),
        ..draft(key.into(), task)
    }
}

/// The certificate of that number, of the lease of another, whose task has the same number.
pub fn certificate(number: u128, lease: u128) -> CertificateDraft {
    let lease = draft(lease, lease);
    CertificateDraft {
        jti: number.to_be_bytes(),
        lease: lease.id,
        reach: lease.reach.iter().copied().chain([Scope::All.reach()]).collect(),
        path: lease.path,
        authority: "0a1b".to_owned(),
    }
}

/// The lease as its commit wrote it.
pub fn lease(draft: Draft, receipt: Receipt) -> Lease {
    let times = receipt.credential.unwrap();
    Lease {
        draft,
        origin: receipt.origin,
        first_origin: times.lease_origin,
        first_issue: times.first_issue,
        expires_seconds: times.expiry.expires_seconds,
        clamp: times.expiry.clamp,
    }
}

/// A commit at a time, that writes nothing yet.
pub fn commit(time: Stamp) -> Commit {
    Commit { at_least: time, ..Commit::new(P, Lane::Ordinary) }
}

/// Writes an active task that is due at its deadline.
pub fn begin(time: Stamp, task: &Task) -> Commit {
    let write = Write::Task { task: Box::new(task.clone()), due: task.deadline };
    Commit { writes: vec![write], ..commit(time) }
}

/// Issues a credential of at most so many seconds under a new lease; its ceiling is an hour from first issue.
pub fn issue(time: Stamp, draft: &Draft, ttl: u64) -> Commit {
    let times = IssueTimes {
        limits: Limits {
            limits: vec![
                (Clamp::Tier, Limit::After(ttl)),
                (Clamp::LeaseCeiling, Limit::AfterFirstIssue(draft.ceiling_seconds)),
            ],
            minimum_seconds: 10,
        },
        ceiling_key: [9; 32],
        ceiling_keep_until: at(604_800),
        lease_origin: None,
    };
    let writes = vec![Write::Lease(Arc::new(draft.clone()))];
    Commit { times: Some(times), writes, ..commit(time) }
}

/// Makes entries.
pub fn kill(time: Stamp, entries: Vec<Entry>) -> Commit {
    Commit { event: Some(killing(entries)), lane: Lane::Ending, ..commit(time) }
}

/// An event that makes entries, and says no more.
pub fn killing(entries: Vec<Entry>) -> Event {
    Event { entries, task: None, state: None, ..event(EventKind::Quarantined, 7) }
}

/// How the answer to request `key` is kept, until a week after [`at`]`(0)`.
pub fn replay(key: u8, subject: Subject<Written>) -> Replay {
    Replay {
        key: [key; 32],
        request_hash: [key; 32],
        subject,
        keep_until: Some(at(604_800)),
        checked: false,
    }
}

/// The record must stand in this version.
pub fn guard(key: RecordKey, version: Option<Stamp>) -> Guard {
    Guard { key, version }
}

/// An event that says this and no more.
pub fn event(kind: EventKind, tag: u64) -> Event {
    Event {
        tag,
        operation: Some([3; 32]),
        kind,
        entries: Vec::new(),
        actor: "spiffe://prod.example/ci/1".to_owned(),
        cause: "because".to_owned(),
        task: Some(task_id(1)),
        state: Some(State::Active),
        lease: None,
        jti: None,
        key_thumbprint: None,
    }
}
