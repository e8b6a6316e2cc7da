//! The revocation list of the root that we made, for verifiers that ask for one of every authority of a chain.
//!
//! It is signed whenever the keyring is opened, which every broker does every few minutes, and the root's key is kept no longer
//! than that.

use std::sync::Arc;

use rcgen::{CertificateRevocationListParams, KeyIdMethod, KeyPair, SerialNumber, date_time_ymd};

use super::KeysError;
use super::ca::{self, CaError, IssuerCa};
use super::keyring::{BACKDATED, Keyring, KeyringError};
use crate::domain::time::{Span, Stamp};
use crate::spiffe::id::TrustDomain;

/// How long it holds: brokers may be away for so long before whoever demands it accepts nothing.
const LIFETIME: Span = Span::from_seconds(7 * 24 * 60 * 60);

/// The list of the root. It is empty: what certificates of tasks die of is on the list of the authority that signed them.
#[derive(Clone, Debug)]
pub struct RootList {
    key_id: String,
    der: Arc<[u8]>,
    number: u64,
}

impl RootList {
    /// Subject key identifier of the root, in hex.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The list in DER.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.der
    }

    /// Its CRL number: the store's time in microseconds.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn sign(
        keyring: &Keyring,
        trust_domain: &TrustDomain,
        now: Stamp,
    ) -> Result<Self, KeysError> {
        let stored = keyring.root.as_ref().ok_or(KeyringError::Malformed)?;
        let root = ca::check(&stored.certificate, trust_domain, now)?;
        let key = KeyPair::try_from(stored.pkcs8.expose()).map_err(|_| CaError::Signing)?;
        let when = (stored.life, now);
        let ca = IssuerCa::new(&stored.certificate, &root, key, trust_domain, when)?;
        let date_time = |stamp: Stamp| {
            date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(stamp.seconds())
        };
        let der = ca.sign_list(&CertificateRevocationListParams {
            this_update: date_time(now.minus(BACKDATED)),
            next_update: date_time(now.plus(LIFETIME).min(stored.life.expires())),
            crl_number: SerialNumber::from(now.micros()),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::PreSpecified(
                root.subject_key_id_bytes().ok_or(CaError::NoKeyId)?,
            ),
        })?;
        Ok(Self { key_id: ca.key_id().to_owned(), der: der.into(), number: now.micros() })
    }
}
