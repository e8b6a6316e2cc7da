//! Servers that end, lose what they wrote, and come back.

use std::sync::Arc;

use super::super::RedisStore;
use super::{made_on, opened_on};
use crate::domain::event::EventKind;
use crate::domain::id::Partition;
use crate::domain::lattice::{Dead, Entry, Facts, Fence, Lattice};
use crate::domain::path::Counter;
use crate::domain::path::{Hop, Origin, Path};
use crate::domain::time::Stamp;
use crate::store::{
    Commit, Continuity, Denial, Entries, Index, Lane, Outcome, Query, RecordKey, Recovered,
    StoreError,
};
use crate::testing::entropy::SeededEntropy;
use crate::testing::redis::RedisServer;
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::feed::record;
use crate::testing::store_contract::samples::{
    P, at, begin, commit, draft, issue, kill, lease_id, task, task_id,
};

/// What revocation says of a credential of lease 1 that was committed at `origin`.
fn judge(lattice: &Lattice, origin: Origin) -> Result<(), Dead> {
    let path = Path::new(Vec::new(), Hop { task: task_id(1), counter: Counter::FIRST });
    lattice.judge(&Facts { path: &path, lease: lease_id(1), origin, reach: &[] })
}

async fn lattice(f: &Fixture) -> Lattice {
    f.snapshot(Vec::new(), Entries::All).await.lattice
}

/// Opens partition [`P`]; what happened to it.
async fn recovered(f: &Fixture) -> Option<Recovered> {
    f.upkeep.recover().await.unwrap().into_iter().find(|r| r.partition == P)
}

/// Ends the server, starts it again, and lets the store find out that its connections broke.
async fn restart(server: &mut RedisServer, f: &Fixture) {
    server.restart();
    for lane in [Lane::Ordinary, Lane::Ending] {
        let unsent = f.store.commit(Commit::new(P, lane)).await;
        assert!(unsent.is_err());
    }
    // The feed's connection, where there was one.
    let _ = f.store.read(whole_set()).await;
}

fn whole_set() -> Query {
    Query::new(P, Vec::new(), Entries::All)
}

fn is_closed<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Closed(P)))
}

#[tokio::test]
async fn class_07_a_revocation_that_the_store_did_not_take_is_an_error() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let revoke = || kill(at(1), vec![Entry::Lease(lease_id(1))]);
    f.done(commit(at(0))).await;
    f.stamp().await;
    server.kill();
    assert!(matches!(f.store.commit(revoke()).await, Err(StoreError::Unavailable(_))));
    restart(&mut server, &f).await;
    assert!(is_closed(&f.store.commit(revoke()).await));
    f.upkeep.recover().await.unwrap();
    f.done(revoke()).await;
}

#[tokio::test]
async fn class_07_a_revocation_that_was_answered_survives_a_kill() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let issued = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    f.done(kill(at(1), vec![Entry::Lease(lease_id(1))])).await;
    server.restart();
    let g = opened_on(&server).await;
    g.upkeep.recover().await.unwrap();
    assert_eq!(judge(&lattice(&g).await, issued), Err(Dead::LeaseOver));
    let renew = Commit { unrevoked: Some(lease_id(1)), ..commit(at(2)) };
    assert_eq!(g.denied(renew).await, Some(Denial::LeaseOver));
}

#[tokio::test]
async fn a_partition_whose_server_changed_is_closed_until_it_is_recovered() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    f.done(begin(at(0), &task(1))).await;
    restart(&mut server, &f).await;
    for lane in [Lane::Ordinary, Lane::Ending] {
        assert!(is_closed(&f.store.commit(Commit { lane, ..commit(at(1)) }).await), "{lane:?}");
    }
    assert!(is_closed(&f.upkeep.prune(P, at(1)).await));
    let snapshot = f.snapshot(vec![RecordKey::Task(task_id(1))], Entries::None).await;
    assert!(!snapshot.meta.open);
    assert!(snapshot.records[0].is_some(), "but it can be read");
    assert_eq!(f.list(Index::Tasks, "", 10).await.len(), 1);
    f.upkeep.recover().await.unwrap();
    assert!(f.snapshot(Vec::new(), Entries::None).await.meta.open);
    f.done(commit(at(1))).await;
    assert_eq!(f.upkeep.recover().await.unwrap(), [], "what is open stays as it is");
}

#[tokio::test]
async fn class_24_a_server_that_was_a_replica_meanwhile_is_closed() {
    let (server, other) = (RedisServer::durable(), RedisServer::durable());
    let f = made_on(&server).await;
    f.done(commit(at(0))).await;
    server.command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert!(is_closed(&f.store.commit(commit(at(1))).await), "its process is the same");
    f.upkeep.recover().await.unwrap();
    f.done(commit(at(1))).await;
    server.command(&["HSET", "{lh:01}:meta", "replid", &"0".repeat(40)]);
    assert!(is_closed(&f.store.commit(commit(at(2))).await), "another server");
}

#[tokio::test]
async fn class_24_a_replica_that_takes_writes_is_closed_though_it_has_heard_nothing_yet() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    let name = || server.command(&["INFO", "replication"]);
    f.done(commit(at(0))).await;
    let id = replication_id(name());
    server.command(&["CONFIG", "SET", "replica-read-only", "no"]);
    // Nobody is there: its data stay, and so does its replication id.
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(replication_id(name()), id);
    for lane in [Lane::Ordinary, Lane::Ending] {
        assert!(is_closed(&f.store.commit(Commit { lane, ..commit(at(1)) }).await), "{lane:?}");
    }
    assert!(!f.snapshot(Vec::new(), Entries::None).await.meta.open);
    assert!(f.upkeep.recover().await.is_err(), "a replica begins no incarnation");
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert!(is_closed(&f.store.commit(commit(at(1))).await), "it was promoted");
    f.upkeep.recover().await.unwrap();
    f.done(commit(at(1))).await;
}

fn replication_id(info: redis::Value) -> String {
    let info: String = redis::from_redis_value(info).unwrap();
    info.lines().find(|line| line.starts_with("master_replid:")).unwrap().to_owned()
}

#[tokio::test]
async fn recovery_of_a_durable_server_ends_the_old_incarnation_at_its_last_commit() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let last = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    restart(&mut server, &f).await;
    let done = recovered(&f).await.unwrap();
    assert_eq!((done.old, done.fenced), (last.incarnation, false));
    assert!(done.new > last.stamp);
    let snapshot = f.snapshot(Vec::new(), Entries::All).await;
    assert_eq!((snapshot.meta.incarnation, snapshot.meta.floor), (done.new, Stamp::ZERO));
    assert_eq!(snapshot.lattice.living(), Some(done.new));
    assert_eq!(judge(&snapshot.lattice, last), Ok(()));
    let lost = Origin { stamp: last.stamp.next(), ..last };
    assert_eq!(judge(&snapshot.lattice, lost), Err(Dead::Lost));
    let mut renew = issue(at(0), &draft(1, 1), 60);
    renew.times.as_mut().unwrap().lease_origin = Some(last);
    let renewed = f.done(renew).await;
    assert_eq!(renewed.origin.incarnation, done.new);
    assert_eq!(renewed.credential.unwrap().lease_origin, last);
    let events = f.upkeep.events(P, last.stamp, 10).await.unwrap();
    assert_eq!((events[0].stamp, events[0].event.kind), (done.new, EventKind::IncarnationBegun));
    assert_eq!(events[0].event.entries[0], Entry::End(last.incarnation, last.stamp));
}

#[tokio::test]
async fn class_07_a_closed_partition_is_read_by_the_feed_and_its_registry_is_not() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let head = f.feed.page(P, None, 1).await.unwrap().head;
    f.done(commit(at(0))).await;
    let record = record(10, 1);
    f.feed.beat(&record).await.unwrap();
    server.restart();
    let f = opened_on(&server).await;
    let page = f.feed.page(P, head, 10).await.unwrap();
    assert!(!page.meta.open, "it says so");
    assert!(matches!(page.events, Continuity::Continued(events) if events.is_empty()));
    fn is_zero_closed<T>(result: &Result<T, StoreError>) -> bool {
        matches!(result, Err(StoreError::Closed(Partition::ZERO)))
    }
    assert!(is_zero_closed(&f.feed.beat(&record).await), "nobody registers");
    assert!(is_zero_closed(&f.feed.brokers().await), "a registration may be lost");
    assert!(is_zero_closed(&f.feed.forget(record.instance, 1).await));
    f.upkeep.recover().await.unwrap();
    assert_eq!(f.feed.brokers().await.unwrap().1, [record]);
}

#[tokio::test]
async fn class_07_recovery_of_a_server_that_may_have_lost_something_fences_all() {
    let mut server = RedisServer::lossy();
    let f = made_on(&server).await;
    let issued = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    assert_eq!(judge(&lattice(&f).await, issued), Ok(()));
    restart(&mut server, &f).await;
    let done = recovered(&f).await.unwrap();
    assert!(done.fenced);
    let snapshot = f.snapshot(Vec::new(), Entries::None).await;
    assert_eq!(snapshot.meta.floor, done.new);
    assert!(judge(&snapshot.lattice, issued).is_err());
    let new = f.done(issue(at(1), &draft(1, 1), 60)).await.origin;
    assert_eq!(judge(&lattice(&f).await, new), Ok(()));
}

#[tokio::test]
async fn class_07_a_server_that_was_made_safe_only_for_its_restart_fences_all() {
    let mut server = RedisServer::lossy();
    let f = made_on(&server).await;
    server.set_fsync("always");
    restart(&mut server, &f).await;
    assert!(recovered(&f).await.unwrap().fenced, "its old incarnation was not safe");
    restart(&mut server, &f).await;
    assert!(!recovered(&f).await.unwrap().fenced, "the one after it was");
    server.set_fsync("everysec");
    restart(&mut server, &f).await;
    assert!(recovered(&f).await.unwrap().fenced, "who knows since when");
}

#[tokio::test]
async fn class_07_every_setting_that_can_lose_something_is_known() {
    for (name, value) in
        [("appendonly", "no"), ("appendfsync", "everysec"), ("no-appendfsync-on-rewrite", "yes")]
    {
        let server = RedisServer::durable();
        server.command(&["CONFIG", "SET", name, value]);
        made_on(&server).await;
        let durable = server.command(&["HGET", "{lh:01}:meta", "durable"]);
        assert_eq!(durable, redis::Value::BulkString(b"lossy".to_vec()), "{name}");
    }
}

#[tokio::test]
async fn class_07_unsafe_settings_are_remembered_until_the_next_recovery() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    server.command(&["CONFIG", "SET", "no-appendfsync-on-rewrite", "yes"]);
    assert_eq!(recovered(&f).await, None);
    restart(&mut server, &f).await;
    assert!(recovered(&f).await.unwrap().fenced);
}

#[tokio::test]
async fn class_07_a_loss_that_a_broker_can_see_fences_all_whatever_the_settings_say() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let kept = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    let copy = server.copy_data();
    let lost = f.done(issue(at(1_000), &draft(1, 1), 60)).await.origin;
    server.restart_from(&copy);
    f.store.commit(commit(at(0))).await.unwrap_err();
    let done = recovered(&f).await.unwrap();
    assert!(done.fenced, "a revocation may be among what was lost");
    assert!(done.new > lost.stamp, "and nothing is stamped twice");
    let lattice = lattice(&f).await;
    assert_eq!(judge(&lattice, kept), Err(Dead::Lost));
    assert_eq!(judge(&lattice, lost), Err(Dead::Lost));
}

#[tokio::test]
async fn class_24_a_store_put_back_from_a_backup_is_fenced_and_open() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let issued = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    let copy = server.copy_data();
    let ended = Entry::Fence(task_id(1), Fence::ended());
    f.done(kill(at(1), vec![ended])).await;
    server.restart_from(&copy);
    let entropy = Arc::new(SeededEntropy::new(3));
    let done = RedisStore::restored(&server.settings(), entropy).await.unwrap();
    assert_eq!(done.len(), 4);
    assert!(done.iter().all(|r| r.fenced));
    let g = opened_on(&server).await;
    let snapshot = g.snapshot(Vec::new(), Entries::All).await;
    assert!(snapshot.meta.open);
    assert_eq!(judge(&snapshot.lattice, issued), Err(Dead::Lost));
}

#[tokio::test]
async fn class_24_of_incarnations_that_begin_at_once_only_the_last_one_lives() {
    let server = RedisServer::durable();
    made_on(&server).await;
    let settings = server.settings();
    let restore = |seed| RedisStore::restored(&settings, Arc::new(SeededEntropy::new(seed)));
    let (one, other) = tokio::join!(restore(3), restore(4));
    assert_eq!((one.unwrap().len(), other.unwrap().len()), (4, 4));
    let f = opened_on(&server).await;
    let snapshot = f.snapshot(Vec::new(), Entries::All).await;
    assert_eq!(snapshot.lattice.living(), Some(snapshot.meta.incarnation));
}

#[tokio::test]
async fn brokers_that_recover_at_once_begin_one_incarnation() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let g = opened_on(&server).await;
    restart(&mut server, &f).await;
    g.store.commit(commit(at(0))).await.unwrap_err();
    let (one, other) = tokio::join!(f.upkeep.recover(), g.upkeep.recover());
    let mut all: Vec<_> = one.unwrap().into_iter().chain(other.unwrap()).collect();
    all.sort_by_key(|r| r.partition);
    all.dedup_by_key(|r| r.partition);
    assert_eq!(all.len(), 4);
    let events = f.upkeep.events(P, Stamp::ZERO, 10).await.unwrap();
    assert_eq!(events.len(), 2, "of init, and of recovery");
}

#[tokio::test]
async fn class_07_a_partition_without_its_record_is_lost_and_not_empty() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    server.command(&["HDEL", "{lh:01}:meta", "floor"]);
    let is_lost = |error| matches!(error, StoreError::NotInitialised);
    assert!(is_lost(f.store.commit(commit(at(0))).await.unwrap_err()));
    assert!(is_lost(f.upkeep.prune(P, at(0)).await.unwrap_err()));
    assert!(is_lost(f.upkeep.events(P, at(0), 1).await.unwrap_err()));
    assert!(is_lost(f.upkeep.recover().await.unwrap_err()));
}

#[tokio::test]
async fn class_07_a_decision_that_rests_on_an_older_floor_is_stale() {
    let mut server = RedisServer::lossy();
    let f = made_on(&server).await;
    f.done(begin(at(0), &task(1))).await;
    let floor = f.snapshot(Vec::new(), Entries::None).await.meta.floor;
    let rests = || Commit { floor: Some(floor), ..issue(at(1), &draft(1, 1), 60) };
    f.done(rests()).await;
    restart(&mut server, &f).await;
    f.upkeep.recover().await.unwrap();
    assert!(matches!(f.store.commit(rests()).await.unwrap(), Outcome::Stale(_)));
}

#[tokio::test]
async fn an_ended_incarnation_is_dropped_with_the_last_credential_that_it_could_hit() {
    let mut server = RedisServer::durable();
    let f = made_on(&server).await;
    let issued = f.done(issue(at(0), &draft(1, 1), 60)).await.origin;
    restart(&mut server, &f).await;
    f.upkeep.recover().await.unwrap();
    f.upkeep.prune(P, at(59)).await.unwrap();
    assert_eq!(judge(&lattice(&f).await, issued), Ok(()));
    f.upkeep.prune(P, at(60)).await.unwrap();
    let snapshot = f.snapshot(Vec::new(), Entries::None).await;
    assert_eq!(judge(&snapshot.lattice, issued), Err(Dead::IncarnationUnknown));
    assert_eq!(snapshot.lattice.living(), Some(snapshot.meta.incarnation));
    let listed = server.command(&["HGET", "{lh:01}:meta", "incarnations"]);
    let alone = format!(" {} ", snapshot.meta.incarnation);
    assert_eq!(listed, redis::Value::BulkString(alone.into_bytes()));
}
