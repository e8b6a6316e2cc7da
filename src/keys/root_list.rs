//! The revocation list of the root that we made, for verifiers that ask for one of every authority of a chain.
//!
//! It is signed whenever the keyring is opened, which every broker does every few minutes, and the root's key is kept no longer
//! than that.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, KeyPair, RevocationReason, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use x509_parser::parse_x509_certificate;

use super::KeysError;
use super::ca::{self, CaError, IssuerCa};
use super::keyring::{BACKDATED, Keyring, KeyringError, StoredAuthority};
use crate::domain::time::{Span, Stamp};
use crate::spiffe::id::TrustDomain;

/// How long it holds: brokers may be away for so long before whoever demands it accepts nothing.
const LIFETIME: Span = Span::from_seconds(7 * 24 * 60 * 60);

/// The list of the root. Authorities below it are on it that were quarantined; what certificates of tasks die of is on the list of
/// the authority that signed them.
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
        condemned_since: &BTreeMap<String, Stamp>,
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
        let mut revoked_certs = Vec::new();
        for stored in &keyring.intermediates {
            if let Some(since) = condemned_since.get(&stored.key_id()?) {
                revoked_certs.push(RevokedCertParams {
                    serial_number: serial_number(stored)?,
                    revocation_time: date_time(*since),
                    reason_code: Some(RevocationReason::CaCompromise),
                    invalidity_date: None,
                });
            }
        }
        let der = ca.sign_list(&CertificateRevocationListParams {
            this_update: date_time(now.minus(BACKDATED)),
            next_update: date_time(now.plus(LIFETIME).min(stored.life.expires())),
            crl_number: SerialNumber::from(now.micros()),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::PreSpecified(
                root.subject_key_id_bytes().ok_or(CaError::NoKeyId)?,
            ),
        })?;
        Ok(Self { key_id: ca.key_id().to_owned(), der: der.into(), number: now.micros() })
    }
}

fn serial_number(stored: &StoredAuthority) -> Result<SerialNumber, CaError> {
    let (_, certificate) =
        parse_x509_certificate(&stored.certificate).map_err(|_| CaError::Signing)?;
    Ok(SerialNumber::from_slice(certificate.raw_serial()))
}
