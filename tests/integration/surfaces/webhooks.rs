//! Webhooks over real sockets: what a receiver gets, how it knows who wrote it, and what the broker does about receivers that
//! misbehave.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use leasehold::domain::time::Span;
use leasehold::jose::{Algorithm, Expect, KeySet, Typ, verify};
use leasehold::proto::v1;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Channel;

use super::http::Http;
use super::site::{AGENT, AUDIENCE, GRANT, OPERATOR, ORCHESTRATOR, Site, request_id};

/// No fact takes longer to come true.
const PATIENCE: Duration = Duration::from_secs(30);

/// One request that came.
#[derive(Clone, Debug)]
pub(super) struct Came {
    path: String,
    pub(super) headers: HeaderMap,
    pub(super) token: String,
}

/// A receiver on this machine that takes everything, unless told otherwise.
#[derive(Clone)]
pub(super) struct Receiver {
    pub(super) address: String,
    answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
    /// Whether what comes is never answered.
    hangs: Arc<AtomicBool>,
    pub(super) came: Arc<watch::Sender<Vec<Came>>>,
    taken: Arc<watch::Sender<Vec<String>>>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap().to_string(),
            answers: Arc::default(),
            hangs: Arc::default(),
            came: Arc::new(watch::Sender::new(Vec::new())),
            taken: Arc::new(watch::Sender::new(Vec::new())),
        };
        let routes = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        receiver
    }

    /// A broker that tells it, with more in the webhook's section.
    async fn site(&self, more: &str) -> Site {
        let webhook = format!(
            "[[webhooks]]\nname = \"stop-work\"\nurl = \"http://{}/events\"\ndanger_loopback = true\n\
             audience = \"https://worker.example\"\n{more}\n[tiers]",
            self.address
        );
        Site::start_with("[tiers]", &webhook).await
    }

    fn answer(&self, answers: impl IntoIterator<Item = (u16, &'static str)>) {
        self.answers.lock().extend(answers);
    }

    async fn came(&self, count: usize) -> Vec<Came> {
        let mut came = self.came.subscribe();
        let waited =
            tokio::time::timeout(PATIENCE, came.wait_for(|came| came.len() >= count)).await;
        waited.unwrap_or_else(|_| panic!("{:?}", self.came.borrow())).unwrap().clone()
    }

    async fn taken(&self, count: usize) -> Vec<String> {
        let mut taken = self.taken.subscribe();
        let waited = tokio::time::timeout(PATIENCE, taken.wait_for(|all| all.len() >= count)).await;
        waited.unwrap_or_else(|_| panic!("{:?}", self.taken.borrow())).unwrap().clone()
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = String::from_utf8(body.to_vec()).unwrap();
    let came = Came { path: uri.path().to_owned(), headers, token: token.clone() };
    receiver.came.send_modify(|all| all.push(came));
    if receiver.hangs.load(Ordering::Acquire) {
        return std::future::pending().await;
    }
    let (status, more) = receiver.answers.lock().pop_front().unwrap_or((202, ""));
    if status == 202 {
        receiver.taken.send_modify(|all| all.push(token));
    }
    let status = StatusCode::from_u16(status).unwrap();
    match status.as_u16() {
        307 => (status, [("location", more)]).into_response(),
        503 => (status, [("retry-after", more)]).into_response(),
        _ => (status, more).into_response(),
    }
}

fn operator(site: &Site) -> OperatorServiceClient<Channel> {
    OperatorServiceClient::new(site.channel(Some(OPERATOR)))
}

async fn complete(site: &Site, task: &v1::Task) {
    let request = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        ..Default::default()
    };
    site.tasks(ORCHESTRATOR).complete_task(request).await.unwrap();
}

/// What a token says, if the broker's published keys for events verify it.
async fn read(site: &Site, token: &str) -> Value {
    let (status, keys) = Http::of(site, None).get("/events/keys").await;
    assert_eq!(status, 200);
    let keys = KeySet::parse(keys.as_bytes()).unwrap();
    let expect =
        Expect { typ: Typ::Is("secevent+jwt"), algorithms: &[Algorithm::ES256], keys: &keys };
    let claims = verify(token, expect).unwrap();
    assert_eq!(claims.text("iss").unwrap(), "https://localhost:7701/events");
    assert_eq!(claims.sole_audience().unwrap(), "https://worker.example");
    Value::Object(claims.members().clone())
}

async fn events(site: &Site, tokens: &[String]) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    for token in tokens {
        let claims = read(site, token).await;
        let (uri, event) = claims["events"].as_object().unwrap().iter().next().unwrap();
        let name = uri.strip_prefix("urn:leasehold:event:").unwrap().to_owned();
        events.push((name, event.clone()));
    }
    events
}

const ALL: &str = r#"events = ["task-begun", "task-delegated", "task-advanced", "task-suspended", "task-resumed", "task-ended",
"credential-issued", "lease-released", "lease-revoked", "quarantined", "quarantine-lifted"]"#;

/// Has everything happen to a task that can, and completes it; its two leases.
async fn live(site: &Site, task: &v1::Task) -> [String; 2] {
    let (task_id, mut tasks) = (task.task_id.clone(), site.tasks(ORCHESTRATOR));
    let delegate = v1::DelegateTaskRequest {
        request_id: request_id(),
        parent_task_id: task_id.clone(),
        expected_epoch: 1,
        agent: AGENT.into(),
        purpose: "a part".into(),
        authorization_details: GRANT.into(),
        ..Default::default()
    };
    tasks.delegate_task(delegate).await.unwrap();
    let leases = [site.issue(task).await, site.issue(task).await];
    let leases = leases.map(|issued| issued.lease.unwrap().lease_id);
    let release =
        v1::ReleaseCredentialRequest { request_id: request_id(), lease_id: leases[0].clone() };
    site.credentials(AGENT).release_credential(release).await.unwrap();
    let revoke = v1::RevokeLeaseRequest {
        request_id: request_id(),
        lease_id: leases[1].clone(),
        reason: "it leaked".into(),
        ..Default::default()
    };
    operator(site).revoke_lease(revoke).await.unwrap();
    let advance = v1::AdvanceTaskRequest {
        request_id: request_id(),
        task_id: task_id.clone(),
        expected_epoch: 1,
        ..Default::default()
    };
    tasks.advance_task(advance).await.unwrap();
    let suspend = v1::SuspendTaskRequest {
        request_id: request_id(),
        task_id: task_id.clone(),
        reason: "wait".into(),
        ..Default::default()
    };
    tasks.suspend_task(suspend).await.unwrap();
    let resume = v1::ResumeTaskRequest { request_id: request_id(), task_id, expected_epoch: 3 };
    tasks.resume_task(resume).await.unwrap();
    complete(site, task).await;
    leases
}

#[tokio::test]
async fn everything_that_happens_is_told_and_verifies_by_the_published_keys() {
    let receiver = Receiver::start().await;
    let site = receiver.site(ALL).await;
    let task = site.begin().await;
    let leases = live(&site, &task).await;
    let told = events(&site, &receiver.taken(10).await).await;
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "task-begun",
            "task-delegated",
            "credential-issued",
            "credential-issued",
            "lease-released",
            "lease-revoked",
            "task-advanced",
            "task-suspended",
            "task-resumed",
            "task-ended"
        ]
    );
    let says = |name: &str, member: &str| {
        let (_, event) = told.iter().find(|(known, _)| known == name).unwrap();
        event[member].clone()
    };
    for (name, member, value) in [
        ("lease-released", "lease", json!(leases[0])),
        ("lease-revoked", "lease", json!(leases[1])),
        ("lease-revoked", "cause", json!("it leaked")),
        ("lease-revoked", "actor", json!(OPERATOR)),
        ("task-advanced", "epoch", json!(2)),
        ("task-suspended", "epoch", json!(3)),
        ("task-ended", "task", json!(task.task_id)),
        ("task-ended", "state", json!("completed")),
        ("task-ended", "orchestrator", json!("ci")),
        ("task-ended", "agent", json!(AGENT)),
        ("task-ended", "class", json!("finance")),
        ("task-ended", "tier", json!("standard")),
        ("task-ended", "actor", json!(ORCHESTRATOR)),
    ] {
        assert_eq!(says(name, member), value, "{name}: {member}");
    }
    let grants = told.iter().filter(|(_, event)| event.to_string().contains(AUDIENCE));
    assert_eq!(grants.count(), 0, "what a task may do is nobody else's business");
}

#[tokio::test]
async fn a_quarantine_and_its_end_are_told_once_each() {
    let receiver = Receiver::start().await;
    let site = receiver.site(ALL).await;
    let (scope, reason) = ("class:finance".to_owned(), "bad".to_owned());
    let quarantine = v1::QuarantineRequest {
        request_id: request_id(),
        scope: scope.clone(),
        reason: reason.clone(),
        ..Default::default()
    };
    operator(&site).quarantine(quarantine).await.unwrap();
    let lift = v1::LiftQuarantineRequest { request_id: request_id(), scope, reason };
    operator(&site).lift_quarantine(lift).await.unwrap();
    let told = events(&site, &receiver.taken(2).await).await;
    let scopes: Vec<_> =
        told.iter().map(|(name, event)| (name.as_str(), event["scope"].clone())).collect();
    let class = || json!("class:finance");
    assert_eq!(scopes, [("quarantined", class()), ("quarantine-lifted", class())]);
}

#[tokio::test]
async fn an_event_is_posted_as_rfc_8935_has_it_and_with_the_token_that_the_receiver_wants() {
    let receiver = Receiver::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let site = receiver.site(&format!("bearer_file = \"{}\"", file.display())).await;
    complete(&site, &site.begin().await).await;
    let came = receiver.came(1).await.remove(0);
    assert_eq!(came.path, "/events");
    for (header, value) in [
        ("content-type", "application/secevent+jwt"),
        ("accept", "application/json"),
        ("authorization", "Bearer s3cret"),
    ] {
        assert_eq!(came.headers[header], value);
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_and_is_the_same_event() {
    let receiver = Receiver::start().await;
    let site = receiver.site("").await;
    receiver.answer([
        (500, "broken"),
        (200, "a page"),
        (503, "0"),
        (400, "{\"err\":\"invalid_audience\"}"),
    ]);
    complete(&site, &site.begin().await).await;
    receiver.taken(1).await;
    let came = receiver.came(5).await;
    let mut names = BTreeMap::new();
    for came in &came {
        *names.entry(read(&site, &came.token).await["jti"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(names.into_values().collect::<Vec<_>>(), [5]);
}

#[tokio::test]
async fn class_22_a_redirect_is_not_followed() {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let site = receiver.site("bearer_env = \"PATH\"").await;
    let location: &'static str = format!("http://{}/stolen", elsewhere.address).leak();
    receiver.answer([(307, location), (307, "/stolen")]);
    complete(&site, &site.begin().await).await;
    receiver.taken(1).await;
    assert!(receiver.came(3).await.iter().all(|came| came.path == "/events"));
    assert!(elsewhere.came.borrow().is_empty());
}

#[tokio::test]
async fn class_15_a_receiver_that_does_not_answer_delays_no_ending_and_is_tried_again() {
    let receiver = Receiver::start().await;
    let site = receiver.site("timeout = \"200ms\"").await;
    receiver.hangs.store(true, Ordering::Release);
    let first = site.begin().await;
    complete(&site, &first).await;
    receiver.came(1).await;
    let five = async {
        for _ in 0..5 {
            complete(&site, &site.begin().await).await;
        }
    };
    tokio::time::timeout(PATIENCE, five).await.unwrap();
    receiver.came(3).await;
    receiver.hangs.store(false, Ordering::Release);
    receiver.taken(6).await;
}

#[tokio::test]
async fn class_06_a_quarantined_event_key_is_withdrawn_and_events_go_on_under_its_successor() {
    let receiver = Receiver::start().await;
    let site = receiver.site("").await;
    let kids = async || {
        let (_, keys) = Http::of(&site, None).get("/events/keys").await;
        let keys = serde_json::from_str::<Value>(&keys).unwrap()["keys"].clone();
        let kid = |key: &Value| key["kid"].as_str().unwrap().to_owned();
        keys.as_array().unwrap().iter().map(kid).collect::<Vec<_>>()
    };
    let [leaked] = &kids().await[..] else { panic!("one key") };
    let quarantine = v1::QuarantineRequest {
        request_id: request_id(),
        scope: format!("key:{leaked}"),
        reason: "it leaked".into(),
        ..Default::default()
    };
    operator(&site).quarantine(quarantine).await.unwrap();
    assert!(!kids().await.contains(leaked));
    let passing = async {
        let mut registry = site.running.broker.feed().registry();
        while registry.changed().await.is_ok() {
            site.clock.forward(Span::from_seconds(1));
        }
    };
    let taken = tokio::select! {
        taken = receiver.taken(1) => taken,
        () = passing => panic!("the broker is gone"),
    };
    assert!(!taken.is_empty());
    let successor = kids().await;
    assert!(successor.len() == 1 && !successor.contains(leaked), "{successor:?}");
}
