//! A broker on real sockets, on a clock under the test's hand, and everyone who calls it.

use std::fs;
use std::sync::Arc;

use leasehold::app::{self, Running, Seams, Sockets};
use leasehold::broker::seams::{Clock, Entropy, SystemClock, SystemEntropy};
use leasehold::config::{self, Config};
use leasehold::domain::feed::Drift;
use leasehold::domain::time::Span;
use leasehold::jose::SigningKey;
use leasehold::proto::v1;
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::proto::v1::verification_service_client::VerificationServiceClient;
use leasehold::store::Constants;
use leasehold::testing::ca::{Issued, TestAuthority};
use leasehold::testing::clock::TestClock;
use leasehold::testing::issuer::TestIssuer;
use leasehold::testing::redis::{PASSWORD, RedisServer};
use leasehold::testing::trust::source_of;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

pub const ORCHESTRATOR: &str = "spiffe://prod.example/ci/main";
pub const OTHER_ORCHESTRATOR: &str = "spiffe://prod.example/release/main";
pub const AGENT: &str = "spiffe://prod.example/agents/finance/one";
pub const OTHER_AGENT: &str = "spiffe://prod.example/agents/finance/two";
pub const VERIFIER: &str = "spiffe://prod.example/api/ledger";
pub const OTHER_VERIFIER: &str = "spiffe://prod.example/mail/inbox";
pub const OPERATOR: &str = "spiffe://prod.example/people/op";
pub const NOBODY: &str = "spiffe://prod.example/nobody";
pub const AUDIENCE: &str = "https://ledger.example";
pub const GRANT: &str = r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read","write"]}]"#;
/// What seals the keyring, in hex.
pub const KEYRING_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// For how long the server is waited for.
const SOON: &str = "500ms";
const LATE: &str = "20s";
/// How long a caller's certificate is valid.
pub const SVID_LIFE: Span = Span::from_seconds(3_600);

const CONFIG: &str = r#"
trust_domain = "leasehold.example"
base_url = "https://localhost:7701"
store = STORE
tls = { cert_file = "server.pem", key_file = "server.key" }
keys = { encryption_key_file = "keyring.key" }
limits = { requests_per_second_per_principal = 100000, drain_timeout = "1s" }
[tiers]
standard = { ttl = "5m", ceiling = "1h" }
bearer = { ttl = "5m", ceiling = "1h", proof = "optional" }
[[trust.spiffe]]
trust_domain = "prod.example"
bundle = { file = "bundle.json" }
[[trust.oidc]]
name = "ci"
issuer = "ISSUER"
audience = "leasehold"
danger_loopback = true
[[trust.oidc]]
name = "ci-too"
issuer = "OTHER_ISSUER"
audience = "leasehold"
danger_loopback = true
[[roles]]
role = "orchestrator"
name = "ci"
match = "spiffe://prod.example/ci/*"
[[roles]]
role = "orchestrator"
name = "jobs"
issuer = "ci"
subject = "job"
[[roles]]
role = "orchestrator"
name = "jobs-too"
issuer = "ci-too"
subject = "job"
[[roles]]
role = "orchestrator"
name = "release"
match = "spiffe://prod.example/release/*"
[[roles]]
role = "agent"
class = "finance"
owner = "payments"
tiers = ["standard", "bearer"]
match = "spiffe://prod.example/agents/finance/*"
[[roles]]
role = "verifier"
audiences = ["https://ledger.example"]
match = "spiffe://prod.example/api/*"
[[roles]]
role = "verifier"
audiences = ["https://inbox.example"]
match = "spiffe://prod.example/mail/*"
[[roles]]
role = "operator"
match = "spiffe://prod.example/people/*"
"#;

const EMBEDDED: &str = r#"{ kind = "embedded", path = "data" }"#;

fn own_entropy() -> Arc<dyn Entropy> {
    Arc::new(SystemEntropy)
}

/// The broker and its surroundings.
pub struct Site {
    pub clock: Arc<TestClock>,
    pub root: TestAuthority,
    /// What JWT-SVIDs of `prod.example` are signed with.
    pub svid_key: SigningKey,
    pub issuer: TestIssuer,
    /// It has a subject `job`, too.
    pub other_issuer: TestIssuer,
    pub running: Running,
    config: Config,
    folder: TempDir,
}

impl Site {
    pub async fn start() -> Self {
        Self::start_with("", "").await
    }

    /// A broker whose configuration says `to` where that of the others says `from`.
    pub async fn start_with(from: &str, to: &str) -> Self {
        assert!(CONFIG.contains(from), "the configuration does not say `{from}`");
        let config = CONFIG.replace(from, to);
        Self::start_on(EMBEDDED, Arc::new(TestClock::default()), config, own_entropy()).await
    }

    /// A broker that draws its randomness there.
    pub async fn start_drawing(entropy: Arc<dyn Entropy>) -> Self {
        Self::start_on(EMBEDDED, Arc::new(TestClock::default()), CONFIG.to_owned(), entropy).await
    }

    /// A broker on a Redis server, whose clock is that of this machine; there may be others.
    pub async fn start_on_redis(server: &RedisServer) -> Self {
        Self::start_on_redis_with(server, "", "").await
    }

    /// The same, whose configuration says `to` where that of the others says `from`.
    pub async fn start_on_redis_with(server: &RedisServer, from: &str, to: &str) -> Self {
        assert!(CONFIG.contains(from), "the configuration does not say `{from}`");
        Self::on_redis((server, SOON), CONFIG.replace(from, to), own_entropy()).await
    }

    /// The same for who never stops the server: no answer of it is taken for late, however loaded the machine is.
    pub async fn start_on_redis_patiently(server: &RedisServer, from: &str, to: &str) -> Self {
        assert!(CONFIG.contains(from), "the configuration does not say `{from}`");
        Self::on_redis((server, LATE), CONFIG.replace(from, to), own_entropy()).await
    }

    /// The same, which draws its randomness there.
    pub async fn start_on_redis_drawing(server: &RedisServer, entropy: Arc<dyn Entropy>) -> Self {
        Self::on_redis((server, SOON), CONFIG.to_owned(), entropy).await
    }

    async fn on_redis(
        (server, timeout): (&RedisServer, &str),
        config: String,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let port = server.port();
        let store = format!(
            r#"{{ kind = "redis", url = "redis://127.0.0.1:{port}", username = "leasehold", password_file = "redis.password", response_timeout = "{timeout}" }}"#
        );
        let clock = Arc::new(TestClock::at(SystemClock::default().now()));
        Self::start_on(&store, clock, config, entropy).await
    }

    async fn start_on(
        store: &str,
        clock: Arc<TestClock>,
        config: String,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        // A second installation is refused, and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (folder, root) = (tempfile::tempdir().unwrap(), TestAuthority::root("root"));
        let [issuer, other_issuer] = [TestIssuer::start().await, TestIssuer::start().await];
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let svid_key = SigningKey::generate().unwrap().0;
        let bundle = source_of(&[&root], &[&svid_key]);
        write("bundle.json", &bundle.to_document().to_string());
        let server = root.server();
        write("server.pem", &server.chain_pem());
        write("server.key", &server.key_pem());
        write("keyring.key", KEYRING_KEY);
        write("redis.password", PASSWORD);
        let text = config.replace("OTHER_ISSUER", &other_issuer.url).replace("STORE", store);
        let text = text.replace("ISSUER", &issuer.url);
        let config = config::parse(&folder.path().join("leasehold.toml"), &text).unwrap();
        app::make_store_if_missing(&config, None).await.unwrap();
        let running = run(config.clone(), &clock, entropy).await;
        // From now on this broker knows every verifier that there could be: what is ended is fenced as soon as they say so.
        if running.broker.feed().settings().first.is_none() {
            clock.forward(Drift::DEFAULT.lapse(Constants::DEFAULT.delta_max));
        }
        Self { clock, root, issuer, other_issuer, svid_key, running, config, folder }
    }

    /// Another broker like this one, over the same store, which must be one that several may share.
    pub async fn another(&self) -> Running {
        run(self.config.clone(), &self.clock, own_entropy()).await
    }

    /// The same broker once it was stopped, and started again after something else, at another address.
    pub async fn restart(self, meanwhile: impl AsyncFnOnce()) -> Self {
        self.running.stop().await;
        meanwhile().await;
        let running = run(self.config.clone(), &self.clock, own_entropy()).await;
        Self { running, ..self }
    }

    /// Puts another certificate where the broker's own lies.
    pub fn replace_server_certificate(&self) -> Issued {
        let server = self.root.server();
        let write =
            |name: &str, text: &str| fs::write(self.folder.path().join(name), text).unwrap();
        write("server.pem", &server.chain_pem());
        write("server.key", &server.key_pem());
        server
    }

    /// A certificate that is valid from now on.
    pub fn svid(&self, spiffe_id: &str) -> Issued {
        let now = self.clock.now();
        self.root.svid(spiffe_id, now, now.plus(SVID_LIFE))
    }

    /// A connection as this caller, or as nobody.
    pub fn channel(&self, spiffe_id: Option<&str>) -> Channel {
        self.channel_with(spiffe_id.map(|spiffe_id| self.svid(spiffe_id)).as_ref())
    }

    /// A connection with this certificate, or with none.
    pub fn channel_with(&self, issued: Option<&Issued>) -> Channel {
        self.channel_to(&self.running, issued)
    }

    /// The same to any broker.
    pub fn channel_to(&self, broker: &Running, issued: Option<&Issued>) -> Channel {
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(self.root.pem()));
        if let Some(issued) = issued {
            tls = tls.identity(Identity::from_pem(issued.chain_pem(), issued.key_pem()));
        }
        let url = format!("https://{}", broker.grpc);
        Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy()
    }

    pub fn tasks(&self, spiffe_id: &str) -> TaskServiceClient<Channel> {
        TaskServiceClient::new(self.channel(Some(spiffe_id)))
    }

    pub fn credentials(&self, spiffe_id: &str) -> CredentialServiceClient<Channel> {
        CredentialServiceClient::new(self.channel(Some(spiffe_id)))
    }

    pub fn verification(&self, spiffe_id: &str) -> VerificationServiceClient<Channel> {
        VerificationServiceClient::new(self.channel(Some(spiffe_id)))
    }

    /// Puts another bundle of `prod.example` where its first one lies.
    pub fn replace_bundle(&self, keys: &[&SigningKey]) {
        self.replace_bundle_of(&self.root, keys);
    }

    /// The same with another root.
    pub fn replace_bundle_of(&self, root: &TestAuthority, keys: &[&SigningKey]) {
        let bundle = source_of(&[root], keys).to_document().to_string();
        fs::write(self.folder.path().join("bundle.json"), bundle).unwrap();
    }

    /// A JWT-SVID for the broker.
    pub fn jwt_svid(&self, spiffe_id: &str) -> String {
        let seconds = self.clock.now().seconds();
        let claims = json!({
            "sub": spiffe_id, "aud": ["https://localhost:7701"], "iat": seconds, "exp": seconds + 300,
        });
        self.svid_key.sign("JWT", &claims).unwrap().expose_text().to_owned()
    }

    /// A token of the OIDC issuer for the subject `job`, which is an orchestrator.
    pub fn bearer(&self) -> String {
        self.issuer.sign(&self.issuer.claims("job", "leasehold", self.clock.now()))
    }

    /// A token of the other OIDC issuer for the same subject, another orchestrator.
    pub fn other_bearer(&self) -> String {
        let claims = self.other_issuer.claims("job", "leasehold", self.clock.now());
        self.other_issuer.sign(&claims)
    }

    /// A connection with these `authorization` headers, and a certificate if there is an ID.
    pub fn with_authorization(
        &self,
        spiffe_id: Option<&str>,
        headers: Vec<String>,
    ) -> TaskServiceClient<InterceptedService<Channel, Authorization>> {
        TaskServiceClient::with_interceptor(self.channel(spiffe_id), Authorization(headers))
    }

    /// A TLS connection that speaks `alpn`, to whatever address.
    pub async fn raw(
        &self,
        address: std::net::SocketAddr,
        spiffe_id: Option<&str>,
        alpn: &str,
    ) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let builder = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match spiffe_id {
            None => builder.with_no_client_auth(),
            Some(id) => {
                let issued = self.svid(id);
                builder.with_client_auth_cert(issued.chain.clone(), issued.key_der()).unwrap()
            }
        };
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(address).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    /// A task of [`ORCHESTRATOR`] for [`AGENT`].
    pub async fn begin(&self) -> v1::Task {
        self.begin_with(|_| {}).await
    }

    pub async fn begin_with(&self, change: impl FnOnce(&mut v1::BeginTaskRequest)) -> v1::Task {
        let mut request = begin_request();
        change(&mut request);
        let answer = self.tasks(ORCHESTRATOR).begin_task(request).await.unwrap();
        answer.into_inner().task.unwrap()
    }

    /// A token bound to the certificate of [`AGENT`]'s connection.
    pub async fn issue(&self, task: &v1::Task) -> v1::IssueCredentialResponse {
        let request = token_request(task);
        self.credentials(AGENT).issue_credential(request).await.unwrap().into_inner()
    }

    pub async fn get(&self, task: &v1::Task) -> v1::Task {
        let request = v1::GetTaskRequest { task_id: task.task_id.clone() };
        let answer = self.tasks(ORCHESTRATOR).get_task(request).await.unwrap();
        answer.into_inner().task.unwrap()
    }
}

/// A broker that has read the registry.
async fn run(config: Config, clock: &Arc<TestClock>, entropy: Arc<dyn Entropy>) -> Running {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics = if config.listen.metrics.is_some() { Some(bind().await) } else { None };
    let sockets = Sockets { grpc: bind().await, http: bind().await, metrics };
    let seams = Seams { clock: clock.clone(), entropy };
    let running = app::start_with(config, sockets, seams).await.unwrap();
    let mut registry = running.broker.feed().registry();
    registry.wait_for(Option::is_some).await.unwrap();
    running
}

/// Adds `authorization` headers to every request.
#[derive(Clone)]
pub struct Authorization(pub Vec<String>);

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for header in &self.0 {
            request.metadata_mut().append("authorization", header.parse().unwrap());
        }
        Ok(request)
    }
}

pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

pub fn begin_request() -> v1::BeginTaskRequest {
    v1::BeginTaskRequest {
        request_id: request_id(),
        agent: AGENT.into(),
        purpose: "close the books".into(),
        authorization_details: GRANT.into(),
        tier: "standard".into(),
        duration: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    }
}

pub fn token_request(task: &v1::Task) -> v1::IssueCredentialRequest {
    let token = v1::AccessTokenRequest::default();
    v1::IssueCredentialRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        audience: AUDIENCE.into(),
        credential: Some(v1::issue_credential_request::Credential::AccessToken(token)),
        ..Default::default()
    }
}

/// The stable reason of a refusal.
pub fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
