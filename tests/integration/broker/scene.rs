//! Two brokers over one store, and what tests do with them.

use std::fmt::Debug;
use std::net::Ipv4Addr;

use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::{
    CredentialRequest, Deadline, IssueRequest, RenewalProof, TaskSpec, TokenProof,
};
use leasehold::broker::seams::Clock;
use leasehold::broker::{Broker, Issued, Minted, Presented, Stranger, TaskView};
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::refusal::Refusal;
use leasehold::domain::task::{Agent, State};
use leasehold::domain::time::Span;
use leasehold::store::{Commit, Lane};
use leasehold::testing::ca::csr;
use leasehold::testing::scenario;
use leasehold::testing::world::{CI, LEDGER, LEDGER_AUDIENCE, OPERATOR, World};
use rcgen::KeyPair;
use tokio_util::task::TaskTracker;

/// Two brokers over one store; `b` has a cache of its own.
pub struct Scene {
    pub world: World,
    pub a: Broker,
    pub b: Broker,
    pub ci: Caller,
    pub operator: Caller,
    pub ledger: Caller,
}

/// A credential in somebody's hands.
#[derive(Clone, Debug)]
pub struct Held {
    pub lease: LeaseId,
    pub shown: Shown,
    pub issued: u64,
    pub expires: u64,
    pub jti: [u8; 16],
    csr: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub enum Shown {
    Token(String),
    Certificate(Vec<u8>),
}

/// A task, its agent, and what the agent holds.
pub struct Level {
    pub task: TaskId,
    pub agent: Caller,
    pub held: Vec<Held>,
    csr: Vec<u8>,
}

/// A task for an agent: an hour, tier `standard`, reading and writing the ledger, up to four instances.
pub fn spec(agent: &str) -> TaskSpec {
    TaskSpec {
        agent: Agent::parse(agent).unwrap(),
        purpose: "close the books".to_owned(),
        owner: String::new(),
        labels: [].into(),
        grant: scenario::grant(),
        tier: Some("standard".parse_name()),
        deadline: Deadline::After(Span::from_seconds(3_600)),
        heartbeat: None,
        step: "s-1".to_owned(),
        checkpoint: b"page 1".to_vec(),
        instances: 4,
    }
}

/// Names, from texts that are.
pub trait ParseName {
    fn parse_name(&self) -> leasehold::domain::principal::Name;
}

impl ParseName for str {
    fn parse_name(&self) -> leasehold::domain::principal::Name {
        leasehold::domain::principal::Name::parse(self).unwrap()
    }
}

/// A token for the ledger, bound to the caller's certificate.
pub fn token(task: TaskId) -> IssueRequest {
    IssueRequest {
        task,
        expected_epoch: None,
        audience: LEDGER_AUDIENCE.to_owned(),
        asked: None,
        ttl_seconds: None,
        credential: CredentialRequest::AccessToken(TokenProof::CallerCertificate),
    }
}

/// A CSR over a new key, in DER.
pub fn new_csr() -> Vec<u8> {
    csr(&KeyPair::generate().unwrap()).der().to_vec()
}

/// Whoever shows a broker what he found.
pub async fn stranger(broker: &Broker) -> Stranger {
    let feed = broker.feed();
    if !feed.is_registered() {
        feed.spawn(&TaskTracker::new());
        feed.registered().await;
    }
    broker.stranger(Ipv4Addr::LOCALHOST.into()).unwrap()
}

/// The refusal that a call must have come to. Whether a broker says for a signing key's sake that there is a quarantine depends on
/// whether it has heard of it, or the store says so first.
#[track_caller]
pub fn refused<T: Debug>(result: Result<T, BrokerError>) -> Refusal {
    match result {
        Err(BrokerError::Refused(refusal)) => refusal,
        Err(BrokerError::SigningKeyQuarantined { .. }) => Refusal::Quarantined,
        other => panic!("not refused: {other:?}"),
    }
}

/// The reason of that refusal.
#[track_caller]
pub fn reason<T: Debug>(result: Result<T, BrokerError>) -> &'static str {
    refused(result).reason()
}

impl Held {
    pub fn of(issued: &Issued, csr: Option<Vec<u8>>) -> Self {
        let lease = &issued.lease.lease;
        let shown = match &issued.credential {
            Minted::AccessToken(minted) => Shown::Token(minted.token.expose_text().to_owned()),
            Minted::X509Svid(minted) => Shown::Certificate(minted.leaf().to_vec()),
            Minted::JwtSvid(minted) => Shown::Token(minted.token.expose_text().to_owned()),
        };
        Self {
            lease: lease.draft.id,
            shown,
            issued: lease.issued_seconds(),
            expires: lease.expires_seconds,
            jti: lease.draft.jti,
            csr,
        }
    }

    pub fn presented(&self) -> Presented<'_> {
        match &self.shown {
            Shown::Token(token) => Presented::Token(token),
            Shown::Certificate(der) => Presented::Certificate(der),
        }
    }
}

impl Scene {
    pub async fn on_model() -> Self {
        Self::of(World::on_model().await)
    }

    pub fn of(world: World) -> Self {
        let (a, b) = (world.broker(), world.broker());
        let [ci, operator, ledger] = [CI, OPERATOR, LEDGER].map(|id| world.caller(id));
        Self { world, a, b, ci, operator, ledger }
    }

    /// Lets time pass everywhere, also at a store that has a clock of its own. Its stamps go on from those of the commits so
    /// far, which were later than the clock that stood still by some microseconds.
    pub async fn forward(&self, seconds: u64) {
        self.world.clock.forward(Span::from_seconds(seconds));
        let now = self.world.clock.now().plus(Span::from_millis(1));
        for partition in self.world.store.upkeep.constants().partitions.all() {
            let commit = Commit { at_least: now, ..Commit::new(partition, Lane::Ordinary) };
            self.world.store.store.commit(commit).await.unwrap();
        }
    }

    /// Begins a root task at broker `a`.
    pub async fn begin(&self, spec: TaskSpec) -> TaskView {
        self.a.begin(&self.ci, &self.world.id(), spec).await.unwrap()
    }

    /// Begins a root task that lies in a partition.
    pub async fn begin_in(&self, partition: Partition, by: &Caller, spec: TaskSpec) -> TaskView {
        self.a.begin(by, &self.world.id_in(partition, by), spec).await.unwrap()
    }

    /// Begins a child at broker `a`.
    pub async fn delegate(&self, parent: TaskId, spec: TaskSpec) -> Result<TaskView, BrokerError> {
        let epoch = self.epoch(parent).await;
        self.a.delegate(&self.ci, &self.world.id(), parent, epoch, spec).await
    }

    pub async fn epoch(&self, task: TaskId) -> u64 {
        self.a.get_task(&self.operator, task).await.unwrap().task.epoch.get()
    }

    pub async fn state(&self, task: TaskId) -> State {
        self.b.get_task(&self.operator, task).await.unwrap().standing.state
    }

    /// Issues a token at broker `a`.
    pub async fn issue(&self, agent: &Caller, task: TaskId) -> Result<Held, BrokerError> {
        self.issue_at(&self.a, agent, token(task)).await
    }

    pub async fn issue_at(
        &self,
        broker: &Broker,
        agent: &Caller,
        request: IssueRequest,
    ) -> Result<Held, BrokerError> {
        let csr = match &request.credential {
            CredentialRequest::X509Svid(csr)
            | CredentialRequest::AccessToken(TokenProof::Csr(csr)) => Some(csr.clone()),
            CredentialRequest::AccessToken(_) | CredentialRequest::JwtSvid => None,
        };
        let issued = broker.issue(agent, &self.world.id(), request).await?;
        Ok(Held::of(&issued, csr))
    }

    pub async fn renew_at(
        &self,
        broker: &Broker,
        agent: &Caller,
        held: &Held,
    ) -> Result<Held, BrokerError> {
        let (id, csr) = (self.world.id(), held.csr.clone());
        let issued =
            broker.renew(agent, &id, held.lease, None, csr.clone().map(RenewalProof::Csr)).await?;
        Ok(Held::of(&issued, csr))
    }

    /// Ends a task at broker `a`, by its orchestrator.
    pub async fn end(&self, rpc: Rpc, task: TaskId) -> Result<TaskView, BrokerError> {
        let ended = self.a.end(&self.ci, &self.world.id(), rpc, task, String::new()).await;
        ended.map(|(view, _)| view)
    }

    /// Whether a broker tells the verifier of its audience that a credential is active.
    pub async fn is_active(&self, broker: &Broker, held: &Held) -> bool {
        broker.introspect(&self.ledger, held.presented()).await.unwrap().is_some()
    }

    /// A root and three descendants below one another, whose agents hold a token of broker `a` and a certificate
    /// of `b` each: both caches are warm.
    pub async fn tree(&self) -> Vec<Level> {
        self.tree_of(self.begin(spec(&agent_of(0))).await.task.id).await
    }

    pub async fn tree_of(&self, root: TaskId) -> Vec<Level> {
        let mut levels = vec![self.level(root, 0).await];
        for depth in 1..4 {
            let parent = levels[depth - 1].task;
            let child = self.delegate(parent, spec(&agent_of(depth))).await.unwrap();
            levels.push(self.level(child.task.id, depth).await);
        }
        levels
    }

    async fn level(&self, task: TaskId, depth: usize) -> Level {
        self.held_level(task, self.world.caller(&agent_of(depth))).await
    }

    /// A task whose agent holds a token of one broker and a certificate of the other.
    pub async fn held_level(&self, task: TaskId, agent: Caller) -> Level {
        let mut level = Level { task, agent, held: Vec::new(), csr: new_csr() };
        for (broker, request) in [&self.a, &self.b].into_iter().zip(level.requests()) {
            level.held.push(self.issue_at(broker, &level.agent, request).await.unwrap());
        }
        level
    }

    /// Nothing more is issued for the task, nothing of it is renewed, and every credential of it is inactive.
    pub async fn must_be_over(&self, level: &Level) {
        for broker in [&self.b, &self.a] {
            self.must_be_dead(broker, level).await;
            for request in level.requests() {
                refused(self.issue_at(broker, &level.agent, request).await);
            }
        }
    }

    /// Nothing that is held is renewed or active; asking for something new may be allowed.
    pub async fn must_be_dead(&self, broker: &Broker, level: &Level) {
        for held in &level.held {
            assert!(!self.is_active(broker, held).await, "a dead credential is active");
            refused(self.renew_at(broker, &level.agent, held).await);
        }
    }

    /// Everything goes on.
    pub async fn must_go_on(&self, level: &Level) {
        for broker in [&self.b, &self.a] {
            for held in &level.held {
                assert!(self.is_active(broker, held).await);
                let renewed = self.renew_at(broker, &level.agent, held).await.unwrap();
                assert!(self.is_active(broker, &renewed).await);
            }
            self.must_issue(broker, level).await;
        }
    }

    /// Something new is issued, and active.
    pub async fn must_issue(&self, broker: &Broker, level: &Level) {
        for request in level.requests() {
            let held = self.issue_at(broker, &level.agent, request).await.unwrap();
            assert!(self.is_active(broker, &held).await);
        }
    }
}

impl Level {
    /// A token and a certificate.
    fn requests(&self) -> [IssueRequest; 2] {
        let [x509, for_token] = [self.csr.clone(), self.csr.clone()];
        let bound = match self.agent.identity().certificate_thumbprint() {
            Some(_) => TokenProof::CallerCertificate,
            None => TokenProof::Csr(for_token),
        };
        [CredentialRequest::AccessToken(bound), CredentialRequest::X509Svid(x509)]
            .map(|credential| IssueRequest { credential, ..token(self.task) })
    }
}

/// The agent of the task at a depth of [`Scene::tree`].
pub fn agent_of(depth: usize) -> String {
    format!("spiffe://prod.example/agents/finance/{depth}")
}
