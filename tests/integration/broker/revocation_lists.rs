//! Revocation lists: what somebody accepts who knows nothing of Leasehold but the root and the list.

mod serving;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::request::{CredentialRequest, IssueRequest, TaskSpec, TokenProof};
use leasehold::broker::seams::Clock;
use leasehold::broker::{Broker, RevocationList};
use leasehold::domain::id::TaskId;
use leasehold::domain::scope::Scope;
use leasehold::domain::time::{Span, Stamp};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, ReasonCode};

use super::endings::unchanged;
use super::scene::{Held, ParseName as _, Scene, Shown, agent_of, new_csr, spec, token};
use super::stores::over_every_store;

over_every_store! {
    class_16_a_living_long_certificate_is_on_no_list_and_is_on_it_once_its_task_is_over,
    class_16_whatever_kills_a_certificate_puts_it_on_the_list_with_its_reason,
    class_05_the_end_of_an_ancestor_puts_all_below_on_the_list,
    class_16_a_renewed_certificate_s_predecessor_is_on_the_list_too,
    class_07_numbers_rise_whichever_broker_makes_the_list,
    class_16_a_certificate_that_expired_is_on_one_more_list_and_then_on_none,
    class_16_short_certificates_and_tokens_are_kept_for_no_list,
}

const LONG_SECONDS: u64 = 3_600;

/// A task of the tier `long`, in the same partition as all others.
async fn begin(scene: &Scene) -> TaskId {
    let spec = TaskSpec { tier: Some("long".parse_name()), ..spec(&agent_of(0)) };
    scene.begin(spec).await.task.id
}

fn agent(scene: &Scene) -> Caller {
    scene.world.caller(&agent_of(0))
}

fn certificate_of(task: TaskId) -> IssueRequest {
    IssueRequest { credential: CredentialRequest::X509Svid(new_csr()), ..token(task) }
}

/// A certificate of an hour, and its task.
async fn certify(scene: &Scene) -> (TaskId, Held) {
    let task = begin(scene).await;
    let held = scene.issue_at(&scene.a, &agent(scene), certificate_of(task)).await.unwrap();
    assert!(held.expires - held.issued > 900);
    (task, held)
}

fn authority(scene: &Scene) -> String {
    let keys = scene.world.parts().keys.load_full();
    keys.authority(scene.world.clock.now()).unwrap().key_id().to_owned()
}

/// The newest list that a broker serves, made after everything so far.
async fn list_of(scene: &Scene, broker: &Broker) -> RevocationList {
    scene.forward(11).await;
    broker.revocation_list(&authority(scene)).await.unwrap().unwrap()
}

fn der(held: &Held) -> &[u8] {
    match &held.shown {
        Shown::Certificate(der) => der,
        Shown::Token(_) => panic!("a token"),
    }
}

/// As a TLS server does that asks for a list and takes no other answer than that it knows.
fn accepts(
    scene: &Scene,
    certificate: &[u8],
    list: &[u8],
    now: Stamp,
) -> Result<(), webpki::Error> {
    let keys = scene.world.parts().keys.load_full();
    let root = keys.bundle().to_document()["keys"][0]["x5c"][0].as_str().unwrap().to_owned();
    let root = CertificateDer::from(STANDARD.decode(root).unwrap());
    let chain: Vec<_> = keys.authorities().map(|ca| CertificateDer::from(ca.der())).collect();
    let list: CertRevocationList<'_> = BorrowedCertRevocationList::from_der(list).unwrap().into();
    let lists = [&list];
    let revocation = RevocationOptionsBuilder::new(&lists)
        .unwrap()
        .with_depth(RevocationCheckDepth::EndEntity)
        .with_status_policy(UnknownStatusPolicy::Deny)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    let leaf = CertificateDer::from(certificate);
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(
            rustls::crypto::ring::default_provider().signature_verification_algorithms.all,
            &[webpki::anchor_from_trusted_cert(&root).unwrap()],
            &chain,
            UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.seconds())),
            KeyUsage::client_auth(),
            Some(revocation),
            None,
        )
        .map(drop)
}

/// The entries of a list: `jti`, reason, and when.
fn entries(list: &RevocationList) -> Vec<([u8; 16], Option<u8>, u64)> {
    let (rest, parsed) = CertificateRevocationList::from_der(&list.der).unwrap();
    assert!(rest.is_empty());
    let entry = |revoked: &x509_parser::revocation_list::RevokedCertificate<'_>| {
        let serial = revoked.raw_serial().strip_prefix(&[1]).unwrap();
        let reason = revoked.reason_code().map(|(_, ReasonCode(code))| code);
        let at = u64::try_from(revoked.revocation_date.timestamp()).unwrap();
        (serial.try_into().unwrap(), reason, at)
    };
    parsed.iter_revoked_certificates().map(entry).collect()
}

async fn class_16_a_living_long_certificate_is_on_no_list_and_is_on_it_once_its_task_is_over(
    scene: Scene,
) {
    let (task, held) = certify(&scene).await;
    let (_, beside) = certify(&scene).await;
    let before = list_of(&scene, &scene.a).await;
    let now = scene.world.clock.now();
    assert_eq!(accepts(&scene, der(&held), &before.der, now), Ok(()));
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    for broker in [&scene.b, &scene.a] {
        let after = list_of(&scene, broker).await;
        let now = scene.world.clock.now();
        let revoked = Err(webpki::Error::CertRevoked);
        assert_eq!(accepts(&scene, der(&held), &after.der, now), revoked);
        assert_eq!(accepts(&scene, der(&beside), &after.der, now), Ok(()));
        assert!(after.number > before.number);
    }
    // A list that is over is none, whatever it says.
    let later = scene.world.clock.now().plus(Span::from_seconds(301));
    assert!(matches!(
        accepts(&scene, der(&beside), &before.der, later),
        Err(webpki::Error::CrlExpired { .. })
    ));
    // A certificate of fifteen minutes is on no list, and is taken beside those that could be.
    let short = IssueRequest { ttl_seconds: Some(900), ..certificate_of(begin(&scene).await) };
    let short = scene.issue_at(&scene.a, &agent(&scene), short).await.unwrap();
    let newest = list_of(&scene, &scene.a).await;
    assert_eq!(accepts(&scene, der(&short), &newest.der, scene.world.clock.now()), Ok(()));
}

/// Something that kills the credentials of a task.
#[derive(Clone, Copy, Debug)]
enum Kills {
    End(Rpc),
    Revoke,
    Advance,
    Suspend,
    SuspendAndResume,
    Release,
    RevokeLease,
    Quarantine(&'static str),
}

impl Kills {
    async fn kill(self, scene: &Scene, task: TaskId, held: &Held) {
        let (ci, operator, id) = (&scene.ci, &scene.operator, scene.world.id());
        let epoch = scene.epoch(task).await;
        match self {
            Self::End(rpc) => drop(scene.end(rpc, task).await.unwrap()),
            Self::Revoke => {
                let ended = scene.a.end(operator, &id, Rpc::RevokeTask, task, String::new());
                drop(ended.await.unwrap());
            }
            Self::Advance => drop(scene.a.advance(ci, &id, task, unchanged(epoch)).await.unwrap()),
            Self::Suspend => {
                drop(scene.a.suspend(ci, &id, task, String::new()).await.unwrap());
            }
            Self::SuspendAndResume => {
                drop(scene.a.suspend(ci, &id, task, String::new()).await.unwrap());
                let id = scene.world.id();
                drop(scene.a.resume(ci, &id, task, epoch + 1).await.unwrap());
            }
            Self::Release => drop(scene.a.release(&agent(scene), &id, held.lease).await.unwrap()),
            Self::RevokeLease => {
                let revoked = scene.a.revoke_lease(operator, &id, held.lease, String::new());
                drop(revoked.await.unwrap());
            }
            Self::Quarantine(scope) => {
                let scope = match scope {
                    "principal" => Scope::parse(&format!("principal:{}", agent_of(0))).unwrap(),
                    text => Scope::parse(text).unwrap(),
                };
                scene.a.quarantine(operator, &id, scope.clone(), String::new()).await.unwrap();
                // Lifting revives nothing.
                let id = scene.world.id();
                scene.a.lift_quarantine(operator, &id, scope, String::new()).await.unwrap();
            }
        }
    }
}

async fn class_16_whatever_kills_a_certificate_puts_it_on_the_list_with_its_reason(scene: Scene) {
    const SUPERSEDED: u8 = 4;
    const CESSATION: u8 = 5;
    const WITHDRAWN: u8 = 9;
    let mut dead = Vec::new();
    for (kills, code) in [
        (Kills::End(Rpc::CompleteTask), CESSATION),
        (Kills::End(Rpc::FailTask), CESSATION),
        (Kills::End(Rpc::CancelTask), CESSATION),
        (Kills::Revoke, CESSATION),
        (Kills::Advance, SUPERSEDED),
        (Kills::Suspend, SUPERSEDED),
        (Kills::SuspendAndResume, SUPERSEDED),
        (Kills::Release, WITHDRAWN),
        (Kills::RevokeLease, WITHDRAWN),
        (Kills::Quarantine("principal"), WITHDRAWN),
        (Kills::Quarantine("class:finance"), WITHDRAWN),
        (Kills::Quarantine("tier:long"), WITHDRAWN),
        (Kills::Quarantine("orchestrator:ci"), WITHDRAWN),
        (Kills::Quarantine("td:prod.example"), WITHDRAWN),
        (Kills::Quarantine("all"), WITHDRAWN),
    ] {
        let (task, held) = certify(&scene).await;
        let before = scene.world.clock.now();
        kills.kill(&scene, task, &held).await;
        let list = list_of(&scene, &scene.b).await;
        let found = entries(&list).into_iter().find(|(jti, ..)| *jti == held.jti);
        let (_, found, at) = found.unwrap_or_else(|| panic!("{kills:?}: not on the list"));
        assert_eq!(found, Some(code), "{kills:?}");
        let now = scene.world.clock.now().seconds();
        assert!((before.seconds()..=now).contains(&at), "{kills:?}: {at}");
        dead.push((held.jti, found, at));
        // What was said before is said again, whatever came after.
        let mut now: Vec<_> = entries(&list);
        now.sort_unstable();
        let mut known = dead.clone();
        known.sort_unstable();
        assert_eq!(now, known, "{kills:?}");
    }
}

async fn class_05_the_end_of_an_ancestor_puts_all_below_on_the_list(scene: Scene) {
    let root = begin(&scene).await;
    let child = TaskSpec { tier: Some("long".parse_name()), ..spec(&agent_of(0)) };
    let child = scene.delegate(root, child).await.unwrap().task.id;
    let held = scene.issue_at(&scene.a, &agent(&scene), certificate_of(child)).await.unwrap();
    assert!(entries(&list_of(&scene, &scene.a).await).is_empty());
    scene.end(Rpc::CompleteTask, root).await.unwrap();
    let found = entries(&list_of(&scene, &scene.a).await);
    assert_eq!(
        found.iter().map(|(jti, code, _)| (*jti, *code)).collect::<Vec<_>>(),
        [(held.jti, Some(5))]
    );
}

async fn class_16_a_renewed_certificate_s_predecessor_is_on_the_list_too(scene: Scene) {
    let (task, first) = certify(&scene).await;
    let second = scene.renew_at(&scene.b, &agent(&scene), &first).await.unwrap();
    assert_ne!(first.jti, second.jti);
    // A token that is bound to a certificate minted with it has one, too.
    let credential = CredentialRequest::AccessToken(TokenProof::Csr(new_csr()));
    let request = IssueRequest { credential, ..token(task) };
    let with_token = scene.issue_at(&scene.a, &agent(&scene), request).await.unwrap();
    assert!(entries(&list_of(&scene, &scene.a).await).is_empty());
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    let mut found: Vec<_> =
        entries(&list_of(&scene, &scene.a).await).into_iter().map(|(jti, ..)| jti).collect();
    let mut expected = vec![first.jti, second.jti, with_token.jti];
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

async fn class_07_numbers_rise_whichever_broker_makes_the_list(scene: Scene) {
    let key_id = authority(&scene);
    let mut last = 0;
    for _ in 0..3 {
        scene.forward(11).await;
        // Brokers that never made one, beside those that did.
        let fresh: Vec<_> = (0..4).map(|_| scene.world.broker()).collect();
        let all = fresh.iter().chain([&scene.a, &scene.b]);
        let lists = join_all(all.map(|broker| broker.revocation_list(&key_id))).await;
        let mut numbers: Vec<_> =
            lists.into_iter().map(|list| list.unwrap().unwrap().number).collect();
        numbers.sort_unstable();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each its own: {numbers:?}");
        assert!(last < numbers[0], "after {last}: {numbers:?}");
        last = numbers[numbers.len() - 1];
        // Without a record the store's time keeps them rising.
        assert!(last >= scene.world.clock.now().micros(), "{last}");
    }
    let one = scene.a.revocation_list(&key_id).await.unwrap().unwrap();
    let same = scene.a.revocation_list(&key_id).await.unwrap().unwrap();
    assert_eq!(one.number, same.number, "nothing is made anew before its time");
    let (_, parsed) = CertificateRevocationList::from_der(&one.der).unwrap();
    let number = parsed.crl_number().unwrap().to_string();
    assert_eq!(number, one.number.to_string());
}

async fn class_16_a_certificate_that_expired_is_on_one_more_list_and_then_on_none(scene: Scene) {
    let (task, held) = certify(&scene).await;
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    let is_listed = |list: &RevocationList| !entries(list).is_empty();
    assert!(is_listed(&list_of(&scene, &scene.a).await));
    let until = held.expires - scene.world.clock.now().seconds();
    scene.forward(until + 1).await;
    scene.a.sweep().await.unwrap();
    let found = scene.world.store.upkeep.certificates(task.partition(), Stamp::ZERO, 9).await;
    assert!(found.unwrap().is_empty(), "the store forgot it");
    assert!(is_listed(&list_of(&scene, &scene.a).await), "on one list from after its expiry");
    assert!(!is_listed(&list_of(&scene, &scene.a).await));
}

async fn class_16_short_certificates_and_tokens_are_kept_for_no_list(scene: Scene) {
    let tree = scene.tree().await;
    let task = begin(&scene).await;
    let short = IssueRequest { ttl_seconds: Some(900), ..certificate_of(task) };
    scene.issue_at(&scene.a, &agent(&scene), short).await.unwrap();
    scene.issue_at(&scene.a, &agent(&scene), token(task)).await.unwrap();
    let upkeep = &scene.world.store.upkeep;
    for partition in upkeep.constants().partitions.all() {
        assert!(upkeep.certificates(partition, Stamp::ZERO, 9).await.unwrap().is_empty());
    }
    for level in &tree {
        scene.end(Rpc::CancelTask, level.task).await.ok();
    }
    assert!(entries(&list_of(&scene, &scene.a).await).is_empty());
}
