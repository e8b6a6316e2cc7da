//! The store goes away and comes back: nothing that failed is called done, and nothing that was done is undone.

use std::time::Duration;

use leasehold::broker::seams::Clock;
use leasehold::domain::time::Span;
use leasehold::proto::v1;
use leasehold::testing::redis::RedisServer;
use serde_json::json;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::http::Http;
use super::site::{AGENT, ORCHESTRATOR, Site, VERIFIER, reason, request_id, token_request};

/// Asks until the broker says so.
pub(super) async fn until_readiness_is(http: &Http, status: u16) {
    let asking = async { while http.get("/readyz").await.0 != status {} };
    tokio::time::timeout(Duration::from_secs(60), asking).await.unwrap();
}

#[tokio::test]
async fn class_07_revocation_that_the_store_did_not_take_is_an_error_and_one_that_it_took_stays() {
    let mut server = RedisServer::durable();
    let site = Site::start_on_redis(&server).await;
    let (http, verifier) = (Http::of(&site, None), Http::of(&site, Some(VERIFIER)));
    let mut health = HealthClient::new(site.channel(None));
    let (mut orchestrator, mut agent) = (site.tasks(ORCHESTRATOR), site.credentials(AGENT));
    until_readiness_is(&http, 200).await;
    let task = site.begin().await;
    let mut forms = Vec::new();
    for _ in 0..2 {
        let issued = site.issue(&task).await.credential.unwrap().access_token;
        forms.push(format!("token={issued}"));
    }
    assert_eq!(http.post("/oauth2/revoke", &forms[0]).await.0, 200);

    server.kill();
    let complete = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        reason: String::new(),
        // The clock stands still here, and the registry of a store that just started is too young to tell of verifiers.
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    let refused = orchestrator.complete_task(complete.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "DEPENDENCY_UNAVAILABLE")
    );
    assert!(refused.get_details_retry_info().is_some());
    let refused = agent.issue_credential(token_request(&task)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unavailable, "DEPENDENCY_UNAVAILABLE")
    );
    let again = http.retry_after("/oauth2/revoke", &forms[1]).await;
    assert_eq!(again, Some((503, "1".to_owned())), "who wanted it dead is told that it may live");
    assert_eq!(verifier.post("/oauth2/introspect", &forms[1]).await.0, 503);
    until_readiness_is(&http, 503).await;
    assert_eq!(http.get("/healthz").await.0, 200);
    let status = health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::NotServing);

    server.restart();
    until_readiness_is(&http, 200).await;
    let inactive = json!({"active": false});
    assert_eq!(verifier.post("/oauth2/introspect", &forms[0]).await.1, inactive);
    assert_eq!(verifier.post("/oauth2/introspect", &forms[1]).await.1["active"], true);
    orchestrator.complete_task(complete).await.unwrap();
    assert_eq!(verifier.post("/oauth2/introspect", &forms[1]).await.1, inactive);
    site.running.stop().await;
}

#[tokio::test]
async fn class_26_a_broker_whose_clock_is_far_from_the_store_s_is_not_ready() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis(&server).await;
    let (http, right, day) = (Http::of(&site, None), site.clock.now(), Span::from_seconds(86_400));
    until_readiness_is(&http, 200).await;
    site.clock.set(right.minus(day));
    until_readiness_is(&http, 503).await;
    site.clock.set(right);
    until_readiness_is(&http, 200).await;
    site.clock.set(right.plus(day));
    until_readiness_is(&http, 503).await;
    site.running.stop().await;
}
