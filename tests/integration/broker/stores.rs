//! The same claims over every store.

use std::sync::Arc;

use leasehold::domain::time::Stamp;
use leasehold::store::Entries;
use leasehold::store::redis::RedisStore;
use leasehold::testing::clock::TestClock;
use leasehold::testing::entropy::SeededEntropy;
use leasehold::testing::redis::RedisServer;
use leasehold::testing::store_contract::{Fixture, constants};
use leasehold::testing::world::World;

use super::scene::Scene;
use crate::store::open;

pub async fn model() -> Scene {
    Scene::on_model().await
}

/// On a disk, with the brokers' clock.
pub async fn embedded() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(TestClock::default());
    let store = open(&folder, clock.clone());
    let fixture = Fixture::of(store, folder);
    Scene::of(World::over(fixture, clock).await)
}

/// On a server of its own.
pub async fn redis() -> Scene {
    let server = RedisServer::durable();
    let mut scene = on_redis(&server).await;
    scene.world.store.keep = Box::new(server);
    scene
}

/// On a server, whose clock lies a day behind the brokers': its stamps go on from theirs, so only the test moves time here too.
pub async fn on_redis(server: &RedisServer) -> Scene {
    let fixture = made_on(server).await;
    let meta = fixture.snapshot(Vec::new(), Entries::None).await.meta;
    let now = Stamp::from_seconds(meta.now.seconds() + 24 * 3_600);
    for partition in constants().partitions.all() {
        fixture.upkeep.prune(partition, now).await.unwrap();
    }
    Scene::of(World::over(fixture, Arc::new(TestClock::at(now))).await)
}

/// A new store on a server, whose time it goes by.
pub async fn made_on(server: &RedisServer) -> Fixture {
    let entropy = Arc::new(SeededEntropy::new(1));
    RedisStore::init(&server.settings(), constants(), entropy.clone()).await.unwrap();
    let store = Arc::new(RedisStore::connect(&server.settings(), entropy).await.unwrap());
    Fixture::of(store, ())
}

/// Makes a test of each claim, an `async fn(Scene)`, over each store.
macro_rules! over_every_store {
    ($($claim:ident),* $(,)?) => {
        crate::broker::stores::over_stores_with_our_clock! { $($claim),* }
        mod redis {
            $(#[tokio::test] async fn $claim() {
                super::$claim(crate::broker::stores::redis().await).await;
            })*
        }
    };
}
pub(crate) use over_every_store;

/// The same for claims about the time of commits, which a server takes from its own clock.
macro_rules! over_stores_with_our_clock {
    ($($claim:ident),* $(,)?) => {
        mod model {
            $(#[tokio::test] async fn $claim() {
                super::$claim(crate::broker::stores::model().await).await;
            })*
        }
        mod embedded {
            $(#[tokio::test] async fn $claim() {
                super::$claim(crate::broker::stores::embedded().await).await;
            })*
        }
    };
}
pub(crate) use over_stores_with_our_clock;
