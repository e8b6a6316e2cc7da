//! A trust domain whose bundle comes from an endpoint.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use leasehold::domain::time::Span;
use leasehold::testing::bundle_endpoint::TestBundleEndpoint;
use leasehold::testing::ca::TestAuthority;
use leasehold::testing::clock::TestClock;
use leasehold::testing::issuer::Answer;
use leasehold::testing::trust::source_of;
use tonic::{Code, Status};

use super::http::Http;
use super::site::{ORCHESTRATOR, Site, begin_request};

async fn begin(site: &Site, token: &str) -> Result<(), Status> {
    let mut tasks = site.with_authorization(None, vec![format!("Bearer {token}")]);
    tasks.begin_task(begin_request()).await.map(drop)
}

#[tokio::test]
async fn class_07_a_domain_whose_endpoint_is_away_is_refused_alone_until_it_answers_and_again_past_its_age()
 {
    let (web, folder) = (TestAuthority::root("web"), tempfile::tempdir().unwrap());
    let ca_file = folder.path().join("web.pem");
    fs::write(&ca_file, web.pem()).unwrap();
    let clock = Arc::new(TestClock::default());
    let endpoint = TestBundleEndpoint::start(&web.server(), clock).await;
    let (url, ca_file) = (&endpoint.url, ca_file.display());
    let bundle = format!(
        r#"bundle = {{ endpoint = "{url}", profile = "https_web", ca_file = "{ca_file}", danger_loopback = true }}"#
    );
    let site = Site::start_with(r#"bundle = { file = "bundle.json" }"#, &bundle).await;
    assert_eq!(endpoint.fetches(), 1, "asked before the first call was answered");
    let refused = begin(&site, &site.jwt_svid(ORCHESTRATOR)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    begin(&site, &site.bearer()).await.unwrap();
    assert_eq!(Http::of(&site, None).get("/readyz").await.0, 200);
    // It answers, and is asked again after its interval.
    let bundle = source_of(&[&site.root], &[&site.svid_key]);
    endpoint.says(Answer::of(bundle.to_document()));
    site.clock.forward(Span::from_seconds(300));
    let taken = async { while begin(&site, &site.jwt_svid(ORCHESTRATOR)).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap();
    site.tasks(ORCHESTRATOR).begin_task(begin_request()).await.unwrap();
    let (_, numbers) = Http::of(&site, None).get("/metrics").await;
    assert!(numbers.contains("leasehold_trust_bundle_age_seconds{trust_domain=\"prod.example\"} "));
    // It falls silent for longer than its bundle may count.
    endpoint.says(Answer::status(503));
    site.clock.forward(Span::from_seconds(24 * 3_600));
    let refused = begin(&site, &site.jwt_svid(ORCHESTRATOR)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    begin(&site, &site.bearer()).await.unwrap();
}
