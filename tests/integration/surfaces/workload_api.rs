//! A broker beside an agent: what the Workload API says counts from the next call, and from the next handshake.

use std::time::Duration;

use leasehold::domain::time::Span;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::testing::ca::TestAuthority;
use leasehold::testing::workload_api::{FakeAgent, concatenated};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::site::{ORCHESTRATOR, Site, begin_request, reason};

const BROKER: &str = "spiffe://prod.example/leasehold";

/// Waits for a fact, and not for ever.
async fn comes_to_be(fact: impl AsyncFn() -> bool) {
    let until = async { while !fact().await {} };
    tokio::time::timeout(Duration::from_secs(60), until).await.unwrap();
}

/// What a call is answered with.
async fn answer(mut caller: TaskServiceClient<Channel>) -> (Code, String) {
    match caller.begin_task(begin_request()).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), reason(&status)),
    }
}

#[tokio::test]
async fn class_09_what_the_agent_says_decides_at_the_next_call_on_an_open_connection() {
    let agent = FakeAgent::start();
    let workload_api =
        format!(r#"bundle = {{ workload_api = "{}", max_age = "5m" }}"#, agent.endpoint());
    let site = Site::start_with(r#"bundle = { file = "bundle.json" }"#, &workload_api).await;
    assert_ne!(answer(site.tasks(ORCHESTRATOR)).await.0, Code::Ok, "there is no bundle yet");
    let next = TestAuthority::root("next");
    agent.x509(&[("prod.example", &concatenated(&[&site.root]))]);
    agent.jwt(&[]);
    comes_to_be(async || answer(site.tasks(ORCHESTRATOR)).await.0 == Code::Ok).await;
    let open = site.tasks(ORCHESTRATOR);
    assert_eq!(answer(open.clone()).await.0, Code::Ok);
    site.clock.forward(Span::from_seconds(300));
    let too_old = (Code::Unavailable, "DEPENDENCY_UNAVAILABLE".to_owned());
    assert_eq!(answer(open.clone()).await, too_old);
    agent.x509(&[("prod.example", &concatenated(&[&site.root, &next]))]);
    agent.jwt(&[]);
    comes_to_be(async || answer(open.clone()).await.0 == Code::Ok).await;
    agent.x509(&[("prod.example", &concatenated(&[&next]))]);
    let nobody = (Code::Unauthenticated, "IDENTITY_UNVERIFIED".to_owned());
    comes_to_be(async || answer(open.clone()).await == nobody).await;
}

#[tokio::test]
async fn svid_of_the_broker_is_shown_and_renewed_and_no_connection_drops() {
    let (agent, root) = (FakeAgent::start(), TestAuthority::root("agent"));
    agent.svids(&[(BROKER, &root.svid_for_localhost(BROKER))]);
    let files = r#"tls = { cert_file = "server.pem", key_file = "server.key" }"#;
    let workload_api =
        format!(r#"tls = {{ workload_api = "{}", spiffe_id = "{BROKER}" }}"#, agent.endpoint());
    let site = Site::start_with(files, &workload_api).await;
    let svid = site.svid(ORCHESTRATOR);
    let trusting = |leaf_root: &str| {
        let tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(leaf_root))
            .identity(Identity::from_pem(svid.chain_pem(), svid.key_pem()));
        let url = format!("https://{}", site.running.grpc);
        let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
        TaskServiceClient::new(endpoint.connect_lazy())
    };
    let open = trusting(&root.pem());
    assert_eq!(answer(open.clone()).await.0, Code::Ok);
    let other = TestAuthority::root("other");
    agent.svids(&[(BROKER, &other.svid_for_localhost(BROKER))]);
    comes_to_be(async || answer(trusting(&other.pem())).await.0 == Code::Ok).await;
    assert_eq!(answer(open).await.0, Code::Ok);
}
