//! Each scope of the kill switch, from the operator's call to the verifier: what goes out on the feed, who is refused once it is
//! answered as FENCED, and what comes back when it is lifted.

use std::collections::BTreeSet;

use leasehold::domain::lattice::Dead;
use leasehold::domain::scope::Scope;
use leasehold::proto::v1;
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::revocation_entry::Entry;
use leasehold::proto::v1::watch_revocations_response::Message as Told;
use leasehold::testing::ca::csr;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::{Admission, Refused};
use rcgen::KeyPair;
use tonic::Status;

use super::feed::Watcher;
use super::site::{
    AGENT, Authorization, ORCHESTRATOR, OTHER_ORCHESTRATOR, Site, begin_request, reason,
    token_request,
};
use super::verifier::{Pair, Token};

const INFINITY: u64 = (1 << 53) - 1;
const RESEARCH: &str = "spiffe://lab.example/agents/research/one";
/// The subject `job` of the issuer `ci`.
const BATCH: &str = "oidc:ci:job";

/// Another trust domain, and agents of two more classes: one there, and one of an issuer.
const FROM: &str = "[[roles]]\nrole = \"verifier\"\naudiences = [\"https://ledger.example\"]";
const MORE: &str = r#"
[[trust.spiffe]]
trust_domain = "lab.example"
bundle = { file = "bundle.json" }
[[roles]]
role = "agent"
class = "research"
owner = "lab"
tiers = ["standard"]
match = "spiffe://lab.example/agents/research/*"
[[roles]]
role = "agent"
class = "batch"
owner = "jobs"
tiers = ["bearer"]
issuer = "ci"
subject = "job"
"#;

/// A task, and who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// The agent of class `finance`, for the orchestrators `ci`, in tier `standard`.
    Finance,
    /// The same agent, for the orchestrators `release`.
    Released,
    /// The same agent, in tier `bearer`.
    Bearer,
    /// The agent of class `research`, in the other trust domain.
    Research,
    /// The agent of class `batch`, of the issuer.
    Batch,
}

const EVERYBODY: [Who; 5] = [Who::Finance, Who::Released, Who::Bearer, Who::Research, Who::Batch];

struct World {
    pair: Pair,
    watcher: Watcher,
    tasks: Vec<(Who, v1::Task)>,
}

impl World {
    async fn new(site: Site) -> Self {
        let pair = Pair::at(site, |settings| settings.rules.takes_unbound = true).await;
        let watcher = Watcher::subscribe(&pair.site, 1).await;
        let mut tasks = Vec::new();
        for who in EVERYBODY {
            tasks.push((who, begin(&pair.site, who).await));
        }
        Self { pair, watcher, tasks }
    }

    /// A new token for a task.
    async fn issue(&self, who: Who) -> Result<Token, Status> {
        let (_, task) = self.tasks.iter().find(|(of, _)| *of == who).unwrap();
        let (site, request) = (&self.pair.site, token_request(task));
        let issued = match who {
            Who::Finance | Who::Released | Who::Bearer => {
                site.credentials(AGENT).issue_credential(request).await?
            }
            Who::Research => site.credentials(RESEARCH).issue_credential(request).await?,
            Who::Batch => {
                let bearer = Authorization(vec![format!("Bearer {}", site.bearer())]);
                let channel = site.channel(None);
                let mut client = CredentialServiceClient::with_interceptor(channel, bearer);
                let proof = Some(v1::access_token_request::Proof::Bearer(true));
                let credential =
                    v1::issue_credential_request::Credential::AccessToken(v1::AccessTokenRequest {
                        proof,
                    });
                let request =
                    v1::IssueCredentialRequest { credential: Some(credential), ..request };
                client.issue_credential(request).await?
            }
        };
        Ok(Token::of(issued.into_inner().credential.unwrap().access_token))
    }

    /// Its watermark, and nothing else, comes for each of the sixteen partitions.
    async fn hears_everywhere_of(&mut self, scope: &str) {
        let scope = Scope::parse(scope).unwrap();
        let (reach, is_key) = (scope.reach().0.to_vec(), matches!(scope, Scope::Key(_)));
        let mut marked = BTreeSet::new();
        while marked.len() < 16 {
            let Some(Told::Revocations(told)) = self.watcher.next().await.unwrap() else {
                continue;
            };
            for entry in &told.entries {
                if let Some(Entry::Watermark(mark)) = &entry.entry
                    && mark.reach == reach
                {
                    let is_above_all = (mark.incarnation, mark.stamp) == (INFINITY, INFINITY);
                    assert_eq!(is_above_all, is_key, "{mark:?}");
                    assert!(is_key || mark.incarnation > 0 && mark.stamp > mark.incarnation);
                    assert_eq!(entry.keep_until == 0, is_key, "any other is dropped in time");
                    marked.insert(told.partition);
                }
            }
        }
    }

    /// A quarantine from its beginning to its end: it is to kill those, and no others.
    async fn must_kill(&mut self, scope: &str, doomed: &[Who]) {
        let mut before = Vec::new();
        for who in EVERYBODY {
            let token = self.issue(who).await.unwrap();
            drop(token.check(&self.pair.verifier).unwrap());
            before.push((who, token));
        }
        self.pair.quarantine(scope).await;
        let dead = Some(Refused::Dead(Dead::Quarantined));
        for (who, token) in &before {
            let refused = token.check(&self.pair.verifier).err();
            let expected = dead.clone().filter(|_| doomed.contains(who));
            assert_eq!(refused, expected, "{scope}: {who:?}");
        }
        self.hears_everywhere_of(scope).await;
        for who in EVERYBODY {
            let issued = self.issue(who).await;
            let refused = issued.as_ref().err().map(reason);
            let expected = doomed.contains(&who).then(|| "QUARANTINED".to_owned());
            assert_eq!(refused, expected, "{scope}: {who:?}");
            if let Ok(token) = issued {
                drop(token.check(&self.pair.verifier).unwrap());
            }
        }
        self.pair.lift(scope).await;
        for (who, token) in &before {
            let new = self.issue(*who).await.unwrap();
            drop(new.check(&self.pair.verifier).expect("what was issued since lives"));
            let refused = token.check(&self.pair.verifier).err();
            let expected = dead.clone().filter(|_| doomed.contains(who));
            assert_eq!(refused, expected, "{scope}: {who:?}: nothing comes back to life");
        }
    }
}

async fn begin(site: &Site, who: Who) -> v1::Task {
    let mut request = begin_request();
    let mut orchestrator = ORCHESTRATOR;
    match who {
        Who::Finance => {}
        Who::Released => orchestrator = OTHER_ORCHESTRATOR,
        Who::Bearer => request.tier = "bearer".into(),
        Who::Research => request.agent = RESEARCH.into(),
        Who::Batch => (request.agent, request.tier) = (BATCH.into(), "bearer".into()),
    }
    let answer = site.tasks(orchestrator).begin_task(request).await.unwrap();
    answer.into_inner().task.unwrap()
}

fn more() -> String {
    format!("{MORE}{FROM}")
}

#[tokio::test]
async fn class_06_every_scope_kills_what_it_reaches_and_nothing_else_over_the_embedded_store() {
    every_scope_kills_what_it_reaches_and_nothing_else(Site::start_with(FROM, &more()).await).await;
}

#[tokio::test]
async fn class_06_every_scope_kills_what_it_reaches_and_nothing_else_over_redis() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis_with(&server, FROM, &more()).await;
    every_scope_kills_what_it_reaches_and_nothing_else(site).await;
}

async fn every_scope_kills_what_it_reaches_and_nothing_else(site: Site) {
    let mut world = World::new(site).await;
    let finance = &[Who::Finance, Who::Released, Who::Bearer];
    for (scope, doomed) in [
        (format!("principal:{AGENT}"), &finance[..]),
        (format!("principal:{BATCH}"), &[Who::Batch]),
        ("class:research".to_owned(), &[Who::Research]),
        ("class:finance".to_owned(), finance),
        ("orchestrator:release".to_owned(), &[Who::Released]),
        ("issuer:ci".to_owned(), &[Who::Batch]),
        ("td:lab.example".to_owned(), &[Who::Research]),
        ("tier:bearer".to_owned(), &[Who::Bearer, Who::Batch]),
        ("key:0123".to_owned(), &[]),
        ("all".to_owned(), &EVERYBODY),
    ] {
        world.must_kill(&scope, doomed).await;
    }
}

/// The two keys of a broker are two scopes: what the one signed goes on where the other is taken out of use.
#[tokio::test]
async fn class_06_the_quarantine_of_the_authority_kills_certificates_and_leaves_tokens() {
    let mut world = World::new(Site::start_with(FROM, &more()).await).await;
    let broker = &world.pair.site.running.broker;
    let ski = broker.keys().authority(broker.now()).unwrap().key_id().to_owned();
    let scope = format!("key:{ski}");
    let (before, token) =
        (world.certify().await.unwrap(), world.issue(Who::Finance).await.unwrap());
    drop(world.admit(&before).await.unwrap());
    world.pair.quarantine(&scope).await;
    assert_eq!(world.admit(&before).await.err(), Some(Refused::Dead(Dead::Quarantined)));
    drop(token.check(&world.pair.verifier).unwrap());
    assert_eq!(reason(&world.certify().await.unwrap_err()), "SIGNING_KEY_QUARANTINED");
    world.hears_everywhere_of(&scope).await;
    let since = world.pair.once_succeeded(async || world.certify().await).await;
    drop(world.admit(&since).await.unwrap());
    world.pair.lift(&scope).await;
    assert_eq!(world.admit(&before).await.err(), Some(Refused::Dead(Dead::Quarantined)));
}

impl World {
    /// A certificate for the task of the class `finance`, with what leads up to the bundle.
    async fn certify(&self) -> Result<Vec<Vec<u8>>, Status> {
        let csr_der = csr(&KeyPair::generate().unwrap()).der().to_vec();
        let credential =
            v1::issue_credential_request::Credential::X509Svid(v1::X509SvidRequest { csr_der });
        let (_, task) = &self.tasks[0];
        let request =
            v1::IssueCredentialRequest { credential: Some(credential), ..token_request(task) };
        let issued = self.pair.site.credentials(AGENT).issue_credential(request).await?;
        Ok(issued.into_inner().credential.unwrap().certificate_chain_der)
    }

    async fn admit(&self, chain: &[Vec<u8>]) -> Result<Admission, Refused> {
        let above: Vec<&[u8]> = chain[1..].iter().map(Vec::as_slice).collect();
        self.pair.verifier.admit_certificate(&chain[0], &above).await
    }
}
