//! What a playground makes, and that only its owner can read it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, json};
use tempfile::TempDir;

use super::*;
use crate::broker::seams::Clock as _;
use crate::config;
use crate::domain::principal::Name;
use crate::identity::bundle_files::{BundleFile, BundleFiles};
use crate::identity::oidc::{JwksSource, OidcIssuer, OidcVerifier};
use crate::identity::peer::PeerSvid;
use crate::spiffe::id::TrustDomain;
use crate::spiffe::leaf::{Leaf, LeafError};
use crate::testing::clock::TestClock;
use crate::testing::entropy::{NoEntropy, SeededEntropy};

fn plan() -> Plan {
    Plan {
        grpc: "127.0.0.1:7700".parse().unwrap(),
        http: "127.0.0.1:7701".parse().unwrap(),
        store: PlaygroundStore::Embedded,
        instance: "1".to_owned(),
    }
}

fn made() -> (TempDir, Playground) {
    let dir = tempfile::tempdir().unwrap();
    let now = TestClock::default().now();
    let made = Playground::make(dir.path(), &plan(), now, &SeededEntropy::new(1)).unwrap();
    (dir, made)
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).unwrap().map(Result::unwrap).collect()
}

fn trusted(playground: &Playground) -> BundleFiles {
    let trust_domain = TrustDomain::parse(TRUST_DOMAIN).unwrap();
    let own = TrustDomain::parse(BROKER_TRUST_DOMAIN).unwrap();
    let file = BundleFile { trust_domain, path: playground.root_file() };
    BundleFiles::alone(&own, vec![file], TestClock::default().now()).unwrap()
}

#[test]
fn every_workload_proves_its_own_spiffe_id_for_thirty_days() {
    let (_dir, playground) = made();
    let (bundles, now) = (trusted(&playground).shared(), TestClock::default().now());
    for workload in Workload::ALL {
        let peer = PeerSvid::new(chain(&playground.cert_file(workload)));
        let caller = peer.recheck(&bundles.load(), now).unwrap();
        assert_eq!(caller.principal().as_str(), workload.spiffe_id("1"));
        assert!(caller.expires() >= now.plus(LIFE));
    }
}

#[test]
fn the_brokers_certificate_is_for_this_machine_and_proves_no_identity() {
    let (_dir, playground) = made();
    let chain = chain(&playground.file("broker.pem"));
    let refused = Leaf::check(&chain[0], TestClock::default().now()).unwrap_err();
    assert_eq!(refused, LeafError::ExtendedKeyUsage);
    let certificate = webpki::EndEntityCert::try_from(&chain[0]).unwrap();
    for name in ["localhost", "127.0.0.1", "::1"] {
        certificate.verify_is_valid_for_subject_name(&name.try_into().unwrap()).unwrap();
    }
}

#[test]
fn its_configuration_has_no_mistake_and_no_warning() {
    let redis = PlaygroundStore::Redis {
        url: "redis://127.0.0.1:6379".to_owned(),
        key: Secret::new(vec![7; 32]),
    };
    for store in [PlaygroundStore::Embedded, redis] {
        let dir = tempfile::tempdir().unwrap();
        let (now, plan) = (TestClock::default().now(), Plan { store, ..plan() });
        let made = Playground::make(dir.path(), &plan, now, &SeededEntropy::new(1)).unwrap();
        let config = config::load(&made.config_file()).unwrap();
        assert_eq!(config.base_url, "https://localhost:7701");
        assert_eq!((config.listen.grpc, config.listen.http), (plan.grpc, plan.http));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}

#[test]
fn two_playgrounds_do_not_trust_each_other() {
    let (_one, here) = made();
    let (_two, there) = made();
    let stranger = PeerSvid::new(chain(&there.cert_file(Workload::Operator)));
    let now = TestClock::default().now();
    assert!(stranger.recheck(&trusted(&here).shared().load(), now).is_err());
}

#[test]
fn class_17_only_its_owner_reads_a_playground() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("play");
    let now = TestClock::default().now();
    Playground::make(&dir, &plan(), now, &SeededEntropy::new(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 15, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn the_key_of_the_root_is_kept_nowhere() {
    let (dir, playground) = made();
    let root = chain(&playground.root_file());
    let root = webpki::anchor_from_trusted_cert(&root[0]).unwrap();
    let mut keys = 0;
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if let Ok(key) = rcgen::KeyPair::from_pem(&fs::read_to_string(&path).unwrap()) {
            let public = rcgen::PublicKeyData::subject_public_key_info(&key);
            assert!(!public.ends_with(root.subject_public_key_info.as_ref()), "{path:?}");
            keys += 1;
        }
    }
    assert_eq!(keys, Workload::ALL.len() + 2, "the broker's and the issuer's too");
}

#[tokio::test]
async fn the_issuers_tokens_are_identities_by_the_keys_in_its_file() {
    let (dir, playground) = made();
    let verifier = OidcVerifier::new(
        vec![OidcIssuer {
            name: Name::parse(issuer::NAME).unwrap(),
            issuer: issuer::URL.to_owned(),
            audience: issuer::BROKER_AUDIENCE.to_owned(),
            jwks: JwksSource::File(dir.path().join(issuer::JWKS_FILE)),
            max_lifetime: Span::from_seconds(3_600),
            platform: None,
            token_review: None,
            in_cluster: false,
            danger_loopback: false,
            ca_file: None,
        }],
        &["https://localhost:7701"],
        0,
    )
    .unwrap();
    let now = TestClock::default().now();
    let team = Map::from_iter([("team".to_owned(), json!("docs"))]);
    let issuer = playground.issuer().unwrap();
    let token = issuer.token("alice", team, Span::from_seconds(600), now).unwrap();
    let caller = verifier.verify(token.expose_text(), now).await.unwrap().caller;
    assert_eq!(caller.principal().as_str(), "oidc:dev:alice");
    assert_eq!(caller.expires().seconds(), now.seconds() + 600);
    let (_other, elsewhere) = made();
    let forged = elsewhere.issuer().unwrap();
    let forged = forged.token("alice", Map::new(), Span::from_seconds(600), now).unwrap();
    assert!(verifier.verify(forged.expose_text(), now).await.is_err());
}

#[test]
fn a_claim_that_is_the_issuers_to_say_is_refused() {
    let (_dir, playground) = made();
    let issuer = playground.issuer().unwrap();
    let now = TestClock::default().now();
    for claim in ["iss", "sub", "aud", "iat", "exp"] {
        let further = Map::from_iter([(claim.to_owned(), json!("x"))]);
        let refused = issuer.token("alice", further, Span::from_seconds(60), now).unwrap_err();
        assert!(matches!(refused, IssuerError::OwnClaim(name) if name == claim));
    }
}

#[test]
fn a_playground_is_found_again_and_nothing_else_is_taken_for_one() {
    let (dir, made) = made();
    let found = Playground::find(dir.path()).unwrap().unwrap();
    assert_eq!(found.config_file(), made.config_file());
    let parent = tempfile::tempdir().unwrap();
    assert!(Playground::find(parent.path()).unwrap().is_none());
    assert!(Playground::find(&parent.path().join("nothing")).unwrap().is_none());
    fs::write(parent.path().join("thesis.txt"), "years of work").unwrap();
    let (now, entropy) = (TestClock::default().now(), SeededEntropy::new(1));
    for refused in [
        Playground::find(parent.path()).unwrap_err(),
        Playground::make(parent.path(), &plan(), now, &entropy).unwrap_err(),
    ] {
        assert!(matches!(refused, PlaygroundError::Occupied(_)), "{refused}");
    }
}

#[test]
fn without_randomness_there_is_no_playground() {
    let dir = tempfile::tempdir().unwrap();
    let now = TestClock::default().now();
    let refused = Playground::make(dir.path(), &plan(), now, &NoEntropy).unwrap_err();
    assert!(matches!(refused, PlaygroundError::Entropy(_)), "{refused}");
    assert!(Playground::find(dir.path()).is_err(), "half of one is none");
}
