//! A client of the broker's HTTP endpoints, and what OAuth's two say.

use std::net::SocketAddr;

use leasehold::proto::v1;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use serde_json::{Value, json};

use super::site::{
    AGENT, NOBODY, OPERATOR, OTHER_VERIFIER, Site, VERIFIER, request_id, token_request,
};

/// An HTTP client with this caller's certificate, or without one.
pub struct Http {
    client: reqwest::Client,
    base: String,
    bearer: Option<String>,
}

impl Http {
    pub fn of(site: &Site, spiffe_id: Option<&str>) -> Self {
        Self::at(site, site.running.http, spiffe_id)
    }

    pub fn at(site: &Site, address: SocketAddr, spiffe_id: Option<&str>) -> Self {
        let root = reqwest::Certificate::from_pem(site.root.pem().as_bytes()).unwrap();
        let mut builder = reqwest::Client::builder().tls_certs_only([root]);
        if let Some(spiffe_id) = spiffe_id {
            let issued = site.svid(spiffe_id);
            let pem = format!("{}{}", issued.chain_pem(), issued.key_pem());
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        let base = format!("https://localhost:{}", address.port());
        Self { client: builder.build().unwrap(), base, bearer: None }
    }

    /// A client with this `authorization` header.
    pub fn with_bearer(site: &Site, authorization: &str) -> Self {
        Self { bearer: Some(authorization.to_owned()), ..Self::of(site, None) }
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// An answer whole, to who has already what a tag names.
    pub async fn fetch(&self, path: &str, known: Option<&str>) -> reqwest::Response {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(tag) = known {
            request = request.header("if-none-match", tag);
        }
        request.send().await.unwrap()
    }

    /// How long to wait before trying again, as an answer says it.
    pub async fn retry_after(&self, path: &str, form: &str) -> Option<(u16, String)> {
        let request = self.client.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form.to_owned()).send().await.unwrap();
        let after = answer.headers().get("retry-after")?.to_str().unwrap().to_owned();
        Some((answer.status().as_u16(), after))
    }

    pub async fn post(&self, path: &str, form: &str) -> (u16, Value) {
        let mut request = self.client.post(format!("{}{path}", self.base));
        if let Some(bearer) = &self.bearer {
            request = request.header("authorization", bearer);
        }
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form.to_owned()).send().await.unwrap();
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }
}

async fn token(site: &Site) -> (v1::Task, String) {
    let task = site.begin().await;
    let token = site.issue(&task).await.credential.unwrap().access_token;
    (task, token)
}

#[tokio::test]
async fn class_02_introspection_answers_the_verifier_that_the_audience_names_and_nobody_else() {
    let site = Site::start().await;
    let (task, token) = token(&site).await;
    let form = format!("token={token}");
    let (status, active) = Http::of(&site, Some(VERIFIER)).post("/oauth2/introspect", &form).await;
    assert_eq!((status, &active["active"]), (200, &json!(true)));
    assert_eq!(active["client_id"], AGENT);
    assert_eq!(active["leasehold"]["path"], json!([[task.task_id, 1]]));
    let operator = Http::of(&site, Some(OPERATOR)).post("/oauth2/introspect", &form).await;
    assert_eq!(operator.1["active"], true);
    let other = Http::of(&site, Some(OTHER_VERIFIER)).post("/oauth2/introspect", &form).await;
    assert_eq!(other, (200, json!({"active": false})));
    for (who, status, error) in [
        (None, 401, "invalid_client"),
        (Some(NOBODY), 400, "unauthorized_client"),
        (Some(AGENT), 400, "unauthorized_client"),
    ] {
        let refused = Http::of(&site, who).post("/oauth2/introspect", &form).await;
        assert_eq!((refused.0, &refused.1["error"]), (status, &json!(error)), "{who:?}");
    }
}

#[tokio::test]
async fn task_that_ended_makes_its_token_inactive_without_a_reason() {
    let site = Site::start().await;
    let (task, token) = token(&site).await;
    let request = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        reason: String::new(),
        ..Default::default()
    };
    let mut orchestrator = site.tasks(super::site::ORCHESTRATOR);
    let ended = orchestrator.complete_task(request).await.unwrap().into_inner();
    assert!(ended.revocation.unwrap().recorded_at.is_some());
    let verifier = Http::of(&site, Some(VERIFIER));
    let answer = verifier.post("/oauth2/introspect", &format!("token={token}")).await;
    assert_eq!(answer, (200, json!({"active": false})));
    let refused = site.credentials(AGENT).issue_credential(token_request(&task)).await.unwrap_err();
    assert_eq!(super::site::reason(&refused), "TASK_ENDED");
}

/// Bytes that are no token are refused like others: whoever sends them keeps nobody from the broker's signatures, log or store.
#[tokio::test]
async fn class_15_strangers_show_no_more_tokens_than_their_share_and_operators_end_what_they_like()
{
    let share = "limits = { shown_tokens_per_second_per_address = 1,";
    let site = Site::start_with("limits = {", share).await;
    let (_, token) = token(&site).await;
    let (verifier, anyone) = (Http::of(&site, Some(VERIFIER)), Http::of(&site, None));
    let form = format!("token={token}");
    let garbage = format!("token={token}x");
    let (status, after) = loop {
        // One second is enough for one.
        if let Some(refused) = anyone.retry_after("/oauth2/revoke", &garbage).await {
            break refused;
        }
    };
    assert_eq!((status, after.as_str()), (429, "1"));
    let refused = loop {
        let answer = anyone.post("/oauth2/revoke", &garbage).await;
        if answer.0 != 200 {
            break answer;
        }
    };
    assert_eq!((refused.0, &refused.1["error"]), (429, &json!("temporarily_unavailable")));
    let why = refused.1["error_description"].as_str().unwrap();
    assert!(why.contains("from this address than 1 a second"), "{why}");
    // What anybody else does is counted apart, from the same address.
    for _ in 0..3 {
        assert_eq!(verifier.post("/oauth2/introspect", &form).await.1["active"], true);
    }
    let shown = verifier.post("/oauth2/introspect", &form).await.1;
    let lease_id = shown["leasehold"]["lease"].as_str().unwrap().to_owned();
    let request =
        v1::RevokeLeaseRequest { request_id: request_id(), lease_id, ..Default::default() };
    let mut operator = OperatorServiceClient::new(site.channel(Some(OPERATOR)));
    operator.revoke_lease(request).await.unwrap();
    assert_eq!(verifier.post("/oauth2/introspect", &form).await.1, json!({"active": false}));
}

#[tokio::test]
async fn class_15_garbage_takes_nothing_of_what_tokens_may_be_shown_by_all_together() {
    let site = Site::start_with("limits = {", "limits = { shown_tokens_per_second = 1,").await;
    let (_, token) = token(&site).await;
    let (verifier, anyone) = (Http::of(&site, Some(VERIFIER)), Http::of(&site, None));
    for _ in 0..10 {
        assert_eq!(anyone.post("/oauth2/revoke", &format!("token={token}x")).await.0, 200);
    }
    let form = format!("token={token}");
    assert_eq!(anyone.post("/oauth2/revoke", &form).await.0, 200);
    assert_eq!(verifier.post("/oauth2/introspect", &form).await.1, json!({"active": false}));
    // It is a token still, and each counts.
    let refused = loop {
        let answer = anyone.post("/oauth2/revoke", &form).await;
        if answer.0 != 200 {
            break answer;
        }
    };
    let why = refused.1["error_description"].as_str().unwrap();
    assert_eq!(refused.0, 429, "{why}");
    assert!(why.contains("by anybody than 1 a second"), "{why}");
}

#[tokio::test]
async fn whoever_has_a_token_may_end_it_and_learns_nothing_of_others() {
    let site = Site::start().await;
    let (_, token) = token(&site).await;
    let (verifier, anyone) = (Http::of(&site, Some(VERIFIER)), Http::of(&site, None));
    let form = format!("token={token}&token_type_hint=refresh_token");
    for never in ["x", "a.b.c", &format!("{token}x"), token.rsplit_once('.').unwrap().0] {
        assert_eq!(anyone.post("/oauth2/revoke", &format!("token={never}")).await.0, 200);
    }
    assert_eq!(verifier.post("/oauth2/introspect", &form).await.1["active"], true);
    for _ in 0..2 {
        assert_eq!(anyone.post("/oauth2/revoke", &form).await, (200, Value::Null));
        assert_eq!(verifier.post("/oauth2/introspect", &form).await.1, json!({"active": false}));
    }
}

#[tokio::test]
async fn class_15_form_without_one_token_is_refused_and_not_repeated() {
    let site = Site::start().await;
    let http = Http::of(&site, Some(VERIFIER));
    let long = format!("token={}", "x".repeat(40_000));
    for form in ["", "token=", "tokn=secret", "token=secret&token=secret", &long] {
        for path in ["/oauth2/introspect", "/oauth2/revoke"] {
            let (status, answer) = http.post(path, form).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{path}");
            assert!(!answer.to_string().contains("secret"));
        }
    }
}
