//! Making keys: on first start, and successors when two thirds of a key's life are over, or it was quarantined.
//!
//! A successor is published an hour before it signs, so that every broker and verifier has read it by then. A broker that
//! runs on must read the keyring again within that hour. The successor of a key that was quarantined cannot wait so long: it is
//! published for seconds, in which nothing of its kind is signed, and every broker reads the keyring at once.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};

use super::KeysError;
use super::ca::{CaError, set_validity};
use super::condemned::Condemned;
use super::keyring::{BACKDATED, Keyring, Life, StoredAuthority, StoredKey};
use crate::broker::seams::Entropy;
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};
use crate::jose::SigningKey;
use crate::spiffe::id::TrustDomain;

const DAY: Span = Span::from_seconds(24 * 60 * 60);
const TOKEN_KEY_LIFE: Span = DAY.times(90);
const ROOT_LIFE: Span = DAY.times(3_650);
const INTERMEDIATE_LIFE: Span = DAY.times(365);
/// How long a successor is published before it signs.
const PUBLISHED_FIRST: Span = Span::from_seconds(60 * 60);
/// How long the successor of a quarantined key is published before it signs: every broker has heard of the quarantine and looked
/// at the keyring by then, so whoever meets the key is told of it by any of them.
pub const PUBLISHED_AT_LEAST: Span = Span::from_seconds(5);

impl Keyring {
    /// The keyring with every key that it should have by now; `None` if it has them all.
    ///
    /// # Errors
    /// [`KeysError`] if a key cannot be made, or our root has expired.
    pub(super) fn completed(
        &self,
        own_authority: Option<&TrustDomain>,
        condemned: &Condemned,
        now: Stamp,
        entropy: &dyn Entropy,
    ) -> Result<Option<Self>, KeysError> {
        let mut next = self.clone();
        let mut made = false;
        // INVARIANT (key spaces): each kind of token has keys of its own, and none is ever in two lists.
        let kinds = [&mut next.access_tokens, &mut next.jwt_svids, &mut next.security_events];
        for keys in kinds {
            let names = keys.iter().map(|key| Ok((key.life, key.kid()?)));
            let lives = Lives::of(names, condemned, now)?;
            if let Some(use_from) = lives.successor(now) {
                let (_, pkcs8) = SigningKey::generate()?;
                let life = Life::new(now, use_from, use_from.plus(TOKEN_KEY_LIFE));
                keys.push(StoredKey { life, pkcs8 });
                made = true;
            }
        }
        if let Some(trust_domain) = own_authority {
            let root = match &self.root {
                Some(root) => root.clone(),
                None => root(trust_domain, now, entropy)?,
            };
            let names = self.intermediates.iter().map(|ca| Ok((ca.life, ca.key_id()?)));
            if let Some(use_from) = Lives::of(names, condemned, now)?.successor(now) {
                let life = (use_from, use_from.plus(INTERMEDIATE_LIFE).min(root.life.expires()));
                next.intermediates.push(intermediate(&root, trust_domain, (now, life), entropy)?);
                made = true;
            }
            next.root = Some(root);
        }
        if made {
            next.access_tokens.retain(|key| now < key.life.expires());
            next.jwt_svids.retain(|key| now < key.life.expires());
            next.security_events.retain(|key| now < key.life.expires());
            next.intermediates.retain(|key| now < key.life.expires());
        }
        Ok(made.then_some(next))
    }
}

/// The lives of keys of one kind.
struct Lives {
    /// Of those that were never quarantined.
    good: Vec<Life>,
    /// One that has not expired was quarantined.
    is_one_condemned: bool,
}

impl Lives {
    fn of(
        named: impl Iterator<Item = Result<(Life, String), KeysError>>,
        condemned: &Condemned,
        now: Stamp,
    ) -> Result<Self, KeysError> {
        let mut lives = Self { good: Vec::new(), is_one_condemned: false };
        for life_and_name in named {
            let (life, name) = life_and_name?;
            match condemned.holds(&name) {
                true => lives.is_one_condemned |= now < life.expires(),
                false => lives.good.push(life),
            }
        }
        Ok(lives)
    }

    /// From when on a new key should sign; `None` if the newest one is good for a while.
    fn successor(&self, now: Stamp) -> Option<Stamp> {
        let soon = now.plus(PUBLISHED_AT_LEAST);
        if self.is_one_condemned && !self.good.iter().any(|life| life.signs_by(now, soon)) {
            return Some(soon);
        }
        let made = self.good.iter().filter(|life| life.is_made(now));
        match made.max_by_key(|life| life.use_from()) {
            Some(newest) if now < newest.expires() => {
                newest.is_aging(now).then(|| now.plus(PUBLISHED_FIRST).min(newest.expires()))
            }
            _ => Some(now),
        }
    }
}

fn root(
    trust_domain: &TrustDomain,
    now: Stamp,
    entropy: &dyn Entropy,
) -> Result<StoredAuthority, KeysError> {
    let life = Life::new(now, now, now.plus(ROOT_LIFE));
    let params = authority("Leasehold root CA", 1, trust_domain, (now, life), entropy)?;
    let key = KeyPair::generate().map_err(|_| CaError::Signing)?;
    let certificate = params.self_signed(&key).map_err(|_| CaError::Signing)?;
    Ok(stored(life, &key, certificate.der()))
}

fn intermediate(
    root: &StoredAuthority,
    trust_domain: &TrustDomain,
    (now, (use_from, expires)): (Stamp, (Stamp, Stamp)),
    entropy: &dyn Entropy,
) -> Result<StoredAuthority, KeysError> {
    let life = Life::new(now, use_from, expires);
    let params = authority("Leasehold issuing CA", 0, trust_domain, (now, life), entropy)?;
    let key = KeyPair::generate().map_err(|_| CaError::Signing)?;
    let root_key = KeyPair::try_from(root.pkcs8.expose()).map_err(|_| CaError::Signing)?;
    let issuer = Issuer::from_ca_cert_der(&root.certificate.as_slice().into(), root_key);
    let issuer = issuer.map_err(|_| CaError::Signing)?;
    let certificate = params.signed_by(&key, &issuer).map_err(|_| CaError::Signing)?;
    Ok(stored(life, &key, certificate.der()))
}

fn stored(life: Life, key: &KeyPair, certificate: &[u8]) -> StoredAuthority {
    let pkcs8 = Secret::new(key.serialize_der());
    StoredAuthority { life, pkcs8, certificate: certificate.to_vec() }
}

/// No name constraints: a chain with a URI name constraint is refused by rustls (RUSTSEC-2026-0098).
fn authority(
    name: &str,
    path_length: u8,
    trust_domain: &TrustDomain,
    (now, life): (Stamp, Life),
    entropy: &dyn Entropy,
) -> Result<CertificateParams, KeysError> {
    let mut serial = [0x01; 17];
    if let Some(random) = serial.get_mut(1..) {
        entropy.fill(random)?;
    }
    let id = format!("spiffe://{trust_domain}");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Leasehold");
    params.distinguished_name.push(DnType::CommonName, format!("{name} {}", now.seconds()));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(|_| CaError::Signing)?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    let last = life.expires().minus(Span::from_seconds(1));
    set_validity(&mut params, now.minus(BACKDATED), last);
    Ok(params)
}
