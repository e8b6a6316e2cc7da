//! Whatever time a thief writes into what it signs, and whichever kind of credential it is: once the key is quarantined no verifier
//! and no broker takes it.

use std::sync::Arc;

use leasehold::broker::seams::Clock;
use leasehold::domain::execution::Execution;
use leasehold::domain::id::LeaseId;
use leasehold::domain::lattice::Dead;
use leasehold::domain::principal::Name;
use leasehold::domain::time::{Span, Stamp};
use leasehold::jose::ClaimError;
use leasehold::jose::access_token::AccessTokenError;
use leasehold::keys::{Keys, set_validity};
use leasehold::proto::v1;
use leasehold::proto::v1::introspect_credential_request::Credential as Shown;
use leasehold::proto::v1::issue_credential_request::Credential;
use leasehold::spiffe::leaf::Leaf;
use leasehold::spiffe::task_certificate::{serial_number, spiffe_id_text};
use leasehold::spiffe::task_extension;
use leasehold::testing::ca::csr;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::{Refused, Verifier};
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use serde_json::{Value, json};

use super::leaked_keys::{Thief, must_refuse};
use super::site::{AGENT, Site, VERIFIER, token_request};
use super::verifier::{PATIENCE, Pair, Token, follow};

/// Seconds that the store runs before anything is forged: a credential that is older than its incarnation is of none.
const RUNS: u64 = 15;
/// When a thief may say that a key signed, in seconds after now, so that a verifier's rules of time let it through.
const TAKEN: [i64; 3] = [-12, 0, 3];
/// So far ahead that it is taken for none of now.
const AHEAD: i64 = 8;

fn shifted(now: Stamp, seconds: i64) -> Stamp {
    let span = Span::from_seconds(seconds.unsigned_abs());
    if seconds < 0 { now.minus(span) } else { now.plus(span) }
}

async fn introspects(site: &Site, credential: Shown) -> bool {
    let request = v1::IntrospectCredentialRequest { credential: Some(credential) };
    let mut verification = site.verification(VERIFIER);
    verification.introspect_credential(request).await.unwrap().into_inner().active
}

/// The broker goes on reading meanwhile, and so do those whom it keeps fresh.
async fn run_for_a_while(pair: &Pair) {
    let mut registry = pair.site.running.broker.feed().registry();
    for _ in 0..RUNS {
        registry.changed().await.unwrap();
        pair.site.clock.forward(Span::from_seconds(1));
    }
    let fresh = async {
        while pair.verifier.age().is_none_or(|age| age > Span::from_seconds(1)) {
            registry.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, fresh).await.unwrap();
}

/// As the thief of a token's lease, or of nothing but the key.
fn forged(thief: &Thief, lease: &str, at: Stamp) -> [Token; 2] {
    let own = |claims: &mut Value| claims["leasehold"]["lease"] = json!(lease);
    [thief.forge(at), thief.forge_with(at, own)]
}

#[tokio::test]
async fn class_06_no_time_of_issue_makes_a_token_of_a_quarantined_key_good() {
    let pair = Pair::start().await;
    run_for_a_while(&pair).await;
    let (_, lease, token) = pair.token().await;
    let thief = Thief::of(&pair.site, &token);
    let now = || pair.site.clock.now();
    let shown = |token: &Token| Shown::Token(token.text.clone());
    for seconds in TAKEN {
        let [made_up, own] = forged(&thief, &lease.lease_id, shifted(now(), seconds));
        drop(made_up.check(&pair.verifier).expect("what the thief makes is good until then"));
        drop(own.check(&pair.verifier).unwrap());
        assert!(introspects(&pair.site, shown(&own)).await, "{seconds}");
    }
    // It will have been issued later, after whatever happens until then.
    let later = forged(&thief, &lease.lease_id, shifted(now(), AHEAD));
    for token in &later {
        let refused = token.check(&pair.verifier).unwrap_err();
        assert_eq!(refused, AccessTokenError::from(ClaimError::NotYet("iat")).into());
        assert!(!introspects(&pair.site, shown(token)).await);
    }

    pair.quarantine(&format!("key:{}", thief.kid)).await;
    let (newcomer, _folder) = follow(&pair.site);
    newcomer.ready().await;
    let must_be_dead = async |token: &Token| {
        for verifier in [&pair.verifier, &newcomer] {
            must_refuse(verifier, token);
            assert!(verifier.admit(&token.shown()).await.is_err(), "nor by asking");
        }
        assert!(!introspects(&pair.site, shown(token)).await);
    };
    for seconds in TAKEN {
        for token in forged(&thief, &lease.lease_id, shifted(now(), seconds)) {
            must_be_dead(&token).await;
        }
    }
    // The time of those has come, the keys are new, and who knows the old one knows that it is out of use.
    let task = pair.site.begin().await;
    let issued = pair
        .once_succeeded(async || {
            let mut agent = pair.site.credentials(AGENT);
            Ok(agent.issue_credential(token_request(&task)).await?.into_inner())
        })
        .await;
    let honest = Token::of(issued.credential.unwrap().access_token);
    drop(pair.verifier.admit(&honest.shown()).await.unwrap());
    for token in &later {
        must_be_dead(token).await;
    }
}

/// Who has a copy of the authority's key, as it was, and has seen a certificate.
struct Counterfeiter {
    keys: Arc<Keys>,
    genuine: Execution,
    class: Name,
}

impl Counterfeiter {
    async fn of(site: &Site) -> Self {
        let csr_der = csr(&KeyPair::generate().unwrap()).der().to_vec();
        let credential = Some(Credential::X509Svid(v1::X509SvidRequest { csr_der }));
        let task = site.begin().await;
        let request = v1::IssueCredentialRequest { credential, ..token_request(&task) };
        let issued = site.credentials(AGENT).issue_credential(request).await.unwrap();
        let seen = issued.into_inner().credential.unwrap().certificate_chain_der.remove(0);
        let leaf = Leaf::check(&seen, site.clock.now()).unwrap();
        let class = Name::parse(leaf.id().as_str().rsplit('/').next().unwrap()).unwrap();
        let (_, seen) = x509_parser::parse_x509_certificate(&seen).unwrap();
        let genuine = seen.extensions().iter().find_map(|e| task_extension::decode(e.value).ok());
        let keys = site.running.broker.keys();
        Self { keys, genuine: genuine.unwrap(), class }
    }

    /// A certificate committed at `at`, of the lease that was seen or of one that is made up; and what leads up from it.
    fn forge(&self, lease: Option<LeaseId>, at: Stamp, now: Stamp) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut execution = self.genuine.clone();
        execution.origin.stamp = at;
        execution.lease = lease.unwrap_or(execution.lease);
        let settings = self.keys.settings();
        let id = spiffe_id_text(&settings.trust_domain, &execution, &self.class);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from_slice(&serial_number([7; 16])));
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let extension = task_extension::encode(&execution).unwrap();
        let arcs = settings.task_extension.arcs();
        params.custom_extensions = vec![CustomExtension::from_oid_content(arcs, extension)];
        let from = at.min(now).minus(Span::from_seconds(30));
        set_validity(&mut params, from, now.plus(Span::from_seconds(86_400)));
        let ca = self.keys.authority(now).unwrap();
        let leaf = ca.sign(&params, &KeyPair::generate().unwrap()).unwrap();
        (leaf.to_vec(), ca.chain().to_vec())
    }
}

async fn admit(
    verifier: &Verifier,
    (leaf, chain): &(Vec<u8>, Vec<Vec<u8>>),
) -> Result<(), Refused> {
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let checked = verifier.checker().check_certificate((leaf, &chain), verifier.present());
    let admitted = verifier.admit_certificate(leaf, &chain).await;
    assert_eq!(checked.is_ok(), admitted.is_ok(), "asked or not");
    admitted.map(drop)
}

#[tokio::test]
async fn class_06_a_certificate_of_a_quarantined_authority_is_dead_over_the_embedded_store() {
    a_certificate_of_a_quarantined_authority_is_dead(Site::start().await).await;
}

#[tokio::test]
async fn class_06_a_certificate_of_a_quarantined_authority_is_dead_over_redis() {
    let server = RedisServer::durable();
    a_certificate_of_a_quarantined_authority_is_dead(Site::start_on_redis(&server).await).await;
}

async fn a_certificate_of_a_quarantined_authority_is_dead(site: Site) {
    let pair = Pair::at(site, |_| {}).await;
    run_for_a_while(&pair).await;
    let thief = Counterfeiter::of(&pair.site).await;
    let now = || pair.site.clock.now();
    let made_up = LeaseId::new(thief.genuine.lease.partition(), 0xbad);
    // A certificate says no time of issue that anybody judges: any will do.
    let forged = || {
        [-12, 0, 3, AHEAD, 86_000].map(|seconds| {
            let at = shifted(now(), seconds);
            [Some(made_up), None].map(|lease| (lease, thief.forge(lease, at, now())))
        })
    };
    let is_active = async |one: &(Vec<u8>, _)| {
        introspects(&pair.site, Shown::CertificateDer(one.0.clone())).await
    };
    for (lease, one) in forged().iter().flatten() {
        assert_eq!(admit(&pair.verifier, one).await, Ok(()), "what is made is good until then");
        assert_eq!(is_active(one).await, lease.is_none(), "a lease that was never is no lease");
    }

    let key_id = thief.keys.authority(now()).unwrap().key_id().to_owned();
    pair.quarantine(&format!("key:{key_id}")).await;
    let (newcomer, _folder) = follow(&pair.site);
    newcomer.ready().await;
    let must_be_dead = async || {
        for (_, one) in forged().iter().flatten() {
            for verifier in [&pair.verifier, &newcomer] {
                assert_eq!(admit(verifier, one).await, Err(Refused::Dead(Dead::Quarantined)));
            }
            assert!(!is_active(one).await);
        }
    };
    must_be_dead().await;
    // So it stays under a successor, whose certificates are good, and whoever lifts it.
    pair.lift(&format!("key:{key_id}")).await;
    let successor = pair
        .once_succeeded(async || {
            let csr_der = csr(&KeyPair::generate().unwrap()).der().to_vec();
            let credential = Some(Credential::X509Svid(v1::X509SvidRequest { csr_der }));
            let task = pair.site.begin().await;
            let request = v1::IssueCredentialRequest { credential, ..token_request(&task) };
            Ok(pair.site.credentials(AGENT).issue_credential(request).await?.into_inner())
        })
        .await;
    let mut chain = successor.credential.unwrap().certificate_chain_der;
    let honest = (chain.remove(0), chain);
    assert_eq!(admit(&pair.verifier, &honest).await, Ok(()));
    must_be_dead().await;
}
