//! Proofs of keys: each is for one request, and good once, whoever shows it and however often the verifier starts.

use std::sync::Barrier;

use super::*;
use crate::domain::lattice::Dead;
use crate::domain::secret::Secret;
use crate::jose::dpop::{DpopError, Expect, NonceKey, Proof};
use crate::verifier::check::Outcome;
use crate::verifier::replays::Replays;

const HERE: &str = "https://ledger.example/entries";
const TOO_OLD: Refused = Refused::Proof(DpopError::TooOld);
const NO_NONCE: Refused = Refused::Proof(DpopError::Nonce);

fn rules() -> Rules {
    let targets = vec![HttpsUri::parse("https://ledger.example").unwrap()];
    Rules { targets, ..Rules::new(AUDIENCE) }
}

fn fresh(rules: Rules) -> Bench {
    let mut bench = Bench::with(rules);
    bench.load();
    bench.beat(at(0), Span::ZERO, at(0));
    bench
}

/// A key, and a token that is bound to it.
struct Keyed {
    key: SigningKey,
    token: String,
}

impl Keyed {
    fn new(bench: &Bench) -> Self {
        Self::with(bench, bench.signer.claims())
    }

    fn with(bench: &Bench, mut claims: AccessToken) -> Self {
        let (key, _) = SigningKey::generate().unwrap();
        let thumbprint = key.verifying_key().public_key().thumbprint();
        claims.confirmation = Some(Confirmation::Key(thumbprint));
        Self { key, token: bench.signer.sign(&claims) }
    }

    fn make(&self, issued: Present, jti: &str, nonce: Option<&str>) -> String {
        self.make_for((HERE, Some(&self.token)), issued, jti, nonce)
    }

    fn make_for(
        &self,
        (uri, token): (&str, Option<&str>),
        issued: Present,
        jti: &str,
        nonce: Option<&str>,
    ) -> String {
        let (uri, issued) = (HttpsUri::parse(uri).unwrap(), issued.wall);
        let statement = Statement { method: "GET", uri: &uri, jti, issued, token, nonce };
        dpop::prove(&self.key, statement).unwrap().expose_text().to_owned()
    }

    fn presented<'p>(&'p self, proof: Option<&'p str>) -> Presented<'p> {
        let shown = shown(&self.token);
        Presented { scheme: Scheme::Dpop, proof, certificate: None, ..shown }
    }

    fn show(&self, checker: &Checker, proof: &str, now: Present) -> Result<(), Refused> {
        checker.check(&self.presented(Some(proof)), now).map(drop)
    }
}

#[test]
fn class_23_a_proof_is_for_one_request_with_one_token_once() {
    let bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    let token = Some(keyed.token.as_str());
    let good = keyed.make(at(0), "1", None);
    let show = |proof: &str| keyed.show(&bench.checker, proof, at(0));
    assert_eq!(show(&good), Ok(()));
    assert_eq!(show(&good), Err(Refused::Replayed));
    let proof = |error| Err(Refused::Proof(error));
    let made = |of, jti| keyed.make_for(of, at(0), jti, None);
    assert_eq!(show(&made((HERE, None), "2")), proof(DpopError::Token));
    assert_eq!(show(&made((HERE, Some("other")), "3")), proof(DpopError::Token));
    let elsewhere = made(("https://evil.example/entries", token), "4");
    assert_eq!(show(&elsewhere), proof(DpopError::OtherUri));
    let other = Keyed::new(&bench).make_for((HERE, token), at(0), "5", None);
    assert_eq!(show(&other), Err(Refused::OtherKey));
    let without = bench.checker.check(&keyed.presented(None), at(0)).map(drop);
    assert_eq!(without, Err(Refused::NoProof));
    let unshown = keyed.make(at(0), "6", None);
    let as_bearer = Presented { scheme: Scheme::Bearer, ..keyed.presented(Some(&unshown)) };
    let downgraded = bench.checker.check(&as_bearer, at(0)).map(drop);
    assert_eq!(downgraded, Err(Refused::Scheme), "RFC 9449 section 7.2");
    assert_eq!(keyed.show(&bench.checker, &unshown, at(60_000)), Err(TOO_OLD));
}

#[test]
fn class_15_one_key_takes_its_part_of_the_room_for_proofs_and_no_more() {
    let bench = fresh(Rules { proofs: 16, ..rules() });
    let keys: Vec<_> = (0..9).map(|_| Keyed::new(&bench)).collect();
    let show = |n: usize, jti| {
        let proof = keys[n].make(at(0), jti, None);
        keys[n].show(&bench.checker, &proof, at(0))
    };
    for n in 0..8 {
        assert_eq!((show(n, "1"), show(n, "2")), (Ok(()), Ok(())), "key {n}");
        assert_eq!(show(n, "3"), Err(Refused::TooManyProofs), "key {n}");
    }
    assert_eq!(show(8, "1"), Err(Refused::TooManyProofs), "what cannot be remembered is refused");
}

#[test]
fn class_15_a_key_has_its_part_again_once_its_proofs_have_expired() {
    let mut bench = fresh(Rules { proofs: 8, ..rules() });
    let keyed = Keyed::new(&bench);
    for now in [0, 60_000, 120_000] {
        bench.beat(at(now), Span::ZERO, at(now));
        for (jti, expected) in [("1", Ok(())), ("2", Err(Refused::TooManyProofs))] {
            let proof = keyed.make(at(now), jti, None);
            assert_eq!(keyed.show(&bench.checker, &proof, at(now)), expected, "{now} {jti}");
        }
    }
}

#[test]
fn class_15_who_is_not_let_in_takes_no_room_for_proofs() {
    let mut bench = fresh(Rules { proofs: 1, ..rules() });
    let dead = Keyed::new(&bench);
    let path = Path::new(vec![], Hop { task: task(4), counter: Counter::FIRST });
    let execution = Execution { path, ..bench.signer.claims().execution };
    let living = Keyed::with(&bench, AccessToken { execution, ..bench.signer.claims() });
    bench.tell(vec![fence(2, 4, 1)], 60_000);
    for jti in ["1", "1", "2", "3"] {
        let outcome = dead.show(&bench.checker, &dead.make(at(0), jti, None), at(0));
        assert_eq!(outcome, Err(Refused::Dead(Dead::Fenced)), "{jti}");
    }
    let proof = living.make(at(0), "4", None);
    let more = Presented { actions: &["delete"], ..living.presented(Some(&proof)) };
    let outcome = bench.checker.check(&more, at(0)).map(drop);
    assert_eq!(outcome, Err(Refused::Action("delete".to_owned())));
    let stale = living.make(at(0), "5", None);
    let outcome = living.show(&bench.checker, &stale, at(5_000));
    assert_eq!(outcome, Err(Refused::Stale(Span::from_seconds(5))));
    bench.beat(at(5_000), Span::ZERO, at(5_000));
    assert_eq!(living.show(&bench.checker, &proof, at(5_000)), Ok(()));
    assert_eq!(living.show(&bench.checker, &stale, at(5_000)), Err(Refused::TooManyProofs));
}

#[test]
fn class_23_a_proof_is_good_once_where_the_broker_was_asked_as_well() {
    let bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    let proof = keyed.make(at(0), "1", None);
    let admit = || {
        let outcome = bench.checker.look(&keyed.presented(Some(&proof)), at(5_000)).unwrap();
        let Outcome::Stale(stale) = outcome else { panic!("it is fresh") };
        bench.checker.confirm(stale, at(5_000), at(5_001)).map(drop)
    };
    assert_eq!(admit(), Ok(()));
    assert_eq!(admit(), Err(Refused::Replayed));
}

#[test]
fn class_23_of_many_who_show_one_proof_at_once_one_is_let_in() {
    let bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    for round in 0..20 {
        let proof = keyed.make(at(0), &round.to_string(), None);
        let (barrier, show) = (Barrier::new(8), || keyed.show(&bench.checker, &proof, at(0)));
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let at_once = || {
                barrier.wait();
                show()
            };
            let shown: Vec<_> = (0..8).map(|_| scope.spawn(at_once)).collect();
            shown.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let let_in = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(let_in, 1, "{outcomes:?}");
    }
}

/// A proof that holds, which a checker has yet to take.
fn verified(keyed: &Keyed, jti: &str) -> Proof {
    let (text, uris) = (keyed.make(at(0), jti, None), [HttpsUri::parse(HERE).unwrap()]);
    let expect = Expect { method: "GET", uris: &uris, token: Some(&keyed.token), nonce: None };
    dpop::verify(&text, expect, at(0).wall).unwrap()
}

#[test]
fn class_23_a_proof_is_remembered_until_the_very_instant_at_which_it_is_too_old() {
    let mut bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    let proof = keyed.make(at(0), "1", None);
    assert_eq!(keyed.show(&bench.checker, &proof, at(0)), Ok(()));
    bench.beat(at(60_000), Span::ZERO, at(60_000));
    let last = Present { wall: at(60_000).wall.minus(Span::from_micros(1)), ..at(59_999) };
    let replays = Replays::new(16);
    let (one, other) = (verified(&keyed, "1"), verified(&keyed, "2"));
    assert_eq!(replays.take(&one, last.wall), Ok(()));
    assert_eq!(replays.take(&one, last.wall), Err(Refused::Replayed));
    assert_eq!(replays.take(&one, at(60_000).wall), Err(TOO_OLD));
    // Whoever looked at the clock before it was forgotten, and comes after, finds it too old.
    assert_eq!(replays.take(&one, last.wall), Err(TOO_OLD));
    assert_eq!(replays.take(&other, last.wall), Err(TOO_OLD));
    assert_eq!(keyed.show(&bench.checker, &proof, at(60_000)), Err(TOO_OLD));
}

/// Another run of the verifier, which has a view and remembers no proof.
fn started(bench: &Bench, rules: Rules, began: Present) -> Checker {
    let checker = Checker::new(rules, Arc::clone(bench.checker.mirror()), began.moment);
    checker.set_trust(bench.signer.trust());
    checker
}

fn nonce(checker: &Checker, now: Present) -> String {
    let headers = checker.challenges(&NO_NONCE, Scheme::Dpop, now);
    let nonce = headers.into_iter().find(|(name, _)| name == "dpop-nonce");
    nonce.expect("a nonce to try again with").1
}

#[test]
fn class_23_a_proof_from_before_a_start_is_not_let_in_after_it() {
    let bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    let ahead = |seconds: u64| at(seconds * 1_000);
    for (jti, made) in [("1", at(0)), ("2", ahead(1)), ("3", ahead(59)), ("4", ahead(60))] {
        let proof = keyed.make(made, jti, None);
        assert_eq!(keyed.show(&bench.checker, &proof, at(0)), Ok(()));
        let again = started(&bench, rules(), at(0));
        assert_eq!(keyed.show(&again, &proof, at(0)), Err(NO_NONCE), "{jti}");
    }
    let again = started(&bench, rules(), at(1_000));
    let known = nonce(&again, at(1_500));
    let proof = keyed.make(at(1_500), "5", Some(&known));
    assert_eq!(keyed.show(&again, &proof, at(1_500)), Ok(()), "made since");
    assert_eq!(keyed.show(&again, &proof, at(1_500)), Err(Refused::Replayed));
    let once_more = started(&bench, rules(), at(2_000));
    assert_eq!(keyed.show(&once_more, &proof, at(2_000)), Err(NO_NONCE), "of the run before");
}

#[test]
fn a_while_after_the_start_no_nonce_is_demanded_any_more() {
    let mut bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    let checker = started(&bench, rules(), at(0));
    bench.beat(at(61_000), Span::ZERO, at(61_000));
    let early = keyed.make(at(60_000), "1", None);
    assert_eq!(keyed.show(&checker, &early, at(61_000)), Err(NO_NONCE), "of an earlier clock");
    let proof = keyed.make(at(61_000), "1", None);
    assert_eq!(keyed.show(&checker, &proof, at(61_000)), Ok(()));
    let challenges = checker.challenges(&Refused::Replayed, Scheme::Dpop, at(61_000));
    assert!(challenges.iter().all(|(name, _)| name != "dpop-nonce"), "{challenges:?}");
}

#[test]
fn class_26_clocks_that_are_set_do_not_make_the_start_earlier() {
    let mut bench = fresh(rules());
    let checker = started(&bench, rules(), at(0));
    // The wall stood an hour ahead before the start, and is put there again after it.
    let hour = Span::from_seconds(3_600);
    let ahead = |millis| Present { wall: at(millis).wall.plus(hour), ..at(millis) };
    let expires_seconds = bench.signer.claims().expires_seconds + 7_200;
    let keyed = Keyed::with(&bench, AccessToken { expires_seconds, ..bench.signer.claims() });
    let shown_before = keyed.make(ahead(0), "1", None);
    bench.beat(ahead(1_000), Span::ZERO, ahead(1_000));
    assert_eq!(keyed.show(&checker, &shown_before, ahead(1_000)), Err(NO_NONCE));
    // It is set back, and the present stands still.
    bench.beat(at(59_000), Span::ZERO, at(59_000));
    assert_eq!(keyed.show(&checker, &shown_before, at(59_000)), Err(NO_NONCE));
    bench.beat(at(200_000), Span::ZERO, at(200_000));
    assert_eq!(keyed.show(&checker, &shown_before, at(200_000)), Err(NO_NONCE));
}

#[test]
fn class_23_where_servers_share_a_secret_a_nonce_from_before_the_start_is_good_once_it_is_over() {
    let shared = NonceKey::derive(&Secret::new(vec![7; 32])).unwrap();
    let rules = || Rules { nonces: Some(shared.clone()), ..rules() };
    let mut bench = fresh(rules());
    let keyed = Keyed::new(&bench);
    let checker = started(&bench, rules(), at(500));
    let with =
        |nonce: &str, now, jti| keyed.show(&checker, &keyed.make(now, jti, Some(nonce)), now);
    let before = shared.fresh(at(499).wall);
    assert_eq!(with(&before, at(900), "1"), Err(NO_NONCE));
    let own = nonce(&checker, at(900));
    assert!(!shared.accepts(&own, at(900).wall), "the second in which it began is ambiguous");
    assert_eq!(with(&own, at(900), "2"), Ok(()));
    let elsewhere = shared.fresh(at(1_000).wall);
    assert_eq!(nonce(&checker, at(1_000)), elsewhere, "every server takes it from here on");
    assert_eq!(with(&elsewhere, at(1_000), "3"), Ok(()));
    bench.beat(at(61_000), Span::ZERO, at(61_000));
    assert_eq!(with(&before, at(61_000), "4"), Ok(()));
    let without = keyed.make(at(61_000), "5", None);
    assert_eq!(keyed.show(&checker, &without, at(61_000)), Err(NO_NONCE));
}
