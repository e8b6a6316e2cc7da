//! Threads apart: whoever issues is held up altogether, and those who end things notice nothing of it.

use std::sync::Arc;
use std::thread::available_parallelism;

use leasehold::broker::seams::{Entropy, EntropyError, SystemEntropy};
use leasehold::domain::lattice::Dead;
use leasehold::proto::v1;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::Refused;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::site::{AGENT, Site, request_id, token_request};
use super::verifier::{PATIENCE, Pair};

/// Randomness that keeps so many of those who ask for it, and with them the threads that they run on, until it is let go.
struct Sluice {
    most: Mutex<usize>,
    let_go: Condvar,
    kept: watch::Sender<usize>,
}

impl Sluice {
    fn new() -> Arc<Self> {
        let (most, let_go) = (Mutex::new(0), Condvar::new());
        Arc::new(Self { most, let_go, kept: watch::Sender::new(0) })
    }

    /// Keeps the next ones, so many.
    fn shut(&self, most: usize) {
        *self.most.lock() = most;
    }

    fn open(&self) {
        self.shut(0);
        self.let_go.notify_all();
    }
}

impl Entropy for Sluice {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        let mut most = self.most.lock();
        if *self.kept.borrow() < *most {
            self.kept.send_modify(|kept| *kept += 1);
            self.let_go.wait_while(&mut most, |most| *most > 0);
        }
        drop(most);
        SystemEntropy.fill(bytes)
    }
}

/// The broker's own threads, as many as it issues on: if it issued on these, all of them would be held up.
fn threads() -> (Runtime, usize) {
    let count = available_parallelism().unwrap().get();
    let mut builder = Builder::new_multi_thread();
    (builder.worker_threads(count).enable_all().build().unwrap(), count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_15_endings_are_fenced_while_every_thread_that_issues_is_held_up() {
    let (sluice, (own, count)) = (Sluice::new(), threads());
    let site = own.spawn(Site::start_drawing(sluice.clone())).await.unwrap();
    must_be_fenced(site, &sluice, count).await;
    own.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_15_endings_on_redis_are_fenced_while_every_thread_that_issues_is_held_up() {
    let (sluice, (own, count)) = (Sluice::new(), threads());
    let server = Arc::new(RedisServer::durable());
    let (drawing, reached) = (sluice.clone(), server.clone());
    let starting = async move { Site::start_on_redis_drawing(&reached, drawing).await };
    let site = own.spawn(starting).await.unwrap();
    must_be_fenced(site, &sluice, count).await;
    own.shutdown_background();
}

async fn must_be_fenced(site: Site, sluice: &Sluice, threads: usize) {
    let pair = Pair::at(site, |_| {}).await;
    let (ended, _, token) = pair.token().await;
    let (issuing, _, other) = pair.token().await;
    sluice.shut(threads);
    let mut asked = JoinSet::new();
    for _ in 0..4 * threads {
        let (mut agent, request) = (pair.site.credentials(AGENT), token_request(&issuing));
        asked.spawn(async move { agent.issue_credential(request).await });
    }
    let mut kept = sluice.kept.subscribe();
    let all = kept.wait_for(|kept| *kept == threads);
    tokio::time::timeout(PATIENCE, all).await.expect("some thread is not held up").unwrap();

    drop(token.check(&pair.verifier).unwrap());
    let fenced = pair.complete(&ended, v1::Enforcement::Fenced).await;
    assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));

    drop(other.check(&pair.verifier).unwrap());
    let everything = v1::QuarantineRequest {
        request_id: request_id(),
        scope: "all".to_owned(),
        ..Default::default()
    };
    let mut operator = pair.operator();
    let fenced = pair.while_time_passes(operator.quarantine(everything)).await.unwrap();
    let fenced = fenced.into_inner().revocation.unwrap();
    assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
    assert_eq!(other.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Quarantined));

    assert!(asked.try_join_next().is_none(), "issuing was not held up");
    sluice.open();
    let answers = async { while asked.join_next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, answers).await.expect("issuing does not go on");
}
