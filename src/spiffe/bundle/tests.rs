//! What a bundle document may say, and what makes it none. The certificate is a root made for this test.

use super::*;

/// A self-signed P-256 root with `cA` and `keyCertSign`, in base64.
const ROOT: &str = include_str!("root.b64");
/// A leaf, in base64.
const LEAF: &str = include_str!("leaf.b64");

fn root() -> Value {
    json!({ "kty": "EC", "use": "x509-svid", "x5c": [ROOT.trim()] })
}

fn read(document: &Value) -> Result<Bundle, BundleError> {
    Bundle::parse(document.to_string().as_bytes())
}

fn with(key: Value) -> Result<Bundle, BundleError> {
    read(&json!({ "keys": [key] }))
}

fn changed(member: &str, value: Value) -> Value {
    let mut key = root();
    key[member] = value;
    key
}

#[test]
fn an_empty_bundle_is_a_bundle_that_trusts_nothing() {
    let bundle = read(&json!({ "keys": [] })).unwrap();
    assert!(bundle.authorities().is_empty());
}

#[test]
fn without_keys_it_is_no_bundle() {
    for document in [json!({}), json!({ "keys": null }), json!({ "keys": {} })] {
        assert_eq!(read(&document), Err(BundleError::NoKeys));
    }
    assert_eq!(read(&json!({ "keys": [1] })), Err(BundleError::NotAnObject { key: 0 }));
    let many = vec![json!({}); MAX_KEYS + 1];
    assert_eq!(read(&json!({ "keys": many })), Err(BundleError::TooManyKeys));
}

#[test]
fn class_10_a_member_named_twice_is_refused() {
    for text in [
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"use":"x509-svid","use":"jwt-svid"}]}"#,
        r#"{"keys":[],"spiffe_sequence":1,"spiffe_sequence":2}"#,
    ] {
        let refusal = Err(BundleError::Json(JsonError::DuplicateMember));
        assert_eq!(Bundle::parse(text.as_bytes()), refusal, "{text}");
    }
    let huge = vec![b' '; MAX_BUNDLE_BYTES + 1];
    assert!(matches!(Bundle::parse(&huge), Err(BundleError::Json(JsonError::TooLarge(_)))));
}

#[test]
fn numbers_of_another_type_are_refused() {
    for value in [json!("1"), json!(1.5), json!(-1), json!(1e20), json!(null)] {
        let document = json!({ "keys": [], "spiffe_sequence": value });
        assert_eq!(read(&document), Err(BundleError::Sequence), "{value}");
        let document = json!({ "keys": [], "spiffe_refresh_hint": value });
        assert_eq!(read(&document), Err(BundleError::RefreshHint), "{value}");
    }
    let bundle =
        read(&json!({ "keys": [], "spiffe_sequence": u64::MAX, "spiffe_refresh_hint": 9 }));
    let bundle = bundle.unwrap();
    assert_eq!((bundle.sequence(), bundle.refresh_hint_seconds()), (Some(u64::MAX), Some(9)));
}

#[test]
fn keys_of_unknown_use_or_type_and_without_certificate_are_passed_over() {
    for key in [
        changed("use", json!("sig")),
        changed("use", json!("wit-svid")),
        changed("use", json!("X509-SVID")),
        changed("use", json!(null)),
        changed("kty", json!("oct")),
        changed("kty", json!(1)),
        changed("x5c", json!([])),
        json!({ "kty": "EC", "use": "x509-svid" }),
        json!({ "kty": "EC", "x5c": [ROOT.trim()] }),
        json!({}),
    ] {
        assert_eq!(with(key.clone()), Ok(Bundle::default()), "{key}");
    }
}

#[test]
fn only_the_first_certificate_of_a_key_counts() {
    let bundle = with(changed("x5c", json!([ROOT.trim(), "junk"]))).unwrap();
    assert_eq!(bundle.authorities().len(), 1);
    for x5c in [json!("junk"), json!(["~"]), json!([7]), json!(["junk", ROOT.trim()])] {
        let refusal = with(changed("x5c", x5c.clone())).unwrap_err();
        let malformed = BundleError::Authority { key: 0, fault: AuthorityError::Malformed };
        assert!([BundleError::X5c { key: 0 }, malformed].contains(&refusal), "{x5c}: {refusal}");
    }
}

#[test]
fn class_08_a_leaf_in_a_bundle_is_refused() {
    let fault = AuthorityError::NotAuthority;
    let refusal = Err(BundleError::Authority { key: 0, fault });
    assert_eq!(with(changed("x5c", json!([LEAF.trim()]))), refusal);
}

#[test]
fn class_11_key_ids_are_for_jwt_keys_only_and_differ() {
    assert_eq!(with(changed("kid", json!("a"))), Err(BundleError::KidOnX509 { key: 0 }));
    let jwt = |kid: Value| json!({ "kty": "EC", "use": "jwt-svid", "kid": kid, "crv": "P-256" });
    for kid in [json!(null), json!(""), json!(7)] {
        assert_eq!(with(jwt(kid)), Err(BundleError::KidMissing { key: 0 }));
    }
    let twice = json!({ "keys": [jwt(json!("a")), jwt(json!("b")), jwt(json!("a"))] });
    assert_eq!(read(&twice), Err(BundleError::KidTwice { key: 2 }));
    let bundle = with(jwt(json!("a"))).unwrap();
    assert_eq!(Value::from(bundle.jwt_keys()[0].clone()), jwt(json!("a")));
}

#[test]
fn what_is_written_reads_back_the_same() {
    let jwt = json!({ "kty": "EC", "use": "jwt-svid", "kid": "a", "crv": "P-256" });
    let document = json!({
        "keys": [root(), jwt], "spiffe_sequence": 7, "spiffe_refresh_hint": 300,
    });
    let bundle = read(&document).unwrap();
    let written = bundle.to_document();
    assert_eq!(read(&written), Ok(bundle));
    for member in ["crv", "x", "y"] {
        assert!(written["keys"][0][member].is_string(), "{member}");
    }
}
