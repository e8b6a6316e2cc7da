//! Credentials as a verifier sees them, and facts that do not fit together.

mod jwt_svid;
mod listed;

use rcgen::KeyPair;
use x509_parser::parse_x509_certificate;

use super::*;
use crate::domain::clamp::{Clamp, Expiry};
use crate::domain::execution::Spelled;
use crate::domain::grant::Grant;
use crate::domain::principal::{Name, Principal};
use crate::domain::time::Span;
use crate::identity::x509_svid;
use crate::jose::access_token;
use crate::spiffe::task_certificate::{TaskCertificate, TaskCertificateError};
use crate::spiffe::task_extension::ExtensionOid;
use crate::store::CredentialTimes;
use crate::testing::ca::{Issued, TestAuthority, csr};
use crate::testing::keys::{keys, settings};
use crate::testing::trust::trusting;

const AGENT: &str = "spiffe://prod.example/agents/finance";
const AUDIENCE: &str = "https://ledger.example";

/// Facts that agree with each other, to be spoilt one at a time.
struct Scene {
    keys: Keys,
    root: TestAuthority,
    svid: Issued,
    caller: VerifiedCaller,
    permit: Permit,
    lease: Lease,
}

fn now() -> Stamp {
    Stamp::saturating_from_micros(1_790_000_001_234_567)
}

fn seconds(n: u64) -> Span {
    Span::from_seconds(n)
}

fn verified(root: &TestAuthority, svid: &Issued) -> VerifiedCaller {
    let bundles = trusting(&[("prod.example", &[root])]);
    x509_svid::verify(&svid.chain, &bundles, now()).unwrap()
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let keys = keys(now()).await;
        let root = TestAuthority::root("prod");
        let svid = root.svid(AGENT, now().minus(seconds(60)), now().plus(seconds(3_600)));
        let caller = verified(&root, &svid);
        let lease = lease(&keys, &caller, kind);
        let permit = permit(&lease.draft);
        Self { keys, root, svid, caller, permit, lease }
    }

    /// A lease for the key of a CSR.
    async fn with_csr(kind: Kind) -> (Self, KeyPair) {
        let mut scene = Self::new(kind).await;
        let key = KeyPair::generate().unwrap();
        let proved = csr::prove(csr(&key).der()).unwrap();
        scene.lease.draft.public_key = Some(proved.spki_der().to_vec());
        scene.lease.draft.key_thumbprint = None;
        if kind == Kind::AccessToken {
            let authority = scene.keys.authority(now()).unwrap();
            scene.lease.draft.authority = Some(authority.key_id().to_owned());
        }
        (scene, key)
    }

    fn active(&self) -> ActiveLease {
        let lease = &self.lease;
        let expiry = Expiry { expires_seconds: lease.expires_seconds, clamp: lease.clamp };
        let receipt = Receipt {
            origin: lease.origin,
            credential: Some(CredentialTimes {
                first_issue: lease.first_issue,
                lease_origin: lease.first_origin,
                expiry,
            }),
        };
        ActiveLease::from_receipt(lease.draft.clone(), &receipt).unwrap()
    }

    fn token(&self) -> Result<MintedToken, MintError> {
        access_token(&self.keys, &self.caller, &self.permit, &self.active())
    }

    fn certificate(&self) -> Result<MintedCertificate, MintError> {
        x509_svid(&self.keys, &self.caller, &self.permit, &self.active())
    }

    fn read_token(&self, token: &Secret) -> AccessToken {
        let base = &self.keys.settings().base_url;
        access_token::verify(token.expose_text(), self.keys.verifying_keys(), base, now()).unwrap()
    }

    fn read_certificate(&self, der: &[u8]) -> Result<TaskCertificate, TaskCertificateError> {
        let names = (&self.keys.settings().trust_domain, &self.keys.settings().task_extension);
        TaskCertificate::verify(der, self.keys.authorities(), names, now())
    }
}

fn lease(keys: &Keys, caller: &VerifiedCaller, kind: Kind) -> Lease {
    let execution = Execution::read(Spelled {
        path: vec![
            ("tsk_0a00000000000000000000000001".to_owned(), 3),
            ("tsk_0a00000000000000000000000009".to_owned(), 7),
        ],
        lease: "lse_0a00000000000000000000000002".to_owned(),
        incarnation: 1_790_000_000_000_000,
        stamp: now().micros(),
        tier: "standard".to_owned(),
        delta_ms: 5_000,
        reach: vec![vec![1; 16], vec![2; 16]],
        step: Some("s-3".to_owned()),
    })
    .unwrap();
    let subject = Principal::parse("spiffe://prod.example/agents/planner").unwrap();
    let grant =
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]}]"#;
    let signing_key = match kind {
        Kind::AccessToken => keys.access_token_key(now()).unwrap().key().kid().to_owned(),
        Kind::X509Svid => keys.authority(now()).unwrap().key_id().to_owned(),
        Kind::JwtSvid => keys.jwt_svid_key(now()).unwrap().key().kid().to_owned(),
    };
    let draft = Draft {
        authority: None,
        id: execution.lease,
        request: None,
        first: None,
        kind,
        holder: caller.principal().clone(),
        instance: caller.instance().to_owned(),
        key_thumbprint: caller.certificate_thumbprint(),
        jkt: None,
        public_key: None,
        audience: AUDIENCE.to_owned(),
        grant: Grant::parse(grant).unwrap(),
        tier: execution.tier.clone(),
        freshness: execution.freshness,
        path: execution.path,
        reach: execution.reach,
        jti: [0x85; 16],
        renewals: 0,
        ceiling_seconds: 3_600,
        signing_key,
        step: execution.step,
        subject: subject.clone(),
        actors: vec![caller.principal().clone(), subject],
    };
    Lease {
        draft,
        origin: execution.origin,
        first_origin: execution.origin,
        first_issue: now(),
        expires_seconds: now().seconds() + 300,
        clamp: Clamp::Tier,
    }
}

fn permit(draft: &Draft) -> Permit {
    let own = draft.path.own();
    Permit::undecided(
        (draft.holder.clone(), Name::parse("finance").unwrap()),
        (own.task, own.counter),
        (draft.audience.clone(), draft.grant.clone()),
        now(),
    )
}

#[tokio::test]
async fn a_token_says_what_the_lease_says_and_is_bound_to_the_callers_certificate() {
    let scene = Scene::new(Kind::AccessToken).await;
    let minted = scene.token().unwrap();
    assert!(minted.certificate.is_none());
    let token = scene.read_token(&minted.token);
    assert_eq!(token.execution, Execution::of(&scene.lease));
    assert_eq!(token.jti, scene.lease.draft.jti);
    assert_eq!((token.issued_seconds, token.expires_seconds), (1_790_000_001, 1_790_000_301));
    assert_eq!(token.client().as_str(), AGENT);
    assert_eq!(token.actors.len(), 1, "the subject is no actor of its own");
    assert_eq!(
        token.confirmation,
        Some(Confirmation::Certificate(certificate_thumbprint(scene.svid.leaf())))
    );
    assert_eq!(token.full_reach(), scene.lease.full_reach());
}

#[tokio::test]
async fn an_agent_that_acts_for_itself_has_no_act() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    scene.lease.draft.subject = scene.lease.draft.holder.clone();
    scene.lease.draft.actors.truncate(1);
    let token = scene.read_token(&scene.token().unwrap().token);
    assert_eq!((token.actors.len(), token.subject.as_str()), (0, AGENT));
}

#[tokio::test]
async fn a_token_minted_with_a_certificate_is_bound_to_that_certificate() {
    let (scene, _) = Scene::with_csr(Kind::AccessToken).await;
    let minted = scene.token().unwrap();
    let certificate = minted.certificate.unwrap();
    let token = scene.read_token(&minted.token);
    assert_eq!(
        token.confirmation,
        Some(Confirmation::Certificate(certificate_thumbprint(certificate.leaf())))
    );
    let read = scene.read_certificate(certificate.leaf()).unwrap();
    assert_eq!(read.execution, token.execution);
}

#[tokio::test]
async fn class_23_a_token_is_bound_to_the_key_of_a_proof_or_to_a_certificate_and_never_to_both() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    scene.lease.draft.jkt = Some([7; 32]);
    assert_eq!(scene.token().unwrap_err(), MintError::Disagree("binding"));
    scene.lease.draft.key_thumbprint = None;
    let minted = scene.token().unwrap();
    let bound = Some(Confirmation::Key([7; 32]));
    assert_eq!((minted.confirmation, minted.certificate.is_none()), (bound, true));
    assert_eq!(scene.read_token(&minted.token).confirmation, bound);

    let (mut scene, _) = Scene::with_csr(Kind::AccessToken).await;
    scene.lease.draft.jkt = Some([7; 32]);
    assert_eq!(scene.token().unwrap_err(), MintError::Disagree("binding"));
}

#[tokio::test]
async fn a_certificate_keeps_every_rule_of_the_profile() {
    let (scene, key) = Scene::with_csr(Kind::X509Svid).await;
    let minted = scene.certificate().unwrap();
    let id = "spiffe://leasehold.example/task/tsk_0a00000000000000000000000009/e/7/finance";
    assert_eq!(minted.spiffe_id.as_str(), id);
    assert_eq!(minted.chain.len(), 2);
    let (_, x509) = parse_x509_certificate(minted.leaf()).unwrap();
    assert_eq!(x509.public_key().subject_public_key.data, key.public_key_raw());
    assert_eq!(x509.raw_serial(), [&[1], [0x85; 16].as_slice()].concat());
    assert_eq!(x509.subject().iter().count(), 0);
    let validity = x509.validity();
    assert_eq!(validity.not_before.timestamp(), 1_790_000_001 - 30);
    assert_eq!(validity.not_after.timestamp(), 1_790_000_301 - 1);
    let extensions: Vec<_> =
        x509.extensions().iter().map(|e| (e.oid.to_id_string(), e.critical)).collect();
    let expected = [
        ("2.5.29.35", false),
        ("2.5.29.17", true),
        ("2.5.29.15", true),
        ("2.5.29.37", false),
        ("2.5.29.14", false),
        ("2.5.29.19", true),
        ("2.5.29.56", false),
        ("1.3.6.1.4.1.32473.1", false),
    ];
    assert_eq!(extensions, expected.map(|(oid, critical)| (oid.to_owned(), critical)));
    let value = |n: usize| x509.extensions()[n].value;
    assert_eq!(value(2), [3, 2, 7, 0x80], "digitalSignature alone");
    assert_eq!(value(5), [0x30, 0], "cA is false");
    assert_eq!(value(6), [5, 0]);
    let usage = x509.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
}

#[tokio::test]
async fn a_certificate_leads_to_the_published_root() {
    let (scene, _) = Scene::with_csr(Kind::X509Svid).await;
    let minted = scene.certificate().unwrap();
    let bundle =
        crate::identity::trust_bundle::TrustBundle::of(scene.keys.bundle().clone()).unwrap();
    let other = crate::spiffe::id::TrustDomain::parse("verifier.example").unwrap();
    let own = scene.keys.settings().trust_domain.clone();
    let bundles =
        crate::identity::trust_bundle::TrustBundles::new(&other, [(own, bundle)]).unwrap();
    let chain: Vec<_> = minted
        .chain
        .iter()
        .map(|der| rustls::pki_types::CertificateDer::from(der.clone()))
        .collect();
    let caller = x509_svid::verify(&chain, &bundles, now()).unwrap();
    assert_eq!(caller.principal(), minted.spiffe_id.principal());
}

#[tokio::test]
async fn a_certificate_is_read_as_it_was_minted() {
    let (scene, _) = Scene::with_csr(Kind::X509Svid).await;
    let minted = scene.certificate().unwrap();
    let read = scene.read_certificate(minted.leaf()).unwrap();
    assert_eq!(read.spiffe_id, minted.spiffe_id);
    assert_eq!(read.class.as_str(), "finance");
    assert_eq!(read.jti, scene.lease.draft.jti);
    assert_eq!(read.execution, Execution::of(&scene.lease));
    assert_eq!(read.expires.seconds(), scene.lease.expires_seconds);
    assert_eq!(read.full_reach(), scene.lease.full_reach());
}

#[tokio::test]
async fn class_11_a_certificate_of_somebody_else_is_none_of_ours() {
    let (scene, _) = Scene::with_csr(Kind::X509Svid).await;
    let minted = scene.certificate().unwrap();
    let names = (&scene.keys.settings().trust_domain, &scene.keys.settings().task_extension);
    let verify = |der: &[u8], at| TaskCertificate::verify(der, scene.keys.authorities(), names, at);
    assert_eq!(verify(scene.svid.leaf(), now()), Err(TaskCertificateError::Signature));
    let foreign = keys(now().plus(seconds(1))).await;
    let refused = TaskCertificate::verify(minted.leaf(), foreign.authorities(), names, now());
    assert_eq!(refused, Err(TaskCertificateError::Signature));
    let other = ExtensionOid::parse("1.3.6.1.4.1.32473.2").unwrap();
    let refused =
        TaskCertificate::verify(minted.leaf(), scene.keys.authorities(), (names.0, &other), now());
    assert_eq!(refused, Err(TaskCertificateError::ExtensionMissing));
    let elsewhere = crate::spiffe::id::TrustDomain::parse("other.example").unwrap();
    let names = (&elsewhere, names.1);
    let refused = TaskCertificate::verify(minted.leaf(), scene.keys.authorities(), names, now());
    assert_eq!(refused, Err(TaskCertificateError::SpiffeId));
    let expired = Stamp::from_seconds(scene.lease.expires_seconds);
    assert!(verify(minted.leaf(), expired.minus(Span::from_micros(1))).is_ok());
    assert!(matches!(verify(minted.leaf(), expired), Err(TaskCertificateError::Leaf(_))));
    let mut changed = minted.leaf().to_vec();
    let at = changed.windows(3).position(|bytes| bytes == b"s-3").unwrap();
    changed[at] = b't';
    assert_eq!(verify(&changed, now()), Err(TaskCertificateError::Signature));
}

#[tokio::test]
async fn minting_again_gives_the_same_credential() {
    let (scene, _) = Scene::with_csr(Kind::AccessToken).await;
    let [one, two] = [scene.token().unwrap(), scene.token().unwrap()];
    let read = |minted: &MintedToken| AccessToken {
        confirmation: None,
        ..scene.read_token(&minted.token)
    };
    assert_eq!(read(&one), read(&two));
    let certificate = |minted: &MintedToken| {
        scene.read_certificate(minted.certificate.as_ref().unwrap().leaf()).unwrap()
    };
    assert_eq!(certificate(&one), certificate(&two));
    let receipt = scene.active();
    let answer = Answer {
        request_hash: [0; 32],
        origin: scene.lease.origin,
        subject: Subject::Lease(Box::new(scene.lease.clone())),
    };
    assert_eq!(ActiveLease::from_answer(&answer).unwrap().lease(), receipt.lease());
}

#[tokio::test]
async fn facts_that_do_not_agree_mint_nothing() {
    type Spoil = fn(&mut Draft);
    let other = || Principal::parse("spiffe://prod.example/agents/other").unwrap();
    let cases: [(&str, Spoil); 8] = [
        ("kind", |draft| draft.kind = Kind::X509Svid),
        ("instance", |draft| draft.instance = "other".to_owned()),
        ("actors", |draft| draft.actors = draft.actors.split_off(1)),
        ("actors", |draft| draft.actors.clear()),
        ("audience", |draft| draft.audience = "https://other.example".to_owned()),
        ("audience", |draft| draft.audience.clear()),
        ("subject", |draft| draft.actors.truncate(1)),
        ("binding", |draft| draft.public_key = Some(vec![0x30, 0])),
    ];
    for (what, spoil) in cases {
        let mut scene = Scene::new(Kind::AccessToken).await;
        spoil(&mut scene.lease.draft);
        assert_eq!(scene.token().unwrap_err(), MintError::Disagree(what));
    }
    let mut scene = Scene::new(Kind::AccessToken).await;
    scene.lease.draft.holder = other();
    assert_eq!(scene.token().unwrap_err(), MintError::Disagree("principal"));
}

#[tokio::test]
async fn class_21_a_permit_for_something_else_mints_nothing() {
    let scene = Scene::new(Kind::AccessToken).await;
    let wider =
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["post"]}]"#;
    let spoilt = |spoil: &dyn Fn(&mut Draft)| {
        let mut draft = scene.lease.draft.clone();
        spoil(&mut draft);
        let outcome = access_token(&scene.keys, &scene.caller, &permit(&draft), &scene.active());
        outcome.unwrap_err()
    };
    let hop = |text: &str, epoch: u64| {
        let task = crate::domain::id::TaskId::parse(text).unwrap();
        let own =
            crate::domain::path::Hop { task, counter: crate::domain::path::Counter::new(epoch) };
        crate::domain::path::Path::new(vec![], own)
    };
    let own = "tsk_0a00000000000000000000000009";
    for (what, refused) in [
        ("principal", spoilt(&|draft| draft.holder = draft.subject.clone())),
        ("task", spoilt(&|draft| draft.path = hop("tsk_0a00000000000000000000000001", 7))),
        ("epoch", spoilt(&|draft| draft.path = hop(own, 8))),
        ("epoch", spoilt(&|draft| draft.path = hop(own, 6))),
        ("audience", spoilt(&|draft| draft.audience = "https://other.example".to_owned())),
        ("grant", spoilt(&|draft| draft.grant = Grant::parse(wider).unwrap())),
    ] {
        assert_eq!(refused, MintError::Disagree(what));
        assert_eq!(refused.refusal(), None, "it is our fault");
    }
}

#[tokio::test]
async fn class_08_a_replay_with_another_certificate_mints_nothing() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    let rotated = scene.root.svid(AGENT, now().minus(seconds(60)), now().plus(seconds(3_600)));
    scene.caller = verified(&scene.root, &rotated);
    let refused = scene.token().unwrap_err();
    assert_eq!(refused, MintError::OtherCertificate);
    assert_eq!(refused.refusal().unwrap().reason(), "PROOF_INVALID");
}

#[tokio::test]
async fn a_bound_token_never_outlives_the_callers_certificate() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    scene.lease.expires_seconds = scene.caller.expires().seconds() + 1;
    assert_eq!(scene.token().unwrap_err(), MintError::Disagree("caller's expiry"));
    scene.lease.expires_seconds -= 1;
    assert!(scene.token().is_ok());
}

#[tokio::test]
async fn class_04_nothing_outlives_the_key_that_signs_it() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    scene.lease.draft.key_thumbprint = None;
    let end = scene.keys.access_token_key(now()).unwrap().life().expires().seconds();
    scene.lease.expires_seconds = end;
    assert!(scene.token().is_ok());
    scene.lease.expires_seconds = end + 1;
    assert_eq!(scene.token().unwrap_err(), MintError::KeyGone);
    scene.lease.expires_seconds = now().seconds();
    assert_eq!(scene.token().unwrap_err(), MintError::Disagree("times"));

    let (mut scene, _) = Scene::with_csr(Kind::X509Svid).await;
    let end = scene.keys.authority(now()).unwrap().life().expires();
    scene.lease.origin.stamp = end.minus(seconds(10));
    scene.lease.expires_seconds = end.seconds() + 1;
    assert_eq!(scene.certificate().unwrap_err(), MintError::KeyGone);
}

#[tokio::test]
async fn a_lease_of_a_key_that_is_gone_mints_nothing() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    scene.lease.draft.signing_key = "gone".to_owned();
    assert_eq!(scene.token().unwrap_err(), MintError::KeyGone);
    let (mut scene, _) = Scene::with_csr(Kind::X509Svid).await;
    scene.lease.draft.signing_key = "00".to_owned();
    assert_eq!(scene.certificate().unwrap_err(), MintError::KeyGone);
    // The certificate beside a token is by the authority that the commit asked about, and by none that followed it.
    let (mut scene, _) = Scene::with_csr(Kind::AccessToken).await;
    assert!(scene.token().is_ok());
    for authority in [Some("00".to_owned()), None] {
        scene.lease.draft.authority = authority;
        assert_eq!(scene.token().unwrap_err(), MintError::KeyGone);
    }
}

#[tokio::test]
async fn a_certificate_without_a_proved_key_is_not_minted() {
    let scene = Scene::new(Kind::X509Svid).await;
    assert_eq!(scene.certificate().unwrap_err(), MintError::Disagree("public key"));
    assert_eq!(settings(), *scene.keys.settings());
}

#[tokio::test]
async fn a_grant_too_large_for_a_token_is_refused_before_and_at_minting() {
    let mut scene = Scene::new(Kind::AccessToken).await;
    assert_eq!(must_fit(&scene.keys, &scene.lease.draft), Ok(()));
    let actions: Vec<String> = (0..200).map(|n| format!("\"ledger.accounts.read.{n}\"")).collect();
    let grant = format!(
        r#"[{{"type":"resource_access","audience":"{AUDIENCE}","actions":[{}]}}]"#,
        actions.join(",")
    );
    scene.lease.draft.grant = Grant::parse(&grant).unwrap();
    scene.permit = permit(&scene.lease.draft);
    let before = must_fit(&scene.keys, &scene.lease.draft).unwrap_err();
    assert_eq!(scene.token().unwrap_err(), before);
    assert_eq!(before.refusal().unwrap().reason(), "AUTHORIZATION_DETAILS_INVALID");
}

#[tokio::test]
async fn class_17_debug_shows_nothing_of_a_token() {
    let scene = Scene::new(Kind::AccessToken).await;
    let minted = scene.token().unwrap();
    let signature = minted.token.expose_text().rsplit('.').next().unwrap();
    assert!(!format!("{minted:?}").contains(signature));
    assert!(format!("{minted:?}").contains("<secret>"));
}
