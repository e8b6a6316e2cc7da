//! Wycheproof's vectors for JOSE, judged by the functions that judge every caller's token: what is invalid is refused at the
//! layer of keys or of signatures, what is valid is accepted or refused by a rule that is named.
//!
//! The vectors' payloads are no JSON, so a signature that was accepted shows itself by the payload's refusal, which comes after.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{env, fs};

use leasehold::jose::{
    Expect, FOREIGN_ALGORITHMS, JwkError, JwsError, KeySet, KeySetError, SigningKey, Typ, verify,
};
use serde_json::{Value, json};

const KIND: Typ = Typ::AbsentOr(&["JWT"]);

#[test]
#[ignore = "vectors: in the folder that LEASEHOLD_VECTORS names; `make interop` runs it"]
fn signatures_are_judged_as_wycheproof_does() {
    must_agree("json_web_signature_test.json");
}

#[test]
#[ignore = "vectors: in the folder that LEASEHOLD_VECTORS names; `make interop` runs it"]
fn keys_are_judged_as_wycheproof_does() {
    must_agree("json_web_key_test.json");
}

#[test]
#[ignore = "vectors: in the folder that LEASEHOLD_VECTORS names; `make interop` runs it"]
fn keys_and_what_they_signed_or_encrypted_are_judged_as_wycheproof_does() {
    must_agree("json_web_crypto_test.json");
}

#[test]
#[ignore = "vectors: in the folder that LEASEHOLD_VECTORS names; `make interop` runs it"]
fn nothing_encrypted_is_taken_for_a_token() {
    must_agree("json_web_encryption_test.json");
}

#[test]
fn judgement_that_is_not_the_vector_s_is_a_disagreement() {
    let mut vectors = made_up();
    let report = Report::of(&vectors);
    assert_eq!(report.disagreements, [""; 0]);
    assert_eq!(report.accepted, BTreeMap::from([("ES256".to_owned(), 1)]));
    assert_eq!(report.private_keys, 2);
    for test in vectors["testGroups"].as_array_mut().unwrap().iter_mut().flat_map(tests_mut) {
        test["result"] = json!(if test["result"] == "valid" { "invalid" } else { "valid" });
    }
    // What is encrypted or symmetric is refused by a rule, valid or not.
    let wrong = Report::of(&vectors).disagreements;
    let numbers: Vec<_> = wrong.iter().filter_map(|text| text.split(' ').next()).collect();
    assert_eq!(numbers, ["1", "2", "4"], "{wrong:#?}");
    vectors["testGroups"][0]["tests"][2]["result"] = json!("fine");
    assert_eq!(Report::of(&json!({"testGroups": []})).disagreements.len(), 1);
}

fn tests_mut(group: &mut Value) -> impl Iterator<Item = &mut Value> {
    group["tests"].as_array_mut().unwrap().iter_mut()
}

/// In the form of Wycheproof's files: a sound token, a tampered one, an encrypted one, a broken key, symmetric ones.
fn made_up() -> Value {
    let (key, _) = SigningKey::generate().unwrap();
    let jwk = key.verifying_key().to_jwk();
    let signed = key.sign("JWT", &json!("no object")).unwrap().expose_text().to_owned();
    let (signed_part, _) = signed.rsplit_once('.').unwrap();
    let tampered = format!("{signed_part}.{}", "A".repeat(86));
    let encrypted = format!("{signed}..");
    let mut broken = jwk.clone();
    broken.insert("y".to_owned(), jwk["x"].clone());
    let mut private = jwk.clone();
    private.insert("d".to_owned(), json!("AA"));
    let symmetric = json!({"kty": "oct", "alg": "HS256", "kid": "s", "k": "AAECAw"});
    json!({ "testGroups": [
        { "public": jwk, "private": private, "tests": [
            { "tcId": 1, "result": "valid", "jws": signed },
            { "tcId": 2, "result": "invalid", "jws": tampered },
            { "tcId": 3, "result": "invalid", "jwe": encrypted },
        ]},
        { "public": broken, "tests": [{ "tcId": 4, "result": "invalid", "jws": signed }]},
        { "private": { "keys": [symmetric] }, "tests": [
            { "tcId": 5, "result": "valid", "jws": signed },
        ]},
        { "private": { "keys": [symmetric, private] }, "tests": [
            { "tcId": 6, "result": "invalid", "jws": signed },
        ]},
    ]})
}

fn must_agree(file: &str) {
    let path = folder().join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("`{}`: {e}", path.display()));
    let report = Report::of(&serde_json::from_str(&text).unwrap());
    println!("{report}");
    assert!(report.disagreements.is_empty(), "{file}: {:#?}", report.disagreements);
}

fn folder() -> PathBuf {
    let folder = env::var_os("LEASEHOLD_VECTORS").expect(
        "`LEASEHOLD_VECTORS` names the folder that `wycheproof/` lies in: its files are those of \
         `testvectors_v1` in https://github.com/C2SP/wycheproof",
    );
    Path::new(&folder).join("wycheproof")
}

/// What became of the vectors of one file.
#[derive(Default)]
struct Report {
    /// By algorithm.
    accepted: BTreeMap<String, usize>,
    /// Invalid ones, by layer and reason.
    refused: BTreeMap<String, usize>,
    /// Valid ones that are refused by a rule of ours, by the rule and what it refuses.
    by_rule: BTreeMap<String, usize>,
    /// Private keys that are no keys of a set.
    private_keys: usize,
    disagreements: Vec<String>,
}

impl Report {
    fn of(file: &Value) -> Self {
        let mut report = Self::default();
        for group in file["testGroups"].as_array().unwrap() {
            report.take_private(&group["private"]);
            let keys = published(group);
            for test in group["tests"].as_array().unwrap() {
                report.take(&keys, test);
            }
        }
        if report.count() == 0 {
            report.disagreements.push("there is no vector".to_owned());
        }
        report
    }

    fn take(&mut self, keys: &Value, test: &Value) {
        let algorithm = match &keys["keys"][0]["alg"] {
            Value::String(name) => name.clone(),
            _ => "no `alg`".to_owned(),
        };
        let verdict = judge(keys, test);
        let count = match (test["result"].as_str(), &verdict) {
            (Some("valid"), Ok(())) => self.accepted.entry(algorithm),
            (Some("invalid"), Err(refusal)) => self.refused.entry(refusal.to_string()),
            (Some("valid"), Err(refusal)) if refusal.rule(keys, &algorithm).is_some() => {
                let rule = refusal.rule(keys, &algorithm).unwrap();
                self.by_rule.entry(format!("{rule}: {algorithm}"))
            }
            (result, verdict) => {
                let said = match verdict {
                    Ok(()) => "accepted".to_owned(),
                    Err(refusal) => refusal.to_string(),
                };
                let [number, comment] = [&test["tcId"], &test["comment"]];
                let result = result.unwrap_or_default();
                self.disagreements.push(format!("{number} {comment} is `{result}`, and {said}"));
                return;
            }
        };
        *count.or_default() += 1;
    }

    /// Published, a private key verifies nothing.
    fn take_private(&mut self, key: &Value) {
        let is_pair = |key: &&Value| !key["d"].is_null();
        let one = std::slice::from_ref(key);
        for key in key["keys"].as_array().map_or(one, Vec::as_slice).iter().filter(is_pair) {
            let set = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes());
            match set {
                Ok(set) if set.refused() == [JwkError::Private] => self.private_keys += 1,
                _ => self.disagreements.push(format!("{} is private, and a key", key["kid"])),
            }
        }
    }

    fn count(&self) -> usize {
        let counted = [&self.accepted, &self.refused, &self.by_rule];
        counted.into_iter().flat_map(BTreeMap::values).sum::<usize>() + self.disagreements.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} vectors", self.count())?;
        for (what, counts) in [
            ("valid and accepted", &self.accepted),
            ("valid and refused by a rule", &self.by_rule),
            ("invalid and refused", &self.refused),
        ] {
            writeln!(f, "  {:>4} {what}", counts.values().sum::<usize>())?;
            for (reason, count) in counts {
                writeln!(f, "    {count:>4} {reason}")?;
            }
        }
        writeln!(f, "  {:>4} private keys, refused where they are published", self.private_keys)?;
        write!(f, "  {:>4} judged in another way than they should be", self.disagreements.len())
    }
}

/// Where a vector was refused.
enum Refusal {
    Set(KeySetError),
    Key(JwkError),
    Token(JwsError),
    Encrypted(JwsError),
}

impl Refusal {
    /// Why what is valid elsewhere is refused here.
    fn rule(&self, keys: &Value, algorithm: &str) -> Option<&'static str> {
        let is_p521 = keys["keys"][0]["crv"] == "P-521";
        match self {
            Self::Encrypted(_) => Some("what is encrypted is no token"),
            _ if ["ES256", "RS256"].contains(&algorithm) => None,
            // RFC 7520's figure 20 shows a key for PS256 and a token with PS384.
            Self::Token(JwsError::KeyAlgorithm) => Some("a key is for its own algorithm only"),
            Self::Set(KeySetError::Symmetric) => Some("a symmetric key verifies nothing"),
            Self::Key(JwkError::KeyType) if is_p521 => Some("P-521 is not a curve of ours"),
            Self::Set(_) | Self::Key(_) | Self::Token(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(reason) => write!(f, "key set: {reason}"),
            Self::Key(reason) => write!(f, "key: {reason}"),
            Self::Token(reason) => write!(f, "token: {reason}"),
            Self::Encrypted(reason) => write!(f, "encrypted: {reason}"),
        }
    }
}

/// The group's keys as an issuer would publish them: a symmetric one has no public half.
fn published(group: &Value) -> Value {
    let keys = if group["public"].is_null() { &group["private"] } else { &group["public"] };
    if keys["keys"].is_array() { keys.clone() } else { json!({ "keys": [keys] }) }
}

fn judge(keys: &Value, test: &Value) -> Result<(), Refusal> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if !test["jwe"].is_null() {
        // Whatever the key: it is refused before one is looked for.
        return match check(&text(&test["jwe"]), &KeySet::default()) {
            Err(JwsError::UnknownKey) => Ok(()),
            verdict => verdict.map_err(Refusal::Encrypted),
        };
    }
    let set = KeySet::parse(keys.to_string().as_bytes()).map_err(Refusal::Set)?;
    if let (None, Some(reason)) = (set.iter().next(), set.refused().first()) {
        return Err(Refusal::Key(*reason));
    }
    check(&text(&test["jws"]), &set).map_err(Refusal::Token)
}

fn check(token: &str, keys: &KeySet) -> Result<(), JwsError> {
    match verify(token, Expect { typ: KIND, algorithms: FOREIGN_ALGORITHMS, keys }) {
        Ok(_) | Err(JwsError::Payload(_) | JwsError::Claim(_)) => Ok(()),
        Err(reason) => Err(reason),
    }
}
