//! Claims about requests that come twice.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use std::sync::Arc;

use futures_util::future::join_all;

use crate::domain::lattice::Entry;
use crate::domain::lease::{Draft, Lease};
use crate::store::codec::stamped;
use crate::store::{
    Answer, Commit, Denial, Index, Outcome, Record, RecordKey, StoreError, Subject, Write, Written,
};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    at, begin, commit, draft, guard, issue, kill, lease, lease_id, named, replay, scope, task,
    task_id,
};

pub async fn a_replay_gets_the_first_answer_and_writes_nothing(f: &Fixture) {
    let first = Commit {
        replay: Some(replay(1, Subject::Task(Box::new(task(1))))),
        guards: vec![guard(RecordKey::Task(task_id(1)), None)],
        ..begin(at(0), &task(1))
    };
    let origin = f.done(first.clone()).await.origin;
    // The same request, decided anew: another id for the task, and a version that cannot stand.
    let again = Commit {
        replay: Some(replay(1, Subject::Task(Box::new(task(2))))),
        guards: vec![guard(RecordKey::Task(task_id(1)), None)],
        ..begin(at(1), &task(2))
    };
    let answer = f.replayed(again).await.unwrap();
    assert_eq!((answer.request_hash, answer.origin), ([1; 32], origin));
    assert_eq!(answer.subject, Subject::Task(Box::new(stamped(task(1), origin.stamp))));
    assert_eq!(f.stamp().await, origin.stamp);
    assert_eq!(f.record(RecordKey::Task(task_id(2))).await, None);
}

pub async fn class_23_another_request_under_the_same_id_is_refused(f: &Fixture) {
    let about = || Subject::Scope("all".to_owned());
    f.done(Commit { replay: Some(replay(1, about())), ..commit(at(0)) }).await;
    for checked in [false, true] {
        let mut other = replay(1, about());
        (other.request_hash, other.checked) = ([2; 32], checked);
        let other = Commit { replay: Some(other), ..begin(at(1), &task(1)) };
        assert_eq!(f.denied(other).await, Some(Denial::RequestIdReused));
    }
    assert_eq!(f.record(RecordKey::Task(task_id(1))).await, None);
}

pub async fn class_06_a_checked_replay_goes_through_the_checks_again(f: &Fixture) {
    let class = scope("class:finance");
    let mut kept = replay(1, Subject::Lease(Written::Renewed));
    kept.checked = true;
    let version = f.done(begin(at(0), &task(1))).await.origin.stamp;
    let issue = Commit {
        replay: Some(kept),
        guards: vec![guard(RecordKey::Task(task_id(1)), Some(version))],
        unblocked: vec![class.reach()],
        ..issue(at(1), &draft(1, 1), 60)
    };
    let first = f.done(issue.clone()).await;
    let is_first = |outcome| matches!(outcome, Outcome::Replayed(a) if a.origin == first.origin);
    assert!(is_first(f.store.commit(issue.clone()).await.unwrap()));
    f.done(kill(at(2), vec![Entry::Block(class.clone(), 1)])).await;
    assert_eq!(f.denied(issue.clone()).await, Some(Denial::Quarantined));
    f.done(kill(at(3), vec![Entry::Block(class, 2)])).await;
    // Past the ceiling nothing new is issued, but these times are not new.
    let late = Commit { at_least: at(99_999), ..issue.clone() };
    assert!(is_first(f.store.commit(late.clone()).await.unwrap()));
    let overdue = Commit { before: Some(at(99_999)), ..late };
    assert_eq!(f.denied(overdue).await, Some(Denial::Overdue));
    f.done(begin(at(4), &task(1))).await;
    assert!(matches!(f.store.commit(issue).await.unwrap(), Outcome::Stale(_)));
}

pub async fn the_answer_to_an_issue_keeps_its_times(f: &Fixture) {
    let kept = Some(replay(1, Subject::Lease(Written::Renewed)));
    let issue = Commit { replay: kept, ..issue(at(0), &draft(1, 1), 60) };
    let receipt = f.done(issue.clone()).await;
    let answer = f.replayed(issue).await.unwrap();
    assert_eq!(answer.subject, Subject::Lease(Box::new(lease(draft(1, 1), receipt))));
}

pub async fn the_answer_to_an_issue_is_its_lease_and_nothing_beside(f: &Fixture) {
    let kept = Some(replay(1, Subject::Lease(Written::Issued)));
    let issue = Commit { replay: kept, ..issue(at(0), &named(1, 1), 60) };
    let receipt = f.done(issue.clone()).await;
    assert_eq!(f.record(RecordKey::Answer([1; 32])).await, None);
    // Asked again it would have been another credential.
    let again = Draft { jti: [7; 16], ..named(1, 1) };
    let again = Commit { writes: vec![Write::Lease(Arc::new(again))], ..issue.clone() };
    let answer = f.replayed(again).await.unwrap();
    assert_eq!((answer.request_hash, answer.origin), ([1; 32], receipt.origin));
    assert_eq!(answer.subject, Subject::Lease(Box::new(lease(named(1, 1), receipt))));
    assert_eq!(f.stamp().await, receipt.origin.stamp);
}

pub async fn class_23_a_request_that_issued_is_refused_with_another_body(f: &Fixture) {
    let kept = Some(replay(1, Subject::Lease(Written::Issued)));
    let issued = Commit { replay: kept, ..issue(at(0), &named(1, 1), 60) };
    let first = f.done(issued).await;
    for checked in [false, true] {
        for subject in [Subject::Scope("all".to_owned()), Subject::Lease(Written::Issued)] {
            let is_issue = matches!(subject, Subject::Lease(_));
            let mut other = replay(1, subject);
            (other.request_hash, other.checked) = ([2; 32], checked);
            let draft = Draft { request: Some([2; 32]), ..named(1, 1) };
            let commit = if is_issue { issue(at(1), &draft, 60) } else { begin(at(1), &task(1)) };
            let commit = Commit { replay: Some(other), ..commit };
            assert_eq!(f.denied(commit).await, Some(Denial::RequestIdReused));
        }
    }
    assert_eq!(f.stamp().await, first.origin.stamp);
    assert_eq!(f.record(RecordKey::Task(task_id(1))).await, None);
}

pub async fn class_23_a_lease_that_its_request_does_not_name_is_not_written(f: &Fixture) {
    let kept = || Some(replay(1, Subject::Lease(Written::Issued)));
    let elsewhere = Draft { id: lease_id(1), ..named(1, 1) };
    let of_another = Draft { request: Some([2; 32]), ..named(1, 1) };
    for draft in [elsewhere, of_another] {
        let wrong = Commit { replay: kept(), ..issue(at(0), &draft, 60) };
        assert!(matches!(f.store.commit(wrong).await, Err(StoreError::Corrupt(_))));
        assert_eq!(f.record(RecordKey::Lease(draft.id)).await, None);
    }
    let none = Commit { replay: kept(), ..begin(at(0), &task(1)) };
    assert!(matches!(f.store.commit(none).await, Err(StoreError::Corrupt(_))));
    assert_eq!(f.record(RecordKey::Task(task_id(1))).await, None);
}

/// As no lease has that was written before leases were answers.
pub async fn a_lease_that_says_no_request_answers_none(f: &Fixture) {
    f.done(issue(at(0), &Draft { request: None, ..named(1, 1) }, 60)).await;
    let about = Subject::Scope("all".to_owned());
    f.done(Commit { replay: Some(replay(1, about)), ..commit(at(1)) }).await;
}

/// Its record says what it is now; what it was is in it as long as the broker says so.
pub async fn a_lease_that_was_renewed_still_answers_the_request_that_named_it(f: &Fixture) {
    let kept = Some(replay(1, Subject::Lease(Written::Issued)));
    let issued = Commit { replay: kept, ..issue(at(0), &named(1, 1), 60) };
    let first = lease(named(1, 1), f.done(issued.clone()).await);
    let renewed =
        Draft { renewals: 1, jti: [9; 16], first: first.kept_first(at(1)), ..named(1, 1) };
    let kept = Some(replay(2, Subject::Lease(Written::Renewed)));
    let mut renew = Commit { replay: kept, ..issue(at(10), &renewed, 60) };
    renew.times.as_mut().unwrap().lease_origin = Some(first.first_origin);
    let now = lease(renewed, f.done(renew.clone()).await);
    assert_eq!(
        f.record(RecordKey::Lease(now.draft.id)).await,
        Some(Record::Lease(Box::new(now.clone())))
    );
    let again = Commit { at_least: at(20), ..issued };
    let answered = f.replayed(again).await.and_then(about).unwrap();
    let was = Draft { request: None, ..first.draft.clone() };
    assert_eq!(answered.as_issued().unwrap(), &Lease { draft: was, ..first });
    assert_eq!(answered, now);
    assert_eq!(f.replayed(renew).await.and_then(about).unwrap(), now);
}

fn about(answer: Answer) -> Option<Lease> {
    match answer.subject {
        Subject::Lease(lease) => Some(*lease),
        Subject::Task(_) | Subject::Scope(_) => None,
    }
}

pub async fn the_answer_about_a_scope_comes_back(f: &Fixture) {
    let about = Subject::Scope("class:finance".to_owned());
    let again = Commit { replay: Some(replay(1, about)), ..commit(at(0)) };
    f.done(again.clone()).await;
    let answer = f.replayed(again).await.unwrap();
    assert_eq!(answer.subject, Subject::Scope("class:finance".to_owned()));
    assert_eq!(f.record(RecordKey::Answer([1; 32])).await, Some(Record::Answer(Box::new(answer))));
}

pub async fn concurrent_requests_of_one_id_act_once(f: &Fixture) {
    let commits = (1..=32).map(|number| Commit {
        replay: Some(replay(1, Subject::Task(Box::new(task(number))))),
        ..begin(at(0), &task(number))
    });
    let outcomes = join_all(commits.map(|commit| f.store.commit(commit))).await;
    let done = outcomes.iter().filter(|o| matches!(o, Ok(Outcome::Done(_)))).count();
    let replayed = outcomes.iter().filter(|o| matches!(o, Ok(Outcome::Replayed(_)))).count();
    assert_eq!((done, replayed), (1, 31));
    assert_eq!(f.list(Index::Tasks, "", 100).await.len(), 1);
}
