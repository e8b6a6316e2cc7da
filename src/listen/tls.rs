//! TLS of the broker's listeners: version 1.3 only, client certificates of our own checking, no resumption.
//!
//! Version 1.3 keeps client certificates off the open wire and has no renegotiation; every client of the last years
//! speaks it. A resumed session would skip the check of the client's certificate (THREATS.md class 9), so no tickets
//! are given out.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use x509_parser::parse_x509_certificate;
use zeroize::Zeroizing;

use crate::broker::seams::Clock;
use crate::domain::time::{Span, Stamp};

/// What a listener shows to those who connect: its certificate, what leads up to the root, and the key, which belong
/// together.
#[derive(Debug)]
pub struct ServerIdentity {
    certified: Arc<CertifiedKey>,
    begins: Stamp,
    expires: Stamp,
}

/// A listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error(
        "cannot read `{}`: {fault}; `tls` names the broker's certificate and key, from the configuration's folder",
        path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The system's reason.
        fault: std::io::Error,
    },
    /// There is no certificate in PEM.
    #[error("the server's certificate is not PEM with the leaf first")]
    Certificate,
    /// There is no private key in PEM.
    #[error("the server's private key is not PEM (PKCS#8, SEC 1 or PKCS#1, not encrypted)")]
    Key,
    /// rustls does not take certificate and key, for example because they do not belong together.
    #[error("the server's certificate and key: {0}")]
    Rejected(#[from] rustls::Error),
}

impl ServerIdentity {
    /// Reads certificate chain, leaf first, and private key from PEM files.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read or holds something else.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::from_pem(&read_file(certificate)?, &read_file(key)?)
    }

    /// Reads certificate chain, leaf first, and private key from PEM.
    ///
    /// # Errors
    /// [`TlsError`] if one of them is something else, or they do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(TlsError::Certificate)?;
        Self::from_der(chain, PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?)
    }

    /// Certificate chain, leaf first, and private key.
    ///
    /// # Errors
    /// [`TlsError`] if they do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        let (begins, expires) = validity(&chain).ok_or(TlsError::Certificate)?;
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        Ok(Self { certified: Arc::new(certified), begins, expires })
    }

    /// The leaf in DER.
    pub(super) fn leaf(&self) -> Option<&CertificateDer<'static>> {
        self.certified.cert.first()
    }

    /// The first instant of the leaf's validity, and the first instant after it.
    pub fn validity(&self) -> (Stamp, Stamp) {
        (self.begins, self.expires)
    }
}

/// The same at every handshake.
impl ResolvesServerCert for ServerIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified))
    }
}

/// The bytes of a certificate or key file.
pub(super) fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let bytes = fs::read(path);
    bytes.map(Zeroizing::new).map_err(|fault| TlsError::Unreadable { path: path.to_owned(), fault })
}

/// `notAfter` is inclusive (RFC 5280 section 4.1.2.5).
fn validity(chain: &[CertificateDer<'_>]) -> Option<(Stamp, Stamp)> {
    let (_, leaf) = parse_x509_certificate(chain.first()?).ok()?;
    let at = |seconds: i64| u64::try_from(seconds).map(Stamp::from_seconds).unwrap_or_default();
    let validity = leaf.validity();
    let last = at(validity.not_after.timestamp());
    Some((at(validity.not_before.timestamp()), last.plus(Span::from_seconds(1))))
}

/// The configuration of a listener that asks its callers for a certificate, which `clients` judges. Each handshake shows
/// what `identity` then is.
///
/// `alpn` names the protocols in order of preference: `h2` for gRPC.
///
/// # Errors
/// [`TlsError::Rejected`] if rustls cannot work so.
pub fn server_config(
    identity: Arc<dyn ResolvesServerCert>,
    clients: Arc<dyn ClientCertVerifier>,
    alpn: &[&str],
    clock: Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(Present(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(identity);
    config.alpn_protocols = names(alpn);
    // INVARIANT (no resumption): every connection proves its client's key.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// The same configuration with other protocols in `alpn`.
pub fn speaking(config: &ServerConfig, alpn: &[&str]) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = names(alpn);
    Arc::new(config)
}

fn names(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// The broker's clock, as rustls reads it.
struct Present(Arc<dyn Clock>);

impl TimeProvider for Present {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Duration::from_micros(self.0.now().micros());
        Some(UnixTime::since_unix_epoch(now))
    }
}

impl fmt::Debug for Present {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker's clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ca::TestAuthority;

    #[test]
    fn certificate_and_key_are_what_their_names_say_or_refused() {
        let issued = TestAuthority::root("root").server();
        let (certificate, key) = (issued.chain_pem(), issued.key_pem());
        let identity = |certificate: &str, key: &str| {
            ServerIdentity::from_pem(certificate.as_bytes(), key.as_bytes())
        };
        assert!(identity(&certificate, &key).is_ok());
        assert!(matches!(identity("", &key), Err(TlsError::Certificate)));
        assert!(matches!(identity(&key, &key), Err(TlsError::Certificate)));
        assert!(matches!(identity(&certificate, ""), Err(TlsError::Key)));
        assert!(matches!(identity(&certificate, &certificate), Err(TlsError::Key)));
        let other = TestAuthority::root("root").server().key_pem();
        assert!(matches!(identity(&certificate, &other), Err(TlsError::Rejected(_))));
        let gone = ServerIdentity::from_files(Path::new("/none/such"), Path::new("/none"));
        assert!(gone.unwrap_err().to_string().starts_with("cannot read `/none/such`"));
    }

    #[test]
    fn class_17_debug_shows_no_private_key() {
        let issued = TestAuthority::root("root").server();
        let pem = issued.key_pem();
        let identity = ServerIdentity::from_pem(issued.chain_pem().as_bytes(), pem.as_bytes());
        let identity = identity.unwrap();
        let key = format!("{:?}", issued.key_der().secret_der());
        assert!(!format!("{identity:?}").contains(key.trim_matches(['[', ']'])));
    }
}
