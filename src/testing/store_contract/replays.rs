//! Claims about requests that come twice.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use futures_util::future::join_all;

use crate::domain::lattice::Entry;
use crate::store::codec::stamped;
use crate::store::{Commit, Denial, Index, Outcome, Record, RecordKey, Subject, Written};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    at, begin, commit, draft, guard, issue, kill, lease, replay, scope, task, task_id,
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
    let mut kept = replay(1, Subject::Lease(Written));
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
    let kept = Some(replay(1, Subject::Lease(Written)));
    let issue = Commit { replay: kept, ..issue(at(0), &draft(1, 1), 60) };
    let receipt = f.done(issue.clone()).await;
    let answer = f.replayed(issue).await.unwrap();
    assert_eq!(answer.subject, Subject::Lease(Box::new(lease(draft(1, 1), receipt))));
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
