//! Claims about records whose time is over: they are gone, whether or not anything pruned them.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use crate::domain::time::{Span, Stamp};
use crate::store::{Commit, Denial, Index, LEASE_KEPT, RecordKey, Subject, Write};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    P, at, commit, draft, issue, lease_id, replay, task, task_id,
};

/// The partition comes to this time, pruned or not.
async fn pass(f: &Fixture, time: Stamp, prune: bool) {
    f.done(commit(time)).await;
    if prune {
        f.upkeep.prune(P, time).await.unwrap();
    }
}

fn before(time: Stamp) -> Stamp {
    time.minus(Span::from_micros(9))
}

pub async fn an_answer_is_gone_when_its_time_is_over(f: &Fixture) {
    for (key, prune) in [(1, false), (2, true)] {
        let start = at(u64::from(key) * 1_000);
        let mut kept = replay(key, Subject::Scope("all".to_owned()));
        kept.keep_until = Some(start.plus(Span::from_seconds(100)));
        let request = Commit { replay: Some(kept), ..commit(start) };
        f.done(request.clone()).await;
        pass(f, before(start.plus(Span::from_seconds(100))), prune).await;
        assert!(f.replayed(request.clone()).await.is_some());
        pass(f, start.plus(Span::from_seconds(100)), prune).await;
        assert_eq!(f.record(RecordKey::Answer([key; 32])).await, None);
        f.done(request).await;
    }
}

pub async fn the_answer_of_a_begin_lives_as_long_as_its_task(f: &Fixture) {
    let mut kept = replay(1, Subject::Task(Box::new(task(1))));
    kept.keep_until = None;
    f.done(Commit { replay: Some(kept), ..commit(at(0)) }).await;
    pass(f, at(1_000_000_000), true).await;
    assert!(f.record(RecordKey::Answer([1; 32])).await.is_some());
}

pub async fn class_04_a_first_issue_is_kept_as_long_as_anyone_asked(f: &Fixture) {
    let first_issue = async |time, until| {
        let mut issue = issue(time, &draft(1, 1), 60);
        issue.times.as_mut().unwrap().ceiling_keep_until = until;
        f.done(issue).await.credential.unwrap().first_issue
    };
    assert_eq!(first_issue(at(0), at(100)).await, at(0));
    assert_eq!(first_issue(at(10), at(50)).await, at(0));
    assert_eq!(first_issue(at(60), at(200)).await, at(0), "the longer of 50 and 100");
    pass(f, at(150), true).await;
    assert_eq!(first_issue(at(160), at(200)).await, at(0), "and longer still");
    assert_eq!(first_issue(at(200), at(300)).await, at(200));
}

pub async fn class_08_a_claim_is_free_when_its_time_is_over_and_not_before(f: &Fixture) {
    let claim = |time, task, until| Commit {
        writes: vec![Write::ProvedKey { key: [1; 32], task: task_id(task), keep_until: until }],
        ..commit(time)
    };
    f.done(claim(at(0), 1, at(100))).await;
    f.done(claim(at(1), 1, at(50))).await;
    assert_eq!(f.denied(claim(at(99), 2, at(300))).await, Some(Denial::KeyClaimed));
    f.done(claim(at(99), 1, at(150))).await;
    assert_eq!(f.denied(claim(at(100), 2, at(300))).await, Some(Denial::KeyClaimed));
    f.done(claim(at(150), 2, at(300))).await;
    f.upkeep.prune(P, at(200)).await.unwrap();
    assert_eq!(f.denied(claim(at(201), 1, at(300))).await, Some(Denial::KeyClaimed));
}

/// It cannot be shown again in the last instant in which it counts, nor be forgotten before.
pub async fn class_23_a_shown_proof_is_remembered_until_its_time_is_over_and_not_longer(
    f: &Fixture,
) {
    let shown = |time, request, until| Commit {
        writes: vec![Write::ShownProof { id: [1; 32], request: [request; 32], keep_until: until }],
        before: Some(until),
        ..commit(time)
    };
    f.done(shown(at(0), 1, at(60))).await;
    f.upkeep.prune(P, before(at(60))).await.unwrap();
    assert_eq!(f.denied(shown(at(59), 2, at(60))).await, Some(Denial::ProofShown));
    f.done(shown(at(60), 2, at(120))).await;
    f.done(shown(at(70), 2, at(90))).await;
    assert_eq!(f.denied(shown(at(100), 1, at(120))).await, Some(Denial::ProofShown));
    f.upkeep.prune(P, at(120)).await.unwrap();
    assert_eq!(f.denied(shown(at(100), 1, at(120))).await, Some(Denial::Overdue));
}

pub async fn a_lease_is_kept_for_an_hour_past_its_expiry(f: &Fixture) {
    f.done(issue(at(0), &draft(1, 1), 60)).await;
    let over = at(60).plus(LEASE_KEPT);
    let index = Index::Leases(task_id(1));
    pass(f, before(over), true).await;
    assert!(f.record(RecordKey::Lease(lease_id(1))).await.is_some());
    assert_eq!(f.list(index, "", 10).await.len(), 1);
    pass(f, over, true).await;
    assert_eq!(f.record(RecordKey::Lease(lease_id(1))).await, None);
    assert!(f.list(index, "", 10).await.is_empty());
}

pub async fn what_leases_share_is_kept_as_long_as_any_of_them(f: &Fixture) {
    let kept = LEASE_KEPT.seconds() + 60;
    // Terms that were written with the first lease alone would be gone by the end of the others.
    for (number, time) in [(1, 0), (2, kept), (3, kept)] {
        let mut issue = issue(at(time), &draft(number, 1), 60);
        issue.times.as_mut().unwrap().ceiling_key = [u8::try_from(number).unwrap(); 32];
        f.done(issue).await;
    }
    pass(f, before(at(2 * kept)), true).await;
    assert_eq!(f.record(RecordKey::Lease(lease_id(1))).await, None);
    for number in [2, 3] {
        assert!(f.record(RecordKey::Lease(lease_id(number))).await.is_some());
    }
    pass(f, at(2 * kept), true).await;
    assert!(f.list(Index::Leases(task_id(1)), "", 10).await.is_empty());
}

pub async fn a_row_whose_time_moved_on_is_not_dropped_at_its_old_time(f: &Fixture) {
    f.done(issue(at(0), &draft(1, 1), 60)).await;
    f.done(issue(at(1_000), &draft(1, 1), 60)).await;
    let (old, new) = (at(60).plus(LEASE_KEPT), at(1_060).plus(LEASE_KEPT));
    f.upkeep.prune(P, old).await.unwrap();
    assert!(f.record(RecordKey::Lease(lease_id(1))).await.is_some());
    assert_eq!(f.list(Index::Leases(task_id(1)), "", 10).await.len(), 1);
    f.upkeep.prune(P, new).await.unwrap();
    assert_eq!(f.record(RecordKey::Lease(lease_id(1))).await, None);
}
