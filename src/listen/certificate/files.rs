//! Certificate and key from files, read again when they change.
//!
//! Like trust bundles, the files are read every few seconds and compared by content. Files that are replaced one after the
//! other do not belong together for a moment: then the former pair stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::{ServerCertificate, not_taken_over, taken_over};
use crate::domain::time::Stamp;
use crate::listen::tls::{ServerIdentity, TlsError, read_file};

/// Where the pair lies, and what was made of it.
#[derive(Debug)]
pub struct CertificateFiles {
    chain: PathBuf,
    key: PathBuf,
    certificate: Arc<ServerCertificate>,
    /// The hashes of the files' bytes when they were last looked at; `None` where one could not be read.
    seen: Mutex<Option<[Vec<u8>; 2]>>,
}

impl CertificateFiles {
    /// Reads certificate chain, leaf first, and private key from PEM files for the first time.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, holds something else, or they do not belong together: at the start there is no
    /// former pair to keep.
    pub fn load(chain: PathBuf, key: PathBuf, now: Stamp) -> Result<Self, TlsError> {
        let files = read(&chain, &key)?;
        let seen = Mutex::new(Some(hashes(&files)));
        let certificate = Arc::new(ServerCertificate::default());
        certificate.show(parse(files)?);
        certificate.tell_expiry(now);
        Ok(Self { chain, key, certificate, seen })
    }

    /// What is shown, always the current one.
    pub fn certificate(&self) -> Arc<ServerCertificate> {
        Arc::clone(&self.certificate)
    }

    /// Looks at the files once and takes over what changed; answers with the fault if that could not be. Then the former pair
    /// stays, and the fault is not told again until a file changes again.
    pub fn reload(&self) -> Option<TlsError> {
        let mut seen = self.seen.lock();
        let files = read(&self.chain, &self.key);
        let content = files.as_ref().ok().map(hashes);
        if content == *seen {
            return None;
        }
        *seen = content;
        match files.and_then(parse) {
            Ok(identity) => {
                self.certificate.show(identity);
                taken_over();
                None
            }
            Err(fault) => {
                not_taken_over(&fault);
                Some(fault)
            }
        }
    }
}

type Bytes = Zeroizing<Vec<u8>>;

fn read(chain: &Path, key: &Path) -> Result<[Bytes; 2], TlsError> {
    Ok([read_file(chain)?, read_file(key)?])
}

fn parse([chain, key]: [Bytes; 2]) -> Result<ServerIdentity, TlsError> {
    ServerIdentity::from_pem(&chain, &key)
}

fn hashes(files: &[Bytes; 2]) -> [Vec<u8>; 2] {
    files.each_ref().map(|bytes| digest(&SHA256, bytes).as_ref().to_vec())
}
