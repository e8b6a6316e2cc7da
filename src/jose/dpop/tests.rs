//! Proofs that hold, and what is wrong with all others.

use serde_json::{Value, json};
use signature::Signer as _;

use super::*;
use crate::jose::json::JsonError;
use crate::jose::{PublicKey, PublicKeyError};

const TOKEN: &str = "header.payload.signature";

fn now() -> Stamp {
    Stamp::from_seconds(1_790_000_000)
}

fn at(seconds: i64) -> Stamp {
    Stamp::from_seconds(now().seconds().checked_add_signed(seconds).unwrap())
}

fn uri(text: &str) -> HttpsUri {
    HttpsUri::parse(text).unwrap()
}

/// Somebody with a key, and a request that they make.
struct Client {
    key: SigningKey,
    uris: Vec<HttpsUri>,
}

impl Client {
    fn new() -> Self {
        let (key, _) = SigningKey::generate().unwrap();
        let uris = vec![uri("https://lh.example:7700/s/M"), uri("https://other.example/s/M")];
        Self { key, uris }
    }

    fn header(&self) -> Value {
        let jwk = self.key.verifying_key().public_key().required_members();
        json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk})
    }

    fn claims(&self) -> Value {
        json!({
            "jti": "one", "htm": "POST", "htu": "https://lh.example:7700/s/M", "iat": now().seconds(),
        })
    }

    /// Signs whatever header and claims it is given.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", base64url::encode(header), base64url::encode(claims));
        let signature = self.key.try_sign(message.as_bytes()).unwrap();
        format!("{message}.{}", base64url::encode(signature))
    }

    fn expect(&self) -> Expect<'_> {
        Expect { method: "POST", uris: &self.uris, token: None, nonce: None }
    }

    fn verify(&self, proof: &str) -> Result<Proof, DpopError> {
        verify(proof, self.expect(), now())
    }

    /// What is said of a proof with this member of the header.
    fn with_header(&self, name: &str, value: Value) -> Result<Proof, DpopError> {
        let mut header = self.header();
        header[name] = value;
        self.verify(&self.sign(&header, &self.claims()))
    }

    /// What is said of a proof with this claim.
    fn with_claim(&self, name: &str, value: Value) -> Result<Proof, DpopError> {
        let mut claims = self.claims();
        claims[name] = value;
        self.verify(&self.sign(&self.header(), &claims))
    }

    fn without_claim(&self, name: &str) -> Result<Proof, DpopError> {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(name);
        self.verify(&self.sign(&self.header(), &claims))
    }
}

#[test]
fn a_proof_that_was_made_here_holds_here() {
    let client = Client::new();
    let nonces = NonceKey::derive(&Secret::new(vec![7; 32])).unwrap();
    let nonce = nonces.fresh(now());
    let whole = Statement {
        method: "POST",
        uri: &client.uris[0],
        jti: "one",
        issued: now(),
        token: Some(TOKEN),
        nonce: Some(&nonce),
    };
    let proof = prove(&client.key, whole).unwrap();
    let expect = Expect { token: Some(TOKEN), nonce: Some(&nonces), ..client.expect() };
    let held = verify(proof.expose_text(), expect, now()).unwrap();
    assert_eq!(held.thumbprint, client.key.verifying_key().public_key().thumbprint());
    assert_eq!(held.expires(), at(60));
}

#[test]
fn the_proof_of_rfc_9449_section_4_1_is_read() {
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let uris = [uri("https://server.example.com/token")];
    let expect = Expect { method: "POST", uris: &uris, token: None, nonce: None };
    let held = verify(proof, expect, Stamp::from_seconds(1_562_262_616)).unwrap();
    // Section 6.1 binds a token to this very key.
    let thumbprint = base64url::encode(held.thumbprint);
    assert_eq!(thumbprint, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn class_11_a_header_that_is_not_exactly_that_of_a_proof_is_refused() {
    let client = Client::new();
    for member in ["kid", "crit", "b64", "x5u", "jku", "x5c", "zip", "cty"] {
        assert_eq!(client.with_header(member, json!("x")), Err(DpopError::Header), "{member}");
    }
    for member in HEADER_MEMBERS {
        let mut header = client.header();
        header.as_object_mut().unwrap().remove(member);
        let proof = client.sign(&header, &client.claims());
        assert_eq!(client.verify(&proof), Err(DpopError::Header), "{member}");
    }
    for typ in ["jwt", "at+jwt", "JWT", "dpop", "", "x/dpop+jwt"] {
        assert_eq!(client.with_header("typ", json!(typ)), Err(JwsError::Typ.into()), "{typ}");
    }
    for alg in ["none", "None", "HS256", "EdDSA", "ES512", "es256", ""] {
        assert_eq!(client.with_header("alg", json!(alg)), Err(JwsError::Algorithm.into()), "{alg}");
    }
    assert_eq!(client.with_header("jwk", json!([])), Err(DpopError::Header));
}

#[test]
fn class_11_a_key_that_is_not_a_public_one_for_the_algorithm_is_refused() {
    let client = Client::new();
    let jwk = |change: &dyn Fn(&mut Value)| {
        let mut jwk = client.header()["jwk"].clone();
        change(&mut jwk);
        client.with_header("jwk", jwk).unwrap_err()
    };
    assert_eq!(jwk(&|jwk| jwk["d"] = json!("AQ")), JwkError::Private.into());
    assert_eq!(jwk(&|jwk| *jwk = json!({"kty": "oct", "k": "AQ"})), JwkError::Private.into());
    assert_eq!(jwk(&|jwk| *jwk = json!({"kty": "oct"})), JwkError::KeyType.into());
    assert_eq!(jwk(&|jwk| jwk["kty"] = json!("OKP")), JwkError::KeyType.into());
    assert_eq!(jwk(&|jwk| jwk["crv"] = json!("P-384")), JwkError::Encoding.into());
    assert_eq!(jwk(&|jwk| jwk["alg"] = json!("ES384")), JwkError::Algorithm.into());
    assert_eq!(jwk(&|jwk| jwk["use"] = json!("enc")), JwkError::Use.into());
    assert_eq!(
        jwk(&|jwk| jwk["x"] = jwk["y"].clone()),
        JwkError::from(PublicKeyError::Point).into()
    );
    assert_eq!(client.with_header("alg", json!("RS256")), Err(JwkError::Algorithm.into()));
    assert_eq!(client.with_header("alg", json!("ES384")), Err(JwkError::Algorithm.into()));
    let other = Client::new().header()["jwk"].clone();
    assert_eq!(client.with_header("jwk", other), Err(JwsError::Signature.into()));
    let named = jwk_named(&client);
    assert!(named.is_ok(), "what a key calls itself does not matter: {named:?}");
}

fn jwk_named(client: &Client) -> Result<Proof, DpopError> {
    let mut jwk = client.header()["jwk"].clone();
    jwk["kid"] = json!("mine");
    jwk["alg"] = json!("ES256");
    client.with_header("jwk", jwk)
}

#[test]
fn rsa_keys_take_the_algorithm_of_the_header() {
    let modulus = [vec![0xff; 255], vec![0xfd]].concat();
    let jwk = PublicKey::rsa(&modulus, &[1, 0, 1]).unwrap().required_members();
    for (alg, fault) in [
        ("PS256", JwsError::Signature.into()),
        ("RS384", JwsError::Signature.into()),
        ("ES256", DpopError::Key(JwkError::Algorithm)),
    ] {
        let header = json!({"typ": "dpop+jwt", "alg": alg, "jwk": jwk});
        let client = Client::new();
        let proof = client.sign(&header, &client.claims());
        assert_eq!(client.verify(&proof), Err(fault), "{alg}");
    }
}

#[test]
fn class_10_a_claim_that_is_missing_or_ill_typed_is_refused() {
    let client = Client::new();
    for name in ["jti", "htm", "htu", "iat"] {
        assert_eq!(client.without_claim(name), Err(ClaimError::Missing(name).into()), "{name}");
    }
    for name in ["jti", "htm", "htu", "ath"] {
        for wrong in [json!(1), json!(null), json!(["POST"]), json!("")] {
            let refused = client.with_claim(name, wrong.clone());
            assert_eq!(refused, Err(ClaimError::WrongType(name).into()), "{name} {wrong}");
        }
    }
    for wrong in [json!("1790000000"), json!(null), json!([1_790_000_000])] {
        assert_eq!(client.with_claim("iat", wrong), Err(ClaimError::WrongType("iat").into()));
    }
    for wrong in [json!(-1), json!(1.5), json!(1e300)] {
        assert_eq!(client.with_claim("iat", wrong), Err(ClaimError::WrongTime("iat").into()));
    }
    let long = client.with_claim("jti", json!("x".repeat(MAX_JTI_BYTES + 1)));
    assert_eq!(long, Err(DpopError::Jti));
    let twice = client.claims().to_string().replacen("\"jti\"", "\"iat\":1,\"jti\"", 1);
    let proof = client.sign_text(&client.header().to_string(), &twice);
    assert_eq!(client.verify(&proof), Err(JwsError::Payload(JsonError::DuplicateMember).into()));
}

#[test]
fn class_23_a_proof_for_another_request_is_refused() {
    let client = Client::new();
    for method in ["GET", "post", "POST "] {
        assert_eq!(client.with_claim("htm", json!(method)), Err(DpopError::Method), "{method}");
    }
    for other in [
        "https://lh.example:7700/s/N",
        "https://lh.example/s/M",
        "https://other.example:7700/s/M",
        "https://lh.example:7700/s/M/",
    ] {
        assert_eq!(client.with_claim("htu", json!(other)), Err(DpopError::OtherUri), "{other}");
    }
    let query = client.with_claim("htu", json!("https://lh.example:7700/s/M?x"));
    assert_eq!(query, Err(HttpsUriError::Query.into()));
    let user = client.with_claim("htu", json!("https://me@lh.example:7700/s/M"));
    assert_eq!(user, Err(HttpsUriError::User.into()));
    for same in ["HTTPS://LH.example:7700/s/M", "https://other.example:443/s/M"] {
        assert!(client.with_claim("htu", json!(same)).is_ok(), "{same}");
    }
}

#[test]
fn class_26_a_proof_holds_within_its_window_and_not_a_second_longer() {
    let client = Client::new();
    let proof = client.sign(&client.header(), &client.claims());
    let judged = |seconds| verify(&proof, client.expect(), at(seconds)).map(|proof| proof.issued);
    assert_eq!(judged(-61), Err(DpopError::TooNew));
    for within in [-60, 0, 59] {
        assert_eq!(judged(within), Ok(now()), "{within}");
    }
    assert_eq!(judged(60), Err(DpopError::TooOld));
    let mut claims = client.claims();
    claims["exp"] = json!(now().seconds() + 5);
    let short = client.sign(&client.header(), &claims);
    assert!(verify(&short, client.expect(), at(4)).is_ok());
    assert_eq!(verify(&short, client.expect(), at(5)), Err(DpopError::TooOld));
    assert_eq!(client.with_claim("nbf", json!(at(61).seconds())), Err(DpopError::TooNew));
}

#[test]
fn class_11_a_proof_belongs_to_the_token_that_it_names() {
    let client = Client::new();
    let hash = base64url::encode(digest(&SHA256, TOKEN.as_bytes()));
    let mut claims = client.claims();
    claims["ath"] = json!(hash);
    let bound = client.sign(&client.header(), &claims);
    let unbound = client.sign(&client.header(), &client.claims());
    let shown =
        |proof: &str, token| verify(proof, Expect { token, ..client.expect() }, now()).map(|_| ());
    assert_eq!(shown(&bound, Some(TOKEN)), Ok(()));
    assert_eq!(shown(&bound, Some("another.token.s")), Err(DpopError::Token));
    assert_eq!(shown(&bound, None), Err(DpopError::Token));
    assert_eq!(shown(&unbound, Some(TOKEN)), Err(DpopError::Token));
}

#[test]
fn class_23_a_nonce_that_is_demanded_must_be_one_of_ours() {
    let client = Client::new();
    let key = |byte| NonceKey::derive(&Secret::new(vec![byte; 32])).unwrap();
    let ours = key(1);
    let shown = |nonce: Option<String>| {
        let mut claims = client.claims();
        nonce.into_iter().for_each(|nonce| claims["nonce"] = json!(nonce));
        let proof = client.sign(&client.header(), &claims);
        verify(&proof, Expect { nonce: Some(&ours), ..client.expect() }, now()).map(|_| ())
    };
    assert_eq!(shown(Some(ours.fresh(at(-200)))), Ok(()));
    assert_eq!(shown(None), Err(DpopError::Nonce));
    assert_eq!(shown(Some("made-up".to_owned())), Err(DpopError::Nonce));
    assert_eq!(shown(Some(key(2).fresh(now()))), Err(DpopError::Nonce));
    assert_eq!(shown(Some(ours.fresh(at(-300)))), Err(DpopError::Nonce));
    let unasked = client.with_claim("nonce", json!("anything"));
    assert!(unasked.is_ok(), "a nonce means nothing to whoever asks for none");
}

#[test]
fn class_15_a_proof_is_no_longer_than_it_need_be() {
    let client = Client::new();
    let long = client.with_claim("more", json!("x".repeat(MAX_PROOF_BYTES)));
    assert_eq!(long, Err(JwsError::TooLarge.into()));
    for text in ["", "a", "a.b", "a.b.c.d", "{}", "a b.c.d"] {
        assert_eq!(client.verify(text), Err(JwsError::Shape.into()), "{text}");
    }
}

#[test]
fn class_12_proofs_that_differ_in_anything_have_another_id() {
    let client = Client::new();
    let id = |proof: Result<Proof, DpopError>| proof.unwrap().id();
    let first = id(client.with_claim("jti", json!("one")));
    assert_eq!(id(client.with_claim("iat", json!(now().seconds() + 1))), first);
    assert_eq!(id(client.with_claim("htu", json!("HTTPS://lh.example:7700/s/M"))), first);
    assert_ne!(id(client.with_claim("jti", json!("two"))), first);
    assert_ne!(id(client.with_claim("htu", json!("https://other.example/s/M"))), first);
    assert_ne!(id(Client::new().with_claim("jti", json!("one"))), first);
    let mut claims = client.claims();
    claims["htm"] = json!("PUT");
    let put = Expect { method: "PUT", ..client.expect() };
    assert_ne!(id(verify(&client.sign(&client.header(), &claims), put, now())), first, "method");
}

/// The end of one part is not the beginning of the next.
#[test]
fn class_12_parts_of_an_id_cannot_be_shifted_into_each_other() {
    let uris = ["https://lh.example/a", "https://lh.example/ab"].map(uri);
    let client = Client { uris: uris.to_vec(), ..Client::new() };
    let [short, long] = [("https://lh.example/a", "bc"), ("https://lh.example/ab", "c")];
    let id = |(htu, jti): (&str, &str)| {
        let mut claims = client.claims();
        (claims["htu"], claims["jti"]) = (json!(htu), json!(jti));
        client.verify(&client.sign(&client.header(), &claims)).unwrap().id()
    };
    assert_ne!(id(short), id(long));
}
