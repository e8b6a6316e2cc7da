//! Keys that are made once, replaced in time, and never shown.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::sealed::Purpose;
use super::*;
use crate::domain::event::{Event, EventKind};
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::scope::Scope;
use crate::domain::secret::Secret;
use crate::domain::time::Span;
use crate::store::{
    Commit, Entries, Guard, Lane, Listing, Outcome, Query, Record, RecordKey, Snapshot, Store,
    Write,
};
use crate::testing::clock::TestClock;
use crate::testing::entropy::{NoEntropy, SeededEntropy};
use crate::testing::keys::{kek, keys, settings};
use crate::testing::model::ModelStore;
use crate::testing::store_contract::constants;

fn store() -> ModelStore {
    ModelStore::new(Arc::new(TestClock::at(now())), constants())
}

/// The sealed keyring as it lies in the store.
async fn held(store: &dyn Store) -> Option<(Vec<u8>, Stamp)> {
    let query = Query::new(Partition::ZERO, vec![RecordKey::Keyring], Entries::None);
    match store.read(query).await.unwrap().records.remove(0) {
        Some(Record::Keyring(sealed, version)) => Some((sealed, version)),
        _ => None,
    }
}

async fn overwrite(store: &dyn Store, sealed: Vec<u8>) {
    let mut commit = Commit::new(Partition::ZERO, Lane::Ordinary);
    let version = held(store).await.map(|(_, version)| version);
    commit.guards = vec![Guard { key: RecordKey::Keyring, version }];
    commit.writes = vec![Write::Keyring(sealed)];
    assert!(matches!(store.commit(commit).await, Ok(Outcome::Done(_))));
}

fn now() -> Stamp {
    Stamp::from_seconds(1_790_000_000)
}

fn days(n: u64) -> Span {
    Span::from_seconds(n * 24 * 60 * 60)
}

async fn load(store: &dyn Store, at: Stamp) -> Result<Keys, KeysError> {
    load_or_make(&At(store, at), &kek(), &settings(), &SeededEntropy::new(1)).await
}

/// The store's clock, where the test has put it.
struct At<'s>(&'s dyn Store, Stamp);

#[async_trait]
impl Store for At<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.0.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.0.read(query).await?;
        snapshot.meta.now = self.1;
        Ok(snapshot)
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.0.list(listing).await
    }
}

/// A quarantine as partition 0 has it, lifted after that if its count is even.
async fn quarantine(store: &dyn Store, key_id: &str, count: u64) -> Stamp {
    let scope = Scope::Key(key_id.to_owned());
    let mut entries = vec![Entry::Block(scope.clone(), count)];
    if count % 2 == 1 {
        entries.push(Entry::Watermark(scope, Origin::default()));
    }
    let event = Event { entries, ..Event::of_broker(7, EventKind::Quarantined, "") };
    let commit = Commit { event: Some(event), ..Commit::new(Partition::ZERO, Lane::Ending) };
    match store.commit(commit).await.unwrap() {
        Outcome::Done(receipt) => receipt.origin.stamp,
        other => panic!("{other:?}"),
    }
}

/// Who signs what, if anybody does: access tokens, JWT-SVIDs, security events, certificates.
fn signers(keys: &Keys, at: Stamp) -> [Option<String>; 4] {
    let kid = |key: Option<&TokenKey>| key.map(|key| key.key().kid().to_owned());
    let ca = keys.authority(at).map(|ca| ca.key_id().to_owned());
    [
        kid(keys.access_token_key(at)),
        kid(keys.jwt_svid_key(at)),
        kid(keys.security_event_key(at)),
        ca,
    ]
}

fn kids(keys: &Keys) -> Vec<&str> {
    keys.verifying_keys().iter().map(|key| key.kid()).collect()
}

#[tokio::test]
async fn the_first_broker_makes_the_keys_and_every_other_reads_the_same() {
    let store = store();
    let first = load(&store, now()).await.unwrap();
    let second = load(&store, now().plus(days(1))).await.unwrap();
    assert_eq!(kids(&first), kids(&second));
    assert_eq!(first.version(), second.version());
    assert_eq!(first.bundle().to_document(), second.bundle().to_document());
    let key = first.access_token_key(now()).unwrap();
    assert_eq!(key.life().expires(), now().plus(days(90)));
    let ca = first.authority(now()).unwrap();
    assert_eq!(ca.life().expires(), now().plus(days(365)));
    assert!(first.access_token_key_named(key.key().kid()).is_some());
    assert!(first.authority_named(ca.key_id()).is_some());
    assert!(first.authority_named("00").is_none());
}

/// Another broker is faster between our read and our commit.
struct Racing<'s>(&'s ModelStore, Mutex<Option<Vec<u8>>>);

#[async_trait]
impl Store for Racing<'_> {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        let theirs = self.1.lock().unwrap().take();
        if let Some(theirs) = theirs {
            overwrite(self.0, theirs).await;
        }
        self.0.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        self.0.read(query).await
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.0.list(listing).await
    }
}

#[tokio::test]
async fn the_loser_of_the_race_uses_the_winners_keys() {
    let (theirs, ours) = (store(), store());
    let winner = load(&theirs, now()).await.unwrap();
    let sealed = held(&theirs).await.map(|(sealed, _)| sealed);
    let loser = load(&Racing(&ours, Mutex::new(sealed.clone())), now()).await.unwrap();
    assert_eq!(kids(&winner), kids(&loser));
    assert_eq!(held(&ours).await.map(|(sealed, _)| sealed), sealed);
}

#[tokio::test]
async fn a_successor_is_published_an_hour_before_it_signs_and_the_old_key_until_it_expires() {
    let store = store();
    let old = load(&store, now()).await.unwrap();
    let old_kid = kids(&old)[0].to_owned();
    let before = load(&store, now().plus(days(60)).minus(Span::from_seconds(1))).await.unwrap();
    assert_eq!(kids(&before), [&old_kid]);

    let aged = now().plus(days(60));
    let both = load(&store, aged).await.unwrap();
    assert_eq!(kids(&both).len(), 2);
    let signs = |keys: &Keys, at: Stamp| keys.access_token_key(at).unwrap().key().kid().to_owned();
    let hour = Span::from_seconds(3_600);
    assert_eq!(signs(&both, aged.plus(hour).minus(Span::from_seconds(1))), old_kid);
    assert_ne!(signs(&both, aged.plus(hour)), old_kid);
    let again = load(&store, aged.plus(hour)).await.unwrap();
    assert_eq!(kids(&again), kids(&both), "one successor is enough");

    let expired = load(&store, now().plus(days(90))).await.unwrap();
    assert!(!kids(&expired).contains(&old_kid.as_str()));
    assert!(old.access_token_key(now().plus(days(90))).is_none(), "an expired key signs nothing");
}

#[tokio::test]
async fn class_06_a_quarantined_key_is_out_of_use_at_once_and_for_good_and_its_successor_signs_in_seconds()
 {
    let second = Span::from_seconds(1);
    let a_moment_before = Span::from_micros(PUBLISHED_AT_LEAST.micros() - 1);
    for n in 0..4 {
        let store = store();
        let old = load(&store, now()).await.unwrap();
        let before = signers(&old, now());
        let leaked = before[n].clone().unwrap();
        let at = now().plus(days(1));
        quarantine(&store, &leaked, 1).await;
        let keys = load(&store, at).await.unwrap();
        assert!(keys.living_key_ids().all(|id| id != leaked), "it is published no more");
        assert!(keys.key_ids().any(|id| id == leaked), "and is known all the same");
        assert!(keys.authorities().all(|ca| ca.subject_key_id().as_ref() != Some(&leaked)));
        let [soon, signs] = [a_moment_before, PUBLISHED_AT_LEAST];
        let mut none = before.clone();
        none[n] = None;
        assert_eq!(signers(&keys, at), none, "the others sign on");
        assert_eq!(signers(&keys, at.plus(soon)), none, "the successor is published first");
        let after = signers(&keys, at.plus(signs));
        assert!(after[n].is_some() && !before.contains(&after[n]), "{after:?}");
        let kind = [Kind::AccessToken, Kind::JwtSvid, Kind::JwtSvid, Kind::X509Svid][n];
        if n != 2 {
            let out_of_use = keys.out_of_use(kind, at).unwrap();
            assert_eq!(out_of_use, (leaked.as_str(), Some(at.plus(signs))));
        }
        // It is made once, and what is lifted stays out of use.
        quarantine(&store, &leaked, 2).await;
        for later in [at.plus(second), at.plus(signs), at.plus(days(30))] {
            let again = load(&store, later).await.unwrap();
            assert_eq!(again.version(), keys.version());
            assert_eq!(signers(&again, at.plus(days(30))), after);
        }
        // The successor may leak as well.
        quarantine(&store, after[n].as_ref().unwrap(), 1).await;
        let third = load(&store, at.plus(days(2))).await.unwrap();
        let third = signers(&third, at.plus(days(2)).plus(signs));
        assert!(third[n].is_some() && third[n] != after[n] && third[n] != before[n]);
    }
}

#[tokio::test]
async fn class_06_nobody_waits_an_hour_for_the_successor_that_a_quarantined_key_has_already() {
    let store = store();
    let old = load(&store, now()).await.unwrap();
    let aged = now().plus(days(60));
    let both = load(&store, aged).await.unwrap();
    assert_eq!(kids(&both).len(), 2);
    let leaked = old.access_token_key(now()).unwrap().key().kid();
    quarantine(&store, leaked, 1).await;
    let bridged = load(&store, aged).await.unwrap();
    let signs = |after: Span| signers(&bridged, aged.plus(after))[0].clone();
    let between = signs(PUBLISHED_AT_LEAST).unwrap();
    assert!(!kids(&both).contains(&between.as_str()));
    let hour = Span::from_seconds(3_600);
    let next = signs(hour).unwrap();
    assert!(kids(&both).contains(&next.as_str()) && next != *leaked, "then it takes over");
    // Of the two the one that is still to come may have leaked: nobody stops.
    quarantine(&store, &next, 1).await;
    let left = load(&store, aged.plus(PUBLISHED_AT_LEAST)).await.unwrap();
    assert_eq!(signers(&left, aged.plus(hour))[0], Some(between));
}

/// Nobody ran meanwhile: what it signed is over, and nobody waits for who comes after it.
#[tokio::test]
async fn a_quarantined_key_that_has_expired_holds_up_no_successor() {
    let store = store();
    let old = load(&store, now()).await.unwrap();
    let leaked = signers(&old, now())[0].clone().unwrap();
    quarantine(&store, &leaked, 1).await;
    let at = now().plus(days(91));
    let successor = signers(&load(&store, at).await.unwrap(), at)[0].clone();
    assert!(successor.is_some_and(|kid| kid != leaked));
}

#[tokio::test]
async fn class_26_keys_that_sign_only_later_do_not_leave_the_present_without_one() {
    let store = store();
    load(&store, now()).await.unwrap();
    // A clock that was years ahead, and is right again.
    let ahead = load(&store, now().plus(days(400))).await.unwrap();
    assert!(ahead.access_token_key(now()).is_none() && ahead.authority(now()).is_none());
    let right = load(&store, now()).await.unwrap();
    assert!(right.access_token_key(now()).is_some());
    assert!(right.authority(now()).is_some());
    let again = load(&store, now().plus(days(1))).await.unwrap();
    assert_eq!(kids(&again), kids(&right), "made once");
}

#[tokio::test]
async fn an_aged_intermediate_gets_a_successor_below_the_same_root() {
    let store = store();
    let old = load(&store, now()).await.unwrap();
    let later = load(&store, now().plus(days(244))).await.unwrap();
    assert_eq!(later.authorities().count(), 2);
    let at = now().plus(days(245));
    assert_ne!(
        old.authority(now()).unwrap().key_id(),
        later.authority(at).unwrap().key_id(),
        "the successor signs"
    );
    assert_eq!(
        old.bundle().authorities()[0].der(),
        later.bundle().authorities()[0].der(),
        "the root is the same"
    );
    assert!(later.bundle().sequence() > old.bundle().sequence());
}

#[tokio::test]
async fn under_another_key_encryption_key_nothing_opens_and_nothing_is_overwritten() {
    let store = store();
    load(&store, now()).await.unwrap();
    let sealed = held(&store).await;
    let other = KeyEncryptionKey::parse(&Secret::new((1..33).collect())).unwrap();
    let refused = load_or_make(&store, &other, &settings(), &SeededEntropy::new(1)).await;
    assert!(matches!(refused, Err(KeysError::Sealed(SealedError::Closed))));
    assert_eq!(held(&store).await, sealed);
    overwrite(&store, vec![1; 60]).await;
    assert!(matches!(load(&store, now()).await, Err(KeysError::Sealed(SealedError::Closed))));
}

#[tokio::test]
async fn without_entropy_there_are_no_keys() {
    let store = store();
    let refused = load_or_make(&store, &kek(), &settings(), &NoEntropy).await;
    assert!(matches!(refused, Err(KeysError::Entropy(_))));
    assert_eq!(held(&store).await, None);
}

#[tokio::test]
async fn the_published_documents_hold_public_keys_only() {
    let keys = keys(now()).await;
    let jwks = keys.verifying_keys().to_document();
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
    assert!(jwks["keys"][0].get("d").is_none());
    let bundle = keys.bundle().to_document();
    assert_eq!(bundle["keys"][0]["use"], "x509-svid");
    assert_eq!(bundle["spiffe_refresh_hint"], 300);
    assert!(bundle["spiffe_sequence"].as_u64().unwrap() > 0);
    assert!(bundle["keys"][0].get("d").is_none());
    let svids = keys.jwt_svid_verifying_keys().to_document();
    assert_eq!(
        (&svids["keys"][0]["use"], &bundle["keys"][1]["use"]),
        (&"sig".into(), &"jwt-svid".into())
    );
    assert_eq!(bundle["keys"][1]["kid"], svids["keys"][0]["kid"]);
    assert!(bundle["keys"][1].get("d").is_none() && svids["keys"][0].get("d").is_none());
    let read = Bundle::parse(bundle.to_string().as_bytes()).unwrap();
    assert_eq!(read.authorities(), keys.bundle().authorities());
}

#[tokio::test]
async fn class_11_no_key_is_of_two_kinds() {
    let store = store();
    for at in [now(), now().plus(days(60)), now().plus(days(120))] {
        let keys = load(&store, at).await.unwrap();
        let svids: Vec<_> = keys.jwt_svid_verifying_keys().iter().map(|key| key.kid()).collect();
        assert!(!svids.is_empty() && svids.iter().all(|kid| !kids(&keys).contains(kid)));
        let events: Vec<_> =
            keys.security_event_verifying_keys().iter().map(|key| key.kid()).collect();
        let others = |kid: &&str| kids(&keys).contains(kid) || svids.contains(kid);
        assert!(!events.is_empty() && !events.iter().any(others));
        let signing = keys.security_event_key(at).unwrap();
        assert!(events.contains(&signing.key().kid()));
        assert!(signing.life().expires() > at.plus(days(25)));
        let key = keys.jwt_svid_key(at).unwrap();
        assert!(keys.jwt_svid_key_named(key.key().kid()).is_some());
        assert!(keys.access_token_key_named(key.key().kid()).is_none());
        assert!(key.life().expires() > at.plus(days(25)));
    }
}

#[tokio::test]
async fn a_keyring_from_before_a_kind_of_token_gets_its_keys_and_keeps_its_own() {
    let store = store();
    let first = load(&store, now()).await.unwrap();
    let plain = kek().open(Purpose::Keyring, &held(&store).await.unwrap().0).unwrap();
    let mut before: serde_json::Value = serde_json::from_slice(plain.expose()).unwrap();
    for kind in ["jwt_svids", "security_events"] {
        before.as_object_mut().unwrap().remove(kind).unwrap();
    }
    let before = Secret::from(before.to_string());
    let sealed = kek().seal(Purpose::Keyring, &before, &SeededEntropy::new(9)).unwrap();
    overwrite(&store, sealed).await;
    let keys = load(&store, now().plus(days(1))).await.unwrap();
    assert_eq!(kids(&keys), kids(&first));
    assert!(keys.jwt_svid_key(now().plus(days(1))).is_some());
    assert!(keys.security_event_key(now().plus(days(1))).is_some());
}

#[tokio::test]
async fn authorities_that_we_made_keep_the_rules_of_spiffe() {
    let keys = keys(now()).await;
    let root = &keys.bundle().authorities()[0];
    let intermediate = keys.authority(now()).unwrap().authority();
    assert_eq!(root.path_length(), Some(1));
    assert_eq!(intermediate.path_length(), Some(0));
    for authority in [root, intermediate] {
        assert_eq!(authority.uris(), ["spiffe://leasehold.example"]);
        let (_, x509) = x509_parser::parse_x509_certificate(authority.der()).unwrap();
        let usage = x509.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert!(!usage.value.digital_signature());
        assert!(x509.name_constraints().unwrap().is_none());
        assert!(x509.basic_constraints().unwrap().unwrap().critical);
    }
    let root_life = root.expires().since(now());
    assert_eq!(root_life, days(3_650));
}

#[tokio::test]
async fn class_16_the_root_that_we_made_has_an_empty_list_that_every_opening_of_the_keyring_renews()
{
    let store = store();
    let read = |keys: &Keys| {
        let root = &keys.bundle().authorities()[0];
        let list = keys.root_list(&root.subject_key_id().unwrap()).unwrap().clone();
        let (_, crl) = CertificateRevocationList::from_der(list.der()).unwrap();
        let (_, root) = x509_parser::parse_x509_certificate(root.der()).unwrap();
        crl.verify_signature(root.public_key()).unwrap();
        assert_eq!(crl.issuer(), root.subject());
        assert_eq!(crl.iter_revoked_certificates().count(), 0);
        assert_eq!(crl.crl_number().unwrap().to_string(), list.number().to_string());
        (list.number(), crl.last_update().timestamp(), crl.next_update().unwrap().timestamp())
    };
    let seconds = |at: Stamp| i64::try_from(at.seconds()).unwrap();
    let first = read(&load(&store, now()).await.unwrap());
    assert!(first.1 < seconds(now()) && first.2 == seconds(now().plus(days(7))));
    let later = now().plus(days(1));
    let next = read(&load(&store, later).await.unwrap());
    assert!(next.0 > first.0 && next.2 == seconds(later.plus(days(7))));
    let end = now().plus(days(3_649));
    let last = read(&load(&store, end).await.unwrap());
    assert_eq!(last.2, seconds(now().plus(days(3_650))), "no longer than the root");
}

#[tokio::test]
async fn class_16_a_quarantined_authority_is_on_the_list_of_the_root_that_we_made() {
    let store = store();
    let old = load(&store, now()).await.unwrap();
    let ca = old.authority(now()).unwrap();
    let at = quarantine(&store, ca.key_id(), 1).await;
    quarantine(&store, ca.key_id(), 2).await;
    for later in [now(), now().plus(days(300))] {
        let keys = load(&store, later).await.unwrap();
        let root = keys.bundle().authorities()[0].subject_key_id().unwrap();
        let list = keys.root_list(&root).unwrap().clone();
        let (_, crl) = CertificateRevocationList::from_der(list.der()).unwrap();
        let revoked: Vec<_> = crl.iter_revoked_certificates().collect();
        let (_, certificate) = x509_parser::parse_x509_certificate(ca.authority().der()).unwrap();
        let [one] = &revoked[..] else { panic!("{} entries", revoked.len()) };
        assert_eq!(one.raw_serial(), certificate.raw_serial());
        assert_eq!(one.reason_code().unwrap().1, x509_parser::prelude::ReasonCode::CACompromise);
        assert_eq!(one.revocation_date.timestamp(), i64::try_from(at.seconds()).unwrap());
        // Whoever looks at no list but the leaf's is told by that.
        assert!(keys.issuers().any(|issuer| issuer.key_id() == ca.key_id()));
    }
}

#[tokio::test]
async fn class_16_the_root_s_list_is_found_under_the_root_s_name_alone() {
    let keys = keys(now()).await;
    let issuing = keys.authority(now()).unwrap().key_id();
    assert!(keys.root_list(issuing).is_none() && keys.root_list("").is_none());
}

#[tokio::test]
async fn class_17_debug_and_errors_show_nothing_of_a_key() {
    let store = store();
    let keys = load(&store, now()).await.unwrap();
    let text = format!("{keys:?}");
    let plain = kek().open(Purpose::Keyring, &held(&store).await.unwrap().0).unwrap();
    let keyring: serde_json::Value = serde_json::from_slice(plain.expose()).unwrap();
    let key = keyring["access_tokens"][0]["pkcs8"].as_str().unwrap();
    let (start, _) = key.split_at(20);
    assert!(!text.contains(start), "{text}");
    assert!(text.contains(keys.access_token_key(now()).unwrap().key().kid()));

    let broken = plain.expose_text().replace("\"pkcs8\":\"", "\"pkcs8\":\"?");
    let sealed =
        kek().seal(Purpose::Keyring, &Secret::from(broken), &SeededEntropy::new(9)).unwrap();
    overwrite(&store, sealed).await;
    let error = load(&store, now()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(start), "{error:?}");
}

#[tokio::test]
async fn an_authority_made_for_another_trust_domain_is_refused() {
    let store = store();
    load(&store, now()).await.unwrap();
    let other =
        Settings { trust_domain: TrustDomain::parse("other.example").unwrap(), ..settings() };
    let refused = load_or_make(&store, &kek(), &other, &SeededEntropy::new(1)).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("`spiffe://leasehold.example`"), "{error}");
    assert!(error.contains("`other.example`"), "{error}");
}
