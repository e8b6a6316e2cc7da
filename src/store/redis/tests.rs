//! What is special about this store; what every store must do is in the body of tests that all of them share.

mod identity;
mod lanes;
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
crate::store_restart_contract!(super::fixture, super::restart);

/// The server stops and starts, and brokers that open it anew recover it.
async fn restart(f: Fixture) -> Fixture {
    let mut server = f.keep.downcast::<RedisServer>().unwrap();
    server.restart();
    let opened = opened_on(&server).await;
    opened.upkeep.recover().await.unwrap();
    Fixture { keep: server, ..opened }
}

/// A new store on a server.
async fn made_on(server: &RedisServer) -> Fixture {
    let entropy = Arc::new(SeededEntropy::new(1));
    RedisStore::init(&server.settings(), constants(), entropy).await.unwrap();
    opened_on(server).await
}

/// The store on a server, as another broker opens it; its feed is that of a third one.
async fn opened_on(server: &RedisServer) -> Fixture {
    let connect = async |seed| {
        let entropy = Arc::new(SeededEntropy::new(seed));
        Arc::new(RedisStore::connect(&server.settings(), entropy).await.unwrap())
    };
    Fixture { feed: connect(3).await, ..Fixture::of(connect(2).await, ()) }
}
