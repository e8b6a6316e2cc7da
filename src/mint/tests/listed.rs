//! Certificates that live long, and who signs those that come with tokens.

use super::*;

const NO_REV_AVAIL: &str = "2.5.29.56";
const DISTRIBUTION_POINTS: &str = "2.5.29.31";

#[tokio::test]
async fn class_16_a_certificate_says_that_there_is_no_list_or_names_it_and_never_both() {
    for kind in [Kind::X509Svid, Kind::AccessToken] {
        let (mut scene, _) = Scene::with_csr(kind).await;
        let minted = |scene: &Scene| match kind {
            Kind::X509Svid => scene.certificate().unwrap(),
            Kind::AccessToken | Kind::JwtSvid => scene.token().unwrap().certificate.unwrap(),
        };
        for (seconds, expected) in [
            (60, [NO_REV_AVAIL]),
            (900, [NO_REV_AVAIL]),
            (901, [DISTRIBUTION_POINTS]),
            (3_600, [DISTRIBUTION_POINTS]),
        ] {
            scene.lease.expires_seconds = now().seconds() + seconds;
            let minted = minted(&scene);
            let (_, x509) = parse_x509_certificate(minted.leaf()).unwrap();
            let oids = x509.extensions().iter().map(|e| e.oid.to_id_string());
            let about = [NO_REV_AVAIL, DISTRIBUTION_POINTS].map(str::to_owned);
            let found: Vec<_> = oids.filter(|oid| about.contains(oid)).collect();
            assert_eq!(found, expected, "{seconds} s");
            // Introspection reads the one as the other.
            assert_eq!(scene.read_certificate(minted.leaf()).unwrap().jti, [0x85; 16]);
        }
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
