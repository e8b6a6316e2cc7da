//! The same claims over every store.

use std::sync::Arc;

use leasehold::testing::clock::TestClock;
use leasehold::testing::store_contract::Fixture;
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
    let fixture = Fixture { store: store.clone(), upkeep: store, keep: Box::new(folder) };
    Scene::of(World::over(fixture, clock).await)
}

/// Makes a test of each claim, an `async fn(Scene)`, over each store.
macro_rules! over_every_store {
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
pub(crate) use over_every_store;
