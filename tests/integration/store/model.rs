//! The model is a store like any other.

use std::sync::Arc;

use leasehold::testing::clock::TestClock;
use leasehold::testing::model::ModelStore;
use leasehold::testing::store_contract::{Fixture, constants};

async fn fixture() -> Fixture {
    let store = Arc::new(ModelStore::new(Arc::new(TestClock::default()), constants()));
    Fixture::of(store.clone(), store)
}

async fn restart(f: Fixture) -> Fixture {
    f.keep.downcast_ref::<Arc<ModelStore>>().unwrap().restart();
    f
}

leasehold::store_contract!(super::fixture);
leasehold::store_expiry_contract!(super::fixture);
leasehold::store_restart_contract!(super::fixture, super::restart);
