//! Keys that never leave this machine: made here, only the request for a certificate is sent.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::{CertificateParams, KeyPair};
use zeroize::Zeroizing;

use super::failure::Failure;
use super::show::pem;

/// Where a new key and its certificate go.
#[derive(Clone, Debug, Args)]
pub(super) struct KeyFiles {
    /// Where the certificate chain goes, in PEM, leaf first
    #[arg(long, value_name = "FILE")]
    cert_out: PathBuf,
    /// Where the new private key goes, in PEM, readable by its owner only
    #[arg(long, value_name = "FILE")]
    key_out: PathBuf,
}

/// The same, where a certificate is wanted only if they are given.
#[derive(Clone, Debug, Args)]
pub(super) struct OptionalKeyFiles {
    /// Make a new key, get a certificate for it as well, and bind the token to that; the chain goes here, in PEM
    #[arg(long, value_name = "FILE", requires = "key_out")]
    cert_out: Option<PathBuf>,
    /// Where the new private key goes, in PEM, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "cert_out")]
    key_out: Option<PathBuf>,
}

impl OptionalKeyFiles {
    /// Whether they were given.
    pub(super) fn is_given(&self) -> bool {
        self.cert_out.is_some()
    }

    /// Both files, if they were given.
    pub(super) fn given(self) -> Option<KeyFiles> {
        Some(KeyFiles { cert_out: self.cert_out?, key_out: self.key_out? })
    }
}

/// A new P-256 key, and the request for its certificate.
pub(super) struct FreshKey {
    pem: Zeroizing<String>,
    /// DER of the PKCS #10 request.
    pub(super) csr_der: Vec<u8>,
}

impl fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FreshKey(…)")
    }
}

impl FreshKey {
    /// Makes a key. The request names nothing: what the certificate says is the broker's business.
    pub(super) fn generate() -> Result<Self, Failure> {
        let failed = |error: rcgen::Error| Failure::Key(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(failed)?;
        Ok(Self { pem: Zeroizing::new(key.serialize_pem()), csr_der: request.der().to_vec() })
    }

    /// The private key, in PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }
}

impl KeyFiles {
    /// In a folder, under names of ours.
    pub(super) fn within(folder: &Path) -> Self {
        Self { cert_out: folder.join("task.pem"), key_out: folder.join("task.key") }
    }

    /// Writes the key first: a certificate without its key would be of no use.
    pub(super) fn write(&self, key: &FreshKey, chain_der: &[Vec<u8>]) -> Result<(), Failure> {
        replace(&self.key_out, 0o600, key.pem.as_bytes())?;
        replace(&self.cert_out, 0o644, pem("CERTIFICATE", chain_der).as_bytes())
    }

    /// Where the certificate is.
    pub(super) fn cert(&self) -> &Path {
        &self.cert_out
    }

    /// Where the key is.
    pub(super) fn key(&self) -> &Path {
        &self.key_out
    }
}

/// The new contents under the old name at once, with their own permissions from the first byte on.
pub(super) fn replace(path: &Path, mode: u32, contents: &[u8]) -> Result<(), Failure> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".new-{}", uuid::Uuid::new_v4()));
    let beside = PathBuf::from(beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    written.map_err(|source| {
        // What was half written may be half a secret.
        let _ = fs::remove_file(&beside);
        Failure::Write { path: path.to_owned(), source }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use x509_parser::certification_request::X509CertificationRequest;
    use x509_parser::prelude::FromDer;

    use super::*;

    #[test]
    fn a_key_is_readable_by_its_owner_only_even_where_a_file_was_open_to_all() {
        let folder = tempfile::tempdir().unwrap();
        let files = KeyFiles {
            cert_out: folder.path().join("cert.pem"),
            key_out: folder.path().join("key.pem"),
        };
        fs::write(&files.key_out, "old").unwrap();
        fs::set_permissions(&files.key_out, fs::Permissions::from_mode(0o666)).unwrap();
        let key = FreshKey::generate().unwrap();
        files.write(&key, &[vec![1, 2, 3], vec![4]]).unwrap();
        let mode = fs::metadata(&files.key_out).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let written = fs::read_to_string(&files.key_out).unwrap();
        assert!(KeyPair::from_pem(&written).is_ok());
        let chain = fs::read_to_string(&files.cert_out).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside");
    }

    #[test]
    fn the_request_is_signed_by_the_new_key_and_names_nothing() {
        let key = FreshKey::generate().unwrap();
        let (_, request) = X509CertificationRequest::from_der(&key.csr_der).unwrap();
        request.verify_signature().unwrap();
        assert_eq!(request.requested_extensions().map_or(0, Iterator::count), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = replace(Path::new("/nowhere/key.pem"), 0o600, b"x").unwrap_err();
        assert!(error.to_string().contains("/nowhere/key.pem"));
    }
}
