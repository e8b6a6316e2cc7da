//! What an API server says, and what is made of it.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::domain::platform::Platform;
use crate::domain::principal::Name;
use crate::identity::oidc::{JwksSource, OidcError, OidcIssuer, OidcVerifier, Verified};
use crate::testing::issuer::{Answer, TestIssuer};

const SUBJECT: &str = "system:serviceaccount:docs:summarizer";

fn at(seconds: u64) -> Stamp {
    Stamp::from_seconds(1_790_000_000 + seconds)
}

/// A cluster whose API server publishes its keys and answers questions; a broker that asks it.
struct Cluster {
    server: TestIssuer,
    verifier: Arc<OidcVerifier>,
    own_token: tempfile::NamedTempFile,
    /// By `jti`; no two signatures are alike.
    tokens: Mutex<BTreeMap<String, String>>,
}

impl Cluster {
    async fn start() -> Self {
        let server = TestIssuer::start().await;
        let own_token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(own_token.path(), "own-1\n").unwrap();
        let verifier = OidcVerifier::new(vec![config(&server, own_token.path())], &[], 0).unwrap();
        let (verifier, tokens) = (Arc::new(verifier), Mutex::default());
        let cluster = Self { server, verifier, own_token, tokens };
        cluster.answer(&review(&status()));
        cluster
    }

    fn answer(&self, body: &Value) {
        self.server.set(PATH, Answer { status: 201, ..Answer::of(body) });
    }

    fn token(&self, jti: &str) -> String {
        let mut claims = self.server.claims(SUBJECT, "leasehold", at(0));
        claims["jti"] = json!(jti);
        claims["kubernetes.io"] = json!({
            "namespace": "docs", "serviceaccount": {"name": "summarizer", "uid": "u-account"},
            "pod": {"name": "summarizer-0", "uid": "u-pod"},
        });
        let mut tokens = self.tokens.lock();
        tokens.entry(jti.to_owned()).or_insert_with(|| self.server.sign(&claims)).clone()
    }

    async fn verify(&self, jti: &str, now: Stamp) -> Result<Verified, OidcError> {
        self.verifier.verify(&self.token(jti), now).await
    }

    async fn refusal(&self, jti: &str, now: Stamp) -> OidcError {
        self.verify(jti, now).await.unwrap_err()
    }

    fn questions(&self) -> usize {
        self.server.fetches_of(PATH)
    }
}

fn config(server: &TestIssuer, own_token: &Path) -> OidcIssuer {
    OidcIssuer {
        name: Name::parse("k8s").unwrap(),
        issuer: server.url.clone(),
        audience: "leasehold".into(),
        jwks: JwksSource::Discovery,
        max_lifetime: Span::from_seconds(3600),
        platform: Some(Platform::Kubernetes),
        token_review: Some(TokenReviewConfig {
            api_server: format!("{}/", server.url),
            token_file: own_token.to_owned(),
            ca_file: None,
        }),
        in_cluster: false,
        danger_loopback: true,
        ca_file: None,
    }
}

fn review(status: &Value) -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "status": status})
}

fn status() -> Value {
    json!({
        "authenticated": true, "audiences": ["leasehold"],
        "user": {
            "username": SUBJECT, "uid": "u-account",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["summarizer-0"],
                "authentication.kubernetes.io/pod-uid": ["u-pod"],
            },
        },
    })
}

#[tokio::test]
async fn a_token_is_confirmed_as_the_broker_by_the_api_server() {
    let cluster = Cluster::start().await;
    let verified = cluster.verify("1", at(0)).await.unwrap();
    assert_eq!(verified.caller.instance(), "pod:u-pod");
    assert_eq!(verified.until, at(0).plus(ANSWER_AGE));
    let question = cluster.server.last_request(PATH).unwrap();
    assert_eq!(question.method, "POST");
    assert_eq!(question.authorization.as_deref(), Some("Bearer own-1"));
    let body: Value = serde_json::from_str(&question.body).unwrap();
    assert_eq!(body["spec"], json!({"token": cluster.token("1"), "audiences": ["leasehold"]}));
    // Its own token rotates in its file.
    std::fs::write(cluster.own_token.path(), "own-2").unwrap();
    cluster.verify("2", at(0)).await.unwrap();
    let question = cluster.server.last_request(PATH).unwrap();
    assert_eq!(question.authorization.as_deref(), Some("Bearer own-2"));
}

#[tokio::test]
async fn a_token_of_a_deleted_pod_is_refused_once_the_last_answer_is_old() {
    let cluster = Cluster::start().await;
    cluster.verify("1", at(0)).await.unwrap();
    cluster.answer(&review(&json!({
        "user": {}, "error": "[invalid bearer token, service account token has been invalidated]",
    })));
    assert!(cluster.verify("1", at(9)).await.is_ok());
    assert_eq!(cluster.questions(), 1);
    let refused = cluster.refusal("1", at(10)).await;
    assert_eq!(refused, OidcError::Review(ReviewError::NotAuthenticated));
    assert!(!refused.is_retriable());
    // A clear no is remembered as well, as briefly.
    assert_eq!(cluster.refusal("1", at(19)).await, refused);
    assert_eq!(cluster.questions(), 2);
    cluster.answer(&review(&status()));
    assert!(cluster.verify("1", at(20)).await.is_ok());
}

#[tokio::test]
async fn an_answer_is_not_believed_past_the_tokens_expiry() {
    let cluster = Cluster::start().await;
    let verified = cluster.verify("1", at(295)).await.unwrap();
    assert_eq!(verified.until, at(300));
    // Another clock's minute is forgiven it; the API server has the last word.
    cluster.answer(&review(&json!({"error": "token has expired"})));
    let refused = cluster.refusal("1", at(301)).await;
    assert_eq!(refused, OidcError::Review(ReviewError::NotAuthenticated));
}

#[tokio::test]
async fn a_yes_for_another_audience_account_or_pod_is_a_no() {
    let cluster = Cluster::start().await;
    let account = ReviewError::Claim("kubernetes.io/serviceaccount/uid");
    let pod = ReviewError::Claim("kubernetes.io/pod/uid");
    let pod_uid = "/user/extra/authentication.kubernetes.io~1pod-uid";
    for (n, (pointer, value, error)) in [
        ("/authenticated", json!(false), ReviewError::NotAuthenticated),
        ("/audiences", json!(["https://kubernetes.default.svc"]), ReviewError::Audience),
        ("/audiences", json!([]), ReviewError::Audience),
        ("/audiences", json!("leasehold"), ReviewError::Audience),
        ("/user/username", json!("system:serviceaccount:docs:other"), ReviewError::Claim("sub")),
        ("/user/username", json!(null), ReviewError::Claim("sub")),
        ("/user/uid", json!("u-account-2"), account),
        ("/user/uid", json!(7), account),
        (pod_uid, json!(["u-pod-2"]), pod),
        (pod_uid, json!([]), pod),
        (pod_uid, json!(["u-pod", "u-pod"]), pod),
        (pod_uid, json!("u-pod"), pod),
        ("/user", json!(null), ReviewError::Claim("sub")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut status = status();
        *status.pointer_mut(pointer).unwrap() = value.clone();
        cluster.answer(&review(&status));
        let refused = cluster.refusal(&n.to_string(), at(0)).await;
        assert_eq!(refused, OidcError::Review(error), "{pointer}: {value}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_no_for_now_and_is_asked_for_again() {
    let cluster = Cluster::start().await;
    let redirect = Answer::status(307).with("location", "/elsewhere");
    let made = |body: String| Answer { status: 201, ..Answer::of(body) };
    let big = format!("{{\"pad\":\"{}\"}}", "x".repeat(MAX_SET_BYTES));
    let mut odd = status();
    odd["authenticated"] = json!("true");
    let twice =
        review(&status()).to_string().replacen("\"status\":", "\"status\":{},\"status\":", 1);
    let answers = [
        Answer::status(401),
        Answer::status(403),
        Answer::status(404),
        Answer::status(429),
        Answer::status(500),
        redirect,
        Answer::of(review(&status())),
        made(big),
        made("not json".to_owned()),
        made(twice),
        made(review(&json!(null)).to_string()),
        made(json!({"kind": "Status", "status": status()}).to_string()),
        made(review(&odd).to_string()),
        made(review(&status()).to_string()).with("content-encoding", "gzip"),
    ];
    let asked = answers.len();
    for answer in answers {
        let said = format!("{} {:.40}", answer.status, answer.body);
        cluster.server.set(PATH, answer);
        let refused = cluster.refusal("1", at(0)).await;
        assert_eq!(refused, OidcError::Review(ReviewError::Unavailable), "{said}");
        assert!(refused.is_retriable());
    }
    assert_eq!(cluster.questions(), asked);
    assert_eq!(cluster.server.fetches_of("/elsewhere"), 0);
    cluster.answer(&review(&status()));
    assert!(cluster.verify("1", at(0)).await.is_ok());
}

#[tokio::test]
async fn without_its_own_token_the_broker_takes_nobodys() {
    let cluster = Cluster::start().await;
    std::fs::write(cluster.own_token.path(), "two\nlines").unwrap();
    let refused = cluster.refusal("1", at(0)).await;
    assert_eq!(refused, OidcError::Review(ReviewError::Unavailable));
    std::fs::remove_file(cluster.own_token.path()).unwrap();
    assert_eq!(cluster.refusal("1", at(0)).await, refused);
    assert_eq!(cluster.questions(), 0);
}

#[tokio::test]
async fn an_unsound_token_never_reaches_the_api_server() {
    let cluster = Cluster::start().await;
    let mut claims = cluster.server.claims(SUBJECT, "other", at(0));
    claims["kubernetes.io"] = json!({});
    let refused = cluster.verifier.verify(&cluster.server.sign(&claims), at(0)).await.unwrap_err();
    assert_eq!(refused, OidcError::Audience);
    assert_eq!(cluster.questions(), 0);
}

#[tokio::test]
async fn many_who_show_one_token_are_one_question() {
    let cluster = Cluster::start().await;
    // The keys are there; from now on the server answers nobody.
    cluster.verify("0", at(0)).await.unwrap();
    let held = cluster.server.hold().await;
    let token = cluster.token("1");
    let ask = || {
        let (verifier, token) = (Arc::clone(&cluster.verifier), token.clone());
        tokio::spawn(async move { verifier.verify(&token, at(0)).await })
    };
    let all: Vec<_> = (0..20).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    drop(held);
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(cluster.questions(), 2);
}

#[tokio::test]
async fn a_question_that_is_given_up_leaves_the_next_one_to_ask() {
    let cluster = Cluster::start().await;
    cluster.verify("0", at(0)).await.unwrap();
    let held = cluster.server.hold().await;
    let given_up = futures_util::FutureExt::now_or_never(cluster.verify("1", at(0)));
    assert!(given_up.is_none(), "it waits for the answer");
    drop(held);
    cluster.verify("1", at(0)).await.unwrap();
}

#[tokio::test]
async fn more_callers_than_may_wait_are_refused_for_now() {
    let cluster = Cluster::start().await;
    let config = config(&cluster.server, cluster.own_token.path());
    let reviewer = TokenReviewer::new(&config.token_review.unwrap(), "leasehold", true).unwrap();
    let claims = BTreeMap::new();
    let all = reviewer.waiting.try_acquire_many(u32::try_from(MAX_WAITING).unwrap()).unwrap();
    let refused = reviewer.confirm("a", &claims, at(300), at(0)).await;
    assert_eq!(refused, Err(ReviewError::Unavailable));
    assert_eq!(cluster.questions(), 0);
    drop(all);
    let refused = reviewer.confirm("a", &claims, at(300), at(0)).await;
    assert_eq!(refused, Err(ReviewError::Claim("sub")));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_says_nothing_is_given_up() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 1024]).await;
            let _ = socket.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\n{").await;
            open.push(socket);
        }
    });
    let own_token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(own_token.path(), "own").unwrap();
    let token_file = own_token.path().to_owned();
    let config = TokenReviewConfig { api_server: url, token_file, ca_file: None };
    let reviewer = TokenReviewer::new(&config, "leasehold", true).unwrap();
    let began = tokio::time::Instant::now();
    let refused = reviewer.confirm("a", &BTreeMap::new(), at(300), at(0)).await;
    assert_eq!(refused, Err(ReviewError::Unavailable));
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn class_22_an_api_server_that_must_not_be_asked_is_refused_at_start() {
    let server = TestIssuer::start().await;
    let base = config(&server, Path::new("/nowhere"));
    let at = |url: &str, danger_loopback| {
        let review =
            TokenReviewConfig { api_server: url.into(), ..base.token_review.clone().unwrap() };
        TokenReviewer::new(&review, "leasehold", danger_loopback).err()
    };
    for url in
        ["http://10.0.0.1", "https://169.254.169.254", "https://127.0.0.1", "https://a@b", ""]
    {
        assert!(at(url, false).is_some(), "{url}");
    }
    assert!(at("https://10.96.0.1:443", false).is_none());
    assert!(at("http://127.0.0.1:1", true).is_none());
    let other = OidcIssuer { platform: None, ..base };
    let refused = OidcVerifier::new(vec![other], &[], 0).unwrap_err();
    assert!(refused.to_string().contains("for Kubernetes alone"), "{refused}");
}
