//! Nothing that a log could hold says a secret, at the loudest level, failures included (THREATS.md class 17).

use std::io;
use std::sync::{Arc, Mutex};

use leasehold::jose::base64url;
use leasehold::proto::v1;
use leasehold::proto::v1::access_token_request::Proof;
use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::telemetry::{self, LogFormat};
use leasehold::testing::ca::csr;
use rcgen::KeyPair;

use super::http::Http;
use super::site::{AGENT, ORCHESTRATOR, Site, VERIFIER, begin_request, request_id, token_request};

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

// One thread: whatever the broker's tasks say is heard here.
#[tokio::test(flavor = "current_thread")]
async fn class_17_logs_at_trace_level_hold_no_token_and_no_csr() {
    let lines = Lines::default();
    let sink = lines.clone();
    let subscriber =
        telemetry::subscriber(LogFormat::Json, "trace", false, move || sink.clone()).unwrap();
    // While there is one subscriber in the process, `tracing` asks that of the thread which comes by a line first, and
    // remembers it for all; the threads of other tests have none.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _heard = tracing::subscriber::set_default(subscriber);
    let site = Site::start().await;
    let (task, bearer) = (site.begin().await, site.bearer());
    let request = csr(&KeyPair::generate().unwrap()).der().to_vec();
    let mut agent = site.credentials(AGENT);
    let with_csr = |der: Vec<u8>| v1::IssueCredentialRequest {
        credential: Some(Credential::AccessToken(v1::AccessTokenRequest {
            proof: Some(Proof::CsrDer(der)),
        })),
        ..token_request(&task)
    };
    let issued = agent.issue_credential(with_csr(request.clone())).await.unwrap().into_inner();
    let token = issued.credential.unwrap().access_token;
    let renewal = v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: issued.lease.unwrap().lease_id,
        csr_der: request.clone(),
        ..Default::default()
    };
    let renewed = agent.renew_credential(renewal).await.unwrap().into_inner();
    let renewed = renewed.credential.unwrap().access_token;
    let mut broken = request.clone();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    agent.issue_credential(with_csr(broken)).await.unwrap_err();
    let headers = |token: &str| vec![format!("Bearer {token}")];
    site.with_authorization(None, headers(&bearer)).begin_task(begin_request()).await.unwrap();
    for bad in [format!("{bearer}x"), token.clone()] {
        let mut client = site.with_authorization(None, headers(&bad));
        client.begin_task(begin_request()).await.unwrap_err();
    }
    let mut both = site.with_authorization(Some(ORCHESTRATOR), headers(&bearer));
    both.begin_task(begin_request()).await.unwrap_err();
    let verifier = Http::of(&site, Some(VERIFIER));
    verifier.post("/oauth2/introspect", &format!("token={token}")).await;
    verifier.post("/oauth2/revoke", &format!("token={token}")).await;
    verifier.post("/oauth2/introspect", &format!("token={token}")).await;
    drop(both);
    site.running.stop().await;

    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("IssueCredential"), "the broker's own lines are heard: {text}");
    for token in [&token, &renewed, &bearer] {
        for part in token.split('.') {
            assert!(!text.contains(part), "a token's part is in the log");
        }
    }
    for spelling in spellings(&request) {
        assert!(!text.contains(&spelling), "a CSR is in the log");
    }
}
