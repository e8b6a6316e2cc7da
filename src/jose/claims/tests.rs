//! Claims of the wrong type, missing, or not valid now.

use super::*;
use crate::jose::json::parse_object;
use crate::jose::{FOREIGN_ALGORITHMS, JwsError, Typ, Unverified};

const NOW: u64 = 1_790_000_000;

fn read(payload: &str) -> Result<Claims, ClaimError> {
    Claims::read(parse_object(payload.as_bytes(), 16_384).unwrap())
}

fn at(seconds: u64) -> Stamp {
    Stamp::from_seconds(seconds)
}

fn times(payload: &str, now: u64, leeway: Leeway) -> Result<Times, ClaimError> {
    read(payload)?.times(at(now), leeway)
}

#[test]
fn class_10_a_registered_claim_of_the_wrong_type_is_refused() {
    for name in ["iss", "sub", "jti"] {
        for value in ["1", "null", "[]", "{}", "true", "\"\"", "[\"a\"]"] {
            let refused = read(&format!(r#"{{"{name}":{value}}}"#)).unwrap_err();
            assert_eq!(refused, ClaimError::WrongType(name), "{value}");
        }
    }
    let long = format!(r#"{{"sub":"{}"}}"#, "s".repeat(MAX_TEXT_BYTES + 1));
    assert_eq!(read(&long).unwrap_err(), ClaimError::WrongType("sub"));
    for name in ["exp", "iat", "nbf"] {
        for value in ["\"1790000000\"", "null", "[1790000000]", "{}", "true"] {
            let refused = read(&format!(r#"{{"{name}":{value}}}"#)).unwrap_err();
            assert_eq!(refused, ClaimError::WrongType(name), "{value}");
        }
        for value in [
            "-1",
            "1.5",
            "1790000000.0",
            "1e9",
            "1e300",
            "18446744073709551616",
            "9007199255",
            "-0",
        ] {
            let refused = read(&format!(r#"{{"{name}":{value}}}"#)).unwrap_err();
            assert_eq!(refused, ClaimError::WrongTime(name), "{value}");
        }
    }
}

/// The payload that was published with CVE-2026-25537: `nbf` as a text was taken for absent.
#[test]
fn class_10_the_published_attack_with_nbf_as_a_text_is_refused() {
    let token = concat!(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.",
        "eyJzdWIiOiJrcmlzaG5hIiwibmJmIjoiOTk5OTk5OTk5OTkiLCJleHAiOjEwMDAwMDAwMDAwfQ.",
        "Fm3kZIqMwqIA6sEA1w52UOMqqnu4hlO3FQStFmbaOwk"
    );
    let payload = token.split('.').nth(1).and_then(crate::jose::base64url::decode).unwrap();
    let mut claims = parse_object(&payload, 16_384).unwrap();
    assert_eq!(claims["nbf"], "99999999999");
    let whole = Unverified::parse(token, Typ::AbsentOr(&["JWT"]), FOREIGN_ALGORITHMS);
    assert_eq!(whole.err(), Some(JwsError::Algorithm));
    claims.insert("exp".into(), (NOW + 60).into());
    claims.insert("iat".into(), NOW.into());
    assert_eq!(Claims::read(claims.clone()).unwrap_err(), ClaimError::WrongType("nbf"));
    claims.remove("nbf");
    assert!(Claims::read(claims).unwrap().times(at(NOW), Leeway::OURS).is_ok());
}

#[test]
fn class_10_an_audience_is_a_text_or_texts_and_never_empty() {
    assert_eq!(read(r#"{"aud":"a"}"#).unwrap().audience(), Ok(vec!["a"]));
    assert_eq!(read(r#"{"aud":["a","b"]}"#).unwrap().audience(), Ok(vec!["a", "b"]));
    assert_eq!(read("{}").unwrap().audience(), Err(ClaimError::Missing("aud")));
    let many = format!(r#"{{"aud":["a"{}]}}"#, r#","a""#.repeat(MAX_AUDIENCES));
    for payload in [
        r#"{"aud":[]}"#,
        r#"{"aud":""}"#,
        r#"{"aud":[""]}"#,
        r#"{"aud":["a",1]}"#,
        r#"{"aud":[["a"]]}"#,
        r#"{"aud":{"a":1}}"#,
        r#"{"aud":null}"#,
        &many,
    ] {
        assert_eq!(read(payload).unwrap_err(), ClaimError::WrongType("aud"), "{payload}");
    }
    let array = read(r#"{"aud":["a"]}"#).unwrap();
    assert_eq!(array.sole_audience(), Err(ClaimError::WrongType("aud")));
}

#[test]
fn class_10_expiry_and_issue_time_are_required() {
    for (payload, missing) in
        [(r#"{"iat":1}"#, "exp"), (r#"{"exp":1790000060}"#, "iat"), ("{}", "exp")]
    {
        assert_eq!(times(payload, NOW, Leeway::FOREIGN), Err(ClaimError::Missing(missing)));
    }
    assert_eq!(read("{}").unwrap().text("sub"), Err(ClaimError::Missing("sub")));
}

#[test]
fn class_26_a_token_is_valid_from_its_start_until_just_before_its_end() {
    let payload = r#"{"iat":1790000000,"nbf":1790000000,"exp":1790000060}"#;
    let none = Leeway { past_expiry: Span::ZERO, before_start: Span::ZERO };
    assert_eq!(times(payload, NOW - 1, none), Err(ClaimError::NotYet("iat")));
    assert!(times(payload, NOW, none).is_ok());
    assert!(times(payload, NOW + 59, none).is_ok());
    assert_eq!(times(payload, NOW + 60, none), Err(ClaimError::Expired));
    let later = r#"{"iat":1790000000,"nbf":1790000030,"exp":1790000060}"#;
    assert_eq!(times(later, NOW + 29, none), Err(ClaimError::NotYet("nbf")));
    assert!(times(later, NOW + 30, none).is_ok());
}

#[test]
fn class_26_leeway_is_what_was_asked_for_and_never_above_a_minute() {
    let payload = r#"{"iat":1790000000,"exp":1790000060}"#;
    assert!(times(payload, NOW - 5, Leeway::OURS).is_ok());
    assert!(times(payload, NOW - 6, Leeway::OURS).is_err());
    assert_eq!(times(payload, NOW + 60, Leeway::OURS), Err(ClaimError::Expired));
    let hour = Span::from_seconds(3600);
    for leeway in [Leeway::FOREIGN, Leeway { past_expiry: hour, before_start: hour }] {
        assert!(times(payload, NOW - 60, leeway).is_ok());
        assert_eq!(times(payload, NOW - 61, leeway), Err(ClaimError::NotYet("iat")));
        assert!(times(payload, NOW + 119, leeway).is_ok());
        assert_eq!(times(payload, NOW + 120, leeway), Err(ClaimError::Expired));
    }
}

#[test]
fn class_04_an_expiry_that_is_not_after_the_issue_time_is_refused() {
    for exp in [NOW - 1, NOW] {
        let payload = format!(r#"{{"iat":{NOW},"exp":{exp}}}"#);
        assert_eq!(times(&payload, NOW, Leeway::FOREIGN), Err(ClaimError::Backwards));
    }
}
