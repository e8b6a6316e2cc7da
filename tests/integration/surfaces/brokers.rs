//! Two brokers over one Redis server, on real sockets: either ends what the other issued, verifiers follow one, the other or both, and
//! webhooks are delivered once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use leasehold::app::Running;
use leasehold::domain::feed::Drift;
use leasehold::domain::lattice::Dead;
use leasehold::domain::time::Span;
use leasehold::proto::v1;
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::store::Constants;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::{Refused, Verifier};
use serde_json::Value;

use super::site::{
    AGENT, OPERATOR, ORCHESTRATOR, Site, VERIFIER, begin_request, request_id, token_request,
};
use super::verifier::{PATIENCE, Pair, Token, follow_as};
use super::webhooks::Receiver;

async fn begin_at(site: &Site, broker: &Running) -> v1::Task {
    let mut tasks = TaskServiceClient::new(channel(site, broker, ORCHESTRATOR));
    tasks.begin_task(begin_request()).await.unwrap().into_inner().task.unwrap()
}

async fn issue_at(site: &Site, broker: &Running, task: &v1::Task) -> Token {
    let mut credentials = CredentialServiceClient::new(channel(site, broker, AGENT));
    let issued = credentials.issue_credential(token_request(task)).await.unwrap().into_inner();
    Token::of(issued.credential.unwrap().access_token)
}

fn channel(site: &Site, broker: &Running, caller: &str) -> tonic::transport::Channel {
    site.channel_to(broker, Some(&site.svid(caller)))
}

fn url(broker: &Running) -> String {
    format!("https://localhost:{}", broker.grpc.port())
}

#[tokio::test]
async fn class_07_whichever_broker_ends_it_fenced_is_every_verifier_of_either() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis_patiently(&server, "", "").await;
    let other = site.another().await;
    // It knows every verifier that there could be from now on.
    site.clock.forward(Drift::DEFAULT.lapse(Constants::DEFAULT.delta_max));
    let both = [url(&site.running), url(&other)];
    let (near, _near) =
        follow_as(&site, VERIFIER, |settings| settings.brokers = vec![both[0].clone()]);
    let (far, _far) =
        follow_as(&site, VERIFIER, |settings| settings.brokers = vec![both[1].clone()]);
    let pair = Pair::at(site, |settings| settings.brokers = both.to_vec()).await;
    let verifiers: [&Verifier; 3] = [&near, &far, &pair.verifier];
    let ready = join_all(verifiers.iter().map(|verifier| verifier.ready()));
    tokio::time::timeout(PATIENCE, ready).await.unwrap();

    let brokers = [&pair.site.running, &other];
    for issuing in brokers {
        for ending in brokers {
            let task = begin_at(&pair.site, issuing).await;
            let token = issue_at(&pair.site, issuing, &task).await;
            for verifier in verifiers {
                assert!(token.check(verifier).is_ok());
            }
            let fenced = pair.complete_at(ending, &task, v1::Enforcement::Fenced).await;
            assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
            for verifier in verifiers {
                assert_eq!(token.check(verifier).unwrap_err(), Refused::Dead(Dead::Fenced));
            }
        }
    }
    let tokens = join_all(brokers.map(async |broker| {
        let task = begin_at(&pair.site, broker).await;
        issue_at(&pair.site, broker, &task).await
    }));
    let tokens = tokens.await;
    let quarantine = v1::QuarantineRequest {
        request_id: request_id(),
        scope: format!("principal:{AGENT}"),
        wait_for: v1::Enforcement::Fenced.into(),
        ..Default::default()
    };
    let mut operator = OperatorServiceClient::new(channel(&pair.site, &other, OPERATOR));
    let answer = pair.while_time_passes(operator.quarantine(quarantine)).await.unwrap();
    let revocation = answer.into_inner().revocation.unwrap();
    assert_eq!(revocation.enforcement(), v1::Enforcement::Fenced, "{revocation:?}");
    for (token, verifier) in tokens.iter().flat_map(|token| verifiers.map(|v| (token, v))) {
        assert_eq!(token.check(verifier).unwrap_err(), Refused::Dead(Dead::Quarantined));
    }
    other.stop().await;
}

/// Of each event, by which brokers it was delivered, each time.
fn deliveries(receiver: &Receiver) -> BTreeMap<String, Vec<String>> {
    let mut deliveries = BTreeMap::<_, Vec<String>>::new();
    for came in receiver.came.borrow().iter() {
        let claims = BASE64_URL_SAFE_NO_PAD.decode(came.token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let (_, event) = claims["events"].as_object().unwrap().iter().next().unwrap();
        let by = came.headers["authorization"].to_str().unwrap().to_owned();
        deliveries.entry(event["task"].as_str().unwrap().to_owned()).or_default().push(by);
    }
    deliveries
}

/// Begins and completes tasks at one of the brokers.
async fn complete(site: &Site, broker: &Running, count: usize) -> Vec<String> {
    let mut tasks = TaskServiceClient::new(channel(site, broker, ORCHESTRATOR));
    let mut completed = Vec::new();
    for _ in 0..count {
        let task_id = begin_at(site, broker).await.task_id;
        let request = v1::CompleteTaskRequest {
            request_id: request_id(),
            task_id: task_id.clone(),
            wait_for: v1::Enforcement::Recorded.into(),
            ..Default::default()
        };
        tasks.complete_task(request).await.unwrap();
        completed.push(task_id);
    }
    completed
}

/// Waits until each of them was told. Time passes, if it is to.
async fn told(site: &Site, receiver: &Receiver, tasks: &[String], passes: Span) {
    let mut came = receiver.came.subscribe();
    let is_told = || {
        let deliveries = deliveries(receiver);
        tasks.iter().all(|task| deliveries.contains_key(task))
    };
    let waiting = async {
        while !is_told() {
            site.clock.forward(passes);
            let _ = tokio::time::timeout(Duration::from_millis(50), came.changed()).await;
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn an_event_is_delivered_by_one_of_two_brokers_and_by_the_other_once_that_is_gone() {
    let server = RedisServer::durable();
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first").unwrap();
    let webhook = format!(
        "[[webhooks]]\nname = \"stop-work\"\nurl = \"http://{}/events\"\ndanger_loopback = true\n\
         audience = \"https://worker.example\"\nevents = [\"task-ended\"]\nbearer_file = \"{}\"\n[tiers]",
        receiver.address,
        token.display(),
    );
    let mut site = Site::start_on_redis_patiently(&server, "[tiers]", &webhook).await;
    std::fs::write(&token, "second").unwrap();
    let other = site.another().await;

    // Until each knows of the other and has its part.
    let mut all = Vec::new();
    let each = |deliveries: &BTreeMap<String, Vec<String>>| -> BTreeSet<String> {
        deliveries.values().flatten().cloned().collect()
    };
    let sharing = async {
        let mut is_shared = false;
        while !is_shared {
            let round = [complete(&site, &site.running, 8).await, complete(&site, &other, 8).await];
            let round = round.concat();
            told(&site, &receiver, &round, Span::ZERO).await;
            let deliveries = deliveries(&receiver);
            let of_round: BTreeMap<_, _> =
                deliveries.into_iter().filter(|(task, _)| round.contains(task)).collect();
            is_shared = each(&of_round).len() == 2 && of_round.values().all(|by| by.len() == 1);
            all.extend(round);
        }
    };
    tokio::time::timeout(3 * PATIENCE, sharing).await.unwrap();
    let shared = [complete(&site, &site.running, 24).await, complete(&site, &other, 24).await];
    let shared = shared.concat();
    told(&site, &receiver, &shared, Span::ZERO).await;

    // What the first one delivered is the other's once its record stands still; of its last second it may come again.
    std::mem::replace(&mut site.running, other).stop().await;
    let after = complete(&site, &site.running, 24).await;
    told(&site, &receiver, &after, Span::from_millis(250)).await;
    site.running.stop().await;

    let deliveries = deliveries(&receiver);
    let by = |tasks: &[String]| -> BTreeSet<Vec<&str>> {
        let by = |task: &String| deliveries[task].iter().map(String::as_str).collect();
        tasks.iter().map(by).collect()
    };
    let [first, second] = ["Bearer first", "Bearer second"];
    let (of_both, mut allowed) = (by(&shared), BTreeSet::from([vec![first], vec![second]]));
    assert!(of_both.contains(&vec![second]), "{of_both:?}");
    allowed.insert(vec![first, second]);
    assert!(of_both.is_subset(&allowed), "{of_both:?}");
    assert!(of_both.iter().any(|by| by[0] == first), "{of_both:?}");
    assert_eq!(by(&after), [vec![second]].into());
    assert!(all.iter().all(|task| deliveries.contains_key(task)), "none is lost");
}
