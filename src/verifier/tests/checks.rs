//! What is let in, and what is not: each rule in its order.

use super::*;
use crate::domain::lattice::Dead;
use crate::jose::access_token::AccessTokenError;
use crate::jose::{ClaimError, JwsError};

fn refused(bench: &Bench, token: &str) -> Refused {
    bench.check(token, at(0)).unwrap_err()
}

#[test]
fn a_living_credential_is_let_in_cold_and_warm() {
    let bench = Bench::fresh();
    let token = bench.signer.token();
    for _ in 0..2 {
        let admission = bench.check(&token, at(0)).unwrap();
        assert_eq!(admission.credential().execution().lease, lease(9));
    }
}

#[test]
fn class_05_a_credential_dies_with_every_task_that_it_descends_from() {
    for (entry, dead) in [
        (fence(2, 3, 99), false),
        (fence(2, 4, 1), true),
        (fence(1, 99, 5), false),
        (fence(1, 1, 6), true),
        (fence(1, INFINITY.micros(), INFINITY.micros()), true),
        (fence(3, INFINITY.micros(), INFINITY.micros()), false),
    ] {
        let mut bench = Bench::fresh();
        let token = bench.signer.token();
        bench.check(&token, at(0)).unwrap();
        bench.tell(vec![entry.clone()], 60_000);
        let outcome = bench.check(&token, at(0)).map(drop);
        let expected = if dead { Err(Refused::Dead(Dead::Fenced)) } else { Ok(()) };
        assert_eq!(outcome, expected, "{entry:?}");
    }
}

#[test]
fn class_16_every_kind_of_revocation_is_looked_at() {
    let tier = Scope::Tier(Name::parse("standard").unwrap());
    for scope in [Some(scope("finance")), Some(Scope::All), Some(tier), None] {
        let mut bench = Bench::fresh();
        let scope = scope.unwrap_or(Scope::Key(bench.signer.key.kid().to_owned()));
        let token = bench.signer.token();
        bench.tell(vec![watermark(&scope, 49_999)], 60_000);
        bench.check(&token, at(0)).unwrap();
        bench.tell(vec![watermark(&scope, 50_000)], 60_001);
        assert_eq!(refused(&bench, &token), Refused::Dead(Dead::Quarantined), "{scope}");
    }
    for (entry, dead) in [
        (Entry::LeaseId(lease(9).to_string()), Dead::LeaseOver),
        (incarnation(INCARNATION, INCARNATION + 49_999_999), Dead::Lost),
        (Entry::Floor(INCARNATION + 1), Dead::Lost),
    ] {
        let mut bench = Bench::fresh();
        let token = bench.signer.token();
        bench.tell(vec![entry], 60_000);
        assert_eq!(refused(&bench, &token), Refused::Dead(dead));
    }
}

#[test]
fn class_07_an_incarnation_that_was_not_heard_of_is_refused_for_now() {
    let bench = Bench::fresh();
    let mut claims = bench.signer.claims();
    claims.execution.origin.incarnation = Stamp::from_micros(INCARNATION + 1).unwrap();
    let refused = refused(&bench, &bench.signer.sign(&claims));
    assert_eq!(refused, Refused::Dead(Dead::IncarnationUnknown));
    assert!(refused.is_retriable());
    assert_eq!(refused.reason(), "INCARNATION_UNKNOWN");
}

#[test]
fn class_07_a_verifier_that_was_told_nothing_or_never_answered_refuses() {
    let mut bench = Bench::subscribed();
    let token = bench.signer.token();
    let stale = Refused::Stale(Span::from_seconds(5));
    assert_eq!(refused(&bench, &token), stale);
    bench.load();
    assert_eq!(refused(&bench, &token), stale, "it has a view that nobody says is fresh");
    bench.beat(at(0), Span::ZERO, at(0));
    bench.check(&token, at(0)).unwrap();
}

#[test]
fn class_07_a_view_as_old_as_delta_is_refused_by_either_clock() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.beat(at(1_000), Span::from_millis(400), at(1_900));
    assert!(bench.check(&token, at(5_599)).is_ok());
    assert!(bench.check(&token, at(5_600)).is_err(), "from the send time, less the broker's age");
    let slept = Present { wall: at(5_600).wall, moment: at(1_000).moment };
    assert!(bench.check(&token, slept).is_err(), "the monotonic clock stood still");
    let stepped = Present { wall: at(0).wall, moment: at(5_599).moment };
    assert!(bench.check(&token, stepped).is_ok(), "the wall was set back");
    let stepped = Present { wall: at(0).wall, moment: at(5_600).moment };
    assert!(bench.check(&token, stepped).is_err(), "which makes nothing younger");
}

#[test]
fn class_09_a_remembered_credential_ends_with_its_expiry_and_time_does_not_come_back() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.check(&token, at(0)).unwrap();
    bench.beat(at(249_000), Span::ZERO, at(249_000));
    bench.check(&token, at(249_999)).unwrap();
    let expired = Refused::Token(AccessTokenError::Claim(ClaimError::Expired));
    assert_eq!(bench.check(&token, at(250_000)).unwrap_err(), expired);
    assert_eq!(bench.check(&token, at(249_999)).unwrap_err(), expired);
}

#[test]
fn class_26_expiry_counts_by_the_store_s_time_where_that_is_later() {
    let bench = Bench::fresh();
    let token = bench.signer.token();
    let back = Present { wall: at(0).wall.minus(Span::from_seconds(3_600)), ..at(0) };
    bench.check(&token, back).unwrap();
    let late = Present { moment: at(250_000).moment, ..back };
    let expired = Refused::Token(AccessTokenError::Claim(ClaimError::Expired));
    assert_eq!(bench.check(&token, late).unwrap_err(), expired);
}

#[test]
fn class_26_a_store_s_time_that_is_said_to_be_earlier_than_is_known_takes_none_back() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    let back = Present { wall: at(0).wall.minus(Span::from_seconds(3_600)), ..at(0) };
    for (sequence, store, heard_at) in [(2, at(100_000), 1), (3, at(0), 2)] {
        bench.stream.keep_alive(Present { moment: at(heard_at).moment, ..back }).unwrap();
        let mut answer = freshness(sequence, Span::ZERO, &[]);
        if let Some(Heard::Freshness(answer)) = &mut answer.message {
            answer.store_time = store.wall.micros();
        }
        bench.stream.receive(answer, Present { moment: at(heard_at).moment, ..back }).unwrap();
    }
    bench.stream.settle(back);
    let late = Present { moment: at(160_000).moment, ..back };
    let expired = Refused::Token(AccessTokenError::Claim(ClaimError::Expired));
    assert_eq!(bench.check(&token, late).unwrap_err(), expired);
}

#[test]
fn class_22_a_key_that_was_taken_back_verifies_nothing_that_it_did_before() {
    let bench = Bench::fresh();
    let token = bench.signer.token();
    bench.check(&token, at(0)).unwrap();
    bench.checker.set_trust(Signer::new().trust());
    let unknown = Refused::Token(AccessTokenError::Jws(JwsError::UnknownKey));
    assert_eq!(refused(&bench, &token), unknown);
}

#[test]
fn class_12_a_token_for_another_audience_is_refused_whatever_it_grants() {
    let bench = Bench::fresh();
    let mut claims = bench.signer.claims();
    claims.audience = "https://ledger.example/".to_owned();
    assert_eq!(refused(&bench, &bench.signer.sign(&claims)), Refused::Audience);
}

#[test]
fn class_21_an_action_that_is_not_granted_here_is_refused() {
    let bench = Bench::fresh();
    let token = bench.signer.token();
    for (actions, missing) in [
        (&["read", "write"][..], None),
        (&["read", "delete"], Some("delete")),
        (&["Read"], Some("Read")),
    ] {
        let outcome = bench.checker.check(&Presented { actions, ..shown(&token) }, at(0));
        assert_eq!(outcome.err(), missing.map(|action| Refused::Action(action.to_owned())));
    }
    let mut claims = bench.signer.claims();
    claims.grant = Grant::parse(
        r#"[{"type":"resource_access","audience":"https://other.example","actions":["read"]}]"#,
    )
    .unwrap();
    let refused = refused(&bench, &bench.signer.sign(&claims));
    assert_eq!(refused, Refused::Action("read".to_owned()), "granted, but elsewhere");
}

#[test]
fn class_23_a_bound_token_is_worth_nothing_without_what_it_is_bound_to() {
    let bench = Bench::fresh();
    let token = bench.signer.token();
    for certificate in [None, Some([8; 32])] {
        let stolen = Presented { certificate, ..shown(&token) };
        assert_eq!(bench.checker.check(&stolen, at(0)).unwrap_err(), Refused::OtherCertificate);
    }
    let as_dpop = Presented { scheme: Scheme::Dpop, ..shown(&token) };
    assert_eq!(bench.checker.check(&as_dpop, at(0)).unwrap_err(), Refused::Scheme);
    let mut claims = bench.signer.claims();
    claims.confirmation = None;
    let unbound = bench.signer.sign(&claims);
    assert_eq!(refused(&bench, &unbound), Refused::Unbound);
    let mut taking = Bench::with(Rules { takes_unbound: true, ..Rules::new(AUDIENCE) });
    taking.load();
    taking.beat(at(0), Span::ZERO, at(0));
    let mut claims = taking.signer.claims();
    claims.confirmation = None;
    let unbound = taking.signer.sign(&claims);
    taking.checker.check(&Presented { certificate: None, ..shown(&unbound) }, at(0)).unwrap();
}

#[test]
fn class_15_what_is_remembered_of_credentials_is_bounded_and_never_the_answer() {
    let mut bench = Bench::with(Rules { known: 1, ..Rules::new(AUDIENCE) });
    bench.load();
    bench.beat(at(0), Span::ZERO, at(0));
    let tokens: Vec<_> = (0..100)
        .map(|n| {
            let claims = AccessToken { jti: [n; 16], ..bench.signer.claims() };
            bench.signer.sign(&claims)
        })
        .collect();
    for _ in 0..2 {
        for (n, token) in (0..).zip(&tokens) {
            assert_eq!(bench.check(token, at(0)).unwrap().credential().jti(), [n; 16]);
        }
    }
    let mut forged = tokens[0].clone();
    let other = if forged.as_bytes()[40] == b'A' { "B" } else { "A" };
    forged.replace_range(40..41, other);
    assert!(bench.check(&forged, at(0)).is_err(), "the same signature over another text");
}
