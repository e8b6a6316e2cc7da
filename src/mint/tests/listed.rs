//! Certificates that live long, and who signs those that come with tokens.

use super::*;

#[tokio::test]
async fn x509_beyond_15_minutes_is_refused() {
    for kind in [Kind::X509Svid, Kind::AccessToken] {
        let (mut scene, _) = Scene::with_csr(kind).await;
        let minted = |scene: &Scene| match kind {
            Kind::X509Svid => scene.certificate().map(drop),
            Kind::AccessToken | Kind::JwtSvid => scene.token().map(drop),
        };
        scene.lease.expires_seconds = now().seconds() + 900;
        assert_eq!(minted(&scene), Ok(()));
        scene.lease.expires_seconds += 1;
        assert_eq!(minted(&scene), Err(MintError::TooLong));
    }
}

#[tokio::test]
async fn class_16_the_authority_that_the_lease_names_signs_and_no_other() {
    let (mut scene, _) = Scene::with_csr(Kind::AccessToken).await;
    let authority = scene.lease.draft.authority.clone().unwrap();
    let minted = scene.token().unwrap().certificate.unwrap();
    assert_eq!(scene.read_certificate(minted.leaf()).unwrap().signing_key, authority);
    for other in [None, Some("00".to_owned())] {
        scene.lease.draft.authority = other;
        assert_eq!(scene.token().unwrap_err(), MintError::KeyGone);
    }
}
