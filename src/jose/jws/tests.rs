//! Tokens that are refused before, at and after their signature.

use serde_json::json;
use signature::Signer as _;

use super::*;
use crate::jose::{FOREIGN_ALGORITHMS, PublicKey, SigningKey, VerifyingKey};

const KIND: Typ = Typ::Is("at+jwt");

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

    /// Signs whatever header and payload it is given.
    fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
        let signature = self.key.try_sign(message.as_bytes()).unwrap();
        format!("{message}.{}", base64url::encode(signature))
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "at+jwt", "kid": self.key.kid()})
    }

    fn verify(&self, compact: &str) -> Result<Claims, JwsError> {
        verify(compact, Expect { typ: KIND, algorithms: FOREIGN_ALGORITHMS, keys: &self.keys })
    }

    fn verify_header(&self, header: &Value) -> Result<Claims, JwsError> {
        self.verify(&self.sign(&header.to_string(), r#"{"iss":"a"}"#))
    }
}

#[test]
fn a_token_of_the_kind_is_accepted() {
    let issuer = Issuer::new();
    assert_eq!(issuer.verify_header(&issuer.header()).unwrap().text("iss"), Ok("a"));
}

#[test]
fn class_11_algorithms_off_the_list_are_refused() {
    let issuer = Issuer::new();
    for alg in ["none", "None", "noNE", "HS256", "HS384", "HS512", "EdDSA", "ES512", "es256", ""] {
        let mut header = issuer.header();
        header["alg"] = json!(alg);
        assert_eq!(issuer.verify_header(&header).unwrap_err(), JwsError::Algorithm, "{alg}");
    }
    for alg in [json!(null), json!(["ES256"]), json!(7)] {
        let mut header = issuer.header();
        header["alg"] = alg;
        assert_eq!(issuer.verify_header(&header).unwrap_err(), JwsError::Algorithm);
    }
    let token = issuer.sign(&issuer.header().to_string(), "{}");
    let expect = Expect { typ: KIND, algorithms: &[Algorithm::RS256], keys: &issuer.keys };
    assert_eq!(verify(&token, expect).unwrap_err(), JwsError::Algorithm);
}

#[test]
fn class_11_an_unsigned_token_is_refused() {
    let issuer = Issuer::new();
    let token = issuer.sign(&issuer.header().to_string(), "{}");
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    assert_eq!(issuer.verify(&unsigned).unwrap_err(), JwsError::Signature);
}

#[test]
fn class_11_the_algorithm_is_that_of_the_key() {
    let issuer = Issuer::new();
    for alg in ["ES384", "RS256", "PS512"] {
        let mut header = issuer.header();
        header["alg"] = json!(alg);
        assert_eq!(issuer.verify_header(&header).unwrap_err(), JwsError::KeyAlgorithm, "{alg}");
    }
}

#[test]
fn class_11_header_members_that_bring_a_key_or_rules_are_refused() {
    let issuer = Issuer::new();
    for (name, value) in [
        ("jwk", Value::Object(issuer.key.verifying_key().to_jwk())),
        ("jku", json!("https://evil.example/jwks")),
        ("x5u", json!("https://evil.example/x5u")),
        ("x5c", json!(["AA"])),
        ("crit", json!(["b64"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
    ] {
        let mut header = issuer.header();
        header[name] = value;
        assert_eq!(issuer.verify_header(&header).unwrap_err(), JwsError::RefusedMember(name));
    }
}

#[test]
fn class_11_the_kid_finds_a_key_or_nothing() {
    let issuer = Issuer::new();
    for kid in ["../../etc/passwd", "' OR 1=1 --", "https://evil.example", "\0"] {
        let mut header = issuer.header();
        header["kid"] = json!(kid);
        assert_eq!(issuer.verify_header(&header).unwrap_err(), JwsError::UnknownKey);
    }
    for kid in [json!(""), json!("k".repeat(MAX_KID_BYTES + 1)), json!(null), json!(1), json!([])] {
        let mut header = issuer.header();
        header["kid"] = kid;
        assert_eq!(issuer.verify_header(&header).unwrap_err(), JwsError::Kid);
    }
    let nameless = json!({"alg": "ES256", "typ": "at+jwt"});
    assert_eq!(issuer.verify_header(&nameless).unwrap_err(), JwsError::Kid);
}

#[test]
fn class_11_another_kind_is_refused() {
    let issuer = Issuer::new();
    let accepts = |typ: Value| {
        let mut header = issuer.header();
        header["typ"] = typ;
        issuer.verify_header(&header)
    };
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        assert!(accepts(json!(typ)).is_ok(), "{typ}");
    }
    for typ in ["JWT", "", "at+jwt ", "text/at+jwt", "application/application/at+jwt", "dpop+jwt"] {
        assert_eq!(accepts(json!(typ)).unwrap_err(), JwsError::Typ, "{typ}");
    }
    for typ in [json!(null), json!(["at+jwt"]), json!(1)] {
        assert_eq!(accepts(typ).unwrap_err(), JwsError::Typ);
    }
    let untyped = json!({"alg": "ES256", "kid": issuer.key.kid()});
    assert_eq!(issuer.verify_header(&untyped).unwrap_err(), JwsError::Typ);
    let plain = Typ::AbsentOr(&["JWT"]);
    assert!(plain.accepts(None) && plain.accepts(Some("jwt")) && !plain.accepts(Some("at+jwt")));
}

#[test]
fn what_is_not_a_compact_jws_is_refused() {
    let issuer = Issuer::new();
    let token = issuer.sign(&issuer.header().to_string(), "{}");
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    for shape in [
        String::new(),
        "..".repeat(2),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{token}.{signature}"),
        format!(".{token}"),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}="),
        format!(r#"{{"payload":"{payload}","protected":"{header}","signature":"{signature}"}}"#),
    ] {
        assert_eq!(issuer.verify(&shape).unwrap_err(), JwsError::Shape, "{shape}");
    }
    for base64 in [format!("A.{payload}.{signature}"), format!("{header}.A.{signature}")] {
        assert_eq!(issuer.verify(&base64).unwrap_err(), JwsError::Base64);
    }
    assert_eq!(
        issuer.verify(&format!(".{payload}.{signature}")).unwrap_err(),
        JwsError::Header(JsonError::Syntax)
    );
}

#[test]
fn class_15_a_token_that_is_too_long_is_refused_before_it_is_read() {
    let issuer = Issuer::new();
    let longest = "A".repeat(MAX_COMPACT_BYTES);
    assert_eq!(issuer.verify(&longest).unwrap_err(), JwsError::Shape);
    assert_eq!(issuer.verify(&format!("{longest}A")).unwrap_err(), JwsError::TooLarge);
}

#[test]
fn class_10_header_and_payload_with_a_member_twice_are_refused() {
    let issuer = Issuer::new();
    let twice = issuer.header().to_string().replacen('{', r#"{"alg":"none","#, 1);
    let refused = issuer.verify(&issuer.sign(&twice, "{}")).unwrap_err();
    assert_eq!(refused, JwsError::Header(JsonError::DuplicateMember));
    let refused = issuer
        .verify(&issuer.sign(&issuer.header().to_string(), r#"{"aud":"a","aud":"b"}"#))
        .unwrap_err();
    assert_eq!(refused, JwsError::Payload(JsonError::DuplicateMember));
}

#[test]
fn every_changed_byte_breaks_the_signature() {
    let issuer = Issuer::new();
    let token = issuer.sign(&issuer.header().to_string(), r#"{"iss":"a"}"#);
    let start = token.find('.').unwrap() + 1;
    for at in start..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(issuer.verify(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn an_ecdsa_signature_has_exactly_two_numbers_of_the_curve_in_range() {
    let issuer = Issuer::new();
    let token = issuer.sign(&issuer.header().to_string(), "{}");
    let signed = token.rsplit_once('.').unwrap().0;
    let order = "_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE";
    let n = base64url::decode(order).unwrap();
    for signature in
        [vec![0; 64], [&n[..], &n[..]].concat(), vec![1; 63], vec![1; 65], vec![0xff; 64]]
    {
        let forged = format!("{signed}.{}", base64url::encode(signature));
        assert_eq!(issuer.verify(&forged).unwrap_err(), JwsError::Signature);
    }
}

#[test]
fn class_17_a_refusal_shows_nothing_of_the_token() {
    let issuer = Issuer::new();
    let mut header = issuer.header();
    header["kid"] = json!("needle");
    let token = issuer.sign(&header.to_string(), r#"{"iss":"needle"}"#);
    let refused = issuer.verify(&token).unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("needle"));
}

/// The example of RFC 7520, section 4.1: we agree with the rest of the world on RS256.
#[test]
fn rs256_verifies_the_example_of_rfc_7520() {
    let modulus = base64url::decode(concat!(
        "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmS",
        "CpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-Of",
        "VfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKw",
        "uCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
    ))
    .unwrap();
    let message = concat!(
        "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2V",
        "yb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5",
        "kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJ",
        "lIHN3ZXB0IG9mZiB0by4"
    );
    let signature = base64url::decode(concat!(
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xugl",
        "II7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x",
        "8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE",
        "_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg"
    ))
    .unwrap();
    let public = PublicKey::rsa(&modulus, &[1, 0, 1]).unwrap();
    let key = |algorithm| VerifyingKey::new("bilbo".into(), algorithm, public.clone()).unwrap();
    assert!(key(Algorithm::RS256).verify(message.as_bytes(), &signature).is_ok());
    assert!(key(Algorithm::RS256).verify(b"another message", &signature).is_err());
    assert!(key(Algorithm::PS256).verify(message.as_bytes(), &signature).is_err());
}
