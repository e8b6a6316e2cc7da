//! What everybody may read: health, readiness, keys, metadata, numbers; and nothing more.

use leasehold::jose::{Typ, Unverified};
use leasehold::proto::v1::GetTrustBundleRequest;
use leasehold::proto::v1::verification_service_client::VerificationServiceClient;
use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::http::Http;
use super::site::Site;

#[tokio::test]
async fn class_19_health_says_that_it_serves_and_nothing_else() {
    let site = Site::start().await;
    let mut health = HealthClient::new(site.channel(None));
    for service in ["", "leasehold.v1.TaskService", "leasehold.v1.OperatorService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let http = Http::of(&site, None);
    assert_eq!(http.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(http.get("/readyz").await, (200, "ready\n".to_owned()));
    for path in ["/", "/metrics/", "/debug", "/oauth2", "/oauth2/token", "/spiffe"] {
        assert_eq!(http.get(path).await, (404, String::new()), "{path}");
    }
}

#[tokio::test]
async fn documents_say_where_keys_are_and_the_keys_verify_what_was_issued() {
    let site = Site::start().await;
    let http = Http::of(&site, None);
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let document: Value = serde_json::from_str(&http.get(path).await.1).unwrap();
        assert_eq!(document["issuer"], "https://localhost:7701");
        assert_eq!(document["jwks_uri"], "https://localhost:7701/oauth2/jwks");
    }
    let (_, jwks) = http.get("/oauth2/jwks").await;
    let (_, bundle) = http.get("/spiffe/bundle.json").await;
    let keys = leasehold::jose::KeySet::parse(jwks.as_bytes()).unwrap();
    let token = site.issue(&site.begin().await).await.credential.unwrap().access_token;
    let token = Unverified::parse(&token, Typ::Is("at+jwt"), leasehold::jose::FOREIGN_ALGORITHMS);
    token.unwrap().verify(&keys).unwrap();
    let mut everyone = VerificationServiceClient::new(site.channel(None));
    let answer = everyone.get_trust_bundle(GetTrustBundleRequest {}).await.unwrap().into_inner();
    assert_eq!((answer.access_token_jwks, answer.spiffe_bundle), (jwks, bundle));
    assert_eq!(answer.issuer, "https://localhost:7701");
}

#[tokio::test]
async fn class_17_metrics_count_calls_and_name_no_one() {
    let site = Site::start().await;
    let task = site.begin().await;
    site.issue(&task).await;
    let (status, text) = Http::of(&site, None).get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("leasehold_calls_total{call=\"IssueCredential\",code=\"OK\"}"), "{text}");
    assert!(!text.contains("spiffe://") && !text.contains("tsk_"), "{text}");
}

#[tokio::test]
async fn class_19_metrics_with_an_address_of_their_own_are_nowhere_else_and_nothing_else_is_there()
{
    let own = "listen = { metrics = \"127.0.0.1:0\" }\n[tiers]";
    let site = Site::start_with("[tiers]", own).await;
    let http = Http::of(&site, None);
    assert_eq!(http.get("/metrics").await, (404, String::new()));
    assert_eq!(http.get("/healthz").await.0, 200);
    let address = site.running.metrics.unwrap();
    let get = async |path: &str| {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("leasehold_calls_total{call=\"none\",code=\"404\"}"), "{text}");
    assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
    for path in [
        "/oauth2/jwks",
        "/oauth2/introspect",
        "/oauth2/revoke",
        "/spiffe/bundle.json",
        "/spiffe/keys",
    ] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn class_19_metrics_that_others_than_this_machine_reach_are_behind_tls() {
    let own = "listen = { metrics = \"0.0.0.0:7702\" }\n[tiers]";
    let site = Site::start_with("[tiers]", own).await;
    let address = site.running.metrics.unwrap();
    assert!(reqwest::get(format!("http://{address}/metrics")).await.is_err());
    let (status, text) = Http::at(&site, address, None).get("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("leasehold_"), "{text}");
}
