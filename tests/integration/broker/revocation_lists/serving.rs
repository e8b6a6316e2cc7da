//! How lists are written, how old they may be, and what comes of several brokers, over one store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::future::join_all;
use leasehold::broker::access::Rpc;
use leasehold::broker::error::BrokerError;
use leasehold::broker::seams::Clock;
use leasehold::broker::{Broker, Parts};
use leasehold::domain::id::Partition;
use leasehold::domain::time::Span;
use leasehold::keys::{IssuerCa, Life, SharedKeys, load_or_make};
use leasehold::store::{
    Commit, Entries, Lane, Listing, Outcome, Query, Record, RecordKey, Snapshot, Store, StoreError,
    Write,
};
use leasehold::testing::clock::TestClock;
use leasehold::testing::entropy::SeededEntropy;
use leasehold::testing::faulty_store::FaultyStore;
use leasehold::testing::keys;
use leasehold::testing::store_contract::Fixture;
use leasehold::testing::world::{OPERATOR, World, settings};
use tokio::sync::Notify;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::super::scene::Scene;
use super::{LONG_SECONDS, agent, authority, certificate_of, certify, der, entries, list_of};
use crate::store::open;

#[tokio::test]
async fn class_16_the_list_says_what_rfc_5280_asks_for() {
    let scene = Scene::on_model().await;
    let (task, held) = certify(&scene).await;
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    let list = list_of(&scene, &scene.a).await;
    let (_, parsed) = CertificateRevocationList::from_der(&list.der).unwrap();
    let extensions: Vec<_> =
        parsed.extensions().iter().map(|e| (e.oid.to_id_string(), e.critical)).collect();
    let expected = [("2.5.29.35", false), ("2.5.29.20", false)];
    assert_eq!(extensions, expected.map(|(oid, critical)| (oid.to_owned(), critical)));
    let key_id: String =
        parsed.extensions()[0].value[4..].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(key_id, authority(&scene));
    let now = i64::try_from(scene.world.clock.now().seconds()).unwrap();
    let last = parsed.last_update().timestamp();
    assert!((now - 31..=now - 29).contains(&last), "backdated for clocks that are behind");
    let next = parsed.next_update().unwrap().timestamp();
    assert!((now + 299..=now + 301).contains(&next), "{next}");
    let (_, certificate) = x509_parser::parse_x509_certificate(der(&held)).unwrap();
    let oids: Vec<_> = certificate.extensions().iter().map(|e| e.oid.to_id_string()).collect();
    assert!(!oids.contains(&"2.5.29.56".to_owned()), "noRevAvail beside a list");
    let points = certificate.extensions().iter().find(|e| e.oid.to_id_string() == "2.5.29.31");
    let url = format!("https://leasehold.example/crl/{}.crl", authority(&scene));
    let points = points.unwrap();
    assert!(!points.critical);
    assert!(points.value.ends_with(url.as_bytes()));
    assert_eq!(points.value.len(), url.len() + 10, "one point with one name");
    assert_eq!(LONG_SECONDS, held.expires - held.issued);
}

#[tokio::test]
async fn class_07_no_list_is_served_that_is_too_old_and_none_of_a_store_that_is_away_or_closed() {
    let scene = Scene::on_model().await;
    let store = FaultyStore::over(scene.world.store.store.clone(), scene.world.store.feed.clone());
    let upkeep = scene.world.store.upkeep.clone();
    let broker = scene.world.broker_of(scene.world.clock.clone(), store.clone(), upkeep);
    let key_id = authority(&scene);
    let number = async || match broker.revocation_list(&key_id).await {
        Ok(list) => Ok(list.unwrap().number),
        Err(BrokerError::Store(error)) => Err(error),
        Err(other) => panic!("{other}"),
    };
    let first = number().await.unwrap();
    store.fail_reads(true);
    scene.forward(10).await;
    assert_eq!(number().await.unwrap(), first, "ten seconds are not too old");
    scene.forward(1).await;
    assert!(matches!(number().await, Err(StoreError::Unavailable(_))));
    let unknown = broker.revocation_list("00").await;
    assert!(unknown.unwrap().is_none(), "whose authority one is needs no store");
    store.fail_reads(false);
    assert!(matches!(number().await, Err(StoreError::Unavailable(_))), "asked too soon again");
    scene.forward(1).await;
    assert!(number().await.unwrap() > first);
    scene.forward(11).await;
    store.close(true);
    assert!(matches!(number().await, Err(StoreError::Closed(_))));
    // The wall clock says nothing of an age.
    store.close(false);
    scene.forward(1).await;
    let second = number().await.unwrap();
    scene.world.clock.back(Span::from_seconds(3_600));
    scene.world.clock.forward(Span::from_seconds(11));
    assert!(number().await.unwrap() > second);
}

#[tokio::test]
async fn class_16_there_is_no_list_of_an_authority_that_is_not_ours() {
    let scene = Scene::on_model().await;
    for other in ["", "00", "..", &authority(&scene).to_uppercase(), &authority(&scene)[1..]] {
        assert!(scene.a.revocation_list(other).await.unwrap().is_none(), "{other}");
    }
}

#[tokio::test]
async fn class_15_a_list_that_would_be_too_long_is_an_error_and_not_a_shorter_list() {
    let scene = Scene::on_model().await;
    let broker = scene.world.broker_that(|settings| settings.lists.most_entries = 2);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(certify(&scene).await.0);
    }
    for task in &held[..2] {
        scene.end(Rpc::CompleteTask, *task).await.unwrap();
    }
    assert_eq!(entries(&list_of(&scene, &broker).await).len(), 2);
    scene.end(Rpc::CompleteTask, held[2]).await.unwrap();
    scene.forward(11).await;
    let error = broker.revocation_list(&authority(&scene)).await.unwrap_err();
    assert!(error.to_string().contains("more than 2 certificates"), "{error}");
}

/// Holds a broker up, once, after it has read what can hit the certificates.
struct Slow {
    inner: Arc<dyn Store>,
    is_slow: AtomicBool,
    has_read: Notify,
    goes_on: Notify,
}

#[async_trait]
impl Store for Slow {
    async fn commit(&self, commit: Commit) -> Result<Outcome, StoreError> {
        self.inner.commit(commit).await
    }

    async fn read(&self, query: Query) -> Result<Snapshot, StoreError> {
        let judges = matches!(query.entries, Entries::Raised { .. });
        let snapshot = self.inner.read(query).await;
        if judges && self.is_slow.swap(false, Ordering::SeqCst) {
            self.has_read.notify_one();
            self.goes_on.notified().await;
        }
        snapshot
    }

    async fn list(&self, listing: Listing) -> Result<Vec<String>, StoreError> {
        self.inner.list(listing).await
    }
}

#[tokio::test]
async fn class_16_a_list_with_a_higher_number_lacks_nothing_that_a_lower_one_has() {
    let scene = Scene::on_model().await;
    let (task, held) = certify(&scene).await;
    let slow = Arc::new(Slow {
        inner: scene.world.store.store.clone(),
        is_slow: AtomicBool::new(true),
        has_read: Notify::new(),
        goes_on: Notify::new(),
    });
    let upkeep = scene.world.store.upkeep.clone();
    let broker = scene.world.broker_of(scene.world.clock.clone(), slow.clone(), upkeep);
    let key_id = authority(&scene);
    let meanwhile = async {
        slow.has_read.notified().await;
        scene.end(Rpc::CompleteTask, task).await.unwrap();
        let list = list_of(&scene, &scene.a).await;
        slow.goes_on.notify_one();
        list
    };
    let (of_slow, of_other) = tokio::join!(broker.revocation_list(&key_id), meanwhile);
    let of_slow = of_slow.unwrap().unwrap();
    assert_eq!(entries(&of_other)[0].0, held.jti);
    assert!(of_slow.number > of_other.number);
    assert_eq!(entries(&of_slow), entries(&of_other));
}

#[tokio::test]
async fn class_16_only_an_ending_within_the_lists_age_is_not_on_it() {
    let scene = Scene::on_model().await;
    let (task, _) = certify(&scene).await;
    let key_id = authority(&scene);
    let list = async || entries(&scene.a.revocation_list(&key_id).await.unwrap().unwrap()).len();
    assert_eq!(list().await, 0);
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    scene.forward(10).await;
    assert_eq!(list().await, 0, "the documented age");
    scene.forward(1).await;
    assert_eq!(list().await, 1);
    // In the background lists are remade at half their age, where certificates live that long.
    let (task, _) = certify(&scene).await;
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    scene.forward(6).await;
    scene.a.refresh_revocation_lists().await.unwrap();
    assert_eq!(list().await, 2);
    let operator = scene.world.caller(OPERATOR);
    let short = scene.world.broker_that(|settings| settings.tiers.truncate(3));
    assert!(short.tiers(&operator).unwrap().iter().all(|tier| tier.ttl_seconds <= 900));
    let before = record(&scene).await;
    short.refresh_revocation_lists().await.unwrap();
    assert_eq!(record(&scene).await, before, "nothing is written for lists that nobody needs");
}

/// The number that the last list took, of the store's record.
async fn record(scene: &Scene) -> Option<Record> {
    let records = vec![RecordKey::RevocationList];
    let query = Query::new(Partition::ZERO, records, Entries::None);
    scene.world.store.store.read(query).await.unwrap().records.remove(0)
}

#[tokio::test]
async fn class_15_many_who_ask_at_once_are_served_one_list() {
    let scene = Scene::on_model().await;
    let key_id = authority(&scene);
    let lists = join_all((0..8).map(|_| scene.a.revocation_list(&key_id))).await;
    let numbers: BTreeSet<_> =
        lists.into_iter().map(|list| list.unwrap().unwrap().number).collect();
    assert_eq!(numbers.len(), 1, "{numbers:?}");
}

/// The store's time can be behind that of a list: another server leads it, or its clock was set back.
#[tokio::test]
async fn class_07_numbers_rise_though_the_store_s_time_is_behind_the_last_one() {
    let scene = Scene::on_model().await;
    let ahead = scene.world.clock.now().plus(Span::from_seconds(3_600)).micros();
    let writes = vec![Write::RevocationList(ahead)];
    let commit = Commit { writes, ..Commit::new(Partition::ZERO, Lane::Ordinary) };
    scene.world.store.store.commit(commit).await.unwrap();
    assert_eq!(list_of(&scene, &scene.a).await.number, ahead + 1);
    assert_eq!(list_of(&scene, &scene.b).await.number, ahead + 2);
}

#[tokio::test]
async fn class_16_a_list_has_all_that_died_though_they_are_read_in_pages() {
    let scene = Scene::on_model().await;
    let (task, held) = certify(&scene).await;
    let mut expected = BTreeSet::from([held.jti]);
    // A page has 64.
    for _ in 0..64 {
        let held = scene.issue_at(&scene.a, &agent(&scene), certificate_of(task)).await.unwrap();
        expected.insert(held.jti);
    }
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    let found: BTreeSet<_> =
        entries(&list_of(&scene, &scene.a).await).into_iter().map(|(jti, ..)| jti).collect();
    assert_eq!(expected.len(), 65);
    assert_eq!(found, expected);
}

#[tokio::test]
async fn class_07_what_a_list_said_of_a_certificate_the_next_one_says_too() {
    let scene = Scene::on_model().await;
    let (task, _) = certify(&scene).await;
    scene.a.suspend(&scene.ci, &scene.world.id(), task, String::new()).await.unwrap();
    let suspended = entries(&list_of(&scene, &scene.a).await);
    assert_eq!(suspended.len(), 1);
    scene.end(Rpc::CompleteTask, task).await.unwrap();
    assert_eq!(entries(&list_of(&scene, &scene.a).await), suspended);
}

/// Its keys stay until the keyring is loaded again.
#[tokio::test]
async fn class_07_an_authority_that_has_expired_keeps_no_other_from_its_list() {
    let mut scene = Scene::on_model().await;
    let (_, [_, second]) = in_a_succession(&mut scene, 7_200).await;
    scene.forward(7_200 + 60).await;
    assert_eq!(scene.a.keys().authority(scene.world.clock.now()).unwrap().key_id(), second);
    let list = scene.a.revocation_list(&second).await.unwrap().unwrap();
    assert!(entries(&list).is_empty());
}

/// A broker that has the keys of both: of the authority that signs, and of its successor.
async fn in_a_succession(scene: &mut Scene, before_the_end: u64) -> (Life, [String; 2]) {
    let (clock, store) = (scene.world.clock.clone(), scene.world.store.store.clone());
    let load = async || {
        let entropy = SeededEntropy::new(clock.now().micros());
        load_or_make(&*store, &keys::kek(), &keys::settings(), &entropy).await.unwrap()
    };
    let first = load().await;
    let first = first.authority(clock.now()).unwrap();
    let left = first.life().expires().seconds() - clock.now().seconds();
    scene.forward(left - before_the_end).await;
    let both = load().await;
    let second = both.issuers().map(IssuerCa::key_id).find(|id| *id != first.key_id()).unwrap();
    let names = [first.key_id().to_owned(), second.to_owned()];
    let keys = SharedKeys::new(ArcSwap::from_pointee(both));
    scene.a = Broker::new(Parts { keys, ..scene.world.parts() }, settings());
    (first.life(), names)
}

/// `nextUpdate` of an authority's list, in seconds.
async fn holds_until(scene: &Scene, key_id: &str) -> u64 {
    let list = scene.a.revocation_list(key_id).await.unwrap().unwrap();
    let (_, parsed) = CertificateRevocationList::from_der(&list.der).unwrap();
    parsed.next_update().unwrap().timestamp().try_into().unwrap()
}

#[tokio::test]
async fn class_16_a_list_holds_no_longer_than_the_authority_that_signed_it() {
    let mut scene = Scene::on_model().await;
    let (life, [first, second]) = in_a_succession(&mut scene, 100).await;
    let now = scene.world.clock.now().seconds();
    assert_eq!(holds_until(&scene, &first).await, life.expires().seconds());
    let found = holds_until(&scene, &second).await;
    assert!((now + 299..=now + 301).contains(&found), "that of its successor holds its time");
}

#[tokio::test]
async fn class_16_a_dead_certificate_is_on_the_list_of_the_authority_that_signed_it_and_on_no_other()
 {
    let mut scene = Scene::on_model().await;
    let (_, names) = in_a_succession(&mut scene, 7_200).await;
    // The second one signs when an hour is over.
    scene.forward(3_000).await;
    let mut signed = Vec::new();
    for key_id in &names {
        assert_eq!(scene.a.keys().authority(scene.world.clock.now()).unwrap().key_id(), key_id);
        signed.push(certify(&scene).await);
        scene.forward(700).await;
    }
    for (task, _) in &signed {
        scene.end(Rpc::CompleteTask, *task).await.unwrap();
    }
    scene.forward(11).await;
    for (key_id, (_, held)) in names.iter().zip(&signed) {
        let list = scene.a.revocation_list(key_id).await.unwrap().unwrap();
        let found: Vec<_> = entries(&list).into_iter().map(|(jti, ..)| jti).collect();
        assert_eq!(found, [held.jti], "{key_id}");
    }
}

/// The number is the store's: whoever starts over it, by whatever clock, goes on from there.
#[tokio::test]
async fn class_07_numbers_rise_though_store_and_brokers_start_anew_by_a_clock_that_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (mut last, year) = (0, Span::from_seconds(365 * 24 * 3_600));
    for round in 0..3 {
        let clock = Arc::new(TestClock::default());
        let store = open(&folder, clock.clone());
        let scene = Scene::of(World::over(Fixture::of(store, ()), clock).await);
        if round == 0 {
            last = scene.world.clock.now().plus(year).micros();
            let writes = vec![Write::RevocationList(last)];
            let commit = Commit { writes, ..Commit::new(Partition::ZERO, Lane::Ordinary) };
            scene.world.store.store.commit(commit).await.unwrap();
        }
        for broker in [&scene.a, &scene.b] {
            let number = list_of(&scene, broker).await.number;
            assert_eq!(number, last + 1);
            last = number;
        }
    }
}
