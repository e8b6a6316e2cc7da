//! What a JWT-SVID says, byte for byte, and what is not one.

use serde_json::{Value, json};
use signature::Signer as _;

use super::*;
use crate::domain::execution::Spelled;
use crate::domain::time::Span;

const GOLDEN: &str = include_str!("../../../tests/golden/jwt-svid.json");
const BASE: &str = "https://leasehold.example";
const ISSUED: u64 = 1_790_000_001;
const TASK: &str = "tsk_0a7zzzzzzzzzzzzzzzzzzzzzzzzz";

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

    fn verify_at(&self, compact: &str, now: Stamp) -> Result<TaskJwtSvid, TaskJwtSvidError> {
        let domain = TrustDomain::parse("leasehold.example").unwrap();
        TaskJwtSvid::verify(compact, &self.keys, (&issuer(BASE), &domain), now)
    }

    /// What is said of this header and these claims, under a signature that is right.
    fn judge(&self, header: &Value, claims: &Value) -> Result<TaskJwtSvid, TaskJwtSvidError> {
        let [header, claims] = [header, claims].map(|part| base64url::encode(part.to_string()));
        let signature = self.key.try_sign(format!("{header}.{claims}").as_bytes()).unwrap();
        let compact = format!("{header}.{claims}.{}", base64url::encode(signature));
        self.verify_at(&compact, now())
    }

    fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "JWT", "kid": self.key.kid()})
    }

    fn with_claim(&self, name: &str, value: Value) -> Result<TaskJwtSvid, TaskJwtSvidError> {
        let mut claims = golden();
        claims[name] = value;
        self.judge(&self.header(), &claims)
    }
}

fn now() -> Stamp {
    Stamp::from_seconds(ISSUED + 10)
}

fn golden() -> Value {
    serde_json::from_str(GOLDEN).unwrap()
}

fn svid(signing_key: &str) -> TaskJwtSvid {
    let id = format!("spiffe://leasehold.example/task/{TASK}/e/7/finance");
    TaskJwtSvid {
        issuer: issuer(BASE),
        spiffe_id: SpiffeId::parse(&id).unwrap(),
        audience: "https://ledger.example".to_owned(),
        issued_seconds: ISSUED,
        expires_seconds: ISSUED + 300,
        jti: std::array::from_fn(|n| u8::try_from(n).unwrap()),
        execution: Execution::read(Spelled {
            path: vec![("tsk_0a00000000000000000000000001".to_owned(), 3), (TASK.to_owned(), 7)],
            lease: "lse_0a00000000000000000000000002".to_owned(),
            incarnation: 1_790_000_000_000_000,
            stamp: 1_790_000_001_234_567,
            tier: "standard".to_owned(),
            delta_ms: 5_000,
            reach: vec![vec![0; 16], vec![255; 16]],
            step: None,
        })
        .unwrap(),
        signing_key: signing_key.to_owned(),
    }
}

#[test]
fn the_payload_is_the_golden_one_byte_for_byte() {
    let pretty = serde_json::to_string_pretty(&svid("k").body()).unwrap() + "\n";
    if std::env::var_os("LEASEHOLD_UPDATE_GOLDEN").is_some() {
        std::fs::write("tests/golden/jwt-svid.json", &pretty).unwrap();
    }
    assert_eq!(pretty, GOLDEN);
}

#[test]
fn what_was_minted_verifies_and_has_a_header_of_three_members() {
    let issuer = Issuer::new();
    let minted = svid(issuer.key.kid());
    let compact = minted.sign(&issuer.key).unwrap();
    let compact = compact.expose_text();
    assert_eq!(issuer.verify_at(compact, now()), Ok(minted));
    let header = base64url::decode(compact.split('.').next().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap(), issuer.header());
    let expires = Stamp::from_seconds(ISSUED + 300);
    assert!(issuer.verify_at(compact, expires.minus(Span::from_micros(1))).is_ok());
    assert_eq!(issuer.verify_at(compact, expires), Err(ClaimError::Expired.into()));
}

#[test]
fn class_11_tokens_of_other_kinds_are_no_jwt_svids() {
    let own = Issuer::new();
    for typ in ["at+jwt", "dpop+jwt", "wit+jwt", "JOSE", ""] {
        let header = json!({"alg": "ES256", "typ": typ, "kid": own.key.kid()});
        assert_eq!(own.judge(&header, &golden()), Err(JwsError::Typ.into()), "{typ}");
    }
    let untyped = json!({"alg": "ES256", "kid": own.key.kid()});
    assert_eq!(own.judge(&untyped, &golden()), Err(JwsError::Typ.into()));
    let other = Issuer::new();
    let compact = svid(other.key.kid()).sign(&other.key).unwrap();
    let refused = own.verify_at(compact.expose_text(), now());
    assert_eq!(refused, Err(JwsError::UnknownKey.into()));
    for iss in [BASE, "https://leasehold.example/spiffe/", "https://other.example/spiffe"] {
        assert_eq!(own.with_claim("iss", json!(iss)), Err(TaskJwtSvidError::Issuer), "{iss}");
    }
}

#[test]
fn class_13_the_subject_is_the_spiffe_id_of_the_very_task() {
    let issuer = Issuer::new();
    for sub in [
        format!("spiffe://other.example/task/{TASK}/e/7/finance"),
        format!("spiffe://leasehold.example/task/{TASK}/e/8/finance"),
        "spiffe://leasehold.example/task/tsk_0a00000000000000000000000001/e/3/finance".to_owned(),
        format!("spiffe://leasehold.example/task/{TASK}/e/7/finance/x"),
        format!("spiffe://leasehold.example/task/{TASK}/e/7/"),
        "finance".to_owned(),
    ] {
        let refused = issuer.with_claim("sub", json!(sub));
        assert_eq!(refused, Err(TaskJwtSvidError::SpiffeId), "{sub}");
    }
}

#[test]
fn class_10_a_claim_that_is_missing_or_of_another_form_is_refused() {
    let issuer = Issuer::new();
    for name in ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "leasehold"] {
        let mut claims = golden();
        claims.as_object_mut().unwrap().remove(name);
        let refused = issuer.judge(&issuer.header(), &claims);
        assert_eq!(refused, Err(ClaimError::Missing(name).into()), "{name}");
    }
    let audiences = issuer.with_claim("aud", json!(["https://ledger.example"]));
    assert_eq!(audiences, Err(ClaimError::WrongType("aud").into()));
    for (name, value) in
        [("jti", json!("AAAA")), ("nbf", json!(ISSUED)), ("iat", json!(ISSUED - 1))]
    {
        assert!(issuer.with_claim(name, value).is_err(), "{name}");
    }
    let mut earlier = golden();
    (earlier["iat"], earlier["nbf"]) = (json!(ISSUED - 1), json!(ISSUED - 6));
    let refused = issuer.judge(&issuer.header(), &earlier);
    assert_eq!(refused, Err(TaskJwtSvidError::Malformed("iat")), "not when its lease was issued");
    let mut later = golden()["leasehold"].clone();
    later["v"] = json!(2);
    assert_eq!(issuer.with_claim("leasehold", later), Err(TaskJwtSvidError::Version));
}
