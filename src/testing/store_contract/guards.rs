//! Claims about what refuses a commit.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use futures_util::future::join_all;

use crate::domain::clamp::{Clamp, Limit};
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::time::{Span, Stamp};
use crate::store::{Commit, Denial, Entries, Outcome, Record, RecordKey, Subject, Write, Written};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    at, begin, commit, draft, guard, issue, kill, killing, lease_id, replay, scope, task, task_id,
};

/// What was decided under another floor is decided again.
pub async fn class_07_a_commit_that_was_decided_under_another_floor_is_stale(f: &Fixture) {
    let mut new = begin(at(0), &task(1));
    new.floor = Some(at(1));
    assert!(matches!(f.store.commit(new.clone()).await.unwrap(), Outcome::Stale(_)));
    new.floor = Some(Stamp::ZERO);
    f.done(new).await;
}

/// Everything is wrong at first; each step puts one thing right, in the order of the contract.
pub async fn refusals_come_in_the_order_of_the_contract(f: &Fixture) {
    let class = scope("class:finance");
    let claim = |task, until| Write::ProvedKey { key: [1; 32], task, keep_until: until };
    let first = f.done(begin(at(0), &task(1))).await;
    f.done(Commit {
        replay: Some(replay(1, Subject::Scope("all".to_owned()))),
        writes: vec![claim(task_id(1), at(9_999))],
        event: Some(killing(vec![
            Entry::Block(class.clone(), 1),
            Entry::Watermark(class.clone(), Origin::default()),
            Entry::Lease(lease_id(1)),
        ])),
        ..commit(at(1))
    })
    .await;
    let stands = f.stamp().await;
    let mut wrong = issue(at(2), &draft(2, 1), 5);
    let mut reused = replay(1, Subject::Lease(Written::Renewed));
    reused.request_hash = [8; 32];
    wrong.replay = Some(reused);
    wrong.guards = vec![guard(RecordKey::Task(task_id(1)), None)];
    wrong.before = Some(at(2));
    wrong.unblocked = vec![class.reach()];
    wrong.unmarked = Some((vec![class.reach()], first.origin));
    wrong.unrevoked = Some(lease_id(1));
    wrong.writes.push(claim(task_id(2), at(9_999)));

    assert_eq!(f.denied(wrong.clone()).await, Some(Denial::RequestIdReused));
    wrong.replay = Some(replay(2, Subject::Lease(Written::Renewed)));
    assert!(matches!(f.store.commit(wrong.clone()).await.unwrap(), Outcome::Stale(_)));
    wrong.guards[0].version = Some(first.origin.stamp);
    assert_eq!(f.denied(wrong.clone()).await, Some(Denial::Overdue));
    wrong.before = Some(at(100));
    assert_eq!(f.denied(wrong.clone()).await, Some(Denial::Quarantined));
    wrong.unblocked.clear();
    assert_eq!(f.denied(wrong.clone()).await, Some(Denial::Quarantined));
    wrong.unmarked = None;
    assert_eq!(f.denied(wrong.clone()).await, Some(Denial::LeaseOver));
    wrong.unrevoked = None;
    assert_eq!(f.denied(wrong.clone()).await, Some(Denial::KeyClaimed));
    wrong.writes.pop();
    let too_short = Denial::TooShort { clamp: Clamp::Tier, seconds: 5 };
    assert_eq!(f.denied(wrong.clone()).await, Some(too_short));
    assert_eq!(f.stamp().await, stands, "what is refused writes nothing");
    assert_eq!(f.record(RecordKey::Lease(lease_id(2))).await, None);

    wrong.times.as_mut().unwrap().limits.minimum_seconds = 5;
    f.done(wrong).await;
}

pub async fn class_06_a_record_that_has_moved_on_refuses_and_every_guarded_one_comes_back_fresh(
    f: &Fixture,
) {
    let first = f.done(begin(at(0), &task(1))).await.origin.stamp;
    let second = f.done(begin(at(1), &task(1))).await.origin.stamp;
    let other = f.done(begin(at(2), &task(2))).await.origin.stamp;
    let keys = [task_id(2), task_id(1), task_id(3)].map(RecordKey::Task);
    let stale = Commit {
        guards: vec![
            guard(keys[0], Some(other)),
            guard(keys[1], Some(first)),
            guard(keys[2], None),
        ],
        ..begin(at(3), &task(4))
    };
    let fresh = f.stale(stale.clone()).await.unwrap();
    let versions: Vec<_> = fresh.iter().map(|(_, r)| r.as_ref().map(Record::version)).collect();
    assert_eq!(fresh.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys);
    assert_eq!(versions, [Some(other), Some(second), None]);
    assert_eq!(f.record(RecordKey::Task(task_id(4))).await, None, "nothing was written");
    assert_eq!(f.stamp().await, other);

    let mut current = stale;
    current.guards[1].version = Some(second);
    f.done(current).await;
}

pub async fn a_record_that_must_not_exist_refuses(f: &Fixture) {
    let new =
        Commit { guards: vec![guard(RecordKey::Task(task_id(1)), None)], ..begin(at(0), &task(1)) };
    f.done(new.clone()).await;
    assert!(matches!(f.store.commit(new).await.unwrap(), Outcome::Stale(_)));
}

pub async fn class_07_a_missing_record_is_not_the_version_that_was_read(f: &Fixture) {
    for key in [
        RecordKey::Task(task_id(1)),
        RecordKey::Lease(lease_id(1)),
        RecordKey::Keyring,
        RecordKey::Answer([1; 32]),
    ] {
        let guards = vec![guard(key, Some(at(0)))];
        let outcome = f.store.commit(Commit { guards, ..commit(at(1)) }).await.unwrap();
        assert!(matches!(outcome, Outcome::Stale(fresh) if fresh == [(key, None)]), "{key:?}");
    }
}

pub async fn class_06_of_concurrent_commits_on_one_version_exactly_one_is_written(f: &Fixture) {
    let version = f.done(begin(at(0), &task(1))).await.origin.stamp;
    let guards = vec![guard(RecordKey::Task(task_id(1)), Some(version))];
    let racing = (0..32).map(|_| Commit { guards: guards.clone(), ..begin(at(1), &task(1)) });
    let outcomes = join_all(racing.map(|commit| f.store.commit(commit))).await;
    let done = outcomes.iter().filter(|o| matches!(o, Ok(Outcome::Done(_)))).count();
    let stale = outcomes.iter().filter(|o| matches!(o, Ok(Outcome::Stale(_)))).count();
    assert_eq!((done, stale), (1, 31));
}

pub async fn class_05_a_commit_at_or_after_its_time_is_overdue(f: &Fixture) {
    let overdue = Commit { before: Some(at(5)), ..begin(at(5), &task(1)) };
    assert_eq!(f.denied(overdue).await, Some(Denial::Overdue));
    let last_chance = at(5).minus(Span::from_micros(1));
    f.done(Commit { before: Some(at(5)), ..begin(last_chance, &task(1)) }).await;
    let late = Commit { before: Some(at(5)), ..begin(at(0), &task(1)) };
    assert_eq!(f.denied(late).await, Some(Denial::Overdue), "the stamp moved on to it");
}

pub async fn class_06_a_blocked_scope_refuses_until_it_is_lifted(f: &Fixture) {
    let (blocked, other) = (scope("tier:standard"), scope("tier:critical"));
    let unblocked = vec![scope("all").reach(), blocked.reach()];
    let wanted = Commit { unblocked, ..begin(at(1), &task(1)) };
    f.done(wanted.clone()).await;
    f.done(kill(at(2), vec![Entry::Block(blocked.clone(), 1)])).await;
    assert_eq!(f.denied(wanted.clone()).await, Some(Denial::Quarantined));
    f.done(Commit { unblocked: vec![other.reach()], ..begin(at(3), &task(1)) }).await;
    f.done(kill(at(4), vec![Entry::Block(blocked.clone(), 2)])).await;
    f.done(wanted.clone()).await;
    f.done(kill(at(5), vec![Entry::Block(blocked, 3)])).await;
    assert_eq!(f.denied(wanted).await, Some(Denial::Quarantined));
}

pub async fn class_06_a_watermark_refuses_every_origin_up_to_its_own(f: &Fixture) {
    let class = scope("class:finance");
    let before = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    let mark = Entry::Watermark(class.clone(), Origin::default());
    let at_mark = f.done(kill(at(1), vec![mark])).await.origin;
    let after = f.done(issue(at(2), &draft(2, 1), 60)).await.origin;
    let renew = |origin| Commit {
        unmarked: Some((vec![scope("all").reach(), class.reach()], origin)),
        ..issue(at(3), &draft(3, 1), 60)
    };
    assert_eq!(f.denied(renew(before)).await, Some(Denial::Quarantined));
    assert_eq!(f.denied(renew(at_mark)).await, Some(Denial::Quarantined));
    let earlier = Origin { incarnation: Stamp::from_seconds(1), ..after };
    assert_eq!(f.denied(renew(earlier)).await, Some(Denial::Quarantined), "incarnation first");
    f.done(renew(after)).await;
    let other = Commit {
        unmarked: Some((vec![scope("class:summarizer").reach()], before)),
        ..issue(at(4), &draft(4, 1), 60)
    };
    f.done(other).await;
}

pub async fn class_06_a_lease_that_is_over_refuses(f: &Fixture) {
    f.done(kill(at(0), vec![Entry::Lease(lease_id(1))])).await;
    let renew = |number| Commit {
        unrevoked: Some(lease_id(number)),
        ..issue(at(1), &draft(number, 1), 60)
    };
    assert_eq!(f.denied(renew(1)).await, Some(Denial::LeaseOver));
    f.done(renew(2)).await;
}

pub async fn class_08_a_key_belongs_to_one_task_of_a_tree(f: &Fixture) {
    let claim = |key: u8, task| Commit {
        writes: vec![Write::ProvedKey {
            key: [key; 32],
            task: task_id(task),
            keep_until: at(9_999),
        }],
        ..commit(at(1))
    };
    f.done(claim(1, 1)).await;
    assert_eq!(f.denied(claim(1, 2)).await, Some(Denial::KeyClaimed));
    f.done(claim(1, 1)).await;
    f.done(claim(2, 2)).await;
    assert_eq!(f.denied(claim(1, 2)).await, Some(Denial::KeyClaimed));
}

/// Many at once, as from many brokers: the first has it, and may show it again with the same request.
pub async fn class_23_of_many_requests_with_one_proof_exactly_one_is_written(f: &Fixture) {
    let shown = |id: u8, request: u8| Commit {
        writes: vec![Write::ShownProof {
            id: [id; 32],
            request: [request; 32],
            keep_until: at(9_999),
        }],
        ..commit(at(1))
    };
    let outcomes = join_all((0..32).map(|n| f.store.commit(shown(1, n)))).await;
    let is_done = |o: &_| matches!(o, Ok(Outcome::Done(_)));
    assert_eq!(outcomes.iter().filter(|o| is_done(o)).count(), 1);
    let first = (0..32u8).zip(&outcomes).find(|(_, o)| is_done(o)).unwrap().0;
    let denied = |o: &&_| matches!(o, Ok(Outcome::Denied(Denial::ProofShown)));
    assert_eq!(outcomes.iter().filter(denied).count(), 31);
    f.done(shown(1, first)).await;
    f.done(shown(2, 40)).await;
    assert_eq!(f.denied(shown(1, 40)).await, Some(Denial::ProofShown));
}

pub async fn class_04_no_credential_outlives_the_ceiling_from_first_issue(f: &Fixture) {
    let first = f.done(issue(at(0), &draft(1, 1), 300)).await.credential.unwrap();
    assert_eq!(first.first_issue, at(0));
    assert_eq!(first.expiry.expires_seconds, at(300).seconds());
    // Another lease of the same task, principal and audience: the ceiling still counts from the first issue.
    let late = f.done(issue(at(3_500), &draft(2, 1), 300)).await.credential.unwrap();
    assert_eq!(late.first_issue, at(0));
    assert_eq!(late.expiry.expires_seconds, at(3_600).seconds());
    assert_eq!(late.expiry.clamp, Clamp::LeaseCeiling);
    for time in [at(3_591), at(3_600), at(99_999)] {
        let denial = f.denied(issue(time, &draft(3, 1), 300)).await;
        let ceiling = matches!(denial, Some(Denial::TooShort { clamp: Clamp::LeaseCeiling, .. }));
        assert!(ceiling, "{denial:?}");
    }
    let mut other = issue(at(3_600), &draft(4, 1), 300);
    other.times.as_mut().unwrap().ceiling_key = [10; 32];
    assert_eq!(f.done(other).await.credential.unwrap().first_issue, at(3_600));
}

pub async fn class_04_less_than_the_minimum_is_refused(f: &Fixture) {
    let with = |time, limits| {
        let mut commit = issue(time, &draft(1, 1), 60);
        commit.times.as_mut().unwrap().limits.limits = limits;
        commit
    };
    let deadline = (Clamp::TaskDeadline, Limit::At(at(20).seconds()));
    let short = |clamp, seconds| Some(Denial::TooShort { clamp, seconds });
    let refused = f.denied(with(at(11), vec![deadline])).await;
    assert_eq!(refused, short(Clamp::TaskDeadline, 9));
    assert_eq!(f.denied(with(at(99), vec![deadline])).await, short(Clamp::TaskDeadline, 0));
    assert_eq!(f.denied(with(at(0), Vec::new())).await, short(Clamp::Tier, 0), "no limit");
    let mut zero = with(at(0), vec![(Clamp::Requested, Limit::After(0))]);
    zero.times.as_mut().unwrap().limits.minimum_seconds = 0;
    assert_eq!(f.denied(zero).await, short(Clamp::Requested, 0), "born dead");
    let huge = with(at(10), vec![(Clamp::Requested, Limit::After(u64::MAX >> 11)), deadline]);
    let times = f.done(huge).await.credential.unwrap();
    assert_eq!(
        (times.expiry.clamp, times.expiry.expires_seconds),
        (Clamp::TaskDeadline, at(20).seconds())
    );
    let tied = with(at(10), vec![(Clamp::Requested, Limit::After(10)), deadline]);
    assert_eq!(f.done(tied).await.credential.unwrap().expiry.clamp, Clamp::Requested);
}

pub async fn class_04_expiry_counts_from_the_stamp_of_the_commit(f: &Fixture) {
    f.done(commit(at(50))).await;
    let receipt = f.done(issue(at(0), &draft(1, 1), 60)).await;
    assert_eq!(receipt.origin.stamp, at(50).next(), "the partition is already there");
    let times = receipt.credential.unwrap();
    assert_eq!(times.expiry.expires_seconds, at(110).seconds());
    assert_eq!(times.lease_origin, receipt.origin);
    assert_eq!(f.snapshot(Vec::new(), Entries::None).await.meta.max_expiry, at(110));
}
