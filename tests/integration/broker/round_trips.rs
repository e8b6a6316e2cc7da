//! How often a call goes to the store. Issuing on a current cache goes once.

use std::sync::Arc;

use async_trait::async_trait;
use leasehold::domain::task::State;
use leasehold::store::{Commit, Listing, Outcome, Query, Snapshot, Store, StoreError};
use leasehold::testing::world::FINANCE;
use parking_lot::Mutex;

use super::scene::{Scene, new_csr, spec, token};
use leasehold::broker::Broker;
use leasehold::broker::access::Rpc;
use leasehold::broker::request::{CredentialRequest, IssueRequest, TokenProof};

/// Writes down what the store below it is asked.
pub struct Counting {
    inner: Arc<dyn Store>,
    asked: Mutex<Vec<&'static str>>,
}

impl Counting {
    pub fn over(scene: &Scene) -> (Arc<Self>, Broker) {
        let inner = scene.world.store.store.clone();
        let counting = Arc::new(Self { inner, asked: Mutex::default() });
        let (clock, upkeep) = (scene.world.clock.clone(), scene.world.store.upkeep.clone());
        let broker = scene.world.broker_of(clock, counting.clone(), upkeep);
        (counting, broker)
    }

    pub fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.asked.lock())
    }
}

#[async_trait]
impl Store for Counting {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.asked.lock().push("commit");
        self.inner.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.asked.lock().push("read");
        self.inner.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.asked.lock().push("list");
        self.inner.list(listing).await
    }
}

#[tokio::test]
async fn issuing_on_a_current_cache_is_one_round_trip_whatever_is_issued() {
    let scene = Scene::on_model().await;
    let (store, broker) = Counting::over(&scene);
    let task = scene.begin(spec(FINANCE)).await.task.id;
    let agent = scene.world.caller(FINANCE);
    scene.issue_at(&broker, &agent, token(task)).await.unwrap();
    assert_eq!(store.asked(), ["read", "commit"], "a task that this broker does not know yet");
    for credential in [
        CredentialRequest::AccessToken(TokenProof::CallerCertificate),
        CredentialRequest::AccessToken(TokenProof::Csr(new_csr())),
        CredentialRequest::X509Svid(new_csr()),
    ] {
        let request = IssueRequest { credential, ..token(task) };
        scene.issue_at(&broker, &agent, request).await.unwrap();
        assert_eq!(store.asked(), ["commit"]);
    }
}

#[tokio::test]
async fn issuing_on_a_cache_that_is_behind_takes_what_the_commit_brought_back() {
    let scene = Scene::on_model().await;
    let (store, broker) = Counting::over(&scene);
    let task = scene.begin(spec(FINANCE)).await.task.id;
    let agent = scene.world.caller(FINANCE);
    scene.issue_at(&broker, &agent, token(task)).await.unwrap();
    scene.a.suspend(&scene.ci, &scene.world.id(), task, String::new()).await.unwrap();
    scene.a.resume(&scene.ci, &scene.world.id(), task, 2).await.unwrap();
    assert_eq!(scene.state(task).await, State::Active);
    store.asked();
    scene.issue_at(&broker, &agent, token(task)).await.unwrap();
    assert_eq!(store.asked(), ["commit", "commit"]);
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    scene.issue_at(&broker, &agent, token(task)).await.unwrap_err();
    assert!(store.asked().starts_with(&["commit"]), "a refusal is what the store has");
}
