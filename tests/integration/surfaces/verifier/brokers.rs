//! Brokers that go away, come back, and stand in for one another: how long a verifier goes by what it was told.

use std::net::SocketAddr;
use std::sync::Arc;

use leasehold::broker::seams::SystemEntropy;
use leasehold::domain::feed::BrokerRecord;
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::store::Constants;
use leasehold::store::redis::RedisStore;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::WhenStale;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::site::{OTHER_VERIFIER, begin_request, token_request};
use super::*;

/// An address that stays the same, whichever broker is behind it, or none.
struct Relay {
    address: SocketAddr,
    to: watch::Sender<Option<SocketAddr>>,
    relaying: JoinHandle<()>,
}

impl Relay {
    async fn to(site: &Site) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let to = watch::Sender::new(Some(site.running.grpc));
        let led = to.subscribe();
        let relaying = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                tokio::spawn(relay(near, led.clone()));
            }
        });
        Self { address, to, relaying }
    }

    /// Cuts every connection; new ones lead there.
    fn lead(&self, to: Option<SocketAddr>) {
        self.to.send_replace(to);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

async fn relay(mut near: TcpStream, mut led: watch::Receiver<Option<SocketAddr>>) {
    let Some(to) = *led.borrow_and_update() else { return };
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => {}
        _ = led.changed() => {}
    }
}

/// A broker is heard again that answered just now.
async fn fresh(verifier: &Verifier) {
    let mut published = verifier.checker().mirror().published();
    let is_young = |_: &u64| verifier.age().is_some_and(|age| age < Span::from_seconds(1));
    within(published.wait_for(is_young)).await.unwrap();
}

async fn within<T>(fact: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, fact).await.expect("it did not come true")
}

fn is_stale(outcome: Result<Admission, Refused>) -> bool {
    matches!(outcome, Err(Refused::Stale(_)))
}

#[tokio::test]
async fn class_07_a_verifier_that_has_no_view_yet_lets_nothing_in() {
    let pair = Pair::start().await;
    let (_, _, token) = pair.token().await;
    // Nothing of this runtime runs between its start and the check.
    let (next, _folder) = follow(&pair.site);
    assert_eq!(token.check(&next).unwrap_err(), Refused::NoKeys);
    within(next.ready()).await;
    assert!(token.check(&next).is_ok());
}

#[tokio::test]
async fn class_07_a_verifier_whose_broker_goes_away_refuses_at_delta_and_heals_once_it_is_back() {
    let site = Site::start().await;
    let relay = Relay::to(&site).await;
    let broker = format!("https://localhost:{}", relay.address.port());
    let pair = Pair::at(site, |settings| settings.brokers = vec![broker]).await;
    let (task, _, token) = pair.token().await;
    drop(token.check(&pair.verifier).unwrap());
    let Pair { site, verifier, _folder } = pair;
    let clock = site.clock.clone();
    let away = async || {
        relay.lead(None);
        let left = DELTA.micros() - verifier.age().unwrap().micros();
        clock.forward(Span::from_micros(left - 1));
        assert!(token.check(&verifier).is_ok(), "what was known a moment ago is fresh enough");
        clock.forward(Span::from_micros(1));
        assert!(is_stale(token.check(&verifier)));
    };
    let site = site.restart(away).await;
    assert!(is_stale(token.check(&verifier)), "it is not heard yet");
    relay.lead(Some(site.running.grpc));
    fresh(&verifier).await;
    let admission = token.check(&verifier).expect("the broker is heard again");

    let pair = Pair { site, verifier, _folder };
    let (_, _, new) = pair.token().await;
    drop(new.check(&pair.verifier).unwrap());
    end(TaskServiceClient::new(pair.site.channel(Some(ORCHESTRATOR))), &task).await;
    assert_eq!(within(admission.revoked()).await, Dead::Fenced);
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));
    assert!(new.check(&pair.verifier).is_ok(), "its task goes on");
}

async fn end(mut tasks: TaskServiceClient<tonic::transport::Channel>, task: &v1::Task) {
    let request = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    tasks.complete_task(request).await.unwrap();
}

#[tokio::test]
async fn class_07_one_of_two_brokers_may_die_and_what_ends_at_the_other_is_heard() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis(&server).await;
    let other = site.another().await;
    let second = format!("https://localhost:{}", other.grpc.port());
    let mut pair = Pair::at(site, |settings| settings.brokers.push(second)).await;
    let mut registry = other.broker.feed().registry();
    let has_it = |record: &&BrokerRecord| record.verifiers.iter().any(|v| v.connected);
    let both = registry.wait_for(|registry| {
        let records = registry.iter().flat_map(|registry| &registry.records);
        records.filter(has_it).count() == 2
    });
    drop(within(both).await.unwrap());
    let (ended_at_first, _, first) = pair.token().await;
    let (ended_at_second, _, token) = pair.token().await;
    let admission = first.check(&pair.verifier).unwrap();
    let running = token.check(&pair.verifier).unwrap();
    end(pair.site.tasks(ORCHESTRATOR), &ended_at_first).await;
    assert_eq!(within(admission.revoked()).await, Dead::Fenced);

    std::mem::replace(&mut pair.site.running, other).stop().await;
    for _ in 0..4 {
        pair.site.clock.forward(Span::from_seconds(2));
        fresh(&pair.verifier).await;
        assert!(token.check(&pair.verifier).is_ok(), "one broker is enough to be fresh");
    }
    end(pair.site.tasks(ORCHESTRATOR), &ended_at_second).await;
    assert_eq!(within(running.revoked()).await, Dead::Fenced);
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));
}

/// Time passes at once, and nothing of this runtime runs until a check has begun: its view is stale, and the broker is there.
#[tokio::test]
async fn class_20_a_verifier_that_may_ask_lets_in_what_the_broker_says_is_active_while_its_view_is_stale()
 {
    let pair = Pair::start_with(|settings| settings.when_stale = WhenStale::Introspect).await;
    let (task, _, token) = pair.token().await;
    pair.site.clock.forward(DELTA);
    assert!(is_stale(token.check(&pair.verifier)));
    drop(pair.verifier.admit(&token.shown()).await.expect("the broker says that it is active"));

    // The broker tells whom the audience names, and says no to everybody else.
    let ask = |settings: &mut Settings| settings.when_stale = WhenStale::Introspect;
    let (stranger, _folder) = follow_as(&pair.site, OTHER_VERIFIER, ask);
    within(stranger.ready()).await;
    fresh(&stranger).await;
    drop(token.check(&stranger).unwrap());
    pair.site.clock.forward(DELTA);
    assert_eq!(stranger.admit(&token.shown()).await.unwrap_err(), Refused::NotActive);

    fresh(&pair.verifier).await;
    let admission = token.check(&pair.verifier).unwrap();
    end(pair.site.tasks(ORCHESTRATOR), &task).await;
    within(admission.revoked()).await;
    pair.site.clock.forward(DELTA);
    let refused = pair.verifier.admit(&token.shown()).await.unwrap_err();
    assert_eq!(refused, Refused::Dead(Dead::Fenced), "nobody is asked about what is dead");

    let (_, _, token) = pair.token().await;
    pair.site.running.stop().await;
    pair.site.clock.forward(DELTA);
    assert_eq!(pair.verifier.admit(&token.shown()).await.unwrap_err(), Refused::NobodyAnswers);
}

/// The clock stands still, so that nothing is stale by itself.
#[tokio::test]
async fn rule_19_a_verifier_begins_anew_at_the_broker_of_the_store_that_follows() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis_patiently(&server, "", "").await;
    let relay = Relay::to(&site).await;
    relay.lead(None);
    let next = format!("https://localhost:{}", relay.address.port());
    let pair = Pair::at(site, |settings| settings.brokers.push(next)).await;
    let (_, _, token) = pair.token().await;
    drop(token.check(&pair.verifier).unwrap());

    server.command(&["FLUSHALL"]);
    let entropy = Arc::new(SystemEntropy);
    RedisStore::init(&server.settings(), Constants::DEFAULT, entropy).await.unwrap();
    let other = pair.site.another().await;
    relay.lead(Some(other.grpc));
    let mut published = pair.verifier.checker().mirror().published();
    let gone = published.wait_for(|_| token.check(&pair.verifier).is_err());
    drop(within(gone).await.unwrap());

    let channel = |caller| pair.site.channel_to(&other, Some(&pair.site.svid(caller)));
    let mut tasks = TaskServiceClient::new(channel(ORCHESTRATOR));
    let task = tasks.begin_task(begin_request()).await.unwrap().into_inner().task.unwrap();
    let mut credentials = CredentialServiceClient::new(channel(AGENT));
    let issued = credentials.issue_credential(token_request(&task)).await.unwrap().into_inner();
    let new = Token::of(issued.credential.unwrap().access_token);
    let accepted = published.wait_for(|_| new.check(&pair.verifier).is_ok());
    drop(within(accepted).await.unwrap());
    assert!(token.check(&pair.verifier).is_err());
    other.stop().await;
}
