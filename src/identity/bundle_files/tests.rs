//! Files come, change, break and go; what is trusted follows only what is a bundle.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::broker::seams::Clock;
use crate::domain::time::Span;
use crate::identity::x509_svid;
use crate::testing::ca::TestAuthority;
use crate::testing::clock::TestClock;

struct Site {
    directory: TempDir,
    root: TestAuthority,
}

impl Site {
    fn new() -> Self {
        Self { directory: TempDir::new().unwrap(), root: TestAuthority::root("root") }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("bundle")
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        fs::write(self.path(), content).unwrap();
    }

    fn load(&self) -> Result<BundleFiles, BundleFilesError> {
        let trust_domain = TrustDomain::parse("prod.example").unwrap();
        let file = BundleFile { trust_domain, path: self.path() };
        let own = TrustDomain::parse("leasehold.example").unwrap();
        BundleFiles::alone(&own, vec![file], now())
    }

    fn trusts(&self, files: &BundleFiles, root: &TestAuthority) -> bool {
        let now = now();
        let issued = root.svid("spiffe://prod.example/a", now, now.plus(Span::from_seconds(60)));
        x509_svid::verify(&issued.chain, &files.shared().load(), now).is_ok()
    }
}

fn now() -> Stamp {
    TestClock::default().now()
}

fn json(root: &TestAuthority) -> String {
    let authority = Authority::check(root.der()).unwrap();
    Bundle::of_authorities(vec![authority]).to_document().to_string()
}

fn fault(error: BundleFilesError) -> ContentError {
    match error {
        BundleFilesError::File { fault, .. } => fault,
        BundleFilesError::Domains(fault) => panic!("{fault}"),
    }
}

#[test]
fn pem_and_json_are_both_bundles() {
    let (site, other) = (Site::new(), TestAuthority::root("other"));
    for content in [site.root.pem() + &other.pem(), json(&site.root), json(&other)] {
        site.write(&content);
        let files = site.load().unwrap();
        let trusted = content.contains(site.root.pem().lines().nth(3).unwrap())
            || content == json(&site.root);
        assert_eq!(site.trusts(&files, &site.root), trusted);
    }
}

#[test]
fn at_the_start_a_file_that_is_no_bundle_is_an_error() {
    let site = Site::new();
    assert!(matches!(fault(site.load().unwrap_err()), ContentError::Unreadable(_)));
    let now = now();
    let leaf = site.root.svid("spiffe://prod.example/a", now, now);
    for (content, refusal) in [
        (String::new(), ContentError::NoCertificate),
        ("junk".to_owned(), ContentError::NoCertificate),
        (site.root.key().serialize_pem(), ContentError::NoCertificate),
        ("-----BEGIN CERTIFICATE-----\nAAAA".to_owned(), ContentError::Pem),
        ("{}".to_owned(), ContentError::Bundle(BundleError::NoKeys)),
        // THREATS.md class 8: a workload pinned as a root.
        (
            site.root.pem() + &leaf.chain_pem(),
            ContentError::Authority { index: 1, fault: AuthorityError::NotAuthority },
        ),
        (" ".repeat(MAX_BUNDLE_BYTES + 1), ContentError::TooLarge),
    ] {
        site.write(&content);
        assert_eq!(fault(site.load().unwrap_err()), refusal, "{:.40}", content);
    }
}

#[test]
fn a_broken_change_keeps_the_previous_bundle_and_is_told_once() {
    let (site, next) = (Site::new(), TestAuthority::root("next"));
    site.write(site.root.pem());
    let files = site.load().unwrap();
    assert_eq!(files.reload(now()), []);
    site.write(r#"{"keys":[],"keys":[]}"#);
    assert_eq!(files.reload(now()).len(), 1);
    assert_eq!(files.reload(now()), []);
    assert!(site.trusts(&files, &site.root));
    fs::remove_file(site.path()).unwrap();
    assert!(matches!(files.reload(now()).pop().map(fault), Some(ContentError::Unreadable(_))));
    assert_eq!(files.reload(now()), []);
    assert!(site.trusts(&files, &site.root));
    site.write(next.pem());
    assert_eq!(files.reload(now()), []);
    assert!(site.trusts(&files, &next) && !site.trusts(&files, &site.root));
}

#[test]
fn class_07_an_emptied_bundle_is_taken_over_and_trusts_nothing() {
    let site = Site::new();
    site.write(site.root.pem());
    let files = site.load().unwrap();
    assert!(site.trusts(&files, &site.root));
    site.write(r#"{"keys":[]}"#);
    assert_eq!(files.reload(now()), []);
    assert!(!site.trusts(&files, &site.root));
}

#[test]
fn a_file_that_did_not_change_keeps_the_very_same_bundle() {
    let site = Site::new();
    site.write(site.root.pem());
    let files = site.load().unwrap();
    let domain = TrustDomain::parse("prod.example").unwrap();
    let bundle = || Arc::clone(files.shared().load().get(&domain, now()).unwrap());
    let before = bundle();
    site.write(site.root.pem());
    files.reload(now());
    assert!(Arc::ptr_eq(&before, &bundle()));
}

#[cfg(unix)]
#[test]
fn renamed_files_and_switched_links_are_seen() {
    use std::os::unix::fs::symlink;
    let (site, next) = (Site::new(), TestAuthority::root("next"));
    let directory = site.directory.path();
    // A Kubernetes volume: bundle → ..data/bundle, ..data → a directory with a time in its name.
    for (name, root) in [("one", &site.root), ("two", &next)] {
        fs::create_dir(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("bundle"), json(root)).unwrap();
    }
    symlink("one", directory.join("..data")).unwrap();
    symlink("..data/bundle", site.path()).unwrap();
    let files = site.load().unwrap();
    assert!(site.trusts(&files, &site.root));
    symlink("two", directory.join("..tmp")).unwrap();
    fs::rename(directory.join("..tmp"), directory.join("..data")).unwrap();
    files.reload(now());
    assert!(site.trusts(&files, &next) && !site.trusts(&files, &site.root));
    fs::write(directory.join("three"), site.root.pem()).unwrap();
    fs::rename(directory.join("three"), site.path()).unwrap();
    files.reload(now());
    assert!(site.trusts(&files, &site.root) && !site.trusts(&files, &next));
}

#[tokio::test(start_paused = true)]
async fn the_watch_takes_over_a_change_and_stops_when_told() {
    let (site, next) = (Site::new(), TestAuthority::root("next"));
    site.write(site.root.pem());
    let files = Arc::new(site.load().unwrap());
    let stop = CancellationToken::new();
    let watch = tokio::spawn(Arc::clone(&files).watch(
        Duration::from_secs(2),
        Arc::new(TestClock::default()),
        stop.clone(),
    ));
    site.write(next.pem());
    let seen = async {
        while !site.trusts(&files, &next) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), seen).await.unwrap();
    stop.cancel();
    watch.await.unwrap();
}
