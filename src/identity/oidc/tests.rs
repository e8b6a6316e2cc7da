//! Tokens that prove no identity.

use ring::hmac;
use serde_json::{Value, json};

use super::*;
use crate::jose::{KeySet, SigningKey, base64url};
use crate::testing::issuer::TestIssuer;

const AUDIENCE: &str = "leasehold";
const OWN: &str = "https://leasehold.example:7701";

fn now() -> Stamp {
    Stamp::from_seconds(1_790_000_000)
}

fn config(name: &str, issuer: &TestIssuer) -> OidcIssuer {
    OidcIssuer {
        name: Name::parse(name).unwrap(),
        issuer: issuer.url.clone(),
        audience: AUDIENCE.into(),
        jwks: JwksSource::Discovery,
        max_lifetime: Span::from_seconds(3600),
        platform: None,
        token_review: None,
        in_cluster: false,
        danger_loopback: true,
        ca_file: None,
    }
}

struct Fixture {
    issuer: TestIssuer,
    verifier: OidcVerifier,
}

impl Fixture {
    async fn start() -> Self {
        let issuer = TestIssuer::start().await;
        let verifier = OidcVerifier::new(vec![config("ci", &issuer)], &[OWN], 0).unwrap();
        Self { issuer, verifier }
    }

    fn claims(&self) -> Value {
        self.issuer.claims("repo:a/b", AUDIENCE, now())
    }

    fn claims_with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }

    async fn verify(&self, claims: &Value) -> Result<VerifiedCaller, OidcError> {
        self.verify_at(claims, now()).await
    }

    async fn verify_at(&self, claims: &Value, now: Stamp) -> Result<VerifiedCaller, OidcError> {
        self.verifier.verify(&self.issuer.sign(claims), now).await.map(|verified| verified.caller)
    }

    async fn refusal(&self, claims: &Value) -> OidcError {
        self.verify(claims).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_token_of_a_configured_issuer_proves_its_subject() {
    let fixture = Fixture::start().await;
    let caller = fixture.verify(&fixture.claims_with("ref", json!("main"))).await.unwrap();
    assert_eq!(caller.principal().as_str(), "oidc:ci:repo:a/b");
    assert_eq!(caller.instance(), "oidc:ci:repo:a/b");
    assert_eq!(caller.expires(), now().plus(Span::from_seconds(300)));
    assert_eq!(caller.certificate_thumbprint(), None);
    let Proof::Oidc { issuer, claims } = caller.proof() else { panic!("not by a certificate") };
    assert_eq!((issuer.as_str(), claims["ref"].as_str()), ("ci", "main"));
    fixture.verify(&fixture.claims()).await.unwrap();
    assert_eq!(fixture.issuer.fetches(), 1);
}

#[tokio::test]
async fn class_11_credentials_of_a_broker_are_no_identity() {
    let fixture = Fixture::start().await;
    for typ in [
        "at+jwt",
        "application/at+jwt",
        "dpop+jwt",
        "wit+jwt",
        "wpt+jwt",
        "secevent+jwt",
        "txntoken+jwt",
        "statuslist+jwt",
        "token-introspection+jwt",
        "client-authentication+jwt",
    ] {
        let token = fixture.issuer.key.sign(typ, &fixture.claims()).unwrap();
        let refused = fixture.verifier.verify(token.expose_text(), now()).await.unwrap_err();
        assert_eq!(refused, OidcError::Token(JwsError::Typ), "{typ}");
    }
    let path = json!({"v": 1, "path": [["tsk_00", 1]]});
    let refused = fixture.refusal(&fixture.claims_with("leasehold", path)).await;
    assert_eq!(refused, OidcError::Credential);
    for cnf in [json!({"jkt": "x"}), json!({"x5t#S256": "x"}), json!({}), json!(null)] {
        let refused = fixture.refusal(&fixture.claims_with("cnf", cnf)).await;
        assert_eq!(refused, OidcError::Bound);
    }
}

#[tokio::test]
async fn class_11_a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    let fixture = Fixture::start().await;
    let jwk = Value::Object(fixture.issuer.key.verifying_key().to_jwk()).to_string();
    let header = json!({"alg": "HS256", "typ": "JWT", "kid": fixture.issuer.key.kid()}).to_string();
    let body = fixture.claims().to_string();
    let message = format!("{}.{}", base64url::encode(header), base64url::encode(body));
    let secret = hmac::Key::new(hmac::HMAC_SHA256, jwk.as_bytes());
    let forged =
        format!("{message}.{}", base64url::encode(hmac::sign(&secret, message.as_bytes())));
    let refused = fixture.verifier.verify(&forged, now()).await.unwrap_err();
    assert_eq!(refused, OidcError::Token(JwsError::Algorithm));
    let none = json!({"alg": "none", "kid": fixture.issuer.key.kid()}).to_string();
    let forged = format!("{}.{}.", base64url::encode(none), message.split_once('.').unwrap().1);
    let refused = fixture.verifier.verify(&forged, now()).await.unwrap_err();
    assert_eq!(refused, OidcError::Token(JwsError::Algorithm));
    assert_eq!(fixture.issuer.fetches(), 0);
}

#[tokio::test]
async fn class_12_one_subject_of_two_issuers_is_two_principals() {
    let [one, two] = [TestIssuer::start().await, TestIssuer::start().await];
    let configs = vec![config("one", &one), config("two", &two)];
    let verifier = OidcVerifier::new(configs, &[], 0).unwrap();
    let mut principals = Vec::new();
    for issuer in [&one, &two] {
        let token = issuer.sign(&issuer.claims("same", AUDIENCE, now()));
        principals.push(verifier.verify(&token, now()).await.unwrap().caller.principal().clone());
    }
    assert_eq!(principals[0].as_str(), "oidc:one:same");
    assert_eq!(principals[1].as_str(), "oidc:two:same");
    // Signed by one, in the name of two.
    let forged = one.sign(&two.claims("same", AUDIENCE, now()));
    let refused = verifier.verify(&forged, now()).await.unwrap_err();
    assert_eq!(refused, OidcError::Keys(JwksError::UnknownKid));
}

#[tokio::test]
async fn class_12_an_issuer_is_compared_byte_for_byte() {
    let fixture = Fixture::start().await;
    let url = &fixture.issuer.url;
    for iss in [
        format!("{url}/"),
        url.to_uppercase(),
        format!(" {url}"),
        format!("{url}#"),
        url.replace("127", "%31%32%37"),
        url.replace("127", "\u{ff11}\u{ff12}\u{ff17}"),
        url.replace('.', "\u{3002}"),
        url.replace("127.0.0.1", "localhost"),
        OWN.into(),
    ] {
        let refused = fixture.refusal(&fixture.claims_with("iss", json!(iss))).await;
        assert_eq!(refused, OidcError::UnknownIssuer, "{iss}");
    }
    for iss in [json!(null), json!([url]), json!(1)] {
        let refused = fixture.refusal(&fixture.claims_with("iss", iss)).await;
        assert_eq!(refused, OidcError::UnknownIssuer);
    }
    assert_eq!(fixture.issuer.fetches(), 0, "a stranger's `iss` caused a fetch");
}

/// What a browser shows as one name, or a resolver finds as one, is here as many issuers as it has spellings.
#[tokio::test]
async fn class_12_an_issuer_in_punycode_in_unicode_or_in_letters_that_look_alike_is_another() {
    let key = SigningKey::generate().unwrap().0;
    let keys = tempfile::NamedTempFile::new().unwrap();
    let set = KeySet::of([key.verifying_key().clone()]).unwrap();
    let base = config("ci", &TestIssuer::start().await);
    std::fs::write(keys.path(), set.to_document().to_string()).unwrap();
    let spellings = [
        "https://b\u{fc}cher.example",
        "https://bu\u{308}cher.example",
        "https://B\u{dc}CHER.example",
        "https://xn--bcher-kva.example",
        "https://XN--BCHER-KVA.example",
        "https://b%C3%BCcher.example",
        "https://b\u{fc}\u{441}her.example",
        "https://b\u{fc}\u{ff43}her.example",
        "https://b\u{fc}cher\u{3002}example",
        "https://b\u{fc}\u{200d}cher.example",
        "https://b\u{fc}cher.example.",
        "https://bucher.example",
    ];
    for configured in spellings {
        let jwks = JwksSource::File(keys.path().to_owned());
        let issuer = configured.to_owned();
        let trusted = OidcIssuer { issuer, jwks, ..base.clone() };
        let verifier = OidcVerifier::new(vec![trusted], &[OWN], 0).unwrap();
        for iss in spellings {
            let claims = json!({
                "iss": iss, "sub": "repo:a/b", "aud": AUDIENCE,
                "iat": now().seconds(), "exp": now().seconds() + 300,
            });
            let token = key.sign("JWT", &claims).unwrap();
            let judged = verifier.verify(token.expose_text(), now()).await.map(|_| ());
            let expected = if iss == configured { Ok(()) } else { Err(OidcError::UnknownIssuer) };
            assert_eq!(judged, expected, "{iss} where {configured} is trusted");
        }
    }
}

/// `act` says for whom a token was exchanged, nested as often as it was: nobody in it is the caller, or matches a pattern.
#[tokio::test]
async fn class_21_actors_in_an_identity_token_are_nobody_here() {
    let fixture = Fixture::start().await;
    let actor = json!({"sub": "repo:a/admin", "ref": "main", "act": {"sub": "repo:a/root"}});
    for act in [json!([actor]), actor] {
        let caller = fixture.verify(&fixture.claims_with("act", act)).await.unwrap();
        assert_eq!(caller.principal().as_str(), "oidc:ci:repo:a/b");
        let Proof::Oidc { claims, .. } = caller.proof() else { panic!("not by a certificate") };
        assert!(!claims.contains_key("act") && !claims.contains_key("ref"), "{claims:?}");
    }
}

#[tokio::test]
async fn class_12_claims_of_another_issuer_are_refused_behind_a_valid_signature() {
    let issuer = TestIssuer::start().await;
    let keys = KeySet::of([issuer.key.verifying_key().clone()]).unwrap();
    let claims = |iss: &str| {
        let mut claims = issuer.claims("same", AUDIENCE, now());
        claims["iss"] = json!(iss);
        let token = issuer.sign(&claims);
        Unverified::parse(&token, Typ::Is("JWT"), FOREIGN_ALGORITHMS).unwrap().verify(&keys)
    };
    let config = config("ci", &issuer);
    assert!(config.check(&claims(&issuer.url).unwrap(), now()).is_ok());
    let refused = config.check(&claims("https://other.example").unwrap(), now()).unwrap_err();
    assert_eq!(refused, OidcError::UnknownIssuer);
}

#[tokio::test]
async fn class_10_required_claims_that_are_missing_are_refused() {
    let fixture = Fixture::start().await;
    for name in ["sub", "aud", "exp", "iat"] {
        let mut claims = fixture.claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(fixture.refusal(&claims).await, OidcError::Claim(ClaimError::Missing(name)));
    }
    let mut claims = fixture.claims();
    claims.as_object_mut().unwrap().remove("nbf");
    assert!(fixture.verify(&claims).await.is_ok());
}

#[tokio::test]
async fn class_10_claims_of_the_wrong_type_are_refused() {
    let fixture = Fixture::start().await;
    for (name, value) in [
        ("sub", json!(7)),
        ("sub", json!("")),
        ("aud", json!([])),
        ("aud", json!("")),
        ("aud", json!({"leasehold": true})),
        ("aud", json!(["leasehold", 1])),
        ("exp", json!("1790000300")),
        ("iat", json!([])),
        ("nbf", json!("99999999999")),
        ("jti", json!(1)),
    ] {
        let refused = fixture.refusal(&fixture.claims_with(name, value.clone())).await;
        let wrong = OidcError::Token(JwsError::Claim(ClaimError::WrongType(name)));
        assert_eq!(refused, wrong, "{name}: {value}");
    }
}

#[tokio::test]
async fn class_10_times_of_every_other_spelling_and_claims_that_stand_twice_are_refused() {
    let fixture = Fixture::start().await;
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": fixture.issuer.key.kid()}).to_string();
    let refusal = async |claims: &Value, name: &str, value: &str| {
        let payload = claims.to_string().replacen('{', &format!("{{\"{name}\":{value},"), 1);
        let token = fixture.issuer.sign_text(&header, &payload);
        fixture.verifier.verify(&token, now()).await.unwrap_err()
    };
    for name in ["exp", "iat", "nbf"] {
        let mut others = fixture.claims();
        others.as_object_mut().unwrap().remove(name);
        for value in
            ["\"1790000000\"", "1790000000.0", "1.5", "-1", "1e9", "1e400", "null", "true", "[]"]
        {
            let refused = refusal(&others, name, value).await;
            assert!(matches!(refused, OidcError::Token(_) | OidcError::UnknownIssuer), "{value}");
        }
    }
    let claims = fixture.claims();
    for (name, value) in claims.as_object().unwrap() {
        let refused = refusal(&claims, name, &value.to_string()).await;
        assert!(matches!(refused, OidcError::Token(_) | OidcError::UnknownIssuer), "{name}");
    }
    assert!(fixture.verify(&claims).await.is_ok());
}

#[tokio::test]
async fn class_10_the_audience_contains_ours() {
    let fixture = Fixture::start().await;
    for aud in [json!(AUDIENCE), json!([AUDIENCE]), json!(["other", AUDIENCE])] {
        assert!(fixture.verify(&fixture.claims_with("aud", aud)).await.is_ok());
    }
    for aud in [
        json!("other"),
        json!(["other"]),
        json!("leasehold2"),
        json!("Leasehold"),
        json!("leasehold other"),
    ] {
        let refused = fixture.refusal(&fixture.claims_with("aud", aud)).await;
        assert_eq!(refused, OidcError::Audience);
    }
}

#[tokio::test]
async fn class_26_a_minute_is_forgiven_to_another_clock_and_no_more() {
    let fixture = Fixture::start().await;
    let claims = fixture.claims();
    let seconds = now().seconds();
    for (at, valid) in [(-61, false), (-60, true), (359, true), (360, false)] {
        let now = Stamp::from_seconds(seconds.checked_add_signed(at).unwrap());
        assert_eq!(fixture.verify_at(&claims, now).await.is_ok(), valid, "{at} s");
    }
}

#[tokio::test]
async fn a_token_that_lives_too_long_is_refused() {
    let fixture = Fixture::start().await;
    let lasting = |seconds: u64| fixture.claims_with("exp", json!(now().seconds() + seconds));
    assert!(fixture.verify(&lasting(3600)).await.is_ok());
    assert_eq!(fixture.refusal(&lasting(3601)).await, OidcError::Lifetime);
}

#[tokio::test]
async fn class_18_a_subject_that_is_no_principal_is_refused() {
    let fixture = Fixture::start().await;
    for sub in ["a\nb".to_owned(), "a\0".to_owned(), "s".repeat(256)] {
        let refused = fixture.refusal(&fixture.claims_with("sub", json!(sub))).await;
        assert_eq!(refused, OidcError::Principal(PrincipalError::Subject));
    }
    let upper = fixture.verify(&fixture.claims_with("sub", json!("Repo:A/b"))).await.unwrap();
    assert_eq!(upper.principal().as_str(), "oidc:ci:Repo:A/b");
}

#[tokio::test]
async fn a_token_is_refused_for_now_while_its_issuer_is_away() {
    let fixture = Fixture::start().await;
    fixture.issuer.set_jwks(crate::testing::issuer::Answer::status(503));
    let refused = fixture.refusal(&fixture.claims()).await;
    assert_eq!(refused, OidcError::Keys(JwksError::Unavailable));
    assert!(refused.is_retriable());
    assert!(!OidcError::Keys(JwksError::UnknownKid).is_retriable());
    assert_eq!(fixture.verifier.ages(now()), [(Name::parse("ci").unwrap(), None)]);
    fixture.issuer.publish(&[&fixture.issuer.key]);
    fixture.verifier.refresh_if_due(now().plus(Span::from_seconds(30))).await;
    assert!(fixture.verify(&fixture.claims()).await.is_ok());
}

#[tokio::test]
async fn issuers_that_must_not_be_trusted_are_refused_at_start() {
    let issuer = TestIssuer::start().await;
    let base = config("ci", &issuer);
    let refusal = |configs: Vec<OidcIssuer>| OidcVerifier::new(configs, &[OWN], 0).unwrap_err();
    let with = |issuer: &str| OidcIssuer { issuer: issuer.into(), ..base.clone() };
    let public = |issuer: &str| OidcIssuer { danger_loopback: false, ..with(issuer) };
    assert!(matches!(refusal(vec![with(OWN)]), OidcConfigError::Own(_)));
    let twice = refusal(vec![base.clone(), with("http://127.0.0.1:9")]);
    assert!(matches!(twice, OidcConfigError::Twice(_)), "{twice}");
    let renamed = OidcIssuer { name: Name::parse("ci2").unwrap(), ..base.clone() };
    assert!(matches!(refusal(vec![base.clone(), renamed]), OidcConfigError::Twice(_)));
    let query = refusal(vec![with("http://127.0.0.1:9?a=b")]);
    assert!(matches!(query, OidcConfigError::Issuer(..)), "{query}");
    for url in ["http://issuer.example", "https://127.0.0.1", "https://10.0.0.1", "issuer", ""] {
        assert!(matches!(refusal(vec![public(url)]), OidcConfigError::Fetch(..)), "{url}");
    }
    for (platform, audience) in
        [(Platform::Entra, AUDIENCE), (Platform::Kubernetes, "https://kubernetes.default.svc")]
    {
        let platform = Some(platform);
        let odd = OidcIssuer { platform, audience: audience.into(), ..base.clone() };
        let refused = refusal(vec![odd]);
        assert!(matches!(refused, OidcConfigError::Platform(..)), "{refused}");
    }
    let mute = OidcIssuer { audience: String::new(), ..base.clone() };
    assert!(matches!(refusal(vec![mute]), OidcConfigError::Audience(_)));
    let lost = OidcIssuer { ca_file: Some("/nowhere".into()), ..base };
    assert!(matches!(refusal(vec![lost]), OidcConfigError::Fetch(_, FetchError::CaFile(_))));
}
