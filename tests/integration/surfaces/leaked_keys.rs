//! A signing key is in a thief's hands: what it signs is dead once the key is quarantined, whatever it says of itself, and honest work
//! goes on under a successor.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use leasehold::broker::seams::Clock;
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::lattice::Dead;
use leasehold::domain::time::{Span, Stamp};
use leasehold::jose::access_token::AccessTokenError;
use leasehold::keys::Keys;
use leasehold::proto::v1;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::{Refused, Verifier};
use serde_json::{Value, json};
use tonic::Status;

use super::http::Http;
use super::site::{AGENT, ORCHESTRATOR, Site, VERIFIER, reason, request_id, token_request};
use super::verifier::{Pair, Token, follow};

/// Who has a copy of the keys, as they were.
pub struct Thief {
    keys: Arc<Keys>,
    pub kid: String,
    genuine: Value,
}

impl Thief {
    /// It has seen a token, too.
    pub fn of(site: &Site, seen: &Token) -> Self {
        let keys = site.running.broker.keys();
        let claims = seen.text.split('.').nth(1).unwrap();
        let genuine = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap());
        let kid = keys.access_token_key(site.clock.now()).unwrap().key().kid().to_owned();
        Self { keys, kid, genuine: genuine.unwrap() }
    }

    /// A token for a task and a lease that it made up, committed at `at`.
    pub fn forge(&self, at: Stamp) -> Token {
        let lease = LeaseId::new(Partition::ZERO, 0xbad).to_string();
        let task = TaskId::new(Partition::ZERO, 0xbad).to_string();
        self.forge_with(at, |claims| {
            claims["txn"] = json!(task);
            claims["leasehold"]["path"] = json!([[task, 1]]);
            claims["leasehold"]["lease"] = json!(lease);
        })
    }

    /// One that says of itself what the thief likes.
    pub fn forge_with(&self, at: Stamp, change: impl FnOnce(&mut Value)) -> Token {
        let mut claims = self.genuine.clone();
        let seconds = at.seconds();
        claims["iat"] = json!(seconds);
        claims["nbf"] = json!(seconds - 5);
        claims["exp"] = json!(seconds + 86_400);
        claims["jti"] = json!(BASE64_URL_SAFE_NO_PAD.encode([7; 16]));
        claims["leasehold"]["origin"][1] = json!(at.micros().to_string());
        change(&mut claims);
        let key = self.keys.access_token_key_named(&self.kid).unwrap();
        let text = key.key().sign("at+jwt", &claims).unwrap();
        Token::of(text.expose_text().to_owned())
    }
}

impl Pair {
    /// Quarantines a scope, which is FENCED when this ends.
    pub async fn quarantine(&self, scope: &str) -> v1::QuarantineResponse {
        let request = v1::QuarantineRequest {
            request_id: request_id(),
            scope: scope.to_owned(),
            reason: "it leaked".into(),
            ..Default::default()
        };
        let mut operator = self.operator();
        let answer = self.while_time_passes(operator.quarantine(request)).await.unwrap();
        let answer = answer.into_inner();
        let enforcement = answer.revocation.as_ref().unwrap().enforcement();
        assert_eq!(enforcement, v1::Enforcement::Fenced, "{scope}: {answer:?}");
        answer
    }

    pub async fn lift(&self, scope: &str) -> v1::LiftQuarantineResponse {
        let request = v1::LiftQuarantineRequest {
            request_id: request_id(),
            scope: scope.to_owned(),
            ..Default::default()
        };
        self.operator().lift_quarantine(request).await.unwrap().into_inner()
    }
}

async fn published(site: &Site, path: &str) -> String {
    Http::of(site, None).get(path).await.1
}

async fn introspects(site: &Site, token: &Token) -> bool {
    let credential = v1::introspect_credential_request::Credential::Token(token.text.clone());
    let request = v1::IntrospectCredentialRequest { credential: Some(credential) };
    let mut verification = site.verification(VERIFIER);
    verification.introspect_credential(request).await.unwrap().into_inner().active
}

/// The key is not known, or known to be out of use.
pub fn must_refuse(verifier: &Verifier, token: &Token) {
    let refused = token.check(verifier).expect_err("a forged token was let in");
    let is_unknown = matches!(&refused, Refused::Token(AccessTokenError::Jws(_)));
    assert!(is_unknown || refused == Refused::Dead(Dead::Quarantined), "{refused:?}");
}

/// From the moment of the answer on.
async fn must_be_published_no_more(site: &Site, kid: &str) {
    for path in ["/oauth2/jwks", "/spiffe/keys", "/spiffe/bundle.json"] {
        assert!(!published(site, path).await.contains(kid), "{path}");
    }
    let mut verification = site.verification(VERIFIER);
    let bundle = verification.get_trust_bundle(v1::GetTrustBundleRequest {}).await.unwrap();
    assert!(!bundle.into_inner().access_token_jwks.contains(kid));
}

#[tokio::test]
async fn class_06_what_a_thief_signs_with_a_quarantined_key_is_dead_over_the_embedded_store() {
    what_a_thief_signs_with_a_quarantined_key_is_dead(Site::start().await, false).await;
}

#[tokio::test]
async fn class_06_what_a_thief_signs_with_a_quarantined_key_is_dead_over_redis() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis(&server).await;
    what_a_thief_signs_with_a_quarantined_key_is_dead(site, true).await;
}

fn must_name(refused: &Status, kid: &str) {
    assert_eq!(reason(refused), "SIGNING_KEY_QUARANTINED");
    assert!(refused.message().contains(kid), "{refused}");
}

/// `time_passes`: by a server's own clock the time of the successor may have come before anybody asks.
async fn what_a_thief_signs_with_a_quarantined_key_is_dead(site: Site, time_passes: bool) {
    let pair = Pair::at(site, |_| {}).await;
    let (task, lease, token) = pair.token().await;
    let thief = Thief::of(&pair.site, &token);
    let now = || pair.site.clock.now();
    let scope = format!("key:{}", thief.kid);
    // What the thief makes is good until somebody notices, whatever else is quarantined.
    let own = |claims: &mut Value| claims["leasehold"]["lease"] = json!(lease.lease_id);
    drop(thief.forge(now()).check(&pair.verifier).unwrap());
    pair.quarantine("all").await;
    pair.site.clock.forward(Span::from_seconds(1));
    drop(thief.forge(now()).check(&pair.verifier).unwrap());
    assert!(introspects(&pair.site, &thief.forge_with(now(), own)).await);
    pair.lift("all").await;
    let since = Token::of(pair.site.issue(&task).await.credential.unwrap().access_token);

    assert_eq!(pair.quarantine(&scope).await.warning, "");
    pair.site.clock.forward(Span::from_seconds(1));
    let forged = || {
        let before = Token { text: since.text.clone(), certificate: since.certificate };
        [thief.forge(now()), thief.forge_with(now(), own), before]
    };
    for token in forged() {
        assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Quarantined));
        assert!(!introspects(&pair.site, &token).await);
    }
    must_be_published_no_more(&pair.site, &thief.kid).await;

    // Honest work goes on as soon as the successor is known.
    let issue = async || {
        let request = token_request(&task);
        Ok(pair.site.credentials(AGENT).issue_credential(request).await?.into_inner())
    };
    match issue().await {
        Ok(_) => assert!(time_passes, "nobody knows the successor yet"),
        Err(refused) => must_name(&refused, &thief.kid),
    }
    let issued = pair.once_succeeded(issue).await;
    let honest = Token::of(issued.credential.unwrap().access_token);
    drop(pair.verifier.admit(&honest.shown()).await.unwrap());
    assert!(introspects(&pair.site, &honest).await);

    // What the key signed before is not renewed: clients ask anew when a lease is over.
    let renew = v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: lease.lease_id.clone(),
        ..Default::default()
    };
    let renewed = pair.site.credentials(AGENT).renew_credential(renew).await;
    assert_eq!(reason(&renewed.unwrap_err()), "LEASE_REVOKED");

    // The thief cannot end it either, though it knows the lease.
    let living = issued.lease.unwrap().lease_id;
    let shown = thief.forge_with(now(), |c| c["leasehold"]["lease"] = json!(living));
    let revoke = format!("token={}", shown.text);
    assert_eq!(Http::of(&pair.site, None).post("/oauth2/revoke", &revoke).await.0, 200);
    assert!(introspects(&pair.site, &honest).await);

    // Lifting revives nothing, and a verifier that starts anew learns it as well.
    assert!(pair.lift(&scope).await.warning.contains("out of use"));
    let (newcomer, _folder) = follow(&pair.site);
    newcomer.ready().await;
    for token in forged() {
        must_refuse(&pair.verifier, &token);
        must_refuse(&newcomer, &token);
        assert!(!introspects(&pair.site, &token).await);
    }
    assert!(!published(&pair.site, "/oauth2/jwks").await.contains(&thief.kid));
    let issued = pair.site.issue(&task).await.credential.unwrap().access_token;
    drop(Token::of(issued).check(&pair.verifier).unwrap());
    let complete = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id,
        ..Default::default()
    };
    let mut tasks = pair.site.tasks(ORCHESTRATOR);
    pair.while_time_passes(tasks.complete_task(complete)).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_none_of_ours_is_doubted_and_lifting_what_stands_for_nothing_says_so() {
    let pair = Pair::start().await;
    let answer = pair.quarantine("key:AB:CD").await;
    assert_eq!(answer.scope, "key:abcd");
    assert!(answer.warning.contains("`key:abcd` misspelt"), "{}", answer.warning);
    assert!(pair.lift("class:nobody").await.warning.contains("was not quarantined"));
    let ca = pair.site.running.broker.keys();
    let ca = ca.authority(pair.site.clock.now()).unwrap().key_id().to_ascii_uppercase();
    let answer = pair.quarantine(&format!("key:{ca}")).await;
    assert_eq!(answer.warning, "");
    assert_eq!(answer.scope, format!("key:{}", ca.to_ascii_lowercase()));
}
