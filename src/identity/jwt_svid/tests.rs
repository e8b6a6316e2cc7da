//! JWT-SVIDs that prove an identity, and all the others.

use serde_json::{Value, json};
use signature::Signer as _;

use super::*;
use crate::jose::{SigningKey, base64url};
use crate::testing::trust::bundle_of;

const AUDIENCE: &str = "https://leasehold.example:7701";
const AGENT: &str = "spiffe://prod.example/agents/a";
const MINUTE: Span = Span::from_seconds(60);

fn now() -> Stamp {
    Stamp::from_seconds(1_790_000_000)
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// Two trust domains with a key each, and one without.
struct Fixture {
    prod: SigningKey,
    lab: SigningKey,
    bundles: TrustBundles,
    verifier: JwtSvidVerifier,
}

impl Fixture {
    fn new() -> Self {
        let [prod, lab] = [(); 2].map(|()| SigningKey::generate().unwrap().0);
        let bundles = [
            (domain("prod.example"), bundle_of(&[], &[&prod])),
            (domain("lab.example"), bundle_of(&[], &[&lab])),
            (domain("certificates.example"), bundle_of(&[], &[])),
        ];
        let own = domain("leasehold.example");
        let verifier = JwtSvidVerifier {
            own_trust_domain: own.clone(),
            own_issuers: ["", "/spiffe", "/events"].map(|path| format!("{AUDIENCE}{path}")).into(),
            audience: AUDIENCE.to_owned(),
            max_lifetime: MINUTE.times(60),
        };
        Self { prod, lab, bundles: TrustBundles::new(&own, bundles).unwrap(), verifier }
    }

    fn sign(&self, claims: &Value) -> String {
        self.prod.sign("JWT", claims).unwrap().expose_text().to_owned()
    }

    /// A good payload behind a header that need not be.
    fn with_header(&self, header: &str) -> String {
        signed(&self.prod, header, &claims().to_string())
    }

    fn verify(&self, token: &str) -> Result<VerifiedCaller, JwtSvidError> {
        self.verifier.verify(token, &self.bundles, now())
    }

    fn refusal(&self, claims: &Value) -> JwtSvidError {
        self.verify(&self.sign(claims)).unwrap_err()
    }
}

fn signed(key: &SigningKey, header: &str, payload: &str) -> String {
    let message = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
    let signature = key.try_sign(message.as_bytes()).unwrap();
    format!("{message}.{}", base64url::encode(signature))
}

/// What SPIRE writes.
fn claims() -> Value {
    let seconds = now().seconds();
    json!({"sub": AGENT, "aud": [AUDIENCE], "iat": seconds, "exp": seconds + 300})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn a_jwt_svid_proves_the_workload_that_it_names() {
    let fixture = Fixture::new();
    for claims in [claims(), with("aud", json!(AUDIENCE)), without("iat"), with("iss", json!("x"))]
    {
        let caller = fixture.verify(&fixture.sign(&claims)).unwrap();
        assert_eq!((caller.principal().as_str(), caller.instance()), (AGENT, AGENT));
        assert_eq!(caller.expires(), now().plus(MINUTE.times(5)));
        assert_eq!(caller.certificate_thumbprint(), None);
        assert!(matches!(caller.proof(), Proof::JwtSvid));
    }
}

#[test]
fn class_11_a_header_has_nothing_but_algorithm_key_and_type() {
    let fixture = Fixture::new();
    let kid = fixture.prod.kid();
    let header = |change: Value| {
        let mut header = json!({"alg": "ES256", "kid": kid, "typ": "JWT"});
        for (name, value) in change.as_object().unwrap() {
            header[name] = value.clone();
        }
        header.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        fixture.with_header(&header.to_string())
    };
    for typ in [json!("JWT"), json!("JOSE"), json!(null)] {
        fixture.verify(&header(json!({"typ": typ}))).unwrap();
    }
    use JwsError::*;
    for (change, refusal) in [
        (json!({"cty": "JWT"}), JwtSvidError::Header),
        (json!({"x5t": "AAAA"}), JwtSvidError::Header),
        (json!({"jku": "https://x"}), RefusedMember("jku").into()),
        (json!({"x5c": []}), RefusedMember("x5c").into()),
        (json!({"jwk": {}}), RefusedMember("jwk").into()),
        (json!({"crit": ["x"]}), RefusedMember("crit").into()),
        (json!({"alg": "none"}), Algorithm.into()),
        (json!({"alg": "HS256"}), Algorithm.into()),
        (json!({"alg": "ES512"}), Algorithm.into()),
        (json!({"alg": "EdDSA"}), Algorithm.into()),
        (json!({"alg": "es256"}), Algorithm.into()),
        (json!({"alg": ["ES256"]}), Algorithm.into()),
        (json!({"alg": null}), Algorithm.into()),
        (json!({"alg": "ES384"}), KeyAlgorithm.into()),
        (json!({"alg": "RS256"}), KeyAlgorithm.into()),
        (json!({"kid": null}), Kid.into()),
        (json!({"kid": ""}), Kid.into()),
        (json!({"kid": 1}), Kid.into()),
        (json!({"kid": "../../key"}), UnknownKey.into()),
        (json!({"typ": "at+jwt"}), Typ.into()),
        (json!({"typ": "wit+jwt"}), Typ.into()),
        (json!({"typ": "dpop+jwt"}), Typ.into()),
        (json!({"typ": 1}), Typ.into()),
    ] {
        assert_eq!(fixture.verify(&header(change.clone())).unwrap_err(), refusal, "{change}");
    }
    let twice = format!(r#"{{"alg":"ES256","alg":"ES256","kid":"{kid}"}}"#);
    let refused = fixture.verify(&fixture.with_header(&twice)).unwrap_err();
    assert!(matches!(refused, JwtSvidError::Token(JwsError::Header(_))));
}

#[test]
fn class_11_nothing_but_a_compact_jws_is_a_jwt_svid() {
    let fixture = Fixture::new();
    let token = fixture.sign(&claims());
    let parts: Vec<_> = token.split('.').collect();
    let json = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]});
    for text in [json.to_string(), parts[..2].join("."), format!("{token}.{}", parts[2])] {
        let refused = fixture.verify(&text).unwrap_err();
        assert_eq!(refused, JwtSvidError::Token(JwsError::Shape), "{text}");
    }
    let other = fixture.sign(&with("sub", json!("spiffe://prod.example/agents/b")));
    let moved = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    let refused = fixture.verify(&moved).unwrap_err();
    assert_eq!(refused, JwtSvidError::Token(JwsError::Signature));
}

#[test]
fn class_12_keys_are_those_of_the_subject_s_own_trust_domain() {
    let fixture = Fixture::new();
    let in_lab = with("sub", json!("spiffe://lab.example/agents/a"));
    assert_eq!(fixture.refusal(&in_lab), JwsError::UnknownKey.into());
    let token = fixture.lab.sign("JWT", &in_lab).unwrap();
    let caller = fixture.verify(token.expose_text()).unwrap();
    assert_eq!(caller.principal().as_str(), "spiffe://lab.example/agents/a");
    // The name of a key of one domain, the key of the other.
    let header = json!({"alg": "ES256", "kid": fixture.prod.kid()}).to_string();
    let forged = signed(&fixture.lab, &header, &claims().to_string());
    assert_eq!(fixture.verify(&forged).unwrap_err(), JwsError::Signature.into());
    let other = domain("other.example");
    let refused = fixture.refusal(&with("sub", json!("spiffe://other.example/agents/a")));
    assert_eq!(refused, TrustDomainError::Unknown(other).into());
    let without_keys = fixture.refusal(&with("sub", json!("spiffe://certificates.example/a")));
    assert_eq!(without_keys, JwtSvidError::NoJwtKeys(domain("certificates.example")));
}

#[test]
fn class_12_an_issuer_in_the_token_leads_to_no_keys() {
    let fixture = Fixture::new();
    let mut claims = with("iss", json!("https://lab.example"));
    let token = fixture.lab.sign("JWT", &claims).unwrap();
    let refused = fixture.verify(token.expose_text()).unwrap_err();
    assert_eq!(refused, JwsError::UnknownKey.into());
    claims["iss"] = json!(7);
    let refused = fixture.refusal(&claims);
    assert_eq!(refused, JwsError::Claim(ClaimError::WrongType("iss")).into());
}

#[test]
fn class_07_a_domain_whose_bundle_is_missing_or_too_old_is_refused_for_now() {
    let fixture = Fixture::new();
    let prod = domain("prod.example");
    let token = fixture.sign(&claims());
    let missing = TrustBundles::awaiting([prod.clone()]);
    let bundle = Arc::new(bundle_of(&[], &[&fixture.prod]));
    let old = missing.clone().with(&prod, bundle, now());
    for (bundles, fault) in
        [(missing, TrustDomainError::Missing(prod.clone())), (old, TrustDomainError::Stale(prod))]
    {
        let refused = fixture.verifier.verify(&token, &bundles, now()).unwrap_err();
        assert_eq!(refused, fault.into());
        assert!(refused.is_retriable());
    }
    assert!(!fixture.refusal(&without("exp")).is_retriable());
}

#[test]
fn class_11_what_a_broker_mints_is_no_identity_here() {
    let fixture = Fixture::new();
    for (change, refusal) in [
        (with("sub", json!("spiffe://leasehold.example/task/tsk_00/e/1/x")), JwtSvidError::Own),
        (with("iss", json!(AUDIENCE)), JwtSvidError::Own),
        (with("iss", json!(format!("{AUDIENCE}/spiffe"))), JwtSvidError::Own),
        (with("iss", json!(format!("{AUDIENCE}/events"))), JwtSvidError::Own),
        (with("leasehold", json!({"v": 1})), JwtSvidError::Credential),
        (with("leasehold", json!(null)), JwtSvidError::Credential),
        (with("cnf", json!({"jkt": "x"})), JwtSvidError::Bound),
        (with("cnf", json!(null)), JwtSvidError::Bound),
    ] {
        assert_eq!(fixture.refusal(&change), refusal, "{change}");
    }
}

#[test]
fn class_13_a_subject_that_is_not_the_spiffe_id_of_a_workload_is_refused() {
    let fixture = Fixture::new();
    for subject in [
        "spiffe://prod.example",
        "spiffe://prod.example/",
        "spiffe://prod.example/agents/",
        "spiffe://prod.example//a",
        "spiffe://prod.example/../a",
        "spiffe://prod.example/%61",
        "spiffe://prod.example/a?b",
        "spiffe://prod.example/a#b",
        "spiffe://prod.example:443/a",
        "spiffe://me@prod.example/a",
        "spiffe://Prod.example/a",
        "SPIFFE://prod.example/a",
        "https://prod.example/a",
        "prod.example/a",
        " spiffe://prod.example/a",
        "spiffe://prod.example/a,spiffe://prod.example/b",
        "spiffe://prod.example/a\0",
    ] {
        let refused = fixture.refusal(&with("sub", json!(subject)));
        assert!(matches!(refused, JwtSvidError::Subject(_)), "{subject:?}: {refused}");
    }
    for claims in [without("sub"), with("sub", json!(7)), with("sub", json!([AGENT]))] {
        assert_eq!(fixture.refusal(&claims), ClaimError::Missing("sub").into(), "{claims}");
    }
}

#[test]
fn class_10_the_audience_is_ours_alone() {
    let fixture = Fixture::new();
    let missing = JwtSvidError::Claim(ClaimError::Missing("aud"));
    assert_eq!(fixture.refusal(&without("aud")), missing);
    for audience in [
        json!("other"),
        json!(["other"]),
        json!("https://leasehold.example:7701/"),
        json!("https://leasehold.example"),
        json!("HTTPS://LEASEHOLD.EXAMPLE:7701"),
        json!(format!("{AUDIENCE} other")),
        json!([AUDIENCE, "other"]),
        json!(["other", AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
    ] {
        let refused = fixture.refusal(&with("aud", audience.clone()));
        assert_eq!(refused, JwtSvidError::Audience(AUDIENCE.to_owned()), "{audience}");
    }
    for audience in
        [json!(""), json!([]), json!(7), json!({"a": 1}), json!([AUDIENCE, 7]), json!([[AUDIENCE]])]
    {
        let refused = fixture.refusal(&with("aud", audience.clone()));
        assert_eq!(refused, JwsError::Claim(ClaimError::WrongType("aud")).into(), "{audience}");
    }
}

#[test]
fn class_10_times_that_are_missing_or_of_another_type_are_refused() {
    let fixture = Fixture::new();
    assert_eq!(fixture.refusal(&without("exp")), ClaimError::Missing("exp").into());
    for name in ["exp", "iat", "nbf"] {
        for value in [json!("1790000300"), json!(null), json!(true), json!([1_790_000_300_u64])] {
            let refused = fixture.refusal(&with(name, value.clone()));
            let wrong = JwsError::Claim(ClaimError::WrongType(name));
            assert_eq!(refused, wrong.into(), "{name}: {value}");
        }
        for value in [json!(-1), json!(1.5), json!(1e300), json!(u64::MAX)] {
            let refused = fixture.refusal(&with(name, value.clone()));
            let wrong = JwsError::Claim(ClaimError::WrongTime(name));
            assert_eq!(refused, wrong.into(), "{name}: {value}");
        }
    }
}

#[test]
fn class_10_a_claim_that_stands_twice_is_refused() {
    let fixture = Fixture::new();
    let header = json!({"alg": "ES256", "kid": fixture.prod.kid()}).to_string();
    for (name, value) in claims().as_object().unwrap() {
        let twice = claims().to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1);
        assert!(fixture.verify(&signed(&fixture.prod, &header, &twice)).is_err(), "{name}");
    }
}

#[test]
fn class_26_a_minute_is_forgiven_to_another_clock_and_no_more() {
    let fixture = Fixture::new();
    let token = fixture.sign(&with("nbf", json!(now().seconds())));
    for (at, valid) in [(-61, false), (-60, true), (0, true), (359, true), (360, false)] {
        let now = Stamp::from_seconds(now().seconds().checked_add_signed(at).unwrap());
        let verified = fixture.verifier.verify(&token, &fixture.bundles, now);
        assert_eq!(verified.is_ok(), valid, "{at} s");
    }
}

#[test]
fn class_04_a_jwt_svid_that_lives_too_long_is_refused_also_if_it_does_not_say_since_when() {
    let fixture = Fixture::new();
    let until = |seconds: u64| json!(now().seconds() + seconds);
    for (lives, valid) in [(3_600, true), (3_601, false), (86_400 * 365, false)] {
        let mut claims = with("exp", until(lives));
        assert_eq!(fixture.verify(&fixture.sign(&claims)).is_ok(), valid, "{lives}");
        claims.as_object_mut().unwrap().remove("iat");
        assert_eq!(fixture.verify(&fixture.sign(&claims)).is_ok(), valid, "{lives}, no iat");
    }
    assert_eq!(fixture.refusal(&with("exp", until(3_601))), JwtSvidError::Lifetime);
    let backwards = fixture.refusal(&with("exp", json!(now().seconds())));
    assert_eq!(backwards, ClaimError::Backwards.into());
}

#[test]
fn class_22_a_key_that_left_the_bundle_verifies_nothing() {
    let fixture = Fixture::new();
    let token = fixture.sign(&claims());
    fixture.verify(&token).unwrap();
    let prod = domain("prod.example");
    let next = SigningKey::generate().unwrap().0;
    for (keys, refusal) in [
        (vec![&next], JwsError::UnknownKey.into()),
        (vec![], JwtSvidError::NoJwtKeys(prod.clone())),
    ] {
        let bundles = fixture.bundles.clone();
        let bundle = Arc::new(bundle_of(&[], &keys));
        let bundles = bundles.with(&prod, bundle, now().plus(MINUTE));
        let refused = fixture.verifier.verify(&token, &bundles, now()).unwrap_err();
        assert_eq!(refused, refusal);
    }
}
