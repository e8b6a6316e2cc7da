//! Files that are refused, each by its name and its fault.

use rcgen::{CertificateParams, IsCa};

use super::*;
use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::spiffe::authority::AuthorityError;
use crate::testing::ca::TestAuthority;
use crate::testing::clock::TestClock;

struct Files {
    folder: tempfile::TempDir,
    now: Stamp,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), now: TestClock::default().now() }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn load(
        &self,
        root: &str,
        intermediate: Option<&str>,
        key: &str,
    ) -> Result<(Authority, IssuerCa), (String, FileFault)> {
        let files = AuthorityFiles {
            root: self.write("root.pem", root),
            intermediate: intermediate.map(|pem| self.write("intermediate.pem", pem)),
            key: self.write("key.pem", key),
        };
        let td = TrustDomain::parse("leasehold.example").unwrap();
        files.load(&td, self.now).map_err(|error| {
            let name = error.file.file_name().unwrap().to_str().unwrap().to_owned();
            (name, error.fault)
        })
    }

    fn span(&self) -> (Stamp, Stamp) {
        let hour = Span::from_seconds(3_600);
        (self.now.minus(hour), self.now.plus(hour))
    }
}

fn refused(file: &str, fault: impl Into<FileFault>) -> Option<(String, FileFault)> {
    Some((file.to_owned(), fault.into()))
}

#[test]
fn a_root_signs_by_itself_or_through_an_intermediate() {
    let files = Files::new();
    let (from, to) = files.span();
    let root = TestAuthority::root("root");
    let (_, ca) = files.load(&root.pem(), None, &root.key().serialize_pem()).unwrap();
    assert!(ca.chain().is_empty());
    let lower = root.intermediate("lower", from, to);
    let (anchor, ca) =
        files.load(&root.pem(), Some(&lower.pem()), &lower.key().serialize_pem()).unwrap();
    assert_eq!(anchor.der(), root.der().as_ref());
    assert_eq!(ca.chain(), [lower.der().to_vec()]);
    assert_eq!(ca.life().expires(), to.plus(Span::from_seconds(1)), "no longer than its own");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let files = Files::new();
    let (root, other) = (TestAuthority::root("root"), TestAuthority::root("root"));
    let outcome = files.load(&root.pem(), None, &other.key().serialize_pem());
    assert_eq!(outcome.err(), refused("key.pem", CaError::KeyMismatch));
}

#[test]
fn class_08_a_leaf_is_no_authority() {
    let files = Files::new();
    let (from, to) = files.span();
    let root = TestAuthority::root("root");
    let leaf = root.svid("spiffe://leasehold.example/a", from, to);
    let pem = leaf.chain_pem();
    let fault = CaError::Authority(AuthorityError::NotAuthority);
    let outcome = files.load(&pem, None, &leaf.key_pem());
    assert_eq!(outcome.err(), refused("root.pem", fault.clone()));
    let outcome = files.load(&root.pem(), Some(&pem), &leaf.key_pem());
    assert_eq!(outcome.err(), refused("intermediate.pem", fault));
}

#[test]
fn an_expired_or_future_authority_is_refused() {
    let files = Files::new();
    let (from, to) = files.span();
    for (from, to) in [(from, files.now.minus(Span::from_seconds(1))), (to, to)] {
        let root = TestAuthority::root_valid("root", from, to);
        let outcome = files.load(&root.pem(), None, &root.key().serialize_pem());
        assert_eq!(outcome.err(), refused("root.pem", CaError::NotValidNow));
    }
    let root = TestAuthority::root("root");
    let lower = root.intermediate("lower", from, files.now.minus(Span::from_seconds(1)));
    let outcome = files.load(&root.pem(), Some(&lower.pem()), &lower.key().serialize_pem());
    assert_eq!(outcome.err(), refused("intermediate.pem", CaError::NotValidNow));
}

/// A root that keeps every rule but what `spoil` does to it.
fn root_with(spoil: impl FnOnce(&mut CertificateParams)) -> (String, KeyPair) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    spoil(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key)
}

#[test]
fn class_12_an_authority_of_another_trust_domain_is_refused() {
    let files = Files::new();
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().unwrap());
    for text in ["spiffe://other.example", "spiffe://leasehold.example/ca", "https://a.example"] {
        let (pem, key) = root_with(|params| params.subject_alt_names = vec![uri(text)]);
        let (file, fault) = files.load(&pem, None, &key.serialize_pem()).unwrap_err();
        assert_eq!(file, "root.pem");
        assert!(fault.to_string().contains(&format!("`{text}`")), "{fault}");
    }
    let own = "spiffe://leasehold.example";
    let (pem, key) = root_with(|params| params.subject_alt_names = vec![uri(own)]);
    assert!(files.load(&pem, None, &key.serialize_pem()).is_ok());
}

#[test]
fn a_root_that_allows_no_intermediate_has_none() {
    let files = Files::new();
    let (from, to) = files.span();
    let (pem, key) = root_with(|params| {
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    assert!(files.load(&pem, None, &key.serialize_pem()).is_ok());
    let lower = TestAuthority::root("another").intermediate("lower", from, to);
    let outcome = files.load(&pem, Some(&lower.pem()), &lower.key().serialize_pem());
    assert_eq!(outcome.err(), refused("root.pem", CaError::PathLength));
}

#[test]
fn an_intermediate_of_another_root_is_refused() {
    let files = Files::new();
    let (from, to) = files.span();
    let (root, other) = (TestAuthority::root("root"), TestAuthority::root("root"));
    let lower = other.intermediate("lower", from, to);
    let (file, fault) =
        files.load(&root.pem(), Some(&lower.pem()), &lower.key().serialize_pem()).unwrap_err();
    assert_eq!(file, "intermediate.pem");
    assert!(matches!(fault, FileFault::Ca(CaError::Chain(_))), "{fault}");
}

#[test]
fn a_file_that_is_absent_or_holds_something_else_is_refused_by_its_name() {
    let files = Files::new();
    let root = TestAuthority::root("root");
    let key = root.key().serialize_pem();
    let two = format!("{}{}", root.pem(), root.pem());
    for wrong in ["", "certificate", &key, &two] {
        let outcome = files.load(wrong, None, &key);
        assert_eq!(outcome.err(), refused("root.pem", FileFault::Certificate));
    }
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    for wrong in ["", "key", &root.pem(), &ed25519] {
        let outcome = files.load(&root.pem(), None, wrong);
        assert_eq!(outcome.err(), refused("key.pem", FileFault::Key));
    }
    let absent = AuthorityFiles {
        root: files.folder.path().join("absent.pem"),
        intermediate: None,
        key: files.folder.path().join("key.pem"),
    };
    let td = TrustDomain::parse("leasehold.example").unwrap();
    let error = absent.load(&td, files.now).unwrap_err();
    assert_eq!(error.fault, FileFault::Unreadable(std::io::ErrorKind::NotFound));
    assert!(error.to_string().contains("absent.pem"), "{error}");
}
