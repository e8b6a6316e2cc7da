//! The stores: one body of tests over each, and beside the model over random histories.

mod crash;
mod deeds;
mod embedded;
mod history;
mod model;
#[cfg(target_os = "linux")]
mod sync;

use std::sync::Arc;

use leasehold::broker::seams::{Clock, SystemEntropy};
use leasehold::store::embedded::EmbeddedStore;
use leasehold::testing::clock::TestClock;
use leasehold::testing::store_contract::{Fixture, constants};
use tempfile::TempDir;

pub fn open(folder: &TempDir, clock: Arc<dyn Clock>) -> Arc<EmbeddedStore> {
    EmbeddedStore::create_or_open(folder.path(), (clock, &SystemEntropy), constants()).unwrap()
}

async fn embedded_fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, Arc::new(TestClock::default()));
    Fixture::of(store, folder)
}
