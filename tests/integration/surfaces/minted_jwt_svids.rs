//! JWT-SVIDs over real sockets: who gets one, who verifies one by what is published, and what it is never taken for.

use leasehold::broker::seams::Clock;
use leasehold::domain::time::Stamp;
use leasehold::jose::dpop::{Expect, HttpsUri, Statement, prove, verify};
use leasehold::jose::{KeySet, SigningKey, access_token};
use leasehold::proto::v1;
use leasehold::proto::v1::introspect_credential_request::Credential as Shown;
use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use leasehold::spiffe::bundle::Bundle;
use leasehold::spiffe::id::TrustDomain;
use leasehold::spiffe::task_jwt_svid::TaskJwtSvid;
use serde_json::{Value, json};
use tonic::Status;

use super::http::Http;
use super::site::{
    AGENT, AUDIENCE, OPERATOR, ORCHESTRATOR, OTHER_VERIFIER, Site, VERIFIER, reason, request_id,
    token_request,
};

const BASE: &str = "https://localhost:7701";

/// A task in a tier that allows what is bound to no key.
async fn relaxed(site: &Site) -> v1::Task {
    site.begin_with(|request| request.tier = "bearer".into()).await
}

async fn issue(site: &Site, task: &v1::Task) -> Result<v1::IssueCredentialResponse, Status> {
    let credential = Some(Credential::JwtSvid(v1::JwtSvidRequest {}));
    let request = v1::IssueCredentialRequest { credential, ..token_request(task) };
    site.credentials(AGENT).issue_credential(request).await.map(tonic::Response::into_inner)
}

async fn jwt_svid(site: &Site) -> (v1::Task, String) {
    let task = relaxed(site).await;
    let svid = issue(site, &task).await.unwrap().credential.unwrap().jwt_svid;
    (task, svid)
}

async fn is_active(site: &Site, who: &str, token: &str) -> bool {
    let credential = Some(Shown::Token(token.to_owned()));
    let request = v1::IntrospectCredentialRequest { credential };
    let answer = site.verification(who).introspect_credential(request).await;
    answer.unwrap().into_inner().active
}

async fn document(site: &Site, path: &str) -> Value {
    let (status, text) = Http::of(site, None).get(path).await;
    assert_eq!(status, 200, "{path}");
    serde_json::from_str(&text).unwrap()
}

fn read(svid: &str, keys: &Value, now: Stamp) -> Option<TaskJwtSvid> {
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let domain = TrustDomain::parse("leasehold.example").unwrap();
    let issuer = format!("{BASE}/spiffe");
    TaskJwtSvid::verify(svid, &keys, (&issuer, &domain), now).ok()
}

#[tokio::test]
async fn only_a_tier_that_allows_bearer_tokens_gives_a_jwt_svid() {
    let site = Site::start().await;
    let task = site.begin().await;
    assert_eq!(reason(&issue(&site, &task).await.unwrap_err()), "PROOF_INVALID");
    let task = relaxed(&site).await;
    let issued = issue(&site, &task).await.unwrap();
    let (lease, credential) = (issued.lease.unwrap(), issued.credential.unwrap());
    assert_eq!(lease.kind(), v1::CredentialKind::JwtSvid);
    assert_eq!((credential.access_token.as_str(), credential.token_type.as_str()), ("", ""));
    let id = format!("spiffe://leasehold.example/task/{}/e/1/finance", task.task_id);
    assert_eq!(credential.spiffe_id, id);
    let renewal = v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: lease.lease_id,
        ..Default::default()
    };
    let renewed = site.credentials(AGENT).renew_credential(renewal).await.unwrap().into_inner();
    assert!(is_active(&site, VERIFIER, &renewed.credential.unwrap().jwt_svid).await);
    let nowhere = v1::IssueCredentialRequest {
        audience: String::new(),
        credential: Some(Credential::JwtSvid(v1::JwtSvidRequest {})),
        ..token_request(&task)
    };
    let refused = site.credentials(AGENT).issue_credential(nowhere).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_INVALID");
}

#[tokio::test]
async fn jwt_svid_verifies_by_discovery_alone_and_by_the_bundle() {
    let site = Site::start().await;
    let (task, svid) = jwt_svid(&site).await;
    let found = document(&site, "/spiffe/.well-known/openid-configuration").await;
    assert_eq!(found["issuer"], format!("{BASE}/spiffe"));
    assert_eq!(found["id_token_signing_alg_values_supported"], json!(["ES256"]));
    let keys_at = found["jwks_uri"].as_str().unwrap().strip_prefix(BASE).unwrap();
    let keys = document(&site, keys_at).await;
    let read = read(&svid, &keys, site.clock.now()).unwrap();
    assert_eq!(read.audience, AUDIENCE);
    assert_eq!(read.execution.path.own().task.to_string(), task.task_id);

    let bundle = document(&site, "/spiffe/bundle.json").await;
    let bundle = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    let kids: Vec<_> = bundle.jwt_keys().iter().map(|jwk| jwk["kid"].clone()).collect();
    assert_eq!(kids, [json!(read.signing_key)]);
    let access = document(&site, "/oauth2/jwks").await;
    assert_ne!(access["keys"][0]["kid"], keys["keys"][0]["kid"], "another key space");
}

#[tokio::test]
async fn jwt_svid_dies_with_its_task_or_when_it_is_shown_for_revocation() {
    let site = Site::start().await;
    let (task, first) = jwt_svid(&site).await;
    let second = issue(&site, &task).await.unwrap().credential.unwrap().jwt_svid;
    for svid in [&first, &second] {
        assert!(is_active(&site, VERIFIER, svid).await);
        assert!(is_active(&site, OPERATOR, svid).await);
        assert!(!is_active(&site, OTHER_VERIFIER, svid).await, "another's audience");
    }
    let anyone = Http::of(&site, None);
    assert_eq!(anyone.post("/oauth2/revoke", &format!("token={first}")).await.0, 200);
    assert!(!is_active(&site, VERIFIER, &first).await);
    assert!(is_active(&site, VERIFIER, &second).await);
    let request = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id,
        reason: String::new(),
        ..Default::default()
    };
    site.tasks(ORCHESTRATOR).complete_task(request).await.unwrap();
    assert!(!is_active(&site, VERIFIER, &second).await);
}

#[tokio::test]
async fn kill_switch_of_its_key_kills_every_jwt_svid_and_no_access_token() {
    let site = Site::start().await;
    let (task, svid) = jwt_svid(&site).await;
    let token = site.issue(&task).await.credential.unwrap().access_token;
    let kid = document(&site, "/spiffe/keys").await["keys"][0]["kid"].as_str().unwrap().to_owned();
    let request = v1::QuarantineRequest {
        request_id: request_id(),
        scope: format!("key:{kid}"),
        reason: "it leaked".into(),
        ..Default::default()
    };
    let mut operator = OperatorServiceClient::new(site.channel(Some(OPERATOR)));
    operator.quarantine(request).await.unwrap();
    assert!(!is_active(&site, VERIFIER, &svid).await);
    let refused = issue(&site, &task).await.unwrap_err();
    assert_eq!(reason(&refused), "SIGNING_KEY_QUARANTINED");
    assert!(!document(&site, "/spiffe/keys").await.to_string().contains(&kid));
    assert!(!document(&site, "/spiffe/bundle.json").await.to_string().contains(&kid));
    assert!(is_active(&site, VERIFIER, &token).await);
    site.issue(&task).await;
}

/// Every kind to every entry point: each is taken where it belongs and nowhere else.
#[tokio::test]
async fn class_11_each_kind_of_token_is_taken_by_its_own_entry_point_only() {
    let site = Site::start().await;
    let (task, svid) = jwt_svid(&site).await;
    let access = site.issue(&task).await.credential.unwrap().access_token;
    let here = format!("https://localhost:{}", site.running.grpc.port());
    let uri = HttpsUri::parse(&here).unwrap();
    let uri = uri.with_path("/leasehold.v1.CredentialService/IssueCredential").unwrap();
    let key = SigningKey::generate().unwrap().0;
    let (issued, jti) = (site.clock.now(), request_id());
    let statement =
        Statement { method: "POST", uri: &uri, jti: &jti, issued, token: None, nonce: None };
    let proof = prove(&key, statement).unwrap().expose_text().to_owned();
    let kinds = [
        ("access token", access),
        ("JWT-SVID", svid),
        ("DPoP proof", proof),
        ("identity token", site.bearer()),
    ];
    let now = site.clock.now();
    let keys = [document(&site, "/oauth2/jwks").await, document(&site, "/spiffe/keys").await];
    for (kind, token) in &kinds {
        let own = |entry: &[&str]| entry.contains(kind);
        for (n, keys) in keys.iter().enumerate() {
            let set = KeySet::parse(keys.to_string().as_bytes()).unwrap();
            let read = access_token::verify(token, &set, BASE, now).is_ok();
            assert_eq!(read, own(&["access token"]) && n == 0, "{kind} as an access token");
        }
        let by_svid_keys = read(token, &keys[1], now).is_some();
        assert_eq!(by_svid_keys, own(&["JWT-SVID"]), "{kind} as a JWT-SVID");
        assert!(read(token, &keys[0], now).is_none(), "{kind} by the access tokens' keys");
        let uris = [uri.clone()];
        let expect = Expect { method: "POST", uris: &uris, token: None, nonce: None };
        let proves = verify(token, expect, now).is_ok();
        assert_eq!(proves, own(&["DPoP proof"]), "{kind} as a proof");

        let active = is_active(&site, VERIFIER, token).await;
        assert_eq!(active, own(&["access token", "JWT-SVID"]), "{kind} as a credential");
        let header = vec![format!("Bearer {token}")];
        let mut caller = site.with_authorization(None, header);
        let listed = caller.list_tasks(v1::ListTasksRequest::default());
        assert_eq!(listed.await.is_ok(), own(&["identity token"]), "{kind} as an identity");
        let asked = v1::access_token_request::Proof::Dpop(true);
        let bound = v1::AccessTokenRequest { proof: Some(asked) };
        let credential = Some(Credential::AccessToken(bound));
        let request = v1::IssueCredentialRequest { credential, ..token_request(&task) };
        let mut call = tonic::Request::new(request);
        call.metadata_mut().insert("dpop", token.parse().unwrap());
        let issued = site.credentials(AGENT).issue_credential(call).await;
        assert_eq!(issued.is_ok(), own(&["DPoP proof"]), "{kind} in the metadata `dpop`");
    }
}
