//! The broker's certificate towards its callers, read again when its files change.
//!
//! Like trust bundles, the files are read every few seconds and compared by content. A connection goes on with what it
//! began with; each new handshake shows what is current. Files that are replaced one after the other do not belong
//! together for a moment: then the former pair stays.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::tls::{ServerIdentity, TlsError, read_file};
use crate::domain::time::Stamp;
use crate::telemetry::metrics;

/// A certificate with less than this part of its life left, whose files have not changed, is warned of.
const LAST_PART: u64 = 10;

/// Where the certificate lies, and what it is now.
pub struct ServerCertificate {
    chain: PathBuf,
    key: PathBuf,
    current: ArcSwap<ServerIdentity>,
    seen: Mutex<Seen>,
}

/// What was told of the files when they were last looked at.
struct Seen {
    /// The hashes of their bytes; `None` where one could not be read.
    content: Option<[Vec<u8>; 2]>,
    /// Whether it was told that the certificate will expire.
    is_warned: bool,
}

impl ServerCertificate {
    /// Reads certificate chain, leaf first, and private key from PEM files for the first time.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, holds something else, or they do not belong together: at the start there is no
    /// former pair to keep.
    pub fn load(chain: PathBuf, key: PathBuf, now: Stamp) -> Result<Self, TlsError> {
        let files = read(&chain, &key)?;
        let seen = Mutex::new(Seen { content: Some(hashes(&files)), is_warned: false });
        let current = ArcSwap::from_pointee(parse(files)?);
        let certificate = Self { chain, key, current, seen };
        certificate.tell_expiry(&mut certificate.seen.lock(), now);
        Ok(certificate)
    }

    /// Looks at the files once and takes over what changed; answers with the fault if that could not be. Then the former pair
    /// stays, and the fault is not told again until a file changes again.
    pub fn reload(&self, now: Stamp) -> Option<TlsError> {
        let mut seen = self.seen.lock();
        let files = read(&self.chain, &self.key);
        let content = files.as_ref().ok().map(hashes);
        let mut fault = None;
        if content != seen.content {
            seen.content = content;
            match files.and_then(parse) {
                Ok(identity) => {
                    self.current.store(Arc::new(identity));
                    seen.is_warned = false;
                    metrics::trust_loaded("server_certificate", "ok");
                    tracing::info!("the server's certificate changed");
                }
                Err(error) => {
                    metrics::trust_loaded("server_certificate", "failed");
                    tracing::error!(
                        fault = %error,
                        "the server's certificate was not taken over, the former one stays"
                    );
                    fault = Some(error);
                }
            }
        }
        self.tell_expiry(&mut seen, now);
        fault
    }

    fn tell_expiry(&self, seen: &mut Seen, now: Stamp) {
        let (begins, expires) = self.current.load().validity();
        metrics::server_certificate_expires(expires.seconds());
        let left = expires.since(now).seconds();
        let is_late = left < expires.since(begins).seconds() / LAST_PART;
        if is_late && !seen.is_warned {
            seen.is_warned = true;
            tracing::warn!(
                seconds_left = left,
                "the server's certificate expires; put a newer one where it lies"
            );
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().resolve(hello)
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("current", &self.current).finish_non_exhaustive()
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

#[cfg(test)]
mod tests;
