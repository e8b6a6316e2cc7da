//! The call in JSON: what is answered to whom.

use leasehold::broker::seams::Clock as _;
use leasehold::domain::secret::Secret;
use leasehold::domain::time::Span;
use leasehold::jose::SigningKey;
use leasehold::jose::dpop::{HttpsUri, NonceKey, Statement, prove};
use leasehold::proto::v1;
use leasehold::sidecar::Options;
use leasehold::verifier::WhenStale;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::super::dpop;
use super::super::leaked_keys::Thief;
use super::super::site::{AGENT, request_id};
use super::{Beside, HOUR, PATIENCE, call, with, without};

const TARGET: &str = "https://ledger.example";

#[tokio::test]
async fn a_living_token_is_let_in_and_its_task_and_grant_are_told() {
    let beside = Beside::start().await;
    let (task, lease, token) = beside.pair.token().await;
    let (status, said) = beside.verify(&call(&token)).await;
    assert_eq!((status, &said["active"]), (200, &json!(true)), "{said}");
    assert_eq!(said["task"], task.task_id.as_str());
    assert_eq!(said["path"], json!([{ "task": task.task_id, "epoch": 1 }]));
    assert_eq!(said["lease"], lease.lease_id.as_str());
    assert_eq!((&said["subject"], &said["agent"]), (&json!(AGENT), &json!(AGENT)));
    assert_eq!(said["actions"], json!(["read", "write"]));
    assert_eq!(said["claims"]["aud"], TARGET);
    let time = |name: &str| said[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let now = i64::try_from(beside.pair.site.clock.now().seconds()).unwrap();
    assert!((now..=now + 300).contains(&time("expires_at").as_second()), "{said}");
    assert!((now - 1..=now + 5).contains(&time("fresh_until").as_second()), "{said}");
    assert_eq!(beside.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(beside.get("/readyz").await, (200, "ready\n".to_owned()));
    let (_, numbers) = beside.get("/metrics").await;
    assert!(
        numbers
            .contains("leasehold_sidecar_answers_total{surface=\"verify\",outcome=\"admitted\"}")
    );
}

#[tokio::test]
async fn class_06_what_a_thief_signs_with_a_quarantined_key_is_refused() {
    let beside = Beside::start().await;
    let (_, _, token) = beside.pair.token().await;
    let thief = Thief::of(&beside.pair.site, &token);
    let forged = || call(&thief.forge(beside.pair.site.clock.now()));
    assert_eq!(beside.verify(&forged()).await.0, 200, "until somebody notices");
    beside.pair.quarantine(&format!("key:{}", thief.kid)).await;
    beside.pair.site.clock.forward(Span::from_seconds(1));
    assert_eq!(beside.refused(&forged()).await, (401, "QUARANTINED".to_owned()));
}

#[tokio::test]
async fn class_20_whoever_shows_anything_less_is_refused_and_told_what_to_answer() {
    let beside = Beside::start().await;
    let (_, _, token) = beside.pair.token().await;
    let (_, _, other) = beside.pair.token().await;
    let good = call(&token);
    let bearer = |text: &str| with(good.clone(), "authorization", format!("Bearer {text}"));
    let (said, signature) = token.text.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let tampered = format!("{said}.{first}{}", &signature[1..]);
    let challenge = |error: &str| Some(format!("Bearer error=\"{error}\""));
    for (case, status, reason, starts) in [
        (without(good.clone(), "authorization"), 401, "IDENTITY_UNVERIFIED", Some("Bearer".into())),
        (
            with(good.clone(), "authorization", Value::Null),
            401,
            "IDENTITY_UNVERIFIED",
            Some("Bearer".into()),
        ),
        (
            with(good.clone(), "authorization", "Basic YTpi"),
            401,
            "IDENTITY_UNVERIFIED",
            Some("Bearer".into()),
        ),
        (bearer(""), 400, "REQUEST_INVALID", challenge("invalid_request")),
        (bearer(&tampered), 401, "IDENTITY_UNVERIFIED", challenge("invalid_token")),
        (
            bearer(&format!("{0},{0}", token.text)),
            401,
            "IDENTITY_UNVERIFIED",
            challenge("invalid_token"),
        ),
        (
            without(good.clone(), "certificate_sha256"),
            401,
            "PROOF_INVALID",
            challenge("invalid_token"),
        ),
        (
            with(good.clone(), "certificate_sha256", "A".repeat(43)),
            401,
            "PROOF_INVALID",
            challenge("invalid_token"),
        ),
        (
            with(good.clone(), "actions", json!(["read", "delete"])),
            403,
            "POLICY_DENIED",
            challenge("insufficient_scope"),
        ),
        (
            with(good.clone(), "authorization", format!("DPoP {}", token.text)),
            401,
            "PROOF_INVALID",
            Some("DPoP error=\"invalid_token\"".into()),
        ),
    ] {
        let (answered, headers, said) =
            beside.post("/v1/verify", "application/json", case.to_string()).await;
        assert_eq!((answered, said["reason"].as_str().unwrap()), (status, reason), "{case}");
        let header = headers["www-authenticate"].to_str().unwrap();
        assert!(header.starts_with(&starts.unwrap()), "{header}");
        assert_eq!(said["headers"], json!([["www-authenticate", header]]));
        assert_eq!((&said["active"], &said["retriable"]), (&json!(false), &json!(false)));
        assert!(!said.to_string().contains(&token.text));
    }
    assert_eq!(beside.verify(&good).await.0, 200);
    assert_eq!(beside.verify(&call(&other)).await.0, 200);
}

#[tokio::test]
async fn what_is_no_question_is_no_verdict_either_and_nothing_of_it_is_repeated() {
    let beside = Beside::start().await;
    let (_, _, token) = beside.pair.token().await;
    let good = call(&token);
    let text = good.to_string();
    let twice = text.replacen('{', "{\"actions\":[],", 1);
    let large = with(good.clone(), "path", "/".repeat(64 * 1024)).to_string();
    let json_kind = "application/json";
    for (path, kind, body, status) in [
        ("/v1/verify", json_kind, without(good.clone(), "actions").to_string(), 422),
        ("/v1/verify", json_kind, with(good.clone(), "action", "read").to_string(), 422),
        ("/v1/verify", json_kind, with(good.clone(), "actions", "read").to_string(), 422),
        ("/v1/verify", json_kind, with(good.clone(), "dpop", token.text.as_str()).to_string(), 422),
        ("/v1/verify", json_kind, with(good.clone(), "dpop", json!(["a.b.c"])).to_string(), 422),
        ("/v1/verify", json_kind, with(good.clone(), "certificate", "PEM").to_string(), 422),
        (
            "/v1/verify",
            json_kind,
            with(good.clone(), "certificate_sha256", "AAAA").to_string(),
            422,
        ),
        ("/v1/verify", json_kind, twice, 422),
        ("/v1/verify", json_kind, text.replacen('{', "[", 1), 422),
        ("/v1/verify", json_kind, String::new(), 422),
        ("/v1/verify", json_kind, large, 413),
        ("/v1/verify", "text/plain", text.clone(), 415),
        ("/v1/admit", json_kind, without(good.clone(), "actions").to_string(), 422),
        ("/v1/verified", json_kind, text.clone(), 404),
    ] {
        let (answered, _, said) = beside.post(path, kind, body.clone()).await;
        assert_eq!(answered, status, "{said}");
        assert!(said.get("active").is_none(), "{said}");
        assert!(!said.to_string().contains(&token.text), "{said}");
    }
    let without_thumbprint = without(good.clone(), "certificate_sha256");
    let pem = beside.pair.site.svid(AGENT).chain_pem();
    let other = with(without_thumbprint, "certificate", pem);
    assert_eq!(beside.refused(&other).await, (401, "PROOF_INVALID".to_owned()));
}

#[tokio::test]
async fn class_06_once_an_ending_is_fenced_the_next_answer_is_no() {
    let beside = Beside::start().await;
    let (task, _, token) = beside.pair.token().await;
    let (_, _, other) = beside.pair.token().await;
    assert_eq!(beside.verify(&call(&token)).await.0, 200);
    let fenced = beside.pair.complete(&task, v1::Enforcement::Fenced).await;
    assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
    assert_eq!(beside.refused(&call(&token)).await, (401, "EPOCH_STALE".to_owned()));
    assert_eq!(beside.verify(&call(&other)).await.0, 200);
}

#[tokio::test]
async fn class_07_once_its_view_is_as_old_as_delta_it_says_no_and_that_it_is_not_ready() {
    let beside = Beside::start().await;
    let (_, _, token) = beside.pair.token().await;
    assert_eq!(beside.verify(&call(&token)).await.0, 200);
    let Beside { pair, socket, stop, serving, _folder } = beside;
    let clock = pair.site.clock.clone();
    pair.site.running.stop().await;
    assert_eq!(socket.verify(&call(&token)).await.0, 200, "what was known a moment ago is fresh");
    clock.forward(Span::from_seconds(5));
    let (status, said) = socket.verify(&call(&token)).await;
    assert_eq!((status, said["reason"].as_str()), (503, Some("DEPENDENCY_UNAVAILABLE")));
    assert_eq!((&said["retriable"], &said["headers"]), (&json!(true), &json!([])));
    let (status, said) = socket.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(said.starts_with("not ready: what is known of revocations is "), "{said}");
    stop.cancel();
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_view_that_is_too_old_is_made_up_for_by_asking_if_so_told() {
    let beside =
        Beside::start_with(|s| s.when_stale = WhenStale::Introspect, Options::default()).await;
    let (task, _, token) = beside.pair.token().await;
    beside.pair.site.clock.forward(Span::from_seconds(5));
    let (status, said) = beside.verify(&call(&token)).await;
    assert_eq!((status, &said["active"]), (200, &json!(true)), "{said}");
    beside.pair.complete(&task, v1::Enforcement::Recorded).await;
    beside.pair.site.clock.forward(Span::from_seconds(5));
    let (status, said) = beside.verify(&call(&token)).await;
    assert_eq!((status, &said["active"]), (401, &json!(false)), "{said}");
}

/// A token that is bound to a key, and the key.
async fn bound(beside: &Beside) -> (String, SigningKey) {
    let (site, key) = (&beside.pair.site, SigningKey::generate().unwrap().0);
    let task = site.begin().await;
    let issue = "/leasehold.v1.CredentialService/IssueCredential";
    let proof = dpop::proof(site, &key, &dpop::place(site), issue, None);
    let issued = dpop::issue(site, dpop::bound(&task), &[proof]).await.unwrap();
    (issued.credential.unwrap().access_token, key)
}

pub(super) fn proof(
    beside: &Beside,
    (token, key): (&str, &SigningKey),
    (method, url): (&str, &str),
    nonce: Option<&str>,
) -> String {
    let uri = HttpsUri::parse(url).unwrap();
    let (issued, jti) = (beside.pair.site.clock.now(), request_id());
    let token = Some(token);
    let statement = Statement { method, uri: &uri, jti: &jti, issued, token, nonce };
    prove(key, statement).unwrap().expose_text().to_owned()
}

/// The nonce that a sidecar which began a moment ago demands: it does not know which proofs the one before it saw.
async fn demanded(beside: &Beside, call: &Value) -> String {
    let (status, said) = beside.verify(call).await;
    assert_eq!((status, &said["reason"]), (401, &json!("PROOF_NONCE_REQUIRED")), "{said}");
    assert_eq!(said["headers"][1][0], "dpop-nonce");
    said["headers"][1][1].as_str().unwrap().to_owned()
}

fn dpop_call(token: &str, proofs: &[&str]) -> Value {
    json!({
        "authorization": format!("DPoP {token}"),
        "dpop": proofs,
        "method": "POST",
        "path": "/entries?page=2",
        "actions": ["read"],
    })
}

#[tokio::test]
async fn class_23_a_proof_is_good_once_for_the_request_that_is_asked_about() {
    let targets = vec![HttpsUri::parse(TARGET).unwrap()];
    let beside = Beside::start_with(|s| s.rules.targets = targets, Options::default()).await;
    let (token, key) = bound(&beside).await;
    let entries = format!("{TARGET}/entries");
    let unseen = proof(&beside, (&token, &key), ("POST", &entries), None);
    let nonce = demanded(&beside, &dpop_call(&token, &[&unseen])).await;
    let good = || proof(&beside, (&token, &key), ("POST", &entries), Some(&nonce));
    let once = good();
    assert_eq!(beside.verify(&dpop_call(&token, &[&once])).await.0, 200);
    let refused = async |call: Value| {
        let (status, said) = beside.verify(&call).await;
        let [name, challenge] = [0, 1].map(|n| said["headers"][0][n].as_str().unwrap());
        assert_eq!((status / 100, name), (4, "www-authenticate"));
        assert!(challenge.starts_with("DPoP error=\"inv") || !challenge.starts_with("DPoP"));
        said["reason"].as_str().unwrap().to_owned()
    };
    assert_eq!(refused(dpop_call(&token, &[&once])).await, "PROOF_REPLAYED");
    assert_eq!(refused(dpop_call(&token, &[])).await, "PROOF_INVALID");
    assert_eq!(refused(dpop_call(&token, &[&good(), &good()])).await, "REQUEST_INVALID");
    let other_key = SigningKey::generate().unwrap().0;
    for wrong in [
        proof(&beside, (&token, &key), ("GET", &entries), None),
        proof(&beside, (&token, &key), ("POST", "https://ledger.example/entry"), None),
        proof(&beside, (&token, &key), ("POST", "https://other.example/entries"), None),
        proof(&beside, ("a.b.c", &key), ("POST", &entries), None),
        proof(&beside, (&token, &other_key), ("POST", &entries), None),
    ] {
        assert_eq!(refused(dpop_call(&token, &[&wrong])).await, "PROOF_INVALID");
    }
    let bearer = with(dpop_call(&token, &[&good()]), "authorization", format!("Bearer {token}"));
    assert_eq!(refused(bearer).await, "PROOF_INVALID");
}

#[tokio::test]
async fn class_23_where_proofs_must_have_a_nonce_the_refusal_brings_one() {
    let key = NonceKey::derive(&Secret::new(vec![7; 32])).unwrap();
    let change = |settings: &mut leasehold::verifier::Settings| {
        settings.rules.targets = vec![HttpsUri::parse(TARGET).unwrap()];
        settings.rules.nonces = Some(key);
    };
    let beside = Beside::start_with(change, Options::default()).await;
    let (token, key) = bound(&beside).await;
    let entries = format!("{TARGET}/entries");
    let with_nonce =
        |nonce: Option<&str>| proof(&beside, (&token, &key), ("POST", &entries), nonce);
    let (status, headers, said) = beside
        .post("/v1/verify", "application/json", dpop_call(&token, &[&with_nonce(None)]).to_string())
        .await;
    assert_eq!((status, &said["error"]), (401, &json!("use_dpop_nonce")), "{said}");
    assert_eq!(said["reason"], "PROOF_NONCE_REQUIRED");
    let nonce = headers["dpop-nonce"].to_str().unwrap();
    assert_eq!(said["headers"][1], json!(["dpop-nonce", nonce]));
    let challenge = headers["www-authenticate"].to_str().unwrap();
    assert!(challenge.starts_with("DPoP error=\"use_dpop_nonce\""), "{challenge}");
    assert_eq!(beside.refused(&dpop_call(&token, &[&with_nonce(Some("x"))])).await.0, 401);
    assert_eq!(beside.verify(&dpop_call(&token, &[&with_nonce(Some(nonce))])).await.0, 200);
    let (_, said) = beside.verify(&json!({ "actions": [] })).await;
    let names: Vec<_> = said["headers"].as_array().unwrap().iter().map(|h| &h[0]).collect();
    assert_eq!(names, ["www-authenticate", "www-authenticate", "dpop-nonce"], "{said}");
}

#[tokio::test]
async fn what_could_not_be_remembered_is_not_let_in() {
    let options = Options { lingering: 1, held: 1, longest_request: HOUR, ..Options::default() };
    let beside = Beside::start_with(|_| {}, options).await;
    let (_, _, token) = beside.pair.token().await;
    let (_, _, other) = beside.pair.token().await;
    assert_eq!(beside.verify(&call(&token)).await.0, 200);
    assert_eq!(beside.verify(&call(&token)).await.0, 200, "one stands for all of a credential");
    let (status, said) = beside.verify(&call(&other)).await;
    assert_eq!((status, said["reason"].as_str()), (503, Some("RATE_LIMITED")), "{said}");
    assert_eq!((&said["active"], &said["retriable"]), (&json!(false), &json!(true)));
    let mut held = beside.admit(&call(&other)).await;
    assert_eq!((held.status, &held.next().await["active"]), (200, &json!(true)));
    let (status, _, said) =
        beside.post("/v1/admit", "application/json", call(&token).to_string()).await;
    assert_eq!((status, said["reason"].as_str()), (503, Some("RATE_LIMITED")), "{said}");
    held.hang_up().await;
    let again = async {
        loop {
            let mut held = beside.admit(&call(&token)).await;
            if held.status == 200 {
                return held.next().await;
            }
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert_eq!(again["active"], true, "whoever hung up makes room");
}

#[tokio::test]
async fn a_peer_that_asks_nothing_is_hung_up_on_and_does_not_keep_others_out() {
    let patience = std::time::Duration::from_millis(50);
    let options = Options { connections: 1, patience, ..Options::default() };
    let beside = Beside::start_with(|_| {}, options).await;
    let (_, _, token) = beside.pair.token().await;
    for words in ["", "P", "PRI * HTTP/2", "POST /v1/verify HTTP/1.1\r\nhost: x"] {
        let mut peer = UnixStream::connect(&beside.socket.0).await.unwrap();
        peer.write_all(words.as_bytes()).await.unwrap();
        let mut said = Vec::new();
        // Whoever still has something to say may find the connection reset.
        let _ = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut said)).await.unwrap();
        assert_eq!(beside.verify(&call(&token)).await.0, 200, "{words}");
    }
}
