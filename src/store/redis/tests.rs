//! What is special about this store; what every store must do is in the body of tests that all of them share.

mod recovery;
mod server;

use std::sync::Arc;

use super::RedisStore;
use crate::testing::entropy::SeededEntropy;
use crate::testing::redis::RedisServer;
use crate::testing::store_contract::{Fixture, constants};

async fn fixture() -> Fixture {
    let server = RedisServer::durable();
    let f = made_on(&server).await;
    Fixture { keep: Box::new(server), ..f }
}

crate::store_contract!(super::fixture);
crate::store_expiry_contract!(super::fixture);

/// A new store on a server.
async fn made_on(server: &RedisServer) -> Fixture {
    let entropy = Arc::new(SeededEntropy::new(1));
    RedisStore::init(&server.settings(), constants(), entropy).await.unwrap();
    opened_on(server).await
}

/// The store on a server, as another broker opens it.
async fn opened_on(server: &RedisServer) -> Fixture {
    let entropy = Arc::new(SeededEntropy::new(2));
    let store = Arc::new(RedisStore::connect(&server.settings(), entropy).await.unwrap());
    Fixture { store: store.clone(), upkeep: store, keep: Box::new(()) }
}
