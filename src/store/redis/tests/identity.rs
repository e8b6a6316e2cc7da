//! Which store a server holds, and brokers that opened another one.

use std::sync::Arc;

use super::super::RedisStore;
use super::{made_on, opened_on};
use crate::domain::feed::StoreId;
use crate::domain::lattice::Entry;
use crate::domain::time::Stamp;
use crate::store::{Entries, Feed as _, Index, Listing, Query, RecordKey, Store as _, StoreError};
use crate::testing::entropy::SeededEntropy;
use crate::testing::redis::RedisServer;
use crate::testing::store_contract::feed::record;
use crate::testing::store_contract::samples::{
    P, at, begin, commit, draft, issue, kill, lease_id, task, task_id,
};
use crate::testing::store_contract::{Fixture, constants};

async fn open(server: &RedisServer, seed: u64) -> RedisStore {
    let entropy = Arc::new(SeededEntropy::new(seed));
    RedisStore::connect(&server.settings(), entropy).await.unwrap()
}

async fn identity(server: &RedisServer) -> StoreId {
    open(server, 7).await.identity().unwrap()
}

/// The server lost everything, and a store was made on it that nobody has opened.
async fn emptied(server: &RedisServer) {
    server.command(&["FLUSHALL"]);
    let entropy = Arc::new(SeededEntropy::new(8));
    RedisStore::init(&server.settings(), constants(), entropy).await.unwrap();
}

/// Everything that can be asked of a store, and what it answers.
async fn everything(f: &Fixture) -> Vec<(&'static str, Option<StoreError>)> {
    let records = || vec![RecordKey::Task(task_id(1)), RecordKey::Lease(lease_id(1))];
    let read = |entries| f.store.read(Query::new(P, records(), entries));
    let list = |index| f.store.list(Listing { partition: P, index, after: "".into(), limit: 1 });
    let hitting = Entries::Hitting { tasks: vec![task_id(1)], reach: vec![], lease: None };
    let beat = record(10, 1);
    vec![
        ("an issue", f.store.commit(issue(at(1), &draft(1, 1), 60)).await.err()),
        ("an ending", f.store.commit(kill(at(1), vec![Entry::Lease(lease_id(1))])).await.err()),
        ("records", read(Entries::None).await.err()),
        ("what hits", read(hitting).await.err()),
        ("blocks", read(Entries::Blocks).await.err()),
        ("the set", read(Entries::All).await.err()),
        ("tasks", list(Index::Tasks).await.err()),
        ("tasks that are due", list(Index::Due(at(9))).await.err()),
        ("leases", list(Index::Leases(task_id(1))).await.err()),
        ("certificates", f.upkeep.certificates(P, Stamp::ZERO, 1).await.err()),
        ("events", f.upkeep.events(P, Stamp::ZERO, 1).await.err()),
        ("a page", f.feed.page(P, None, 1).await.err()),
        ("a beat", f.feed.beat(&beat).await.err()),
        ("the registry", f.feed.brokers().await.err()),
        ("a removal", f.feed.forget(beat.instance, beat.beat).await.err()),
        ("pruning", f.upkeep.prune(P, at(1)).await.err()),
        ("recovery", f.upkeep.recover().await.err()),
    ]
}

fn refusals(answers: &[(&'static str, Option<StoreError>)]) -> Vec<&'static str> {
    let refused = |(what, error): &(&'static str, Option<StoreError>)| {
        matches!(error, Some(StoreError::OtherStore)).then_some(*what)
    };
    answers.iter().filter_map(refused).collect()
}

#[tokio::test]
async fn rule_19_every_broker_of_a_store_finds_the_same_identity_and_a_restart_keeps_it() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let known = f.feed.identity().unwrap();
    for seed in 0..4 {
        assert_eq!(open(&server, seed).await.identity(), Some(known));
    }
    server.restart();
    let g = opened_on(&server).await;
    g.upkeep.recover().await.unwrap();
    assert_eq!(g.feed.identity(), Some(known));
    g.done(commit(at(0))).await;
}

#[tokio::test]
async fn rule_19_brokers_that_open_a_new_store_at_once_agree_on_its_identity() {
    let server = RedisServer::durable();
    let entropy = Arc::new(SeededEntropy::new(1));
    RedisStore::init(&server.settings(), constants(), entropy).await.unwrap();
    let opened = (0..8).map(|seed| open(&server, seed));
    let stores = futures_util::future::join_all(opened).await;
    let first = stores[0].identity();
    assert!(first.is_some());
    for store in &stores {
        assert_eq!(store.identity(), first);
        store.commit(commit(at(0))).await.unwrap();
    }
}

#[tokio::test]
async fn rule_19_a_store_that_was_emptied_and_made_anew_is_another_one() {
    let server = RedisServer::durable();
    made_on(&server).await;
    let known = identity(&server).await;
    emptied(&server).await;
    assert_ne!(identity(&server).await, known);
}

/// Of its first incarnation nobody knows that none of its brokers is of an earlier store.
#[tokio::test]
async fn rule_13_no_incarnation_of_it_is_exempt() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    assert_eq!(f.feed.first(), None);
}

#[tokio::test]
async fn rule_19_a_broker_that_outlives_its_store_neither_reads_nor_writes_on_the_one_that_follows()
{
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    f.done(begin(at(0), &task(1))).await;
    let answers = everything(&f).await;
    let names: Vec<_> = answers.iter().map(|(what, _)| *what).collect();
    assert!(answers.iter().all(|(_, error)| error.is_none()), "{answers:?}");

    emptied(&server).await;
    let before = server.everything();
    assert_eq!(refusals(&everything(&f).await), names, "while nobody has opened it");
    assert_eq!(server.everything(), before);

    // Whose draw is not that of the first one's brokers.
    open(&server, 9).await;
    let g = opened_on(&server).await;
    g.feed.beat(&record(10, 1)).await.unwrap();
    let before = server.everything();
    assert_eq!(refusals(&everything(&f).await), names);
    assert_eq!(server.everything(), before);
    g.done(begin(at(0), &task(1))).await;
}

/// A broker that is told that a store is closed recovers it.
#[tokio::test]
async fn rule_19_another_store_is_that_also_while_it_is_closed() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    emptied(&server).await;
    open(&server, 9).await;
    server.restart();
    // Its connections broke; after that, it hears of the other store.
    everything(&f).await;
    let answers = everything(&f).await;
    assert_eq!(refusals(&answers).len(), answers.len(), "{answers:?}");
    let g = opened_on(&server).await;
    assert!(matches!(g.store.commit(commit(at(0))).await, Err(StoreError::Closed(P))));
}

#[tokio::test]
async fn rule_19_a_store_of_before_there_were_identities_gets_one_and_keeps_it() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    for partition in constants().partitions.all() {
        server.command(&["HDEL", &format!("{{lh:{partition}}}:meta"), "identity"]);
    }
    let refused = f.store.commit(commit(at(0))).await.unwrap_err();
    assert!(matches!(refused, StoreError::OtherStore));
    let known = identity(&server).await;
    assert_eq!(identity(&server).await, known);
    opened_on(&server).await.done(commit(at(0))).await;
}

#[tokio::test]
async fn rule_19_partitions_of_two_stores_are_refused() {
    let server = RedisServer::durable();
    made_on(&server).await;
    server.command(&["HSET", "{lh:03}:meta", "identity", "1"]);
    let entropy = Arc::new(SeededEntropy::new(1));
    let problem = match RedisStore::connect(&server.settings(), entropy).await.err() {
        Some(StoreError::Misconfigured(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert!(problem.contains("not all of one store"), "{problem}");
}

/// A server that goes on and one that was made from its backup.
#[tokio::test]
async fn rule_19_a_store_that_was_put_back_from_a_backup_is_another_than_what_else_goes_on_from_it()
{
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let known = f.feed.identity();
    f.done(commit(at(0))).await;
    let backup = server.copy_data();
    server.restart_from(&backup);
    assert_eq!(Some(identity(&server).await), known, "until it is said that it was put back");
    let entropy = Arc::new(SeededEntropy::new(4));
    let restored = RedisStore::restored(&server.settings(), entropy).await.unwrap();
    assert_eq!(restored.len(), 4);
    let g = opened_on(&server).await;
    assert_ne!(g.feed.identity(), known);
    g.done(commit(at(1))).await;
    everything(&f).await;
    assert!(matches!(f.store.commit(commit(at(1))).await, Err(StoreError::OtherStore)));
}
