//! Nothing that a log could hold says a secret, at the loudest level, failures included (THREATS.md class 17).

use std::sync::{Arc, Mutex};
use std::{fmt, io};

use leasehold::jose::base64url;
use leasehold::proto::v1;
use leasehold::proto::v1::access_token_request::Proof;
use leasehold::proto::v1::introspect_credential_request;
use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::telemetry::{self, LogFormat};
use leasehold::testing::ca::csr;
use leasehold::testing::redis::{PASSWORD, RedisServer};
use rcgen::KeyPair;

use super::http::Http;
use super::site::{
    AGENT, KEYRING_KEY, ORCHESTRATOR, Site, VERIFIER, begin_request, request_id, token_request,
};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The spellings in which bytes could stand in a log.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let middle = &bytes[bytes.len() / 2..bytes.len() / 2 + 15];
    let hex: String = middle.iter().map(|byte| format!("{byte:02x}")).collect();
    let listed: Vec<_> = middle.iter().map(u8::to_string).collect();
    vec![hex, listed.join(", "), base64url::encode(middle)]
}

/// Hears everything that is said on this thread, at the loudest level, until the guards are dropped.
fn listen() -> (Lines, impl Sized) {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber =
        telemetry::subscriber(LogFormat::Json, "trace", false, move || sink.clone()).unwrap();
    // While there is one subscriber in the process, `tracing` asks that of the thread which comes by a line first, and
    // remembers it for all; the threads of other tests have none.
    let second = tracing::Dispatch::new(tracing_subscriber::registry());
    (lines, (second, tracing::subscriber::set_default(subscriber)))
}

impl Lines {
    /// What callers are told, and whoever reads the metrics, holds no secret either.
    fn also(&self, said: impl fmt::Debug) {
        self.0.lock().unwrap().extend(format!("{said:?}\n").bytes());
    }

    /// The broker was heard, and said nothing of any of these.
    fn must_not_hold(&self, tokens: &[&str], bytes: &[&[u8]], texts: &[&str]) {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("IssueCredential"), "the broker's own lines are heard: {text}");
        let parts = tokens.iter().flat_map(|token| token.split('.'));
        assert!(parts.clone().all(|part| part.len() > 15));
        for part in parts.chain(texts.iter().copied()) {
            assert!(!text.contains(part), "a secret is in the log: `{part}`");
        }
        for spelling in bytes.iter().flat_map(|bytes| spellings(bytes)) {
            assert!(!text.contains(&spelling), "a CSR is in the log");
        }
    }
}

fn with_csr(task: &v1::Task, der: Vec<u8>) -> v1::IssueCredentialRequest {
    let proof = Some(Proof::CsrDer(der));
    let credential = Some(Credential::AccessToken(v1::AccessTokenRequest { proof }));
    v1::IssueCredentialRequest { credential, ..token_request(task) }
}

fn renewal(lease: &v1::Lease, csr_der: &[u8]) -> v1::RenewCredentialRequest {
    v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: lease.lease_id.clone(),
        csr_der: csr_der.to_vec(),
        ..Default::default()
    }
}

fn new_csr() -> Vec<u8> {
    csr(&KeyPair::generate().unwrap()).der().to_vec()
}

// One thread: whatever the broker's tasks say is heard here.
#[tokio::test(flavor = "current_thread")]
async fn class_17_logs_at_trace_level_hold_no_token_and_no_csr() {
    let (lines, _hearing) = listen();
    let site = Site::start().await;
    let (task, bearer, request) = (site.begin().await, site.bearer(), new_csr());
    let mut agent = site.credentials(AGENT);
    let issued = agent.issue_credential(with_csr(&task, request.clone())).await.unwrap();
    let issued = issued.into_inner();
    let token = issued.credential.unwrap().access_token;
    let renewed = agent.renew_credential(renewal(&issued.lease.unwrap(), &request)).await.unwrap();
    let renewed = renewed.into_inner().credential.unwrap().access_token;
    let mut broken = request.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    lines.also(agent.issue_credential(with_csr(&task, broken)).await.unwrap_err());
    let headers = |token: &str| vec![format!("Bearer {token}")];
    site.with_authorization(None, headers(&bearer)).begin_task(begin_request()).await.unwrap();
    for bad in [format!("{bearer}x"), token.clone()] {
        let mut client = site.with_authorization(None, headers(&bad));
        lines.also(client.begin_task(begin_request()).await.unwrap_err());
    }
    let mut both = site.with_authorization(Some(ORCHESTRATOR), headers(&bearer));
    lines.also(both.begin_task(begin_request()).await.unwrap_err());
    let verifier = Http::of(&site, Some(VERIFIER));
    for form in [format!("token={token}"), format!("token={token}x"), format!("tokn={token}")] {
        lines.also(verifier.post("/oauth2/introspect", &form).await);
        lines.also(verifier.post("/oauth2/revoke", &form).await);
        lines.also(verifier.get(&format!("/oauth2/introspect?{form}")).await);
    }
    lines.also(verifier.post("/oauth2/introspect", &format!("token={token}")).await);
    lines.also(Http::of(&site, None).get("/metrics").await);
    drop(both);
    site.running.stop().await;
    lines.must_not_hold(&[&token, &renewed, &bearer], &[&request], &[KEYRING_KEY]);
}

#[tokio::test(flavor = "current_thread")]
async fn class_17_logs_at_trace_level_hold_no_secret_when_the_store_fails() {
    let (lines, _hearing) = listen();
    let mut server = RedisServer::durable();
    let site = Site::start_on_redis(&server).await;
    let (task, bearer, request) = (site.begin().await, site.bearer(), new_csr());
    let mut agent = site.credentials(AGENT);
    let issued = agent.issue_credential(with_csr(&task, request.clone())).await.unwrap();
    let issued = issued.into_inner();
    let (token, lease) = (issued.credential.unwrap().access_token, issued.lease.unwrap());
    server.kill();
    agent.issue_credential(with_csr(&task, request.clone())).await.unwrap_err();
    agent.renew_credential(renewal(&lease, &request)).await.unwrap_err();
    let mut client = site.with_authorization(None, vec![format!("Bearer {bearer}")]);
    client.begin_task(begin_request()).await.unwrap_err();
    let shown = Some(introspect_credential_request::Credential::Token(token.clone()));
    let shown = v1::IntrospectCredentialRequest { credential: shown };
    site.verification(VERIFIER).introspect_credential(shown).await.unwrap_err();
    let verifier = Http::of(&site, Some(VERIFIER));
    for path in ["/oauth2/introspect", "/oauth2/revoke"] {
        assert_eq!(verifier.post(path, &format!("token={token}")).await.0, 503);
    }
    drop(client);
    site.running.stop().await;
    lines.must_not_hold(&[&token, &bearer], &[&request], &[KEYRING_KEY, PASSWORD]);
}
