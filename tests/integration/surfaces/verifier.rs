//! The verifier library on a real broker's feed: whom it lets in, and that FENCED and DRAINED mean what they say.

mod bindings;
mod brokers;
mod connections;

use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use leasehold::app::Running;
use leasehold::broker::seams::Clock;
use leasehold::domain::feed::VerifierRecord;
use leasehold::domain::lattice::Dead;
use leasehold::domain::time::Span;
use leasehold::proto::v1;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::verifier::{Admission, Identity, Presented, Refused, Scheme, Settings, Verifier};
use serde_json::Value;
use tempfile::TempDir;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::site::{AGENT, AUDIENCE, OPERATOR, ORCHESTRATOR, Site, VERIFIER, reason, request_id};

/// No fact takes longer to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const DELTA: Span = Span::from_seconds(5);
/// For an ending's answer, by the clock under the test's hand.
const WAIT_SECONDS: i64 = 2;

/// A broker, and a resource server that follows it by the same clock.
pub struct Pair {
    pub site: Site,
    pub verifier: Verifier,
    _folder: TempDir,
}

pub fn follow(site: &Site) -> (Verifier, TempDir) {
    follow_as(site, VERIFIER, |_| {})
}

/// A verifier of this name that begins to follow the broker.
pub fn follow_as(
    site: &Site,
    spiffe_id: &str,
    change: impl FnOnce(&mut Settings),
) -> (Verifier, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let own = site.svid(spiffe_id);
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let identity = Identity {
        ca_file: write("root.pem", site.root.pem()),
        cert_file: write("own.pem", own.chain_pem()),
        key_file: write("own.key", own.key_pem()),
    };
    let broker = format!("https://localhost:{}", site.running.grpc.port());
    let mut settings = Settings::new([broker], identity, AUDIENCE);
    change(&mut settings);
    (Verifier::start_with(settings, site.clock.clone()).unwrap(), folder)
}

impl Pair {
    /// The verifier has a view.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::at(Site::start().await, change).await
    }

    pub async fn at(site: Site, change: impl FnOnce(&mut Settings)) -> Self {
        let (verifier, _folder) = follow_as(&site, VERIFIER, change);
        tokio::time::timeout(PATIENCE, verifier.ready()).await.expect("no view");
        Self { site, verifier, _folder }
    }

    pub async fn token(&self) -> (v1::Task, v1::Lease, Token) {
        let task = self.site.begin().await;
        let issued = self.site.issue(&task).await;
        let token = Token::of(issued.credential.unwrap().access_token);
        (task, issued.lease.unwrap(), token)
    }

    /// Time goes on by a millisecond whenever the broker has read its registry, until the answer is there: by much less than Δ, so
    /// that no lapse can be what brings it.
    pub async fn while_time_passes<T>(&self, answer: impl Future<Output = T>) -> T {
        let before = self.site.clock.elapsed();
        let passing = async {
            let mut registry = self.site.running.broker.feed().registry();
            while registry.changed().await.is_ok() {
                self.site.clock.forward(Span::from_millis(1));
            }
        };
        let answer = async {
            tokio::select! {
                answer = answer => answer,
                () = passing => panic!("the broker is gone"),
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.unwrap();
        let passed = self.site.clock.elapsed().micros() - before.micros();
        assert!(passed < DELTA.micros() / 2, "{passed} µs");
        answer
    }

    pub async fn complete(&self, task: &v1::Task, wait_for: v1::Enforcement) -> v1::Revocation {
        self.complete_at(&self.site.running, task, wait_for).await
    }

    /// The same by any broker.
    pub async fn complete_at(
        &self,
        broker: &Running,
        task: &v1::Task,
        wait_for: v1::Enforcement,
    ) -> v1::Revocation {
        let request = v1::CompleteTaskRequest {
            request_id: request_id(),
            task_id: task.task_id.clone(),
            wait_for: wait_for.into(),
            wait_timeout: Some(prost_types::Duration { seconds: WAIT_SECONDS, nanos: 0 }),
            ..Default::default()
        };
        let channel = self.site.channel_to(broker, Some(&self.site.svid(ORCHESTRATOR)));
        let mut tasks = TaskServiceClient::new(channel);
        let answer = self.while_time_passes(tasks.complete_task(request)).await.unwrap();
        answer.into_inner().revocation.unwrap()
    }

    /// Waits for DRAINED while something runs: the time for it passes once the verifier holds it back alone.
    pub async fn complete_in_vain(&self, task: &v1::Task) -> v1::Revocation {
        let passing = async {
            self.drained_is_held_back().await;
            let mut registry = self.site.running.broker.feed().registry();
            while registry.changed().await.is_ok() {
                self.site.clock.forward(Span::from_millis(100));
            }
        };
        tokio::select! {
            answer = self.complete(task, v1::Enforcement::Drained) => answer,
            () = passing => panic!("the broker is gone"),
        }
    }

    /// The broker has read in the registry that the verifier applied everything, and that something dead still runs there.
    pub async fn drained_is_held_back(&self) {
        let is_held_back = |verifier: &VerifierRecord| {
            verifier.behind.is_empty() && verifier.undrained.iter().any(|it| !it.is_empty())
        };
        let mut registry = self.site.running.broker.feed().registry();
        let read = registry.wait_for(|read| {
            let mut records = read.iter().flat_map(|registry| &registry.records);
            records.any(|record| record.verifiers.iter().any(is_held_back))
        });
        drop(tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap());
    }

    /// Asks until the successor of a quarantined key signs; until then each answer says that it is not yet time, and when it is.
    pub async fn once_succeeded<T>(&self, ask: impl AsyncFn() -> Result<T, Status>) -> T {
        let asking = async {
            let mut registry = self.site.running.broker.feed().registry();
            loop {
                let refused = match ask().await {
                    Ok(answer) => return answer,
                    Err(refused) => refused,
                };
                assert_eq!(reason(&refused), "SIGNING_KEY_QUARANTINED", "{refused}");
                let again = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
                assert!(again <= Duration::from_secs(6), "{again:?}");
                // The broker goes on reading meanwhile, and so do those whom it keeps fresh.
                registry.changed().await.expect("the broker is there");
                self.site.clock.forward(Span::from_seconds(1));
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("there is no successor")
    }

    pub fn operator(&self) -> OperatorServiceClient<tonic::transport::Channel> {
        OperatorServiceClient::new(self.site.channel(Some(OPERATOR)))
    }
}

/// A token, and the thumbprint of the certificate that it is bound to, if it is to one.
pub struct Token {
    pub text: String,
    pub certificate: Option<[u8; 32]>,
}

impl Token {
    pub fn of(text: String) -> Self {
        let claims = BASE64_URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let bound = claims["cnf"]["x5t#S256"].as_str();
        let certificate =
            bound.map(|bound| BASE64_URL_SAFE_NO_PAD.decode(bound).unwrap().try_into().unwrap());
        Self { text, certificate }
    }

    pub fn shown(&self) -> Presented<'_> {
        Presented {
            scheme: Scheme::Bearer,
            token: &self.text,
            certificate: self.certificate,
            proof: None,
            request: ("GET", "/entries"),
            actions: &["read"],
        }
    }

    pub fn check(&self, verifier: &Verifier) -> Result<Admission, Refused> {
        verifier.check(&self.shown())
    }
}

#[tokio::test]
async fn class_06_once_an_ending_is_answered_as_fenced_the_verifier_refuses_at_once() {
    let pair = Pair::start().await;
    let (task, _, token) = pair.token().await;
    let (_, _, other) = pair.token().await;
    drop(token.check(&pair.verifier).unwrap());
    let fenced = pair.complete(&task, v1::Enforcement::Fenced).await;
    assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));
    assert!(other.check(&pair.verifier).is_ok(), "the task of the other goes on");
}

#[tokio::test]
async fn class_06_whatever_stops_a_credential_stops_it_at_the_verifier_too() {
    let pair = Pair::start().await;
    let mut tasks = pair.site.tasks(ORCHESTRATOR);

    let (task, _, token) = pair.token().await;
    let advance = v1::AdvanceTaskRequest {
        request_id: request_id(),
        task_id: task.task_id,
        expected_epoch: task.epoch,
        ..Default::default()
    };
    pair.while_time_passes(tasks.advance_task(advance)).await.unwrap();
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));

    let (task, _, token) = pair.token().await;
    let suspend = v1::SuspendTaskRequest {
        request_id: request_id(),
        task_id: task.task_id,
        ..Default::default()
    };
    pair.while_time_passes(tasks.suspend_task(suspend)).await.unwrap();
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));

    let (_, lease, token) = pair.token().await;
    let revoke = v1::RevokeLeaseRequest {
        request_id: request_id(),
        lease_id: lease.lease_id,
        ..Default::default()
    };
    pair.while_time_passes(pair.operator().revoke_lease(revoke)).await.unwrap();
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::LeaseOver));

    let (_, _, token) = pair.token().await;
    let quarantine = v1::QuarantineRequest {
        request_id: request_id(),
        scope: format!("principal:{AGENT}"),
        ..Default::default()
    };
    pair.while_time_passes(pair.operator().quarantine(quarantine)).await.unwrap();
    assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Quarantined));
}

#[tokio::test]
async fn class_09_what_was_let_in_is_told_of_its_end_and_holds_drained_back_until_it_is_over() {
    let pair = Pair::start().await;
    let (task, _, token) = pair.token().await;
    let admission = token.check(&pair.verifier).unwrap();
    let not_yet = pair.complete_in_vain(&task).await;
    assert_eq!(not_yet.enforcement(), v1::Enforcement::Fenced, "{not_yet:?}");
    let told = tokio::time::timeout(PATIENCE, admission.revoked()).await.unwrap();
    assert_eq!(told, Dead::Fenced);

    let (task, _, token) = pair.token().await;
    let running = token.check(&pair.verifier).unwrap();
    let work = async {
        running.revoked().await;
        drop(running);
        drop(admission);
    };
    let (drained, ()) = tokio::join!(pair.complete(&task, v1::Enforcement::Drained), work);
    assert_eq!(drained.enforcement(), v1::Enforcement::Drained, "{drained:?}");
}
