//! The whole over real sockets and mutual TLS, against a broker that says what the test tells it to.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::Stream as FutureStream;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, Identity as ServerIdentity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::clock::{Clock as _, SystemClock};
use crate::proto::v1::verification_service_server::{
    VerificationService, VerificationServiceServer,
};
use crate::testing::ca::TestAuthority;
use crate::testing::clock::TestClock;

/// Of the tokens here.
const DELTA: Span = Span::from_seconds(5);

type Told = Result<WatchRevocationsResponse, Status>;

/// A broker that has two partitions and nothing revoked.
pub(super) struct FakeBroker {
    store: u64,
    /// It gives nobody its keys.
    pub(super) is_away: AtomicBool,
    pub(super) signer: Signer,
    pub(super) bundle: Mutex<GetTrustBundleResponse>,
    /// What is sent to whoever is connected.
    pub(super) tell: broadcast::Sender<WatchRevocationsResponse>,
    /// Whether keep-alives are answered.
    pub(super) answers: AtomicBool,
    /// How many came and were not, since one was.
    unanswered: watch::Sender<usize>,
    /// What introspection says; `None`: that it is away.
    pub(super) active: Mutex<Option<bool>>,
    /// How often that was asked, and how many of those questions are answered.
    asked: watch::Sender<usize>,
    said: watch::Sender<usize>,
    /// The instance that subscribed last, and how often one did.
    pub(super) subscribed: watch::Sender<(String, usize)>,
    pub(super) acknowledged: watch::Sender<Acknowledgement>,
    /// Ends every stream that is open when it changes.
    hang_up: watch::Sender<u64>,
}

struct Service(Arc<FakeBroker>);

#[tonic::async_trait]
impl VerificationService for Service {
    type WatchRevocationsStream = Pin<Box<dyn FutureStream<Item = Told> + Send>>;

    async fn introspect_credential(
        &self,
        _: Request<IntrospectCredentialRequest>,
    ) -> Result<Response<IntrospectCredentialResponse>, Status> {
        let active = self.0.active.lock().ok_or(Status::unavailable("away"))?;
        let mut said = self.0.said.subscribe();
        let mut number = 0;
        self.0.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        said.wait_for(|said| *said >= number).await.unwrap();
        Ok(Response::new(IntrospectCredentialResponse { active, ..Default::default() }))
    }

    async fn get_trust_bundle(
        &self,
        _: Request<GetTrustBundleRequest>,
    ) -> Result<Response<GetTrustBundleResponse>, Status> {
        if self.0.is_away.load(Ordering::Acquire) {
            return Err(Status::unavailable("away"));
        }
        Ok(Response::new(self.0.bundle.lock().clone()))
    }

    async fn watch_revocations(
        &self,
        request: Request<Streaming<WatchRevocationsRequest>>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(Arc::clone(&self.0).converse(request.into_inner(), sender));
        let told = futures_util::stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|message| (message, receiver))
        });
        Ok(Response::new(Box::pin(told)))
    }
}

impl FakeBroker {
    fn over(store: u64) -> Self {
        let signer = Signer::new();
        Self {
            store,
            is_away: AtomicBool::new(false),
            bundle: Mutex::new(signer.bundle.clone()),
            signer,
            tell: broadcast::channel(16).0,
            answers: AtomicBool::new(true),
            unanswered: watch::channel(0).0,
            active: Mutex::new(None),
            asked: watch::channel(0).0,
            said: watch::channel(usize::MAX).0,
            subscribed: watch::channel((String::new(), 0)).0,
            acknowledged: watch::channel(Acknowledgement::default()).0,
            hang_up: watch::channel(0).0,
        }
    }

    async fn converse(
        self: Arc<Self>,
        mut requests: Streaming<WatchRevocationsRequest>,
        sender: mpsc::Sender<Told>,
    ) -> Option<()> {
        let (mut tell, mut hang_up) = (self.tell.subscribe(), self.hang_up.subscribe());
        let Say::Subscribe(subscribe) = requests.message().await.ok()??.message? else {
            return None;
        };
        assert!(subscribe.drains);
        let living = incarnation(INCARNATION, INFINITY.micros());
        sender.send(Ok(subscribed_to(self.store))).await.ok()?;
        for partition in 0..PARTITIONS {
            sender.send(Ok(revoked(partition, [living.clone()], Some(0)))).await.ok()?;
        }
        self.subscribed.send_modify(|(instance, times)| {
            *instance = subscribe.instance;
            *times += 1;
        });
        loop {
            tokio::select! {
                request = requests.message() => match request.ok()??.message? {
                    Say::KeepAlive(keep_alive) if self.answers.load(Ordering::Acquire) => {
                        let mut answer = freshness(keep_alive.sequence, Span::ZERO, &[]);
                        if let Some(Heard::Freshness(answer)) = &mut answer.message {
                            answer.store_time = 1;
                        }
                        self.unanswered.send_replace(0);
                        sender.send(Ok(answer)).await.ok()?;
                    }
                    Say::Acknowledgement(acknowledgement) => {
                        self.acknowledged.send_modify(|known| keep(known, &acknowledgement));
                    }
                    Say::KeepAlive(_) => self.unanswered.send_modify(|count| *count += 1),
                    Say::Subscribe(_) => {}
                },
                told = tell.recv() => sender.send(Ok(told.ok()?)).await.ok()?,
                _ = hang_up.changed() => return None,
            }
        }
    }

    /// What [`Signer::claims`] says, for a minute from now on.
    fn claims(&self) -> AccessToken {
        let now = SystemClock::default().now();
        let mut claims = self.signer.claims();
        claims.issued_seconds = now.seconds();
        claims.expires_seconds = now.seconds() + 60;
        claims.execution.origin.stamp = now;
        claims
    }

    pub(super) fn token(&self) -> String {
        self.signer.sign(&self.claims())
    }
}

/// A running broker, and the files of a verifier.
pub(super) struct Scene {
    pub(super) broker: Arc<FakeBroker>,
    pub(super) address: String,
    root: Arc<TestAuthority>,
    folder: tempfile::TempDir,
    serving: tokio::task::JoinHandle<()>,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let root = Arc::new(TestAuthority::root("root"));
        let own = root.svid_for_localhost("spiffe://prod.example/api");
        for (file, text) in
            [("ca.pem", root.pem()), ("own.pem", own.chain_pem()), ("own.key", own.key_pem())]
        {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        Self::serve(FakeBroker::over(INCARNATION), root, folder).await
    }

    /// Another broker, over another store, and with other keys, that this one's verifiers trust as much.
    pub(super) async fn beside(&self, store: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::serve(FakeBroker::over(store), Arc::clone(&self.root), folder).await
    }

    async fn serve(
        broker: FakeBroker,
        root: Arc<TestAuthority>,
        folder: tempfile::TempDir,
    ) -> Self {
        let (broker, server) = (Arc::new(broker), root.server());
        let tls = ServerTlsConfig::new()
            .identity(ServerIdentity::from_pem(server.chain_pem(), server.key_pem()))
            .client_ca_root(Certificate::from_pem(root.pem()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let incoming = futures_util::stream::unfold(listener, async |listener| {
            Some((listener.accept().await.map(|(socket, _)| socket), listener))
        });
        let service = VerificationServiceServer::new(Service(Arc::clone(&broker)));
        let mut server = Server::builder().tls_config(tls).unwrap();
        let serving = server.add_service(service).serve_with_incoming(Box::pin(incoming));
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self { broker, address, root, folder, serving }
    }

    pub(super) fn settings(&self) -> Settings {
        let file = |name| self.folder.path().join(name);
        let identity = Identity {
            ca_file: file("ca.pem"),
            cert_file: file("own.pem"),
            key_file: file("own.key"),
        };
        Settings::new([self.address.clone()], identity, AUDIENCE)
    }

    pub(super) fn claims(&self) -> AccessToken {
        self.broker.claims()
    }

    pub(super) async fn verifier(&self, settings: Settings) -> Verifier {
        let verifier = Verifier::start(settings).unwrap();
        verifier.ready().await;
        verifier
    }

    pub(super) fn end(&self, up_to: u64) {
        let ended = fence(1, INFINITY.micros(), INFINITY.micros());
        self.broker.tell.send(revoked(1, [ended], Some(up_to))).unwrap();
    }

    /// Waits until the verifier acknowledged so much of partition 1.
    pub(super) async fn applied(&self, millis: u64) -> Acknowledgement {
        let mut acknowledged = self.broker.acknowledged.subscribe();
        let is_there = |a: &Acknowledgement| a.applied.contains(&position(1, millis));
        acknowledged.wait_for(is_there).await.unwrap().clone()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test]
async fn a_verifier_lets_in_until_the_task_ends_and_says_when_nothing_runs_any_more() {
    let scene = Scene::start().await;
    let verifier = scene.verifier(scene.settings()).await;
    let token = scene.broker.token();
    let admission = verifier.admit(&shown(&token)).await.unwrap();
    scene.end(60_000);
    admission.revoked().await;
    let acknowledged = scene.applied(60_000).await;
    assert!(matches!(verifier.admit(&shown(&token)).await, Err(Refused::Dead(_))));
    assert_eq!(acknowledged.drained, [position(0, 0), position(1, 0)], "it still runs");
    drop(admission);
    let mut acknowledged = scene.broker.acknowledged.subscribe();
    acknowledged.wait_for(|a| a.drained.contains(&position(1, 60_000))).await.unwrap();
}

#[tokio::test]
async fn rule_11_a_verifier_that_starts_again_is_another_one_and_refuses_until_it_has_a_view() {
    let scene = Scene::start().await;
    let verifier = scene.verifier(scene.settings()).await;
    let token = scene.broker.token();
    verifier.admit(&shown(&token)).await.unwrap();
    let first = scene.broker.subscribed.borrow().0.clone();
    drop(verifier);
    scene.broker.answers.store(false, Ordering::Release);
    let again = Verifier::start(scene.settings()).unwrap();
    assert_eq!(again.admit(&shown(&token)).await.unwrap_err(), Refused::NoKeys);
    let mut subscribed = scene.broker.subscribed.subscribe();
    subscribed.wait_for(|(instance, _)| *instance != first).await.unwrap();
    scene.applied(0).await;
    let refused = again.admit(&shown(&token)).await.unwrap_err();
    assert!(matches!(refused, Refused::Stale(_)), "{refused:?}");
    assert!(refused.is_retriable());
}

#[tokio::test]
async fn a_stream_that_ends_is_opened_again_by_the_same_instance() {
    let scene = Scene::start().await;
    let verifier = scene.verifier(scene.settings()).await;
    let mut subscribed = scene.broker.subscribed.subscribe();
    let first = subscribed.borrow_and_update().clone();
    scene.broker.hang_up.send_modify(|count| *count += 1);
    let second = subscribed.wait_for(|(_, times)| *times == 2).await.unwrap().clone();
    assert_eq!(second.0, first.0, "the same run of the process");
    scene.end(60_000);
    scene.applied(60_000).await;
    let token = scene.broker.token();
    assert!(matches!(verifier.admit(&shown(&token)).await, Err(Refused::Dead(_))));
}

/// A verifier on a clock that only the test moves, and a token that lives longer than the test.
async fn on_a_still_clock(scene: &Scene) -> (Verifier, Arc<TestClock>, String) {
    let clock = Arc::new(TestClock::at(SystemClock::default().now()));
    let verifier = Verifier::start_with(scene.settings(), clock.clone()).unwrap();
    verifier.ready().await;
    (verifier, clock, scene.broker.token())
}

/// More keep-alives go unanswered than are ever open.
async fn stall(scene: &Scene) {
    scene.broker.answers.store(false, Ordering::Release);
    let mut unanswered = scene.broker.unanswered.subscribe();
    within(unanswered.wait_for(|count| *count > 8)).await.unwrap();
}

/// Until a keep-alive is answered that was sent just now.
async fn recover(scene: &Scene, verifier: &Verifier) {
    scene.broker.answers.store(true, Ordering::Release);
    fresh_again(verifier).await;
}

/// The same, of a broker that answers. The clock stands still.
pub(super) async fn fresh_again(verifier: &Verifier) {
    let mut published = verifier.checker().mirror().published();
    let is_young = |_: &u64| verifier.age() == Some(Span::ZERO);
    within(published.wait_for(is_young)).await.unwrap();
}

/// What comes true soon, or not at all.
async fn within<T>(fact: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), fact).await.expect("it did not come true")
}

#[tokio::test]
async fn class_07_a_stall_of_the_one_broker_that_is_shorter_than_delta_makes_nobody_refuse() {
    let scene = Scene::start().await;
    let (verifier, clock, token) = on_a_still_clock(&scene).await;
    for _ in 0..2 {
        stall(&scene).await;
        clock.forward(Span::from_millis(4_900));
        assert_eq!(verifier.check(&shown(&token)).map(drop), Ok(()));
        recover(&scene, &verifier).await;
    }
    assert_eq!(scene.broker.subscribed.borrow().1, 1, "on one connection");
}

#[tokio::test]
async fn class_07_a_stall_that_is_longer_than_delta_makes_refuse_until_the_first_answer() {
    let scene = Scene::start().await;
    let (verifier, clock, token) = on_a_still_clock(&scene).await;
    stall(&scene).await;
    clock.forward(Span::from_seconds(12));
    let refused = verifier.check(&shown(&token)).unwrap_err();
    assert!(matches!(refused, Refused::Stale(_)), "{refused:?}");
    recover(&scene, &verifier).await;
    assert_eq!(verifier.check(&shown(&token)).map(drop), Ok(()));
    assert_eq!(scene.broker.subscribed.borrow().1, 1, "on one connection");
}

#[tokio::test]
async fn class_20_a_stale_view_is_a_no_unless_the_broker_clearly_says_yes() {
    let scene = Scene::start().await;
    scene.broker.answers.store(false, Ordering::Release);
    let settings = Settings { when_stale: WhenStale::Introspect, ..scene.settings() };
    let verifier = Verifier::start(settings).unwrap();
    scene.applied(0).await;
    let token = scene.broker.token();
    for (active, expected) in [
        (None, Err(Refused::NobodyAnswers)),
        (Some(false), Err(Refused::NotActive)),
        (Some(true), Ok(())),
    ] {
        *scene.broker.active.lock() = active;
        assert_eq!(verifier.admit(&shown(&token)).await.map(drop), expected);
    }
    let stolen = Presented { certificate: None, ..shown(&token) };
    let refused = verifier.admit(&stolen).await.unwrap_err();
    assert_eq!(refused, Refused::OtherCertificate, "what the broker says is no proof of the key");
    scene.end(60_000);
    scene.applied(60_000).await;
    assert!(
        matches!(verifier.admit(&shown(&token)).await, Err(Refused::Dead(_))),
        "what is known to be dead is not asked about"
    );
}

/// A verifier that has a stale view and asks; a question of it that the broker has read the store for, and has not answered.
async fn asking(scene: &Scene) -> (Verifier, Arc<TestClock>, JoinHandle<Result<(), Refused>>) {
    scene.broker.answers.store(false, Ordering::Release);
    scene.broker.said.send_replace(0);
    *scene.broker.active.lock() = Some(true);
    let settings = Settings { when_stale: WhenStale::Introspect, ..scene.settings() };
    let clock = Arc::new(TestClock::at(SystemClock::default().now()));
    let verifier = Verifier::start_with(settings, clock.clone()).unwrap();
    scene.applied(0).await;
    let (own, token) = (verifier.clone(), scene.broker.token());
    let asking = tokio::spawn(async move { own.admit(&shown(&token)).await.map(drop) });
    scene.broker.asked.subscribe().wait_for(|asked| *asked == 1).await.unwrap();
    (verifier, clock, asking)
}

#[tokio::test]
async fn class_20_what_died_while_the_broker_was_asked_is_refused_whatever_it_says() {
    let scene = Scene::start().await;
    let (_verifier, _, asking) = asking(&scene).await;
    scene.end(60_000);
    scene.applied(60_000).await;
    scene.broker.said.send_replace(usize::MAX);
    let outcome = asking.await.unwrap();
    assert!(matches!(outcome, Err(Refused::Dead(_))), "{outcome:?}");
}

#[tokio::test]
async fn class_07_an_answer_that_is_as_old_as_delta_is_none() {
    for (millis, expected) in [(4_999, Ok(())), (5_000, Err(Refused::Stale(DELTA)))] {
        let scene = Scene::start().await;
        let (_verifier, clock, asking) = asking(&scene).await;
        clock.forward(Span::from_millis(millis));
        scene.broker.said.send_replace(usize::MAX);
        assert_eq!(asking.await.unwrap(), expected, "{millis}");
    }
}

#[tokio::test]
async fn class_09_what_expired_while_the_broker_was_asked_is_refused() {
    let scene = Scene::start().await;
    let (_verifier, clock, asking) = asking(&scene).await;
    clock.forward(Span::from_seconds(120));
    scene.broker.said.send_replace(usize::MAX);
    let outcome = asking.await.unwrap();
    assert!(matches!(outcome, Err(Refused::Token(_))), "{outcome:?}");
}

#[tokio::test]
async fn class_22_a_key_that_is_not_known_has_the_keys_read_once_and_not_for_every_stranger() {
    let scene = Scene::start().await;
    let verifier = scene.verifier(scene.settings()).await;
    let other = Signer::new();
    *scene.broker.bundle.lock() = other.bundle.clone();
    let now = SystemClock::default().now();
    let mut claims = other.claims();
    claims.issued_seconds = now.seconds();
    claims.expires_seconds = now.seconds() + 60;
    claims.execution.origin.stamp = now;
    let rotated = other.sign(&claims);
    verifier.admit(&shown(&rotated)).await.unwrap();
    *scene.broker.bundle.lock() = scene.broker.signer.bundle.clone();
    let token = scene.broker.token();
    let refused = verifier.admit(&shown(&token)).await.unwrap_err();
    assert!(matches!(refused, Refused::Token(_)), "read a moment ago: {refused:?}");
}

#[test]
fn settings_that_would_take_nothing_or_anything_are_refused() {
    let identity = || Identity { ca_file: "a".into(), cert_file: "b".into(), key_file: "c".into() };
    let broker = "https://leasehold.example:7700";
    let refused = |settings: Settings| Verifier::start(settings).map(drop).unwrap_err();
    for (settings, error) in [
        (Settings::new([""; 0], identity(), AUDIENCE), SettingsError::NoBroker),
        (
            Settings::new(["http://b.example"], identity(), AUDIENCE),
            SettingsError::Address("http://b.example".to_owned()),
        ),
        (Settings::new([broker], identity(), ""), SettingsError::NoAudience),
        (
            Settings { name: "n".repeat(254), ..Settings::new([broker], identity(), AUDIENCE) },
            SettingsError::Name,
        ),
    ] {
        assert_eq!(refused(settings), StartError::Settings(error));
    }
}
