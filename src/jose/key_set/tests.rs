//! Documents that are no JWK sets, and keys that are left out of a set.

use serde_json::json;

use super::*;
use crate::jose::SigningKey;
use crate::jose::public_key::PublicKeyError;

fn parse(document: &Value) -> Result<KeySet, KeySetError> {
    KeySet::parse(document.to_string().as_bytes())
}

fn ec() -> Value {
    Value::Object(SigningKey::generate().unwrap().0.verifying_key().to_jwk())
}

fn rsa() -> Value {
    let modulus = crate::jose::base64url::encode([0xff; 256]);
    json!({"kty": "RSA", "kid": "rsa", "n": modulus, "e": "AQAB"})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

/// The one reason for which a set of this one key is empty.
fn refusal(jwk: Value) -> JwkError {
    let set = parse(&json!({ "keys": [jwk] })).unwrap();
    assert_eq!(set.iter().count(), 0);
    set.refused()[0]
}

#[test]
fn sound_keys_are_found_by_their_name_only() {
    let set = parse(&json!({"keys": [with(ec(), "kid", json!("a")), rsa()]})).unwrap();
    assert_eq!(set.refused(), []);
    assert!(set.get("a").is_some() && set.get("rsa").is_some());
    assert!(set.get("b").is_none() && set.get("").is_none() && set.get("../a").is_none());
}

#[test]
fn class_11_a_set_with_a_symmetric_key_is_refused_whole() {
    let secret = json!({"kty": "oct", "kid": "s", "k": "AAECAw"});
    let keyless = json!({"kty": "oct", "kid": "s"});
    for keys in [
        json!([keyless]),
        json!([secret]),
        json!([ec(), secret]),
        json!([with(ec(), "k", json!("AA"))]),
    ] {
        assert_eq!(parse(&json!({ "keys": keys })).unwrap_err(), KeySetError::Symmetric);
    }
}

#[test]
fn class_11_a_set_with_one_name_for_two_keys_is_refused_whole() {
    let [one, two] = [ec(), ec()].map(|key| with(key, "kid", json!("a")));
    let unusable = with(two.clone(), "use", json!("enc"));
    for keys in [json!([one, two]), json!([one, unusable]), json!([unusable, one])] {
        assert_eq!(parse(&json!({ "keys": keys })).unwrap_err(), KeySetError::DuplicateKid);
    }
}

#[test]
fn class_15_sets_are_bounded_in_keys_and_bytes() {
    let keys = |count: usize| vec![json!({"kty": "none"}); count];
    assert!(parse(&json!({"keys": keys(MAX_KEYS)})).is_ok());
    assert_eq!(parse(&json!({"keys": keys(MAX_KEYS + 1)})).unwrap_err(), KeySetError::TooMany);
    let padded = json!({"keys": [], "pad": "x".repeat(MAX_SET_BYTES)});
    assert_eq!(parse(&padded).unwrap_err(), KeySetError::Json(JsonError::TooLarge(MAX_SET_BYTES)));
    let own = (0..=MAX_KEYS).map(|_| SigningKey::generate().unwrap().0.verifying_key().clone());
    assert_eq!(KeySet::of(own).unwrap_err(), KeySetError::TooMany);
}

#[test]
fn documents_that_are_no_jwk_sets_are_refused() {
    for document in [json!({}), json!({"keys": {}}), json!({"keys": null}), json!({"keys": ["a"]})]
    {
        assert_eq!(parse(&document).unwrap_err(), KeySetError::Keys);
    }
    assert_eq!(
        KeySet::parse(br#"{"keys":[],"keys":[]}"#).unwrap_err(),
        KeySetError::Json(JsonError::DuplicateMember)
    );
    assert_eq!(parse(&json!({"keys": []})).unwrap().iter().count(), 0);
}

#[test]
fn class_11_keys_that_are_not_for_verifying_are_left_out() {
    for (name, value, reason) in [
        ("use", json!("enc"), JwkError::Use),
        ("use", json!(null), JwkError::Use),
        ("key_ops", json!(["sign"]), JwkError::KeyOps),
        ("key_ops", json!("verify"), JwkError::KeyOps),
        ("key_ops", json!(["sign, verify"]), JwkError::KeyOps),
        ("key_ops", json!([]), JwkError::KeyOps),
        ("d", json!("AA"), JwkError::Private),
        ("kid", json!(""), JwkError::Kid),
        ("kid", json!(7), JwkError::Kid),
        ("kid", json!("k".repeat(257)), JwkError::Kid),
        ("kty", json!("OKP"), JwkError::KeyType),
        ("kty", json!("ec"), JwkError::KeyType),
    ] {
        assert_eq!(refusal(with(ec(), name, value.clone())), reason, "{name}: {value}");
        assert_eq!(refusal(with(rsa(), name, value.clone())), reason, "{name}: {value}");
    }
    let mut nameless = ec();
    nameless.as_object_mut().unwrap().remove("kid");
    assert_eq!(refusal(nameless), JwkError::Kid);
}

#[test]
fn class_11_a_key_is_for_one_algorithm() {
    for alg in
        [json!("ES384"), json!("RS256"), json!("HS256"), json!("none"), json!("es256"), json!(1)]
    {
        assert_eq!(refusal(with(ec(), "alg", alg.clone())), JwkError::Algorithm, "{alg}");
    }
    for alg in [json!("ES256"), json!("HS256"), json!("EdDSA"), json!("RSA-OAEP"), json!(null)] {
        assert_eq!(refusal(with(rsa(), "alg", alg.clone())), JwkError::Algorithm, "{alg}");
    }
    for (jwk, algorithm) in [(rsa(), "RS256"), (with(rsa(), "alg", json!("PS512")), "PS512")] {
        let set = parse(&json!({ "keys": [jwk] })).unwrap();
        assert_eq!(set.get("rsa").unwrap().to_jwk()["alg"], algorithm);
    }
}

#[test]
fn keys_that_are_no_keys_are_left_out() {
    let weak = |error| JwkError::PublicKey(error);
    let y = ec()["y"].clone();
    assert_eq!(refusal(with(ec(), "y", y.clone())), weak(PublicKeyError::Point));
    assert_eq!(refusal(with(ec(), "crv", json!("P-384"))), JwkError::Encoding);
    assert_eq!(refusal(with(ec(), "crv", json!("secp256k1"))), JwkError::KeyType);
    assert_eq!(refusal(with(ec(), "x", json!("AA=="))), JwkError::Encoding);
    assert_eq!(refusal(with(ec(), "x", json!(1))), JwkError::Encoding);
    assert_eq!(refusal(with(ec(), "kty", json!("RSA"))), JwkError::Encoding);
    assert_eq!(refusal(with(rsa(), "e", json!("AQ"))), weak(PublicKeyError::Exponent));
    assert_eq!(refusal(with(rsa(), "n", y)), weak(PublicKeyError::Modulus));
    assert_eq!(refusal(with(rsa(), "n", json!(roca_modulus()))), weak(PublicKeyError::Roca));
}

/// 65537 to the power of 128: odd, of 2049 bits, and with the fingerprint by construction.
fn roca_modulus() -> String {
    let mut number = vec![1u8];
    for _ in 0..128 {
        let mut product = [&number[..], &[0, 0]].concat();
        let mut carry = 0;
        for i in 0..product.len() {
            let addend = number.len().checked_sub(i + 1).map_or(0, |j| u16::from(number[j]));
            let at = product.len() - 1 - i;
            let sum = u16::from(product[at]) + addend + carry;
            product[at] = u8::try_from(sum & 0xff).unwrap();
            carry = sum >> 8;
        }
        number = product;
    }
    crate::jose::base64url::encode(number)
}
