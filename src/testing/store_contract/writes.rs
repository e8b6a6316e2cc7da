//! Claims about what a commit writes, and under which stamp.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use futures_util::future::join_all;

use crate::domain::event::EventKind;
use crate::domain::id::Partition;
use crate::domain::lattice::{Entry, Fence};
use crate::domain::path::{Counter, Hop, Origin};
use crate::domain::principal::Principal;
use crate::domain::task::{OnSilence, Pin, State, Task};
use crate::domain::time::{INFINITY, Span};
use crate::store::codec::stamped;
use crate::store::{
    Commit, Entries, Index, Lane, Listing, Outcome, Query, Record, RecordKey, Recorded, StoreError,
    Subject, Write,
};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    P, at, begin, commit, draft, event, guard, issue, kill, killing, lease, lease_id, replay,
    scope, task, task_id,
};

pub async fn stamps_increase_whatever_the_time(f: &Fixture) {
    let commits = [5, 5, 0, 6, 3].map(|seconds| commit(at(seconds)));
    let mut stamps = Vec::new();
    for commit in commits {
        stamps.push(f.done(commit).await.origin.stamp);
    }
    assert_eq!(stamps, [at(5), at(5).next(), at(5).next().next(), at(6), at(6).next()]);
    let racing = join_all((0..64).map(|_| f.done(commit(at(7))))).await;
    let mut racing: Vec<_> = racing.iter().map(|receipt| receipt.origin.stamp).collect();
    racing.sort_unstable();
    let expected: Vec<_> = (0..64).map(|n| at(7).plus(Span::from_micros(n))).collect();
    assert_eq!(racing, expected);
}

pub async fn class_26_a_commit_is_no_earlier_than_it_is_told(f: &Fixture) {
    let receipt = f.done(commit(at(10))).await;
    assert_eq!(receipt.origin.stamp, at(10));
    let snapshot = f.snapshot(Vec::new(), Entries::None).await;
    assert_eq!(snapshot.meta.stamp, at(10));
    assert_eq!(snapshot.meta.incarnation, receipt.origin.incarnation);
    assert!(snapshot.meta.open);
}

pub async fn record_event_entry_and_answer_have_one_stamp(f: &Fixture) {
    let mark = Entry::Watermark(scope("class:finance"), Origin::default());
    let fence = Entry::Fence(task_id(1), Fence::ended());
    let mut announced = event(EventKind::TaskEnded, u64::MAX);
    announced.entries = vec![fence.clone(), mark];
    let before = f.snapshot(Vec::new(), Entries::All).await.lattice;
    let origin = f
        .done(Commit {
            replay: Some(replay(1, Subject::Task(Box::new(task(1))))),
            event: Some(announced.clone()),
            ..begin(at(1), &task(1))
        })
        .await
        .origin;
    let mark = Entry::Watermark(scope("class:finance"), origin);
    announced.entries[1] = mark.clone();
    let recorded = f.upkeep.events(P, at(0), 10).await.unwrap();
    let expected = Recorded {
        stamp: origin.stamp,
        incarnation: origin.incarnation,
        keep_until: recorded[0].keep_until,
        event: announced,
    };
    assert_eq!(recorded, [expected]);
    let keys = vec![RecordKey::Task(task_id(1)), RecordKey::Answer([1; 32])];
    let snapshot = f.snapshot(keys, Entries::All).await;
    for record in snapshot.records {
        assert_eq!(record.unwrap().version(), origin.stamp);
    }
    let mut lattice = before;
    lattice.merge(&fence);
    lattice.merge(&mark);
    assert_eq!(snapshot.lattice, lattice);
}

/// A task with every field set.
fn full_task() -> Task {
    let principal = Principal::parse("oidc:k8s:system:serviceaccount:ci:runner").unwrap();
    Task {
        lineage: vec![Hop { task: task_id(7), counter: Counter::new(3) }],
        step: "s-3".to_owned(),
        checkpoint: (0..=255).collect(),
        heartbeat: Some(Span::from_seconds(10)),
        silence_at: Some(at(30)),
        on_silence: OnSilence::Fail,
        instances: 3,
        pins: vec![Pin { principal: principal.clone(), instance: "pod-1".to_owned() }],
        state: State::Suspended,
        epoch: Counter::new(4),
        branch: Counter::new(5),
        branch_floor: Counter::new(2),
        live_children: 6,
        reason: "paused: \u{1f6d1}".to_owned(),
        suspended_by_operator: true,
        delegated_by: Some(principal),
        ..task(1)
    }
}

pub async fn a_task_comes_back_with_the_stamps_of_its_commits(f: &Fixture) {
    let key = RecordKey::Task(task_id(1));
    let first = f.done(begin(at(0), &full_task())).await.origin.stamp;
    let stored = stamped(full_task(), first);
    assert_eq!(f.record(key).await, Some(Record::Task(Box::new(stored.clone()))));
    // A broker's own change leaves the stamps of begin and command; a command sets its own.
    let second = f.done(begin(at(1), &stored)).await.origin.stamp;
    let swept = Task { version: second, ..stored };
    assert_eq!(f.record(key).await, Some(Record::Task(Box::new(swept.clone()))));
    let commanded = Task { commanded: None, ..swept };
    let third = f.done(begin(at(2), &commanded)).await.origin.stamp;
    let commanded = Task { version: third, commanded: Some(third), ..commanded };
    assert_eq!(f.record(key).await, Some(Record::Task(Box::new(commanded))));
}

pub async fn a_lease_comes_back_with_the_times_of_its_commit(f: &Fixture) {
    for (number, public_key, thumbprint) in [(1, None, Some([7; 32])), (2, Some(vec![0; 91]), None)]
    {
        let draft = crate::domain::lease::Draft {
            public_key,
            key_thumbprint: thumbprint,
            ..draft(number, 1)
        };
        let receipt = f.done(issue(at(0), &draft, 60)).await;
        let stored = f.record(RecordKey::Lease(draft.id)).await;
        assert_eq!(stored, Some(Record::Lease(Box::new(lease(draft, receipt)))));
    }
}

pub async fn a_renewal_keeps_first_origin_and_first_issue(f: &Fixture) {
    let first = f.done(issue(at(0), &draft(1, 1), 60)).await;
    let mut renew = issue(at(30), &draft(1, 1), 60);
    renew.guards = vec![guard(RecordKey::Lease(lease_id(1)), Some(first.origin.stamp))];
    renew.times.as_mut().unwrap().lease_origin = Some(first.origin);
    let second = f.done(renew.clone()).await;
    let times = second.credential.unwrap();
    assert_eq!((times.lease_origin, times.first_issue), (first.origin, at(0)));
    assert_eq!(times.expiry.expires_seconds, at(90).seconds());
    let stored = f.record(RecordKey::Lease(lease_id(1))).await;
    assert_eq!(stored, Some(Record::Lease(Box::new(lease(draft(1, 1), second)))));
    assert!(f.stale(renew).await.is_some(), "the version is the renewal's");
}

pub async fn the_keyring_comes_back_with_its_version(f: &Fixture) {
    let sealed: Vec<u8> = (0..=255).collect();
    let write = |sealed: &[u8], version| Commit {
        guards: vec![guard(RecordKey::Keyring, version)],
        writes: vec![Write::Keyring(sealed.to_vec())],
        ..commit(at(0))
    };
    let first = f.done(write(&sealed, None)).await.origin.stamp;
    assert_eq!(f.record(RecordKey::Keyring).await, Some(Record::Keyring(sealed, first)));
    assert!(f.stale(write(b"other", None)).await.is_some(), "made once");
    let second = f.done(write(b"rotated", Some(first))).await.origin.stamp;
    let rotated = Record::Keyring(b"rotated".to_vec(), second);
    assert_eq!(f.record(RecordKey::Keyring).await, Some(rotated));
}

pub async fn partitions_know_nothing_of_each_other(f: &Fixture) {
    let block = killing(vec![Entry::Block(scope("all"), 1)]);
    f.done(Commit { event: Some(block), ..begin(at(100), &task(1)) }).await;
    let other = Partition(2);
    let elsewhere = Commit {
        at_least: at(1),
        unblocked: vec![scope("all").reach()],
        ..Commit::new(other, Lane::Ordinary)
    };
    assert_eq!(f.done(elsewhere).await.origin.stamp, at(1));
    let records = vec![RecordKey::Task(task_id(1))];
    let query = Query::new(other, records, Entries::All);
    let snapshot = f.store.read(query).await.unwrap();
    assert_eq!(snapshot.records, [None]);
    assert!(snapshot.blocks.is_empty());
    let listing =
        Listing { partition: other, index: Index::Tasks, after: String::new(), limit: 10 };
    assert!(f.store.list(listing).await.unwrap().is_empty());
}

pub async fn class_07_a_partition_that_never_was_is_an_error(f: &Fixture) {
    let lost = Partition(4);
    let query = Query::new(lost, Vec::new(), Entries::All);
    assert!(matches!(f.store.read(query).await, Err(StoreError::NotInitialised)));
    let commit = f.store.commit(Commit::new(lost, Lane::Ending)).await;
    assert!(matches!(commit, Err(StoreError::NotInitialised)));
    assert!(f.upkeep.prune(lost, at(0)).await.is_err());
}

pub async fn dropping_a_task_leaves_nothing_of_it(f: &Fixture) {
    for number in [1, 2] {
        let about = Subject::Task(Box::new(task(number)));
        let mut kept = replay(u8::try_from(number).unwrap(), about);
        kept.keep_until = None;
        f.done(Commit { replay: Some(kept), ..begin(at(0), &task(number)) }).await;
    }
    let fence = Entry::Fence(task_id(1), Fence::ended());
    f.done(kill(at(1), vec![fence.clone()])).await;
    let set = f.snapshot(Vec::new(), Entries::All).await.lattice;
    let write = Write::DropTask { task: task_id(1), answer_key: task(1).answer_key };
    f.done(Commit { writes: vec![write], ..commit(at(2)) }).await;
    let keys = [1, 2].map(|n| RecordKey::Task(task_id(n)));
    let answers = [1, 2].map(|n| RecordKey::Answer([n; 32]));
    let snapshot = f.snapshot([keys, answers].concat(), Entries::All).await;
    let present: Vec<_> = snapshot.records.iter().map(Option::is_some).collect();
    assert_eq!(present, [false, true, false, true]);
    assert_eq!(snapshot.lattice, set, "revocations stay until their own time");
    let other = [task_id(2).to_string()];
    assert_eq!(f.list(Index::Tasks, "", 10).await, other);
    assert_eq!(f.list(Index::Due(INFINITY), "", 10).await, other);
    let gone =
        Commit { guards: vec![guard(RecordKey::Task(task_id(1)), Some(at(0)))], ..commit(at(3)) };
    let outcome = f.store.commit(gone).await.unwrap();
    assert!(matches!(outcome, Outcome::Stale(_)), "a missing task means no");
}
