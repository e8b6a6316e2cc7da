//! DPoP over real sockets: where the proof is looked for, and what it may name.

use leasehold::broker::seams::Clock;
use leasehold::jose::SigningKey;
use leasehold::jose::dpop::{HttpsUri, Statement, prove};
use leasehold::proto::v1;
use leasehold::proto::v1::access_token_request::Proof;
use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::testing::ca::csr;
use rcgen::KeyPair;
use serde_json::Value;
use tonic::{Request, Status};

use super::http::Http;
use super::site::{AGENT, Site, VERIFIER, reason, request_id, token_request};

const ISSUE: &str = "/leasehold.v1.CredentialService/IssueCredential";
const RENEW: &str = "/leasehold.v1.CredentialService/RenewCredential";

/// A task in a tier that allows what is bound to no key.
async fn relaxed(site: &Site) -> v1::Task {
    site.begin_with(|request| request.tier = "bearer".into()).await
}

/// A proof, made now, that the call goes to a place.
pub fn proof(
    site: &Site,
    key: &SigningKey,
    place: &str,
    path: &str,
    nonce: Option<&str>,
) -> String {
    let uri = HttpsUri::parse(&format!("{place}{path}")).unwrap();
    let (issued, jti) = (site.clock.now(), request_id());
    let statement = Statement { method: "POST", uri: &uri, jti: &jti, issued, token: None, nonce };
    prove(key, statement).unwrap().expose_text().to_owned()
}

/// Where callers of this broker call.
pub fn place(site: &Site) -> String {
    format!("https://localhost:{}", site.running.grpc.port())
}

pub fn bound(task: &v1::Task) -> v1::IssueCredentialRequest {
    let token = v1::AccessTokenRequest { proof: Some(Proof::Dpop(true)) };
    v1::IssueCredentialRequest {
        credential: Some(Credential::AccessToken(token)),
        ..token_request(task)
    }
}

pub async fn issue(
    site: &Site,
    request: v1::IssueCredentialRequest,
    proofs: &[String],
) -> Result<v1::IssueCredentialResponse, Status> {
    let mut call = Request::new(request);
    for proof in proofs {
        call.metadata_mut().append("dpop", proof.parse().unwrap());
    }
    site.credentials(AGENT).issue_credential(call).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn token_is_bound_to_the_key_of_the_proof_and_renewed_by_the_same() {
    let site = Site::start().await;
    let (task, key) = (site.begin().await, SigningKey::generate().unwrap().0);
    let shown = proof(&site, &key, &place(&site), ISSUE, None);
    let issued = issue(&site, bound(&task), &[shown]).await.unwrap();
    let (lease, credential) = (issued.lease.unwrap(), issued.credential.unwrap());
    assert_eq!((lease.jkt.as_str(), lease.key_thumbprint.as_str()), (key.kid(), ""));
    assert_eq!(credential.token_type, "DPoP");
    let form = format!("token={}", credential.access_token);
    let said = Http::of(&site, Some(VERIFIER)).post("/oauth2/introspect", &form).await.1;
    assert_eq!((&said["cnf"]["jkt"], &said["token_type"]), (&key.kid().into(), &"DPoP".into()));

    let renewal = v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: lease.lease_id,
        ..Default::default()
    };
    let renew = async |proof: Option<String>| {
        let mut call = Request::new(renewal.clone());
        proof.map(|proof| call.metadata_mut().insert("dpop", proof.parse().unwrap()));
        site.credentials(AGENT).renew_credential(call).await.map(tonic::Response::into_inner)
    };
    assert_eq!(reason(&renew(None).await.unwrap_err()), "PROOF_INVALID");
    let for_issue = proof(&site, &key, &place(&site), ISSUE, None);
    assert_eq!(reason(&renew(Some(for_issue)).await.unwrap_err()), "PROOF_INVALID");
    let renewed = renew(Some(proof(&site, &key, &place(&site), RENEW, None))).await.unwrap();
    assert_eq!(renewed.credential.unwrap().token_type, "DPoP");
}

#[tokio::test]
async fn class_23_proof_is_exactly_one_for_this_very_call_and_asked_for() {
    let site = Site::start().await;
    let (task, key) = (site.begin().await, SigningKey::generate().unwrap().0);
    let here = place(&site);
    let good = || proof(&site, &key, &here, ISSUE, None);
    let refused = async |request: v1::IssueCredentialRequest, proofs: &[String]| {
        reason(&issue(&site, request, proofs).await.unwrap_err())
    };
    for proofs in [vec![], vec![good(), good()], vec![format!("{},{}", good(), good())]] {
        assert_eq!(refused(bound(&task), &proofs).await, "PROOF_INVALID", "{}", proofs.len());
    }
    for elsewhere in ["https://localhost", "https://evil.example:7700", "https://leasehold.example"]
    {
        let other = proof(&site, &key, elsewhere, ISSUE, None);
        assert_eq!(refused(bound(&task), &[other]).await, "PROOF_INVALID", "{elsewhere}");
    }
    let other_call = proof(&site, &key, &here, RENEW, None);
    assert_eq!(refused(bound(&task), &[other_call]).await, "PROOF_INVALID");
    // Whoever sends a proof and forgets to ask would get a token bound to something else.
    assert_eq!(refused(token_request(&task), &[good()]).await, "REQUEST_INVALID");
    let mut declined = bound(&task);
    let token = v1::AccessTokenRequest { proof: Some(Proof::Dpop(false)) };
    declined.credential = Some(Credential::AccessToken(token));
    assert_eq!(refused(declined, &[good()]).await, "REQUEST_INVALID");

    let (one, shown) = (bound(&task), good());
    issue(&site, one.clone(), std::slice::from_ref(&shown)).await.unwrap();
    issue(&site, one, std::slice::from_ref(&shown)).await.unwrap();
    assert_eq!(refused(bound(&task), &[shown]).await, "PROOF_REPLAYED");
}

/// Nor where the tier would give a credential that is bound to nothing: who means to be bound is bound, or refused.
#[tokio::test]
async fn class_23_proof_goes_with_no_other_credential_and_without_one_nothing_is_given() {
    let site = Site::start().await;
    let (task, key) = (relaxed(&site).await, SigningKey::generate().unwrap().0);
    let shown = |path| proof(&site, &key, &place(&site), path, None);
    let missing = issue(&site, bound(&task), &[]).await.unwrap_err();
    assert_eq!(reason(&missing), "PROOF_INVALID");
    let key_held = issue(&site, bound(&task), &[shown(ISSUE)]).await.unwrap().lease.unwrap();
    let unproved = v1::RenewCredentialRequest {
        request_id: request_id(),
        lease_id: key_held.lease_id,
        ..Default::default()
    };
    let unproved = site.credentials(AGENT).renew_credential(unproved).await.unwrap_err();
    assert_eq!(reason(&unproved), "PROOF_INVALID", "it would be renewed as bound to nothing");
    let csr_der = csr(&KeyPair::generate().unwrap()).der().to_vec();
    let mut leases = Vec::new();
    for credential in [
        Credential::JwtSvid(v1::JwtSvidRequest {}),
        Credential::X509Svid(v1::X509SvidRequest { csr_der: csr_der.clone() }),
    ] {
        let request = || v1::IssueCredentialRequest {
            credential: Some(credential.clone()),
            ..token_request(&task)
        };
        let refused = issue(&site, request(), &[shown(ISSUE)]).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_INVALID", "{credential:?}");
        leases.push(issue(&site, request(), &[]).await.unwrap().lease.unwrap().lease_id);
    }
    for (lease_id, csr_der) in leases.into_iter().zip([Vec::new(), csr_der]) {
        let request_id = request_id();
        let renewal = v1::RenewCredentialRequest { request_id, lease_id, csr_der, ttl: None };
        let mut call = Request::new(renewal.clone());
        call.metadata_mut().insert("dpop", shown(RENEW).parse().unwrap());
        let refused = site.credentials(AGENT).renew_credential(call).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_INVALID");
        site.credentials(AGENT).renew_credential(renewal).await.unwrap();
    }
}

#[tokio::test]
async fn where_a_nonce_is_required_the_refusal_brings_one() {
    let site = Site::start_with("[tiers]", "[dpop]\nnonce = \"required\"\n[tiers]").await;
    let (task, key) = (site.begin().await, SigningKey::generate().unwrap().0);
    let shown = |nonce: Option<&str>| proof(&site, &key, &place(&site), ISSUE, nonce);
    let refused = issue(&site, bound(&task), &[shown(None)]).await.unwrap_err();
    assert_eq!(reason(&refused), "PROOF_NONCE_REQUIRED");
    let nonce = refused.metadata().get("dpop-nonce").unwrap().to_str().unwrap().to_owned();
    issue(&site, bound(&task), &[shown(Some(&nonce))]).await.unwrap();
}

#[tokio::test]
async fn proof_may_name_what_the_configuration_says_and_nothing_else() {
    let targets = "[dpop]\ntargets = [\"https://leasehold.example:7700\"]\n[tiers]";
    let site = Site::start_with("[tiers]", targets).await;
    let (task, key) = (site.begin().await, SigningKey::generate().unwrap().0);
    let shown = |place: &str| proof(&site, &key, place, ISSUE, None);
    let here = issue(&site, bound(&task), &[shown(&place(&site))]).await.unwrap_err();
    assert_eq!(reason(&here), "PROOF_INVALID");
    assert!(here.message().contains("https://leasehold.example:7700/"), "{}", here.message());
    issue(&site, bound(&task), &[shown("https://leasehold.example:7700")]).await.unwrap();
    let (_, metadata) = Http::of(&site, None).get("/.well-known/oauth-authorization-server").await;
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let algorithms = metadata["dpop_signing_alg_values_supported"].as_array().unwrap();
    assert!(algorithms.contains(&"ES256".into()) && !algorithms.contains(&"HS256".into()));
}
