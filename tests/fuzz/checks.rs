//! What must hold of every input, one function for each reader of a stranger's bytes. The fuzzer calls them, and so does a
//! test, with sound inputs: each says whether it accepted its input.
//!
//! None panics; beyond that, what is accepted has one spelling, survives being written and read again, and was signed.

use std::path::Path;
use std::sync::LazyLock;

use leasehold::config;
use leasehold::domain::grant::Grant;
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::principal::{Name, Principal, SpiffePattern};
use leasehold::domain::scope::Scope;
use leasehold::domain::time::{Span, Stamp};
use leasehold::identity::trust_bundle::{TrustBundle, TrustBundles};
use leasehold::identity::x509_svid::{self, MAX_CHAIN};
use leasehold::jose::json::parse_object;
use leasehold::jose::{
    self, Expect, FOREIGN_ALGORITHMS, KeySet, Leeway, SigningKey, Typ, VerifyingKey, base64url,
};
use leasehold::mint::csr as request;
use leasehold::spiffe::authority::Authority;
use leasehold::spiffe::bundle::Bundle;
use leasehold::spiffe::id::{SpiffeId, TrustDomain};
use leasehold::spiffe::leaf::Leaf;
use leasehold::spiffe::task_certificate::TaskCertificate;
use leasehold::spiffe::task_extension::{self as extension, ExtensionOid};
use leasehold::store::records::{Replay, Subject, Written};
use leasehold::store::{codec, codec_event, codec_lease};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use signature::Signer as _;

/// Says whether it accepted its input.
pub type Check = fn(&[u8]) -> bool;

/// Every check, by the name of its target.
pub const CHECKS: [(&str, Check); 13] = [
    ("access_token", access_token),
    ("bundle", bundle),
    ("certificate", certificate),
    ("certificate_chain", certificate_chain),
    ("configuration", configuration),
    ("csr", csr),
    ("grant", grant),
    ("json", json),
    ("jwk_set", jwk_set),
    ("jws", jws),
    ("names", names),
    ("record", record),
    ("task_extension", task_extension),
];

/// Whose access tokens are read.
pub const ISSUER: &str = "https://leasehold.example";
/// Within the life of the sound inputs: a second after the golden token's `iat`.
pub const NOW_SECONDS: u64 = 1_790_000_002;

/// A key that nobody but this process has.
static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate().unwrap().0);
static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::of([KEY.verifying_key().clone()]).unwrap());

fn now() -> Stamp {
    Stamp::from_seconds(NOW_SECONDS)
}

fn sign(header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", base64url::encode(header), base64url::encode(payload));
    let signature = KEY.try_sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", base64url::encode(signature))
}

/// Claims, which get a header and a signature that are right.
pub fn access_token(claims: &[u8]) -> bool {
    let header = serde_json::json!({ "typ": "at+jwt", "alg": "ES256", "kid": KEY.kid() });
    let signed = sign(header.to_string().as_bytes(), claims);
    let verify = |token: &str| jose::access_token::verify(token, &KEYS, ISSUER, now());
    let Ok(token) = verify(&signed) else { return false };
    let written = token.claims();
    let given: Value = serde_json::from_slice(claims).unwrap();
    for (name, value) in written.as_object().unwrap() {
        // A grant's sets may be given in another order.
        if name != "authorization_details" {
            assert_eq!(&given[name], value, "`{name}`");
        }
    }
    assert!(token.expires_seconds > NOW_SECONDS);
    let again = sign(header.to_string().as_bytes(), written.to_string().as_bytes());
    assert_eq!(verify(&again).unwrap(), token);
    true
}

/// A token, which nobody signed; and a header and a payload, parted by a line feed, which get a signature that is right.
pub fn jws(bytes: &[u8]) -> bool {
    let expect =
        Expect { typ: Typ::AbsentOr(&["JWT"]), algorithms: FOREIGN_ALGORITHMS, keys: &KEYS };
    if let Ok(text) = str::from_utf8(bytes) {
        assert!(jose::verify(text, expect).is_err(), "nobody signed it");
    }
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, payload) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    // The fuzzer does not know the name of the key.
    let header = String::from_utf8_lossy(header).replace("KID", KEY.kid());
    let Ok(claims) = jose::verify(&sign(header.as_bytes(), payload), expect) else { return false };
    let header: Value = serde_json::from_str(&header).unwrap();
    assert_eq!((&header["alg"], &header["kid"]), (&"ES256".into(), &KEY.kid().into()));
    for refused in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"] {
        assert!(header.get(refused).is_none(), "`{refused}`");
    }
    let given: Value = serde_json::from_slice(payload).unwrap();
    assert_eq!(Some(claims.members()), given.as_object());
    if let Ok(times) = claims.times(now(), Leeway::FOREIGN) {
        let minute = Span::from_seconds(60);
        assert!(now() < times.expires.plus(minute) && times.issued <= now().plus(minute));
        assert!(times.not_before.is_none_or(|from| from <= now().plus(minute)));
        assert_eq!(given["exp"].as_u64(), Some(times.expires.seconds()));
    }
    true
}

/// A JSON object.
pub fn json(bytes: &[u8]) -> bool {
    let Ok(object) = parse_object(bytes, 64 * 1024) else { return false };
    let object = Value::Object(object);
    assert_eq!(serde_json::from_slice::<Value>(bytes).unwrap(), object);
    if !has_fraction(&object) {
        let again = parse_object(object.to_string().as_bytes(), usize::MAX);
        assert_eq!(again.map(Value::Object), Ok(object));
    }
    true
}

/// `serde_json` reads a fraction but for its last digit. We read none, and write none that we were given.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// A JWK set.
pub fn jwk_set(bytes: &[u8]) -> bool {
    let Ok(set) = KeySet::parse(bytes) else { return false };
    let given: Value = serde_json::from_slice(bytes).unwrap();
    for given in given["keys"].as_array().unwrap() {
        assert!(given["kty"] != "oct" && given.get("k").is_none());
    }
    let document = set.to_document();
    let again = KeySet::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!((again.to_document(), again.refused()), (document, &[][..]));
    for key in set.iter() {
        assert_eq!(VerifyingKey::from_jwk(&key.to_jwk()).unwrap().public_key(), key.public_key());
    }
    set.iter().next().is_some()
}

/// A SPIFFE bundle.
pub fn bundle(bytes: &[u8]) -> bool {
    let Ok(bundle) = Bundle::parse(bytes) else { return false };
    let document = bundle.to_document();
    let again = Bundle::parse(document.to_string().as_bytes()).unwrap();
    assert!(again.to_document() == document || has_fraction(&document));
    assert_eq!(
        (again.sequence(), again.refresh_hint_seconds(), again.jwt_keys().len()),
        (bundle.sequence(), bundle.refresh_hint_seconds(), bundle.jwt_keys().len())
    );
    let _ = TrustBundle::of(bundle.clone());
    !bundle.authorities().is_empty()
}

/// A certificate: a workload's, an authority's, or neither, and never both.
pub fn certificate(der: &[u8]) -> bool {
    let (leaf, authority) = (Leaf::check(der, now()), Authority::check(der));
    if let Ok(leaf) = &leaf {
        assert!(authority.is_err() && leaf.expires() > now());
        assert_eq!(SpiffeId::parse(leaf.id().as_str()).as_ref(), Ok(leaf.id()));
    }
    if let Ok(authority) = &authority {
        assert_eq!(authority.der(), der);
        let _ = (authority.uris(), authority.path_length(), authority.subject_key_id());
        bundle(
            Bundle::of_authorities(vec![authority.clone()]).to_document().to_string().as_bytes(),
        );
    }
    leaf.is_ok() || authority.is_ok()
}

/// A root and a chain, leaf first, each certificate behind its length in two bytes.
pub fn certificate_chain(mut bytes: &[u8]) -> bool {
    let mut certificates = Vec::new();
    while let Some(([high, low], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (der, rest) = rest.split_at(length);
        certificates.push(CertificateDer::from(der));
        bytes = rest;
    }
    let Some((root, chain)) = certificates.split_first() else { return false };
    let Ok(root) = Authority::check(root) else { return false };
    let [own, trusted] =
        ["leasehold.example", "prod.example"].map(|name| TrustDomain::parse(name).unwrap());
    if let Some(leaf) = chain.first() {
        let _ = TaskCertificate::verify(leaf, [&root], (&trusted, &ExtensionOid::default()), now());
    }
    let Ok(bundle) = TrustBundle::of(Bundle::of_authorities(vec![root])) else { return false };
    let bundles = TrustBundles::new(&own, [(trusted, bundle)]).unwrap();
    let Ok(caller) = x509_svid::verify(chain, &bundles, now()) else { return false };
    assert_eq!(caller.principal().trust_domain(), Some("prod.example"));
    assert!(chain.len() <= MAX_CHAIN && caller.expires() > now());
    assert!(Leaf::check(&chain[0], now()).is_ok());
    assert!(chain[1..].iter().all(|der| Authority::check(der).is_ok()));
    true
}

/// A PKCS #10 request.
pub fn csr(der: &[u8]) -> bool {
    let Ok(key) = request::prove(der) else { return false };
    assert!(der.windows(key.spki_der().len()).any(|window| window == key.spki_der()));
    true
}

/// The extension of a task's certificate.
pub fn task_extension(der: &[u8]) -> bool {
    let Ok(execution) = extension::decode(der) else { return false };
    assert_eq!(extension::encode(&execution).unwrap(), der);
    true
}

/// Three grants, parted by line feeds: `⊆` is an order, and never lets through what the parent has not.
pub fn grant(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let grants: Vec<_> = text.splitn(3, '\n').filter_map(|json| Grant::parse(json).ok()).collect();
    for a in &grants {
        assert_eq!(Grant::parse(&a.to_json()).as_ref(), Ok(a));
        assert!(a.fits(a));
        for entry in a.entries() {
            assert!(a.for_audience(entry.audience()).unwrap().fits(a));
        }
        for b in &grants {
            assert_eq!(a.fits(b), a.first_wider(b).is_none());
            if a.fits(b) {
                for entry in a.entries() {
                    let same = b.entries().iter().filter(|e| e.audience() == entry.audience());
                    let allowed: Vec<_> = same.flat_map(|e| e.actions()).collect();
                    assert!(entry.actions().iter().all(|action| allowed.contains(&action)));
                }
                assert!(b.max_ttl_seconds().is_none() || a.max_ttl_seconds().is_some());
            }
            for c in &grants {
                assert!(!(a.fits(b) && b.fits(c)) || a.fits(c));
            }
        }
    }
    !grants.is_empty()
}

/// A name of any kind. What is read is written as it was.
pub fn names(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let principal = Principal::parse(text);
    let written = [
        TaskId::parse(text).ok().map(|id| id.to_string()),
        LeaseId::parse(text).ok().map(|id| id.to_string()),
        Name::parse(text).ok().map(|name| name.to_string()),
        principal.as_ref().ok().map(ToString::to_string),
        SpiffePattern::parse(text).ok().map(|pattern| pattern.to_string()),
        TrustDomain::parse(text).ok().map(|domain| domain.to_string()),
        Scope::parse(text).ok().map(|scope| scope.to_string()),
        ExtensionOid::parse(text).ok().map(|oid| {
            let arcs: Vec<_> = oid.arcs().iter().map(u64::to_string).collect();
            arcs.join(".")
        }),
    ];
    assert!(written.iter().flatten().all(|written| written == text));
    // The two readers of SPIFFE IDs are of one mind.
    let spiffe = principal.as_ref().ok().filter(|principal| principal.trust_domain().is_some());
    assert_eq!(SpiffeId::parse(text).ok().as_ref().map(SpiffeId::principal), spiffe);
    if let Ok(principal) = &principal {
        let parts = match (principal.trust_domain(), principal.issuer()) {
            (Some(domain), None) => {
                format!("spiffe://{domain}/{}", principal.spiffe_path().unwrap())
            }
            (None, Some(issuer)) => format!("oidc:{issuer}:{}", principal.subject().unwrap()),
            _ => panic!("a principal of both kinds or of none"),
        };
        assert_eq!(parts, text);
    }
    written.iter().flatten().next().is_some()
}

/// A value of the store, behind the number of its kind. What is read is the same when it was written and read again.
pub fn record(bytes: &[u8]) -> bool {
    let Some((kind, value)) = bytes.split_first() else { return false };
    let Ok(header) = codec::header(value) else { return false };
    match kind % 7 {
        0 => {
            let Ok(task) = codec::task(value) else { return false };
            assert_eq!(codec::task(&stored(header, &codec::task_body(&task))).unwrap(), task);
        }
        1 => {
            let id = LeaseId::new(Partition::ZERO, 1);
            let Ok(lease) = codec_lease::lease(id, value) else { return false };
            let bytes = codec_lease::lease_bytes(&lease.draft);
            let again = [bytes.value(&header), bytes.terms].concat();
            assert_eq!(codec_lease::lease(lease.draft.id, &again).unwrap(), lease);
        }
        2 => {
            let Ok(entry) = codec_event::entry(value) else { return false };
            assert_eq!(
                codec_event::entry(&stored(header, &codec::entry_body(&entry))).unwrap(),
                entry
            );
        }
        3 => {
            let Ok(recorded) = codec_event::event(value) else { return false };
            let again = codec_event::event(&stored(header, &codec::event_body(&recorded.event)));
            assert_eq!(again.unwrap(), recorded);
        }
        4 => {
            let Ok((sealed, version)) = codec::keyring(value) else { return false };
            let again = codec::keyring(&stored(header, &codec::keyring_body(&sealed)));
            assert_eq!(again.unwrap(), (sealed, version));
        }
        5 => {
            let Ok(task) = codec::proved_key(value) else { return false };
            assert_eq!(
                codec::proved_key(&stored(header, &codec::proved_key_body(task))).unwrap(),
                task
            );
        }
        _ => {
            let Ok(answer) = codec::answer(value) else { return false };
            let (subject, body) = match &answer.subject {
                Subject::Task(task) => (Subject::Task(task.clone()), None),
                Subject::Scope(text) => (Subject::Scope(text.clone()), None),
                Subject::Lease(lease) => {
                    let bytes = codec_lease::lease_bytes(&lease.draft);
                    let whole = [bytes.terms, bytes.own].concat();
                    (Subject::Lease(Written::Renewed), Some((lease.draft.id, whole)))
                }
            };
            let (request_hash, key) = (answer.request_hash, [0; 32]);
            let replay = Replay { key, request_hash, subject, keep_until: None, checked: false };
            let length = body.as_ref().map(|(id, body)| (*id, body.len()));
            let head = codec::answer_head(&replay, length).unwrap();
            let body = [head, body.map(|(_, body)| body).unwrap_or_default()].concat();
            assert_eq!(codec::answer(&stored(header, &body)).unwrap(), answer);
        }
    }
    true
}

fn stored(header: codec::Header, body: &[u8]) -> Vec<u8> {
    [&codec::header_bytes(&header), body].concat()
}

/// A configuration file. What is wrong with one is named by its line.
pub fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
    match config::parse(Path::new("leasehold.toml"), text) {
        Ok(config) => {
            assert!(!config.tiers.is_empty() && config.base_url.starts_with("https://"));
            let own = |domain: &TrustDomain| *domain == config.trust_domain;
            assert!(!config.trust.spiffe.iter().any(|trusted| own(&trusted.trust_domain)));
            true
        }
        Err(errors) => {
            assert!(!errors.problems().is_empty());
            for problem in errors.problems() {
                assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)));
                assert!(!problem.text.is_empty());
            }
            config::parse_store("--store", text).is_ok()
        }
    }
}
