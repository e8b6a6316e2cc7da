//! JWT-SVIDs as a verifier sees them.

use super::*;
use crate::jose::KeySet;
use crate::spiffe::task_jwt_svid::TaskJwtSvid;

fn mint(scene: &Scene) -> Result<MintedJwtSvid, MintError> {
    jwt_svid(&scene.keys, &scene.caller, &scene.permit, &scene.active())
}

#[tokio::test]
async fn a_jwt_svid_names_what_the_certificate_of_the_task_names() {
    let mut scene = Scene::new(Kind::JwtSvid).await;
    scene.lease.draft.key_thumbprint = None;
    let minted = mint(&scene).unwrap();
    let (issuer, domain) = ("https://leasehold.example/spiffe", settings().trust_domain);
    let read = |keys: &KeySet| {
        TaskJwtSvid::verify(minted.token.expose_text(), keys, (issuer, &domain), now())
    };
    let by_its_key = read(scene.keys.jwt_svid_verifying_keys()).unwrap();
    assert_eq!(by_its_key.execution, Execution::of(&scene.lease));
    assert_eq!((by_its_key.audience.as_str(), by_its_key.jti), (AUDIENCE, scene.lease.draft.jti));
    assert_eq!(by_its_key.full_reach(), scene.lease.full_reach());
    assert!(read(scene.keys.verifying_keys()).is_err(), "by an access token's key");
    let (other, _) = Scene::with_csr(Kind::X509Svid).await;
    assert_eq!(minted.spiffe_id, other.certificate().unwrap().spiffe_id);
}

#[tokio::test]
async fn class_11_a_jwt_svid_is_bound_to_nothing_and_signed_by_no_other_key() {
    let mut scene = Scene::new(Kind::JwtSvid).await;
    assert_eq!(mint(&scene).unwrap_err(), MintError::Disagree("binding"), "to a certificate");
    scene.lease.draft.key_thumbprint = None;
    scene.lease.draft.jkt = Some([7; 32]);
    assert_eq!(mint(&scene).unwrap_err(), MintError::Disagree("binding"), "to a key");
    scene.lease.draft.jkt = None;
    let access = scene.keys.access_token_key(now()).unwrap().key().kid().to_owned();
    scene.lease.draft.signing_key = access;
    assert_eq!(mint(&scene).unwrap_err(), MintError::KeyGone);
    assert_eq!(scene.token().unwrap_err(), MintError::Disagree("kind"));
}

#[tokio::test]
async fn a_jwt_svid_for_nobody_is_not_made() {
    let mut scene = Scene::new(Kind::JwtSvid).await;
    scene.lease.draft.key_thumbprint = None;
    scene.lease.draft.audience.clear();
    scene.permit = permit(&scene.lease.draft);
    assert_eq!(mint(&scene).unwrap_err(), MintError::Disagree("audience"));
}

#[tokio::test]
async fn class_04_a_jwt_svid_does_not_outlive_the_key_that_signs_it() {
    let mut scene = Scene::new(Kind::JwtSvid).await;
    scene.lease.draft.key_thumbprint = None;
    let end = scene.keys.jwt_svid_key(now()).unwrap().life().expires().seconds();
    scene.lease.expires_seconds = end;
    assert!(mint(&scene).is_ok());
    scene.lease.expires_seconds = end + 1;
    assert_eq!(mint(&scene).unwrap_err(), MintError::KeyGone);
}
