//! Tokens at doors that are not theirs, and names that two issuers give.

use leasehold::broker::seams::Clock;
use leasehold::domain::time::Span;
use leasehold::jose::SigningKey;
use leasehold::proto::v1;
use serde_json::{Value, json};
use tonic::Code;

use super::http::Http;
use super::site::{AGENT, Site, VERIFIER, begin_request, reason};

/// Tokens that somebody may well have, all signed and in time, by what they are.
fn tokens(site: &Site, task_token: &str) -> Vec<(&'static str, String)> {
    let now = site.clock.now();
    let identity = site.issuer.claims("job", "leasehold", now);
    let with = |name: &str, value: Value| {
        let mut claims = identity.clone();
        claims[name] = value;
        claims
    };
    let sign = |claims: &Value| site.issuer.sign(claims);
    let jwt_svid = json!({
        "sub": AGENT, "aud": ["leasehold"], "iat": now.seconds(), "exp": now.plus(Span::from_seconds(300)).seconds(),
    });
    let foreign = SigningKey::generate().unwrap().0;
    let by_another = |claims: &Value| foreign.sign("JWT", claims).unwrap().expose_text().to_owned();
    let (head, rest) = task_token.split_once('.').unwrap();
    let mut header: Value = serde_json::from_slice(&base64url(head)).unwrap();
    header["typ"] = json!("JWT");
    let retyped = leasehold::jose::base64url::encode(header.to_string());
    vec![
        ("a token of ours", task_token.to_owned()),
        ("a token of ours that says it is an identity", format!("{retyped}.{rest}")),
        ("a JWT-SVID", by_another(&jwt_svid)),
        ("a JWT-SVID that names a configured issuer", by_another(&with("sub", json!(AGENT)))),
        ("an ID token for another client", sign(&with("aud", json!("portal")))),
        ("an ID token for our URL", sign(&with("aud", json!("https://localhost:7701")))),
        ("an access token of the issuer", site.issuer.sign_as("at+jwt", &identity)),
        ("a logout token", site.issuer.sign_as("logout+jwt", &identity)),
        ("a security event", site.issuer.sign_as("secevent+jwt", &identity)),
        ("a DPoP proof", site.issuer.sign_as("dpop+jwt", &identity)),
        ("a workload identity token", site.issuer.sign_as("wit+jwt", &identity)),
        ("a token that is bound to a key", sign(&with("cnf", json!({"jkt": "x"})))),
        ("a credential for a task", sign(&with("leasehold", json!({"v": 1})))),
    ]
}

fn base64url(text: &str) -> Vec<u8> {
    leasehold::jose::base64url::decode(text).unwrap()
}

#[tokio::test]
async fn class_11_no_token_is_an_identity_but_an_identity_token() {
    let site = Site::start().await;
    let task = site.begin().await;
    let task_token = site.issue(&task).await.credential.unwrap().access_token;
    for (kind, token) in tokens(&site, &task_token) {
        let bearer = format!("Bearer {token}");
        let mut client = site.with_authorization(None, vec![bearer.clone()]);
        let refused = client.begin_task(begin_request()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{kind}: {refused}");
        assert_eq!(reason(&refused), "IDENTITY_UNVERIFIED", "{kind}");
        let answer = Http::with_bearer(&site, &bearer)
            .post("/oauth2/introspect", &format!("token={task_token}"))
            .await;
        assert_eq!((answer.0, &answer.1["error"]), (401, &json!("invalid_client")), "{kind}");
    }
    let bearer = format!("Bearer {}", site.bearer());
    site.with_authorization(None, vec![bearer]).begin_task(begin_request()).await.unwrap();
}

#[tokio::test]
async fn class_11_no_token_is_a_credential_but_a_token_of_ours() {
    let site = Site::start().await;
    let task = site.begin().await;
    let task_token = site.issue(&task).await.credential.unwrap().access_token;
    let (verifier, anyone) = (Http::of(&site, Some(VERIFIER)), Http::of(&site, None));
    let identity = ("an identity token", site.bearer());
    let others = tokens(&site, &task_token).into_iter().skip(1).chain([identity]);
    for (kind, token) in others {
        let form = format!("token={token}");
        let answer = verifier.post("/oauth2/introspect", &form).await;
        assert_eq!(answer, (200, json!({"active": false})), "{kind}");
        // Whoever shows a token may end it: these end nothing.
        assert_eq!(anyone.post("/oauth2/revoke", &form).await.0, 200, "{kind}");
    }
    let answer = verifier.post("/oauth2/introspect", &format!("token={task_token}")).await;
    assert_eq!(answer.1["active"], true);
}

#[tokio::test]
async fn class_12_what_one_issuer_s_subject_began_is_not_there_for_another_s() {
    let site = Site::start().await;
    let clients = [site.bearer(), site.other_bearer()]
        .map(|token| site.with_authorization(None, vec![format!("Bearer {token}")]));
    let request = begin_request();
    let mut tasks = Vec::new();
    for mut client in clients.clone() {
        // One request id: were they one caller, the second would be given the first one's task.
        tasks.push(client.begin_task(request.clone()).await.unwrap().into_inner().task.unwrap());
    }
    assert_ne!(tasks[0].task_id, tasks[1].task_id);
    for (mut client, other) in clients.into_iter().zip(tasks.iter().rev()) {
        let get = v1::GetTaskRequest { task_id: other.task_id.clone() };
        let refused = client.get_task(get).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "NOT_FOUND"));
    }
}
