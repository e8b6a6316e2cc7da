//! What the fuzzers start from: sound inputs, made by code. Here each goes through the check that the fuzzer calls.

#[path = "../fuzz/checks.rs"]
mod checks;

use std::path::Path;
use std::{env, fs};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leasehold::domain::clamp::{Clamp, Expiry};
use leasehold::domain::event::{Event, EventKind};
use leasehold::domain::lattice::Entry;
use leasehold::domain::path::Origin;
use leasehold::domain::time::{Span, Stamp};
use leasehold::jose::SigningKey;
use leasehold::spiffe::authority::Authority;
use leasehold::spiffe::bundle::Bundle;
use leasehold::store::records::{CredentialTimes, Subject, Written};
use leasehold::store::{codec, codec_lease};
use leasehold::testing::ca::{TestAuthority, csr};
use leasehold::testing::store_contract::samples;
use rcgen::KeyPair;
use serde_json::{Value, json};

/// Where the fuzzers look for them, if anywhere: `make fuzz` sets it.
const SEEDS: &str = "LEASEHOLD_FUZZ_SEEDS";

#[test]
fn every_check_of_the_fuzzers_accepts_what_is_sound_and_refuses_what_is_none() {
    let folder = env::var_os(SEEDS);
    for (name, check) in checks::CHECKS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "`{name}` has nothing to start from");
        for (n, seed) in seeds.iter().enumerate() {
            assert!(check(seed), "{name}: {n}: {}", String::from_utf8_lossy(seed));
            if let Some(folder) = &folder {
                let folder = Path::new(folder).join(name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(n.to_string()), seed).unwrap();
            }
        }
        for broken in [&b""[..], b"\0", &[0xff; 64], b"[]", b"{"] {
            assert!(!check(broken), "{name}");
        }
    }
}

#[test]
fn every_check_has_its_target_and_every_target_its_check() {
    let targets = fs::read_dir("tests/fuzz/targets").unwrap();
    let mut targets: Vec<_> = targets.map(|entry| entry.unwrap().path()).collect();
    targets.sort();
    let names = targets.iter().map(|path| path.file_stem().unwrap().to_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), checks::CHECKS.map(|(name, _)| name));
    let manifest = fs::read_to_string("tests/fuzz/Cargo.toml").unwrap();
    for (name, _) in checks::CHECKS {
        let target = fs::read_to_string(format!("tests/fuzz/targets/{name}.rs")).unwrap();
        assert!(target.contains(&format!("leasehold_fuzz::{name}(bytes)")), "{name}");
        assert!(manifest.contains(&format!("path = \"targets/{name}.rs\"")), "{name}");
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "access_token" => vec![golden("access-token.json")],
        "bundle" => vec![text(&bundle())],
        "certificate" => vec![certificates()[1].clone(), certificates()[0].clone()],
        "certificate_chain" => vec![certificates().iter().flat_map(|der| measured(der)).collect()],
        "configuration" => vec![
            fs::read("config/leasehold.toml").unwrap(),
            b"kind = \"embedded\"\npath = \"data\"\n".to_vec(),
        ],
        "csr" => vec![csr(&KeyPair::generate().unwrap()).der().to_vec(), rsa_request()],
        "grant" => vec![grants()],
        "json" => vec![golden("access-token.json"), text(&jwk_set())],
        "jwk_set" => vec![text(&jwk_set())],
        "jws" => vec![jws()],
        "names" => names(),
        "record" => (0..7).zip(values()).map(|(kind, v)| [vec![kind], v].concat()).collect(),
        "task_extension" => vec![extension()],
        _ => Vec::new(),
    }
}

fn text(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

fn golden(file: &str) -> Vec<u8> {
    fs::read(Path::new("tests/golden").join(file)).unwrap()
}

fn extension() -> Vec<u8> {
    let hex = String::from_utf8(golden("task-extension.hex")).unwrap().replace('\n', "");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn jwk_set() -> Value {
    let ec = SigningKey::generate().unwrap().0.verifying_key().to_jwk();
    let modulus = leasehold::jose::base64url::encode([0xff; 256]);
    json!({ "keys": [ec, {
        "kty": "RSA", "kid": "rsa", "n": modulus, "e": "AQAB", "alg": "PS256", "use": "sig",
        "key_ops": ["verify"],
    }] })
}

fn bundle() -> Value {
    let mut jwt = jwk_set()["keys"][0].as_object().unwrap().clone();
    jwt.remove("use");
    let authority = Authority::check(&certificates()[0]).unwrap();
    let bundle = Bundle::of_authorities(vec![authority]).with_jwt_keys(vec![jwt]);
    bundle.with_sequence(7, 300).to_document()
}

/// Root, leaf, intermediate.
fn certificates() -> Vec<Vec<u8>> {
    let now = Stamp::from_seconds(checks::NOW_SECONDS);
    let (from, to) = (now.minus(Span::from_seconds(60)), now.plus(Span::from_seconds(60)));
    let root = TestAuthority::root("root");
    let leaf = root.intermediate("below", from, to).svid("spiffe://prod.example/a", from, to);
    [root.der()].into_iter().chain(&leaf.chain).map(|der| der.to_vec()).collect()
}

fn measured(der: &[u8]) -> Vec<u8> {
    [&u16::try_from(der.len()).unwrap().to_be_bytes()[..], der].concat()
}

fn rsa_request() -> Vec<u8> {
    let lines = fs::read_to_string("src/mint/csr/rsa-2048.csr.b64").unwrap().replace('\n', "");
    STANDARD.decode(lines).unwrap()
}

fn grants() -> Vec<u8> {
    let grant = |entries: Value| entries.to_string();
    let entry = |actions: &[&str]| {
        json!({
            "type": "resource_access", "audience": "https://ledger.example", "actions": actions,
            "data_class": ["internal"], "max_ttl_seconds": 300,
        })
    };
    let narrow = grant(json!([entry(&["read"])]));
    let wide = grant(json!([entry(&["read", "post"]), entry(&["list"])]));
    format!("{narrow}\n{wide}\n{narrow}").into_bytes()
}

fn jws() -> Vec<u8> {
    let exp = checks::NOW_SECONDS + 60;
    let claims = json!({
        "iss": checks::ISSUER, "sub": "a", "aud": ["b", "c"], "iat": checks::NOW_SECONDS, "exp": exp,
    });
    format!("{{\"alg\":\"ES256\",\"kid\":\"KID\",\"typ\":\"JWT\"}}\n{claims}").into_bytes()
}

fn names() -> Vec<Vec<u8>> {
    let names = [
        "tsk_0a00000000000000000000000001",
        "lse_ff7zzzzzzzzzzzzzzzzzzzzzzzzz",
        "prod.example",
        "spiffe://prod.example/agents/*",
        "oidc:k8s:system:serviceaccount:jobs:runner",
        "principal:spiffe://prod.example/agents/a",
        "key:0aF_-",
        "all",
        "1.3.6.1.4.1.32473.1",
    ];
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A value of each kind, in the order of the check.
fn values() -> [Vec<u8>; 7] {
    let (draft, stamp) = (samples::draft(1, 1), samples::at(60));
    let origin = Origin { incarnation: samples::at(0), stamp };
    let expiry = Expiry { expires_seconds: stamp.seconds() + 300, clamp: Clamp::Tier };
    let times = CredentialTimes { first_issue: stamp, lease_origin: origin, expiry };
    let keep_until = samples::at(3_600);
    let header =
        codec::Header { origin, keep_until, credential: Some(times), first_issue: Some(stamp) };
    let replay = samples::replay(1, Subject::Lease(Written::Renewed));
    let bytes = codec_lease::lease_bytes(&draft);
    let length = Some((draft.id, bytes.length()));
    let head = codec::answer_head(&replay, length).unwrap();
    let answer = [&head[..], &bytes.terms, &bytes.own].concat();
    let lease = [bytes.value(&header), bytes.terms].concat();
    let event = Event {
        entries: vec![Entry::Lease(draft.id)],
        lease: Some(draft.id),
        ..samples::event(EventKind::LeaseRevoked, 1)
    };
    let values = [
        codec::task_body(&samples::task(1)),
        Vec::new(),
        codec::entry_body(&Entry::Watermark(samples::scope("all"), origin)),
        codec::event_body(&event),
        codec::keyring_body(&[7; 64]),
        codec::proved_key_body(samples::task_id(1)),
        answer,
    ];
    let mut values = values.map(|body| [codec::header_bytes(&header), body].concat());
    values[1] = lease;
    values
}
