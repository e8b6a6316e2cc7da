//! What an access token says, byte for byte, and what is not one.

mod by_tree;

use serde_json::{Value, json};
use signature::Signer as _;

use super::super::json::JsonError;
use super::super::jws::{self, Header};
use super::*;
use crate::domain::execution::Spelled;
use crate::domain::scope::Scope;
use crate::domain::time::Span;
use crate::jose::Algorithm;

const GOLDEN: &str = include_str!("../../../tests/golden/access-token.json");
const ISSUER: &str = "https://leasehold.example";
const ISSUED: u64 = 1_790_000_001;

struct Issuer {
    key: SigningKey,
    keys: KeySet,
}

impl Issuer {
    fn new() -> Self {
        let (key, _) = SigningKey::generate().unwrap();
        let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
        Self { key, keys }
    }

    fn sign(&self, header: &Value, payload: &str) -> String {
        self.sign_under(&header.to_string(), payload)
    }

    /// Under the header that it signs access tokens under, letter for letter.
    fn sign_as_minted(&self, payload: &str) -> String {
        let header = Header { typ: TYP, alg: Algorithm::ES256, kid: self.key.kid() };
        self.sign_under(&serde_json::to_string(&header).unwrap(), payload)
    }

    fn sign_under(&self, header: &str, payload: &str) -> String {
        let [header, payload] = [header, payload].map(base64url::encode);
        let signature = self.key.try_sign(format!("{header}.{payload}").as_bytes()).unwrap();
        format!("{header}.{payload}.{}", base64url::encode(signature))
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid()})
    }

    fn verify(&self, payload: &Value) -> Result<AccessToken, AccessTokenError> {
        verify(&self.sign(&self.header(), &payload.to_string()), &self.keys, ISSUER, now())
    }
}

fn now() -> Stamp {
    Stamp::from_seconds(ISSUED + 10)
}

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn principal(text: &str) -> Principal {
    Principal::parse(text).unwrap()
}

/// A child's token: three agents act, the root's among them.
fn token(signing_key: &str) -> AccessToken {
    let grant = r#"[{"type":"resource_access","audience":"https://ledger.example",
        "actions":["read","post"],"data_class":["internal"],"max_ttl_seconds":300}]"#;
    AccessToken {
        issuer: ISSUER.to_owned(),
        subject: principal("spiffe://prod.example/agents/planner"),
        actors: vec![
            principal("spiffe://prod.example/agents/finance"),
            principal("oidc:k8s:system:serviceaccount:jobs:runner"),
        ],
        audience: "https://ledger.example".to_owned(),
        issued_seconds: ISSUED,
        expires_seconds: ISSUED + 300,
        jti: std::array::from_fn(|n| u8::try_from(n).unwrap()),
        grant: Grant::parse(grant).unwrap(),
        confirmation: Some(Confirmation::Certificate([0xab; 32])),
        execution: Execution::read(Spelled {
            path: vec![
                ("tsk_0a00000000000000000000000001".to_owned(), 3),
                ("tsk_0a7zzzzzzzzzzzzzzzzzzzzzzzzz".to_owned(), 7),
            ],
            lease: "lse_0a00000000000000000000000002".to_owned(),
            incarnation: 1_790_000_000_000_000,
            stamp: 1_790_000_001_234_567,
            tier: "standard".to_owned(),
            delta_ms: 5_000,
            reach: vec![vec![0; 16], vec![255; 16]],
            step: Some("s-3".to_owned()),
        })
        .unwrap(),
        signing_key: signing_key.to_owned(),
    }
}

#[test]
fn the_payload_is_the_golden_one_byte_for_byte() {
    let pretty = serde_json::to_string_pretty(&token("k").body()).unwrap() + "\n";
    if std::env::var_os("LEASEHOLD_UPDATE_GOLDEN").is_some() {
        std::fs::write("tests/golden/access-token.json", &pretty).unwrap();
    }
    assert_eq!(pretty, GOLDEN);
}

#[test]
fn a_minted_token_verifies_and_says_what_was_minted() {
    let issuer = Issuer::new();
    let whole = token(issuer.key.kid());
    let alone = AccessToken { actors: vec![], ..whole.clone() };
    let bearer = AccessToken { confirmation: None, ..whole.clone() };
    let keyed = AccessToken { confirmation: Some(Confirmation::Key([0xab; 32])), ..whole.clone() };
    let mut plain = whole.clone();
    plain.execution.step = String::new();
    for minted in [whole, alone, bearer, keyed, plain] {
        let compact = minted.sign(&issuer.key).unwrap();
        let read = verify(compact.expose_text(), &issuer.keys, ISSUER, now()).unwrap();
        assert_eq!(read, minted);
    }
    let without = serde_json::to_value(
        AccessToken { actors: vec![], confirmation: None, ..token("k") }.body(),
    )
    .unwrap();
    assert!(without.get("act").is_none() && without.get("cnf").is_none());
    assert_eq!(without["client_id"], without["sub"]);
    assert!(issuer.verify(&golden()).is_ok());
}

#[test]
fn a_token_is_valid_from_its_nbf_until_just_before_its_exp() {
    let issuer = Issuer::new();
    let compact = token(issuer.key.kid()).sign(&issuer.key).unwrap();
    let at = |micros: Stamp| verify(compact.expose_text(), &issuer.keys, ISSUER, micros);
    let expires = Stamp::from_seconds(ISSUED + 300);
    let start = Stamp::from_seconds(ISSUED - 5);
    assert!(at(start).is_ok() && at(expires.minus(Span::from_micros(1))).is_ok());
    assert_eq!(at(expires), Err(ClaimError::Expired.into()));
    assert_eq!(at(start.minus(Span::from_micros(1))), Err(ClaimError::NotYet("iat").into()));
}

#[test]
fn class_10_every_claim_is_required() {
    let issuer = Issuer::new();
    let optional = ["act", "cnf"];
    let names: Vec<String> = golden().as_object().unwrap().keys().cloned().collect();
    assert_eq!(names.len(), 13);
    for name in names.iter().filter(|name| !optional.contains(&name.as_str())) {
        let mut payload = golden();
        payload.as_object_mut().unwrap().remove(name);
        let refused = issuer.verify(&payload);
        assert!(
            matches!(refused, Err(AccessTokenError::Claim(ClaimError::Missing(missing))) if missing == name),
            "{name}: {refused:?}"
        );
    }
    let members: Vec<String> = golden()["leasehold"].as_object().unwrap().keys().cloned().collect();
    for name in members.iter().filter(|name| *name != "step") {
        let mut payload = golden();
        payload["leasehold"].as_object_mut().unwrap().remove(name);
        assert_eq!(
            issuer.verify(&payload),
            Err(AccessTokenError::Malformed("leasehold")),
            "{name}"
        );
    }
}

#[test]
fn class_10_every_claim_of_another_type_is_refused() {
    let issuer = Issuer::new();
    let wrong_types = [
        json!(null),
        json!(true),
        json!(1.5),
        json!(-1),
        json!([]),
        json!({}),
        json!([1]),
        json!(""),
    ];
    let claims: Vec<String> = golden().as_object().unwrap().keys().cloned().collect();
    let members: Vec<String> = golden()["leasehold"].as_object().unwrap().keys().cloned().collect();
    for wrong in wrong_types {
        for claim in &claims {
            let mut payload = golden();
            payload[claim] = wrong.clone();
            assert!(issuer.verify(&payload).is_err(), "`{claim}` as {wrong}");
        }
        for member in &members {
            let mut payload = golden();
            payload["leasehold"][member] = wrong.clone();
            assert!(issuer.verify(&payload).is_err(), "`{member}` as {wrong}");
        }
    }
}

#[test]
fn class_10_another_spelling_of_the_same_is_refused() {
    let issuer = Issuer::new();
    let jti = golden()["jti"].as_str().unwrap().to_owned();
    let mut more = golden()["leasehold"].clone();
    more["more"] = json!(1);
    let as_array: Vec<Value> =
        golden()["leasehold"].as_object().unwrap().values().cloned().collect();
    let path = |hop: Value| json!([golden()["leasehold"]["path"][0], hop]);
    let own = &golden()["leasehold"]["path"][1][0];
    for (pointer, wrong) in [
        ("/aud", json!(["https://ledger.example"])),
        ("/jti", json!(format!("{jti}="))),
        ("/jti", json!("AAECAwQFBgcICQoLDA0O")),
        ("/nbf", json!(ISSUED)),
        ("/iat", json!(ISSUED.to_string())),
        ("/exp", json!(ISSUED)),
        ("/txn", json!("tsk_0a7zzzzzzzzzzzzzzzzzzzzzzzzz")),
        ("/client_id", json!("spiffe://prod.example/agents/planner")),
        ("/sub", json!("spiffe://Prod.example/agents/planner")),
        ("/act/more", json!(1)),
        ("/act/sub", json!("finance")),
        ("/act/act", json!("oidc:k8s:a")),
        ("/cnf", json!({"jwk": "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s"})),
        ("/cnf", json!({"jkt": "q6s"})),
        ("/cnf", json!({"jkt": null})),
        ("/cnf", json!({})),
        ("/cnf/jkt", json!("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s")),
        ("/cnf/x5t#S256", json!("q6s")),
        ("/authorization_details/0/type", json!("payment")),
        ("/authorization_details/0/more", json!(1)),
        ("/authorization_details", json!({"type": "resource_access"})),
        ("/leasehold", more),
        ("/leasehold", json!(as_array)),
        ("/leasehold/path", path(json!([own, 7.0]))),
        ("/leasehold/path", path(json!([own, "7"]))),
        ("/leasehold/path", path(json!([own, 7, 7]))),
        ("/leasehold/path", path(json!([own]))),
        ("/leasehold/path", path(json!({"task": own, "counter": 7}))),
        ("/leasehold/origin", json!([1_790_000_000_000_000_u64, 1_790_000_001_234_567_u64])),
        ("/leasehold/origin", json!(["01790000000000000", "1790000001234567"])),
        ("/leasehold/origin", json!(["+1790000000000000", "1790000001234567"])),
        ("/leasehold/origin", json!(["1790000001234567"])),
        ("/leasehold/reach/0", json!("AAAAAAAAAAAAAAAAAAAAAA==")),
        ("/leasehold/reach/0", json!("AAAAAAAAAAAAAAAAAAAA")),
        ("/leasehold/step", json!(null)),
    ] {
        let mut payload = golden();
        match payload.pointer_mut(pointer) {
            Some(value) => *value = wrong.clone(),
            None => {
                let (object, name) = pointer.rsplit_once('/').unwrap();
                payload.pointer_mut(object).unwrap()[name] = wrong.clone();
            }
        }
        assert!(issuer.verify(&payload).is_err(), "{pointer} as {wrong}");
    }
}

#[test]
fn a_stamp_of_another_second_than_iat_is_refused() {
    let issuer = Issuer::new();
    let mut payload = golden();
    payload["leasehold"]["origin"][1] = json!("1790000002000000");
    assert_eq!(issuer.verify(&payload), Err(AccessTokenError::Malformed("iat")));
}

#[test]
fn another_version_of_the_claim_is_refused() {
    let issuer = Issuer::new();
    for version in [0, 2] {
        let mut payload = golden();
        payload["leasehold"]["v"] = json!(version);
        assert_eq!(issuer.verify(&payload), Err(AccessTokenError::Version));
    }
}

#[test]
fn class_12_another_spelling_of_the_issuer_is_another_issuer() {
    let issuer = Issuer::new();
    for iss in [
        "https://leasehold.example/",
        "https://leasehold.example:443",
        "https://Leasehold.example",
        "https://le%61sehold.example",
        "https://leasehold\u{3002}example",
        "https://le\u{430}sehold.example",
        "https://xn--lesehold-w4f.example",
        "https://\u{ff4c}easehold.example",
        "https://other.example",
    ] {
        let mut payload = golden();
        payload["iss"] = json!(iss);
        assert_eq!(issuer.verify(&payload), Err(AccessTokenError::Issuer));
    }
}

#[test]
fn class_11_tokens_of_other_kinds_are_no_access_tokens() {
    let issuer = Issuer::new();
    for typ in [
        json!("JWT"),
        json!("JOSE"),
        json!("dpop+jwt"),
        json!("txntoken+jwt"),
        json!("wit+jwt"),
        json!("secevent+jwt"),
        json!("token-introspection+jwt"),
        json!("statuslist+jwt"),
        json!(null),
    ] {
        let mut header = issuer.header();
        header["typ"] = typ;
        let compact = issuer.sign(&header, &golden().to_string());
        let refused = verify(&compact, &issuer.keys, ISSUER, now());
        assert_eq!(refused, Err(JwsError::Typ.into()), "{header}");
    }
    let mut header = issuer.header();
    header.as_object_mut().unwrap().remove("typ");
    let compact = issuer.sign(&header, &golden().to_string());
    assert_eq!(verify(&compact, &issuer.keys, ISSUER, now()), Err(JwsError::Typ.into()));
    header = issuer.header();
    header["alg"] = json!("none");
    let compact = issuer.sign(&header, &golden().to_string());
    assert_eq!(verify(&compact, &issuer.keys, ISSUER, now()), Err(JwsError::Algorithm.into()));
}

#[test]
fn class_11_another_key_of_ours_signs_no_access_tokens() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let compact = token(other.key.kid()).sign(&other.key).unwrap();
    let refused = verify(compact.expose_text(), &issuer.keys, ISSUER, now());
    assert_eq!(refused, Err(JwsError::UnknownKey.into()));
}

#[test]
fn class_11_the_header_that_keys_sign_under_is_known_and_every_other_is_read() {
    let issuer = Issuer::new();
    let is_known = |compact: &str| Unverified::under_known_header(compact, &issuer.keys).is_some();
    let minted = token(issuer.key.kid()).sign(&issuer.key).unwrap();
    assert!(is_known(minted.expose_text()), "what is minted has the header that is known");
    let other = issuer.sign(&issuer.header(), &golden().to_string());
    assert!(!is_known(&other), "the order of its members is another");
    assert!(verify(&other, &issuer.keys, ISSUER, now()).is_ok());

    let gone = issuer.keys.without(|kid| kid == issuer.key.kid());
    let refused = verify(minted.expose_text(), &gone, ISSUER, now());
    assert_eq!(refused, Err(JwsError::UnknownKey.into()));
    let refused = |compact: &str| verify(compact, &issuer.keys, ISSUER, now()).unwrap_err();
    let (signed, signature) = minted.expose_text().rsplit_once('.').unwrap();
    let long = format!("{signed}{}.{signature}", "A".repeat(jws::MAX_COMPACT_BYTES));
    assert_eq!(refused(&long), JwsError::TooLarge.into());
    assert_eq!(refused(&format!("{signed}.{signature}=")), JwsError::Shape.into());
    assert_eq!(
        refused(&format!("{signed}.{}", base64url::encode([1; 64]))),
        JwsError::Signature.into()
    );
    assert_eq!(refused(signed), JwsError::Shape.into());
}

#[test]
fn class_10_a_claim_that_stands_twice_is_refused() {
    let issuer = Issuer::new();
    let twice = GOLDEN.replacen("\"aud\"", "\"aud\": \"https://other.example\",\n  \"aud\"", 1);
    let compact = issuer.sign(&issuer.header(), &twice);
    let refused = verify(&compact, &issuer.keys, ISSUER, now());
    assert_eq!(refused, Err(JwsError::Payload(JsonError::DuplicateMember).into()));
}

#[test]
fn a_body_of_more_than_4_kib_is_not_minted() {
    let issuer = Issuer::new();
    let with_audience =
        |length: usize| AccessToken { audience: "a".repeat(length), ..token(issuer.key.kid()) };
    let rest = serde_json::to_vec(&with_audience(0).body()).unwrap().len();
    let fitting = with_audience(MAX_BODY_BYTES - rest);
    assert!(fitting.must_fit().is_ok() && fitting.sign(&issuer.key).is_ok());
    for over in 1..4 {
        let large = with_audience(MAX_BODY_BYTES - rest + over);
        assert!(matches!(large.must_fit(), Err(AccessTokenError::TooLarge(_))));
        assert!(matches!(large.sign(&issuer.key), Err(AccessTokenError::TooLarge(_))));
    }
}

#[test]
fn what_makes_a_token_too_large_is_named_with_its_remedy() {
    let issuer = Issuer::new();
    let refusal = |change: &dyn Fn(&mut AccessToken)| {
        let mut token = token(issuer.key.kid());
        change(&mut token);
        token.must_fit().unwrap_err().to_string()
    };
    let many = refusal(&|token| {
        let agent = |n: u128| Scope::parse(&format!("principal:spiffe://a.example/{n}")).unwrap();
        token.execution.reach = (0..150).map(|n| agent(n).reach()).collect();
    });
    assert!(many.contains("fewer `instances`") && !many.contains("actions"), "{many}");
    let actions: Vec<_> = (0..250).map(|n| format!("summarize-report-{n}")).collect();
    let wide = refusal(&|token| {
        let entry = json!([{"type": "resource_access", "audience": "https://a.example", "actions": actions}]);
        token.grant = Grant::parse(&entry.to_string()).unwrap();
    });
    assert!(wide.contains("fewer actions") && !wide.contains("instances"), "{wide}");
}

#[test]
fn the_longest_line_of_actors_can_be_read_again() {
    let issuer = Issuer::new();
    let agent = |n: usize| principal(&format!("spiffe://prod.example/a/{n}"));
    let minted = AccessToken { actors: (0..16).map(agent).collect(), ..token(issuer.key.kid()) };
    let compact = minted.sign(&issuer.key).unwrap();
    assert_eq!(verify(compact.expose_text(), &issuer.keys, ISSUER, now()), Ok(minted));
}

#[test]
fn class_17_a_refusal_shows_nothing_of_the_token() {
    let issuer = Issuer::new();
    for pointer in ["/iss", "/sub", "/act/sub", "/leasehold/tier", "/leasehold/lease", "/jti"] {
        let mut payload = golden();
        *payload.pointer_mut(pointer).unwrap() = json!("needle?");
        let refused = issuer.verify(&payload).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("needle"), "{pointer}");
    }
}
