//! A playground with a broker in it, over one of the stores; and agents who ask it for tokens, each for its own task.

use std::fs;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leasehold::app::{self, Running, Sockets};
use leasehold::broker::seams::{Clock as _, SystemClock, SystemEntropy};
use leasehold::config;
use leasehold::config::secret_source::SecretSource;
use leasehold::config::store::StoreConfig;
use leasehold::domain::secret::Secret;
use leasehold::playground::{AUDIENCE, Plan, Playground, PlaygroundStore, Workload};
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::issue_credential_request::Credential as Wanted;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::proto::v1::{
    AccessTokenRequest, BeginTaskRequest, IssueCredentialRequest, IssueCredentialResponse,
};
use leasehold::testing::redis::{PASSWORD, RedisServer};
use prost::Message as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use uuid::Uuid;

use crate::Outcome;
use crate::load::Caller;

/// Connections of the agent; its callers are spread over them.
pub(crate) const CONNECTIONS: usize = 4;
/// Seals the keyring of a server that lives as long as the report. It is no secret.
const DANGER_KEY: [u8; 32] = *b"leasehold bench sealed to nobody";
const INSTANCE: &str = "bench";
const HALF_AN_HOUR: i64 = 1_800;
/// One principal sends everything here.
const NO_RATE_LIMIT: u32 = 100_000;

/// A broker that answers.
pub(crate) struct World {
    pub(crate) playground: Playground,
    broker: Running,
    _folder: TempDir,
}

/// How large the messages of issuing are, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) request: usize,
    pub(crate) response: usize,
    /// What is signed of a token.
    pub(crate) signed: usize,
}

impl World {
    /// Over the embedded store, or over this server.
    pub(crate) async fn start(redis: Option<&RedisServer>) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("leasehold-bench-").tempdir()?;
        let sockets = Sockets { grpc: socket().await?, http: socket().await?, metrics: None };
        let store = match redis {
            None => PlaygroundStore::Embedded,
            Some(server) => PlaygroundStore::Redis {
                url: format!("redis://127.0.0.1:{}", server.port()),
                key: Secret::from(STANDARD.encode(DANGER_KEY)),
            },
        };
        let (grpc, http) = (sockets.grpc.local_addr()?, sockets.http.local_addr()?);
        let plan = Plan { grpc, http, store, instance: INSTANCE.to_owned() };
        let now = SystemClock::default().now();
        let playground = Playground::make(folder.path(), &plan, now, &SystemEntropy)?;
        let password = playground.add("redis.password", PASSWORD.as_bytes())?;
        let mut config = config::load(&playground.config_file())?;
        config.limits.requests_per_second_per_principal = NO_RATE_LIMIT;
        if let StoreConfig::Redis(redis) = &mut config.store {
            redis.username = Some("leasehold".to_owned());
            redis.password = Some(SecretSource::File(password));
        }
        app::make_store_if_missing(&config, None).await?;
        let broker = app::start(config, sockets).await?;
        Ok(Self { playground, broker, _folder: folder })
    }

    /// A connection of a workload to a server of the playground's.
    pub(crate) async fn connect(&self, who: Workload, server: SocketAddr) -> Outcome<Channel> {
        let pem = |path| fs::read(path);
        let (chain, key) = (self.playground.cert_file(who), self.playground.key_file(who));
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem(self.playground.root_file())?))
            .identity(Identity::from_pem(pem(chain)?, pem(key)?))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{server}"))?.tls_config(tls)?;
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// The agent's connections to a server.
    pub(crate) async fn connections(&self, server: SocketAddr) -> Outcome<Vec<Channel>> {
        let mut channels = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            channels.push(self.connect(Workload::Summarizer, server).await?);
        }
        Ok(channels)
    }

    /// Callers for tokens, each with a task of its own.
    pub(crate) async fn callers(&self, count: usize) -> Outcome<Vec<Agent>> {
        let orchestrator = self.connect(Workload::Orchestrator, self.broker.grpc).await?;
        let mut tasks = TaskServiceClient::new(orchestrator);
        let channels = self.connections(self.broker.grpc).await?;
        let mut callers = Vec::with_capacity(count);
        for channel in channels.iter().cycle().take(count) {
            let begun = tasks.begin_task(task()).await?.into_inner().task;
            let task_id = begun.ok_or("no task was begun")?.task_id;
            let client = CredentialServiceClient::new(channel.clone());
            callers.push(Agent { client, task_id });
        }
        Ok(callers)
    }

    /// Issues one token, to see how large things are.
    pub(crate) async fn sizes(&self) -> Outcome<Sizes> {
        let mut agent = self.callers(1).await?.pop().ok_or("no agent")?;
        let request = agent.request();
        let response = agent.issue(request.clone()).await?;
        let token = response.credential.as_ref().map(|credential| &credential.access_token);
        let signed = token.and_then(|token| token.rfind('.')).ok_or("no token was issued")?;
        Ok(Sizes { request: request.encoded_len(), response: response.encoded_len(), signed })
    }

    /// Stops the broker and removes everything.
    pub(crate) async fn end(self) {
        self.broker.stop().await;
    }
}

/// Asks for tokens for its task, bound to its certificate.
pub(crate) struct Agent {
    client: CredentialServiceClient<Channel>,
    task_id: String,
}

impl Agent {
    fn request(&self) -> IssueCredentialRequest {
        IssueCredentialRequest {
            request_id: Uuid::new_v4().to_string(),
            task_id: self.task_id.clone(),
            audience: AUDIENCE.to_owned(),
            credential: Some(Wanted::AccessToken(AccessTokenRequest::default())),
            ..IssueCredentialRequest::default()
        }
    }

    async fn issue(&mut self, request: IssueCredentialRequest) -> Outcome<IssueCredentialResponse> {
        Ok(self.client.issue_credential(request).await?.into_inner())
    }
}

impl Caller for Agent {
    async fn run(&mut self) -> Outcome<()> {
        let issued = self.issue(self.request()).await?;
        match issued.credential {
            Some(credential) if !credential.access_token.is_empty() => Ok(()),
            _ => Err("the broker issued no token".into()),
        }
    }
}

fn task() -> BeginTaskRequest {
    let actions = format!(
        r#"[{{"type":"resource_access","audience":"{AUDIENCE}","actions":["read","annotate"]}}]"#
    );
    BeginTaskRequest {
        request_id: Uuid::new_v4().to_string(),
        agent: Workload::Summarizer.spiffe_id(INSTANCE),
        purpose: "Summarize the quarterly report".to_owned(),
        authorization_details: actions,
        tier: "standard".to_owned(),
        duration: Some(prost_types::Duration { seconds: HALF_AN_HOUR, nanos: 0 }),
        ..BeginTaskRequest::default()
    }
}

async fn socket() -> Outcome<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}
