//! The ordinary connection stands still, with commits on it that the server does not come to: endings, and what they rest on, go by.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::super::{RedisStore, Settings};
use super::made_on;
use crate::domain::lattice::{Entry, Fence};
use crate::store::{
    Entries, Feed as _, Index, Lane, Listing, Outcome, Query, RecordKey, Store as _, Upkeep as _,
};
use crate::testing::entropy::SeededEntropy;
use crate::testing::redis::RedisServer;
use crate::testing::store_contract::feed::record;
use crate::testing::store_contract::samples::{P, at, begin, kill, task, task_id};

/// Whoever waits behind a connection that stands still waits for ever.
const PATIENCE: Duration = Duration::from_secs(20);
const LIST: &str = "{lh:00}:nobody";

async fn answered<T>(what: &str, answer: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(answer) => answer,
        Err(_) => panic!("{what} waits behind ordinary commits"),
    }
}

/// Connections of the server that wait for [`LIST`].
fn blocked(server: &RedisServer) -> usize {
    let info = server.command(&["INFO", "clients"]);
    let text: String = redis::from_redis_value(info).unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    count.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn class_15_no_ending_and_nothing_on_the_feed_waits_behind_ordinary_commits() {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    f.done(begin(at(0), &task(1))).await;
    // Only the user of tests may block a connection.
    let settings = Settings { username: Some("test".to_owned()), ..server.settings() };
    let store = RedisStore::connect(&settings, Arc::new(SeededEntropy::new(9))).await.unwrap();
    let store = Arc::new(store);
    let blocking = Arc::clone(&store);
    let mut block = redis::cmd("BLPOP");
    block.arg(LIST).arg(0);
    tokio::spawn(async move { blocking.ordinary.send(&block).await });
    answered("nobody", async {
        while blocked(&server) < 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let of_task = || Query::new(P, vec![RecordKey::Task(task_id(1))], Entries::None);
    let ordinary = [of_task(), of_task(), of_task(), of_task()].map(|query| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.read(query).await.unwrap().records })
    });

    let read = answered("an ending's read", store.read(of_task().on(Lane::Ending))).await;
    assert!(read.unwrap().records[0].is_some());
    let blocks = Query::new(P, Vec::new(), Entries::Blocks).on(Lane::Ending);
    answered("an ending's read", store.read(blocks)).await.unwrap();
    let ending = kill(at(0), vec![Entry::Fence(task_id(1), Fence::ended())]);
    let done = answered("an ending", store.commit(ending)).await.unwrap();
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    answered("a page", store.page(P, None, 10)).await.unwrap();
    let set = Query::new(P, Vec::new(), Entries::All);
    answered("the whole set", store.read(set)).await.unwrap();
    answered("a beat", store.beat(&record(1, 1))).await.unwrap();
    let (_, brokers) = answered("the registry", store.brokers()).await.unwrap();
    assert_eq!(brokers.len(), 1);
    let listing = |index| Listing { partition: P, index, after: String::new(), limit: 10 };
    answered("what is due", store.list(listing(Index::Due(at(0))))).await.unwrap();
    answered("a list of leases", store.list(listing(Index::Leases(task_id(1))))).await.unwrap();
    answered("the sweeper", store.prune(P, at(0))).await.unwrap();
    assert_eq!(blocked(&server), 1);
    assert!(ordinary.iter().all(|read| !read.is_finished()), "they stood still all the while");

    server.command(&["RPUSH", LIST, "go on"]);
    for read in ordinary {
        assert!(answered("an ordinary read", read).await.unwrap()[0].is_some());
    }
}
