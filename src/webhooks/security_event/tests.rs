//! What an event says, byte for byte, and what it is not.

use serde_json::Value;

use super::*;
use crate::domain::event::EventKind;
use crate::domain::lattice::Fence;
use crate::domain::path::{Counter, Hop};
use crate::domain::scope::Scope;
use crate::domain::webhook::EVENTS;
use crate::jose::access_token::{self, AccessTokenError};
use crate::jose::{Algorithm, Expect, JwsError, KeySet, Typ, verify};
use crate::spiffe::id::TrustDomain;
use crate::spiffe::task_jwt_svid::{self, TaskJwtSvid, TaskJwtSvidError};
use crate::testing::store_contract::samples::{P, event, lease_id, scope, task, task_id};

const BASE: &str = "https://leasehold.example";
const AUDIENCE: &str = "https://worker.example";
const GOLDEN: &str = include_str!("../../../tests/golden/security-event.json");

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn stamp(micros: u64) -> Stamp {
    Stamp::from_micros(micros).unwrap()
}

fn recorded(event: Event) -> Recorded {
    Recorded {
        stamp: stamp(1_790_000_001_234_567),
        incarnation: stamp(1_790_000_000_000_000),
        keep_until: stamp(1_790_000_300_000_000),
        event,
    }
}

fn ended() -> Recorded {
    let fence = Entry::Fence(task_id(1), Fence::ended());
    recorded(Event {
        state: Some(crate::domain::task::State::Completed),
        entries: vec![fence],
        ..event(EventKind::TaskEnded, 0xabcd)
    })
}

fn child() -> Task {
    let parent = Hop { task: task_id(7), counter: Counter::FIRST };
    Task { lineage: vec![parent], ..task(1) }
}

fn of(recorded: &Recorded) -> SecurityEvent {
    SecurityEvent::of(&name("stop-work"), P, recorded, Some(&child()))
}

/// Signed ten seconds after it happened, with a key that the set has.
fn signed(event: &SecurityEvent) -> (Secret, KeySet) {
    let (key, _) = SigningKey::generate().unwrap();
    let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
    let token = event.sign(&key, &issuer(BASE), AUDIENCE, stamp(1_790_000_011_000_000));
    (token.unwrap(), keys)
}

fn claims(event: &SecurityEvent) -> Value {
    let (token, keys) = signed(event);
    let expect = Expect { typ: Typ::Is(TYP), algorithms: &[Algorithm::ES256], keys: &keys };
    Value::Object(
        verify(token.expose_text(), expect).unwrap().members().clone().into_iter().collect(),
    )
}

#[test]
fn an_ended_task_is_told_in_this_form() {
    let claims = claims(&of(&ended()));
    assert_eq!(claims, serde_json::from_str::<Value>(GOLDEN).unwrap(), "{claims:#}");
}

#[test]
fn what_happened_has_one_name_for_each_webhook_whoever_tells_it() {
    let jti = |webhook: &str, partition, recorded: &Recorded| {
        SecurityEvent::of(&name(webhook), partition, recorded, None).jti
    };
    let first = jti("a", P, &ended());
    assert_eq!(first, jti("a", P, &ended()));
    let other = |change: fn(&mut Recorded)| {
        let mut recorded = ended();
        change(&mut recorded);
        recorded
    };
    for (webhook, partition, recorded) in [
        ("b", P, ended()),
        ("a", Partition(2), ended()),
        ("a", P, other(|recorded| recorded.stamp = recorded.stamp.next())),
        ("a", P, other(|recorded| recorded.incarnation = recorded.stamp)),
        ("a", P, other(|recorded| recorded.event.tag += 1)),
    ] {
        assert_ne!(first, jti(webhook, partition, &recorded));
    }
}

#[test]
fn every_event_names_what_it_is_about() {
    let about = |recorded: &Recorded| claims(&of(recorded))["sub_id"].clone();
    let opaque = |id: String| json!({ "format": "opaque", "id": id });
    assert_eq!(about(&ended()), opaque(task_id(1).to_string()));
    let lease = Event { task: None, lease: Some(lease_id(3)), ..event(EventKind::LeaseRevoked, 1) };
    assert_eq!(about(&recorded(lease)), opaque(lease_id(3).to_string()));
    let entries = vec![Entry::Block(scope("class:finance"), 1)];
    let switch = Event { task: None, entries, ..event(EventKind::Quarantined, 1) };
    assert_eq!(about(&recorded(switch)), opaque("class:finance".to_owned()));
    let opened = Event::of_broker(1, EventKind::IncarnationBegun, "the store was opened");
    assert_eq!(about(&recorded(opened)), Value::Null);
}

#[test]
fn a_principal_in_quarantine_is_named_as_the_kill_switch_names_it() {
    let scope = Scope::parse("principal:spiffe://prod.example/agents/a").unwrap();
    let entries = vec![Entry::Block(scope.clone(), 1), Entry::Watermark(scope, Origin::default())];
    let switch = Event { task: None, entries, ..event(EventKind::Quarantined, 1) };
    let event = SecurityEvent::of(&name("a"), Partition::ZERO, &recorded(switch), None);
    assert_eq!(event.payload["scope"], "principal:spiffe://prod.example/agents/a");
}

#[test]
fn every_kind_has_a_uri_of_its_own_and_none_is_that_of_a_gap() {
    for (known, kind) in EVENTS {
        let claims = claims(&of(&recorded(event(kind, 1))));
        let uris: Vec<_> = claims["events"].as_object().unwrap().keys().collect();
        assert_eq!(uris, [&format!("urn:leasehold:event:{known}")]);
        assert_ne!(known, GAP);
    }
}

#[test]
fn a_gap_says_between_which_stamps_something_may_be_missing() {
    let at = |micros| ReadPosition {
        at: Origin { incarnation: stamp(1), stamp: stamp(micros) },
        tag: 1,
    };
    let gap = |after| SecurityEvent::gap(&name("a"), P, after, at(7_000_000));
    let told = claims(&gap(Some(at(3_000_000))));
    let payload = json!({ "partition": "01", "after": "3000000", "until": "7000000" });
    assert_eq!(told["events"], json!({ "urn:leasehold:event:gap": payload }));
    assert_eq!(told["toe"], 7);
    assert_eq!(gap(Some(at(3))).jti, gap(Some(at(3))).jti);
    assert_ne!(gap(Some(at(3))).jti, gap(None).jti);
}

#[test]
fn class_11_an_event_is_no_credential_and_no_identity() {
    let (token, keys) = signed(&of(&ended()));
    let (text, now) = (token.expose_text(), stamp(1_790_000_012_000_000));
    let domain = TrustDomain::parse("leasehold.example").unwrap();
    // Though every verifier had the key that signed it, and took its issuer for its own.
    let refused = access_token::verify(text, &keys, &issuer(BASE), now).unwrap_err();
    assert_eq!(refused, AccessTokenError::from(JwsError::Typ));
    let refused = TaskJwtSvid::verify(text, &keys, (&issuer(BASE), &domain), now).unwrap_err();
    assert_eq!(refused, TaskJwtSvidError::from(JwsError::Typ));
    for typ in [Typ::Is("at+jwt"), Typ::Is("dpop+jwt"), Typ::AbsentOr(&["JWT", "JOSE"])] {
        let expect = Expect { typ, algorithms: &[Algorithm::ES256], keys: &keys };
        assert_eq!(verify(text, expect).err(), Some(JwsError::Typ), "{typ:?}");
    }
    // Its issuer is no other's, and it has neither a subject nor an end.
    assert!(![BASE.to_owned(), task_jwt_svid::issuer(BASE)].contains(&issuer(BASE)));
    let claims = claims(&of(&ended()));
    for claim in
        ["sub", "exp", "nbf", "scope", "client_id", "cnf", "authorization_details", "leasehold"]
    {
        assert_eq!(claims.get(claim), None, "{claim}");
    }
}

#[test]
fn class_11_an_event_under_the_type_of_a_credential_would_be_none_either() {
    let (key, _) = SigningKey::generate().unwrap();
    let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
    let now = stamp(1_790_000_012_000_000);
    let domain = TrustDomain::parse("leasehold.example").unwrap();
    let claims = claims(&of(&ended()));
    let token = key.sign(access_token::TYP, &claims).unwrap();
    let refused = access_token::verify(token.expose_text(), &keys, BASE, now).unwrap_err();
    assert_eq!(refused, AccessTokenError::Issuer);
    let own = issuer(BASE);
    assert!(access_token::verify(token.expose_text(), &keys, &own, now).is_err(), "it has no end");
    let token = key.sign(task_jwt_svid::TYP, &claims).unwrap();
    for issuer in [task_jwt_svid::issuer(BASE), own] {
        let refused = TaskJwtSvid::verify(token.expose_text(), &keys, (&issuer, &domain), now);
        assert!(refused.is_err(), "{issuer}");
    }
}
