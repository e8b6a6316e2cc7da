//! Calls that prove nobody, or two.

use axum::http::{HeaderMap, HeaderValue};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::*;
use crate::domain::principal::Name;
use crate::domain::time::INFINITY;
use crate::domain::time::Span;
use crate::identity::jwks_cache::JwksError;
use crate::identity::jwks_cache::JwksSource;
use crate::identity::oidc::OidcIssuer;
use crate::identity::trust_bundle::{TrustBundle, TrustDomainError};
use crate::jose::JwsError;
use crate::jose::SigningKey;
use crate::spiffe::id::TrustDomain;
use crate::testing::ca::TestAuthority;
use crate::testing::issuer::{Answer, TestIssuer};
use crate::testing::trust::{bundle_of, jwt_svids};

const AGENT: &str = "spiffe://prod.example/agents/a";

struct Site {
    root: TestAuthority,
    /// What JWT-SVIDs of `prod.example` are signed with.
    svid_key: SigningKey,
    issuer: TestIssuer,
    bundles: SharedBundles,
    authenticator: Authenticator,
}

impl Site {
    async fn start() -> Self {
        let (root, issuer) = (TestAuthority::root("root"), TestIssuer::start().await);
        let config = OidcIssuer {
            name: Name::parse("ci").unwrap(),
            issuer: issuer.url.clone(),
            audience: "leasehold".into(),
            jwks: JwksSource::Discovery,
            max_lifetime: Span::from_seconds(3_600),
            platform: None,
            token_review: None,
            in_cluster: false,
            danger_loopback: true,
            ca_file: None,
        };
        let oidc = OidcVerifier::new(vec![config], &[], 0).unwrap();
        let svid_key = SigningKey::generate().unwrap().0;
        let own = TrustDomain::parse("leasehold.example").unwrap();
        let bundle = bundle_of(&[&root], &[&svid_key]);
        let bundles = TrustBundles::new(&own, [(prod(), bundle)]).unwrap().shared();
        let authenticator = Authenticator::new(bundles.clone(), jwt_svids(), oidc);
        Self { root, svid_key, issuer, bundles, authenticator }
    }

    fn jwt_svid(&self, claims: &Value) -> String {
        format!("Bearer {}", self.svid_key.sign("JWT", claims).unwrap().expose_text())
    }

    /// Gives `prod.example` another bundle, to count until then.
    fn replace(&self, bundle: TrustBundle, usable_until: Stamp) {
        let bundles = TrustBundles::clone(&self.bundles.load());
        self.bundles.store(Arc::new(bundles.with(&prod(), Arc::new(bundle), usable_until)));
    }

    fn svid(&self) -> PeerSvid {
        PeerSvid::new(self.root.svid(AGENT, now(), now().plus(Span::from_seconds(60))).chain)
    }

    fn claims(&self) -> Value {
        self.issuer.claims("job", "leasehold", now())
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.issuer.sign(&self.claims()))
    }

    async fn ask(
        &self,
        svid: Option<&PeerSvid>,
        authorization: &[&str],
        now: Stamp,
    ) -> Result<VerifiedCaller, AuthnError> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        self.authenticator.authenticate(svid, &headers, now).await
    }
}

fn prod() -> TrustDomain {
    TrustDomain::parse("prod.example").unwrap()
}

fn jwt_svid_claims() -> Value {
    let seconds = now().seconds();
    json!({"sub": AGENT, "aud": ["https://leasehold.example"], "iat": seconds, "exp": seconds + 300})
}

fn now() -> Stamp {
    Stamp::from_seconds(1_790_000_000)
}

#[tokio::test]
async fn one_identity_is_taken_and_none_or_two_are_refused() {
    let site = Site::start().await;
    let (svid, bearer) = (site.svid(), site.bearer());
    let caller = site.ask(Some(&svid), &[], now()).await.unwrap();
    assert_eq!(caller.principal().as_str(), AGENT);
    let caller = site.ask(None, &[&bearer], now()).await.unwrap();
    assert_eq!(caller.principal().as_str(), "oidc:ci:job");
    assert!(matches!(site.ask(None, &[], now()).await, Err(AuthnError::Missing)));
    assert!(matches!(site.ask(Some(&svid), &[&bearer], now()).await, Err(AuthnError::Both)));
    assert!(matches!(site.ask(Some(&svid), &["Basic x"], now()).await, Err(AuthnError::Both)));
    let twice = site.ask(None, &[&bearer, &bearer], now()).await;
    assert!(matches!(twice, Err(AuthnError::Several)));
}

#[tokio::test]
async fn class_18_header_that_is_almost_bearer_is_refused() {
    let site = Site::start().await;
    let bearer = site.bearer();
    let token = bearer.strip_prefix("Bearer ").unwrap();
    for header in [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer  {token}"),
        format!("Bearer {token} {token}"),
        format!("Bearer\t{token}"),
        format!("DPoP {token}"),
        token.to_owned(),
    ] {
        let refused = site.ask(None, &[&header], now()).await;
        assert!(matches!(refused, Err(AuthnError::NotBearer)), "{header:?}: {refused:?}");
    }
    site.ask(None, &[&format!("bearer {token}")], now()).await.unwrap();
}

#[tokio::test]
async fn class_09_remembered_token_ends_with_its_expiry() {
    let site = Site::start().await;
    let mut claims = site.claims();
    claims["exp"] = (now().seconds() + 30).into();
    let bearer = format!("Bearer {}", site.issuer.sign(&claims));
    let expires = site.ask(None, &[&bearer], now()).await.unwrap().expires();
    site.ask(None, &[&bearer], expires.minus(Span::from_micros(1))).await.unwrap();
    // A foreign token may be used within its leeway if it is verified afresh; what is remembered has none.
    site.ask(None, &[&bearer], expires.plus(Span::from_seconds(30))).await.unwrap();
    let late = expires.plus(Span::from_seconds(61));
    assert!(matches!(site.ask(None, &[&bearer], late).await, Err(AuthnError::Token(_))));
}

#[tokio::test]
async fn class_22_remembered_token_of_a_withdrawn_key_is_refused_once_the_keys_are_gone() {
    let site = Site::start().await;
    let mut claims = site.claims();
    claims["exp"] = (now().seconds() + 3_600).into();
    let bearer = format!("Bearer {}", site.issuer.sign(&claims));
    site.ask(None, &[&bearer], now()).await.unwrap();
    site.issuer.set_jwks(Answer::of(r#"{"keys":[]}"#));
    let later = now().plus(Span::from_seconds(300));
    site.authenticator.issuers().refresh_if_due(later).await;
    assert!(matches!(site.ask(None, &[&bearer], later).await, Err(AuthnError::Token(_))));
}

#[tokio::test]
async fn class_22_those_who_wait_for_an_issuer_s_keys_hold_up_nobody_who_need_not() {
    let site = Site::start().await;
    site.ask(None, &[&site.bearer()], now()).await.unwrap();
    let silence = site.issuer.hold().await;
    let later = now().plus(Span::from_seconds(20));
    let strangers = (0..300).map(|_| SigningKey::generate().unwrap().0);
    let strange = strangers.map(|key| key.sign("JWT", &site.claims()).unwrap());
    let headers: Vec<_> = strange.map(|token| format!("Bearer {}", token.expose_text())).collect();
    let headers: Vec<_> = headers.iter().map(|header| [header.as_str()]).collect();
    let asking = headers.iter().map(|header| Box::pin(site.ask(None, header, later)));
    let mut waiting = Vec::new();
    for mut asked in asking {
        match (&mut asked).now_or_never() {
            None => waiting.push(asked),
            Some(refused) => assert!(refused.unwrap_err().is_retriable(), "there is room later"),
        }
    }
    assert!((1..300).contains(&waiting.len()), "{} wait", waiting.len());
    let mut claims = site.claims();
    claims["jti"] = "2".into();
    let known = format!("Bearer {}", site.issuer.sign(&claims));
    site.ask(None, &[&known], later).now_or_never().unwrap().unwrap();
    drop(silence);
    let refused = futures_util::future::join_all(waiting).await;
    assert!(refused.iter().all(|refused| matches!(refused, Err(AuthnError::Token(_)))));
}

#[tokio::test]
async fn class_17_refusal_shows_nothing_of_the_token() {
    let site = Site::start().await;
    let mut claims = site.claims();
    claims["aud"] = "somebody-else".into();
    let token = site.issuer.sign(&claims);
    let refused = site.ask(None, &[&format!("Bearer {token}")], now()).await.unwrap_err();
    for text in [format!("{refused}"), format!("{refused:?}")] {
        assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
    }
}

#[tokio::test]
async fn class_11_of_which_kind_a_token_is_the_configuration_decides_and_it_is_never_both() {
    let site = Site::start().await;
    let svid = jwt_svid_claims();
    let caller = site.ask(None, &[&site.jwt_svid(&svid)], now()).await.unwrap();
    assert_eq!(caller.principal().as_str(), AGENT);
    let with = |claims: &Value, name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    // The trust domain signs in the name of a configured issuer.
    let forged = site.jwt_svid(&with(&svid, "iss", json!(site.issuer.url)));
    let refused = site.ask(None, &[&forged], now()).await;
    let unknown = OidcError::Keys(JwksError::UnknownKid);
    assert!(matches!(refused, Err(AuthnError::Token(error)) if error == unknown));
    // The issuer names a workload: it is a subject of the issuer, and no workload.
    let by_issuer = |claims: &Value| format!("Bearer {}", site.issuer.sign(claims));
    let named = by_issuer(&with(&site.claims(), "sub", json!(AGENT)));
    let caller = site.ask(None, &[&named], now()).await.unwrap();
    assert_eq!(caller.principal().as_str(), format!("oidc:ci:{AGENT}"));
    // The issuer signs what the trust domain would.
    let unknown = JwtSvidError::Token(JwsError::UnknownKey);
    for claims in [svid.clone(), with(&svid, "iss", json!(format!("{}/", site.issuer.url)))] {
        let refused = site.ask(None, &[&by_issuer(&claims)], now()).await;
        assert!(matches!(refused, Err(AuthnError::JwtSvid(error)) if error == unknown));
    }
    // The trust domain signs what an issuer would, and what nobody would.
    for subject in [json!("job"), json!(7), json!("SPIFFE://prod.example/agents/a")] {
        let refused = site.ask(None, &[&site.jwt_svid(&with(&svid, "sub", subject))], now()).await;
        assert!(matches!(refused, Err(AuthnError::Token(OidcError::UnknownIssuer))));
    }
}

#[tokio::test]
async fn class_22_remembered_jwt_svid_ends_with_the_bundle_that_vouched_for_it() {
    let site = Site::start().await;
    let bearer = site.jwt_svid(&jwt_svid_claims());
    let header = [bearer.as_str()];
    let ask = || site.ask(None, &header, now());
    let bundle = |keys: &[&SigningKey]| bundle_of(&[&site.root], keys);
    ask().await.unwrap();
    site.replace(bundle(&[&SigningKey::generate().unwrap().0]), INFINITY);
    let unknown = JwtSvidError::Token(JwsError::UnknownKey);
    assert!(matches!(ask().await, Err(AuthnError::JwtSvid(error)) if error == unknown));
    site.replace(bundle(&[&site.svid_key]), INFINITY);
    ask().await.unwrap();
    site.replace(bundle(&[&site.svid_key]), now().next());
    ask().await.unwrap();
    let stale = JwtSvidError::TrustDomain(TrustDomainError::Stale(prod()));
    let refused = site.ask(None, &[&bearer], now().next()).await.unwrap_err();
    assert!(refused.is_retriable());
    assert!(matches!(refused, AuthnError::JwtSvid(error) if error == stale));
}

#[tokio::test]
async fn class_09_remembered_jwt_svid_ends_with_its_expiry() {
    let site = Site::start().await;
    let bearer = site.jwt_svid(&jwt_svid_claims());
    site.ask(None, &[&bearer], now()).await.unwrap();
    let late = now().plus(Span::from_seconds(361));
    assert!(matches!(site.ask(None, &[&bearer], late).await, Err(AuthnError::JwtSvid(_))));
}
