//! Claims about indexes, events and pruning.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use futures_util::future::join_all;

use crate::domain::event::EventKind;
use crate::domain::task::{State, Task};
use crate::domain::time::{INFINITY, Span, Stamp};
use crate::store::feed::position;
use crate::store::{Commit, Continuity, EVENTS_KEPT, Index, RecordKey, Recorded, Write};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    P, at, begin, commit, draft, event, issue, lease_id, task, task_id,
};

fn due(time: Stamp, task: Task, due: Stamp) -> Commit {
    Commit { writes: vec![Write::Task { task: Box::new(task), due }], ..commit(time) }
}

fn names(numbers: impl IntoIterator<Item = u128>) -> Vec<String> {
    numbers.into_iter().map(|number| task_id(number).to_string()).collect()
}

pub async fn tasks_are_listed_in_order_and_in_pages(f: &Fixture) {
    assert!(f.list(Index::Tasks, "", 10).await.is_empty());
    for number in [300, 2, 1, 40, 5] {
        f.done(begin(at(0), &task(number))).await;
    }
    let all = names([1, 2, 5, 40, 300]);
    assert_eq!(f.list(Index::Tasks, "", 10).await, all);
    let mut pages: Vec<String> = Vec::new();
    loop {
        let after = pages.last().cloned().unwrap_or_default();
        let page = f.list(Index::Tasks, &after, 2).await;
        assert!(page.len() <= 2);
        if page.is_empty() {
            break;
        }
        pages.extend(page);
    }
    assert_eq!(pages, all);
    assert_eq!(f.list(Index::Tasks, &names([3])[0], 1).await, names([5]), "`after` need not be");
}

pub async fn leases_are_listed_by_task(f: &Fixture) {
    for (number, task) in [(3, 1), (1, 1), (2, 2), (4, 1)] {
        f.done(issue(at(0), &draft(number, task), 60)).await;
    }
    f.done(issue(at(1), &draft(3, 1), 60)).await;
    let leases = |numbers: &[u128]| -> Vec<String> {
        numbers.iter().map(|number| lease_id(*number).to_string()).collect()
    };
    let index = Index::Leases(task_id(1));
    assert_eq!(f.list(index, "", 10).await, leases(&[1, 3, 4]));
    assert_eq!(f.list(index, &leases(&[1])[0], 1).await, leases(&[3]));
    assert_eq!(f.list(Index::Leases(task_id(2)), "", 10).await, leases(&[2]));
    assert!(f.list(Index::Leases(task_id(3)), "", 10).await.is_empty());
}

/// Ids whose bits are all set have no bytes above them.
pub async fn leases_of_tasks_with_neighbouring_ids_are_listed_apart(f: &Fixture) {
    let tasks = [u128::MAX - 1, u128::MAX, 0xff, 0x100, 0];
    for (lease, task) in (1..).zip(tasks) {
        for lease in [lease, u128::MAX - lease] {
            f.done(issue(at(0), &draft(lease, task), 60)).await;
        }
    }
    for (lease, task) in (1..).zip(tasks) {
        let [first, last] = [lease, u128::MAX - lease].map(|lease| lease_id(lease).to_string());
        let index = Index::Leases(task_id(task));
        assert_eq!(f.list(index, &first, 10).await, std::slice::from_ref(&last));
        assert!(f.list(index, &last, 10).await.is_empty());
        assert_eq!(f.list(index, "", 10).await, [first, last], "{task:x}");
    }
}

pub async fn tasks_are_due_earliest_first(f: &Fixture) {
    for (number, seconds) in [(1, 50), (2, 30), (3, 40), (4, 60)] {
        f.done(due(at(0), task(number), at(seconds))).await;
    }
    assert_eq!(f.list(Index::Due(at(50)), "", 10).await, names([2, 3, 1]));
    assert_eq!(f.list(Index::Due(at(50)), "", 2).await, names([2, 3]));
    assert!(f.list(Index::Due(at(29)), "", 10).await.is_empty());
}

pub async fn a_task_is_due_once_and_where_it_was_last_put(f: &Fixture) {
    f.done(due(at(0), task(1), at(30))).await;
    f.done(due(at(1), task(1), at(90))).await;
    assert!(f.list(Index::Due(at(60)), "", 10).await.is_empty());
    assert_eq!(f.list(Index::Due(INFINITY), "", 10).await, names([1]));
    f.done(due(at(2), task(1), at(20))).await;
    assert_eq!(f.list(Index::Due(INFINITY), "", 10).await, names([1]));
    assert_eq!(f.list(Index::Due(at(20)), "", 10).await, names([1]));
}

pub async fn class_05_an_ended_task_is_kept_until_the_last_credential_is_over(f: &Fixture) {
    f.done(issue(at(0), &draft(1, 1), 300)).await;
    let ended = |number| Task { state: State::Completed, ..task(number) };
    f.done(due(at(1), ended(1), at(10))).await;
    f.done(due(at(1), ended(2), at(400))).await;
    f.done(due(at(1), task(3), at(10))).await;
    assert_eq!(f.list(Index::Due(at(299)), "", 10).await, names([3]), "only what is not ended");
    assert_eq!(f.list(Index::Due(at(300)), "", 10).await, names([3, 1]));
    assert_eq!(f.list(Index::Due(at(400)), "", 10).await, names([3, 1, 2]));
    f.upkeep.prune(P, at(1_000)).await.unwrap();
    assert!(f.record(RecordKey::Task(task_id(1))).await.is_some(), "only a commit drops a task");
}

pub async fn pruning_raises_the_stamp_to_the_time_it_judged_by(f: &Fixture) {
    f.done(commit(at(0))).await;
    f.upkeep.prune(P, at(60)).await.unwrap();
    assert_eq!(f.stamp().await, at(60));
    f.upkeep.prune(P, at(30)).await.unwrap();
    assert_eq!(f.stamp().await, at(60));
    assert_eq!(f.done(commit(at(0))).await.origin.stamp, at(60).next());
}

pub async fn events_are_read_after_a_stamp_in_pages(f: &Fixture) {
    for tag in 1..=5 {
        let event = Some(event(EventKind::TaskAdvanced, tag));
        f.done(Commit { event, ..commit(at(tag)) }).await;
    }
    f.done(commit(at(9))).await;
    let tags = async |after, limit| {
        let events = f.upkeep.events(P, after, limit).await.unwrap();
        events.iter().map(|recorded| recorded.event.tag).collect::<Vec<_>>()
    };
    assert_eq!(tags(at(0), 10).await, [1, 2, 3, 4, 5]);
    assert_eq!(tags(at(2), 2).await, [3, 4]);
    assert_eq!(tags(at(2).minus(Span::from_micros(1)), 1).await, [2]);
    assert!(tags(at(5), 10).await.is_empty());
}

pub async fn old_events_are_trimmed_but_never_the_newest(f: &Fixture) {
    let more = 50;
    let announce = |tag| {
        let event = Some(event(EventKind::CredentialIssued, tag));
        f.done(Commit { event, ..commit(at(0)) })
    };
    let tags: Vec<_> = (1..=EVENTS_KEPT + more).collect();
    for chunk in tags.chunks(500) {
        join_all(chunk.iter().map(|tag| announce(*tag))).await;
    }
    let count = async || f.upkeep.events(P, at(0).minus(Span::from_micros(1)), usize::MAX >> 40);
    let kept = usize::try_from(EVENTS_KEPT).unwrap();
    f.upkeep.prune(P, at(59)).await.unwrap();
    let all = count().await.await.unwrap();
    assert!(all.len() > kept, "younger than twice `delta_max`");
    let after = async |event: &Recorded| {
        let page = f.feed.page(P, Some(position(event)), 1).await.unwrap();
        matches!(page.events, Continuity::Continued(_))
    };
    assert!(after(&all[0]).await);
    f.upkeep.prune(P, at(1_000)).await.unwrap();
    let left = count().await.await.unwrap();
    assert!((kept..kept + 50).contains(&left.len()), "{} left", left.len());
    assert_eq!(left.last(), all.last());
    assert!(!after(&all[0]).await, "who stands at a trimmed event is told so");
    assert!(after(&left[0]).await);
    f.upkeep.prune(P, at(2_000)).await.unwrap();
    assert!(count().await.await.unwrap().len() >= kept);
}
