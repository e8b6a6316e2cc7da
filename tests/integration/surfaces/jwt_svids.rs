//! Workloads that have nothing but a JWT-SVID.

use std::time::Duration;

use leasehold::jose::SigningKey;
use leasehold::proto::v1;
use leasehold::proto::v1::access_token_request::Proof;
use leasehold::proto::v1::credential_service_client::CredentialServiceClient;
use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::testing::ca::csr;
use rcgen::KeyPair;
use tonic::{Code, Status};

use super::site::{AGENT, Authorization, ORCHESTRATOR, Site, begin_request, reason, token_request};

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Bearer {token}")]
}

async fn issue(
    site: &Site,
    token: &str,
    proof: Option<Proof>,
    task: &v1::Task,
) -> Result<v1::Credential, Status> {
    let mut request = token_request(task);
    request.credential = Some(Credential::AccessToken(v1::AccessTokenRequest { proof }));
    let authorization = Authorization(bearer(token));
    let mut client = CredentialServiceClient::with_interceptor(site.channel(None), authorization);
    let answer = client.issue_credential(request).await?;
    Ok(answer.into_inner().credential.unwrap())
}

#[tokio::test]
async fn a_workload_with_nothing_but_a_jwt_svid_begins_and_issues() {
    let site = Site::start().await;
    let orchestrator = bearer(&site.jwt_svid(ORCHESTRATOR));
    let mut tasks = site.with_authorization(None, orchestrator.clone());
    let task = tasks.begin_task(begin_request()).await.unwrap().into_inner().task.unwrap();
    // It is the same caller as with a certificate.
    assert_eq!(site.get(&task).await.task_id, task.task_id);
    let agent = site.jwt_svid(AGENT);
    let refused = issue(&site, &agent, None, &task).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Code::Unauthenticated,
        "there is no certificate to bind to: {refused}"
    );
    let der = csr(&KeyPair::generate().unwrap()).der().to_vec();
    let issued = issue(&site, &agent, Some(Proof::CsrDer(der)), &task).await.unwrap();
    assert!(!issued.access_token.is_empty());
    let refused = issue(&site, &agent, Some(Proof::Bearer(true)), &task).await;
    assert!(refused.is_err(), "the tier wants a key");
    let nobody = site.jwt_svid("spiffe://prod.example/nobody");
    let mut nobody = site.with_authorization(None, bearer(&nobody));
    let refused = nobody.begin_task(begin_request()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "ROLE_MISSING")
    );
    let mut both = site.with_authorization(Some(ORCHESTRATOR), orchestrator);
    let refused = both.begin_task(begin_request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn class_22_a_jwt_svid_whose_key_left_the_bundle_is_refused_on_the_same_connection() {
    let site = Site::start().await;
    let mut tasks = site.with_authorization(None, bearer(&site.jwt_svid(ORCHESTRATOR)));
    tasks.begin_task(begin_request()).await.unwrap();
    site.replace_bundle(&[&SigningKey::generate().unwrap().0]);
    // The file is looked at every few seconds; the first call after that is refused.
    let refused = async {
        loop {
            if let Err(refused) = tasks.begin_task(begin_request()).await {
                return refused;
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(60), refused).await.unwrap();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "IDENTITY_UNVERIFIED")
    );
    site.replace_bundle(&[&site.svid_key]);
    let taken = async { while tasks.begin_task(begin_request()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(60), taken).await.unwrap();
}
