//! A certificate authority for tests: roots, intermediates, good leaves, and leaves named by their [`Defect`].

mod defect;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequest, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

pub use self::defect::Defect;
use crate::domain::time::Stamp;

/// A root or an intermediate, with its private key.
#[derive(Debug)]
pub struct TestAuthority {
    params: CertificateParams,
    key: KeyPair,
    /// From this one up to, but not including, the root.
    intermediates: Vec<CertificateDer<'static>>,
    der: CertificateDer<'static>,
}

/// A certificate with its private key and whatever leads up to the root.
#[derive(Debug)]
pub struct Issued {
    /// Leaf first, the root left out.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: KeyPair,
}

impl TestAuthority {
    /// A new root, valid from 1975 to 4096. Two roots of one name differ in their keys only.
    pub fn root(name: &str) -> Self {
        Self::root_with(authority(name))
    }

    /// A new root, valid to the second.
    pub fn root_valid(name: &str, not_before: Stamp, not_after: Stamp) -> Self {
        let mut params = authority(name);
        set_validity(&mut params, not_before, not_after);
        Self::root_with(params)
    }

    fn root_with(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { params, key, intermediates: Vec::new(), der }
    }

    /// An intermediate below this one, valid to the second.
    pub fn intermediate(&self, name: &str, not_before: Stamp, not_after: Stamp) -> Self {
        let mut params = authority(name);
        set_validity(&mut params, not_before, not_after);
        self.intermediate_with(params)
    }

    /// An intermediate that carries noRevAvail, which no authority may (RFC 9608).
    pub fn intermediate_with_no_rev_avail(&self) -> Self {
        let mut params = authority("noRevAvail");
        params.custom_extensions.push(defect::no_rev_avail());
        self.intermediate_with(params)
    }

    /// An intermediate that may sign no revocation lists.
    pub fn intermediate_without_lists(&self) -> Self {
        let mut params = authority("no cRLSign");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self.intermediate_with(params)
    }

    /// An intermediate that may vouch for URIs of one host only.
    pub fn intermediate_for_uris_of(&self, host: &str) -> Self {
        let mut params = authority("constrained");
        params.custom_extensions.push(defect::uri_constraint(host));
        self.intermediate_with(params)
    }

    fn intermediate_with(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        let intermediates = [vec![der.clone()], self.intermediates.clone()].concat();
        Self { params, key, intermediates, der }
    }

    /// A leaf that keeps every rule, valid to the second (`not_after` included).
    pub fn svid(&self, spiffe_id: &str, not_before: Stamp, not_after: Stamp) -> Issued {
        self.issue(leaf(spiffe_id, not_before, not_after))
    }

    /// A leaf whose one URI is these bytes, fewer than 120, valid at `now`.
    pub fn svid_of_bytes(&self, uri: &[u8], now: Stamp) -> Issued {
        let mut params = leaf("spiffe://prod.example/a", now, now);
        params.subject_alt_names.clear();
        params.custom_extensions.push(defect::san(true, &[uri]));
        self.issue(params)
    }

    /// A leaf with one defect, else good, for `spiffe://<trust domain>/defective`.
    pub fn defective(&self, defect: Defect, trust_domain: &str, now: Stamp) -> Issued {
        self.issue(defect.params(trust_domain, now))
    }

    /// A server's certificate for `localhost` and 127.0.0.1, valid from 1975 to 4096.
    pub fn server(&self) -> Issued {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        self.issue(params)
    }

    /// A leaf that keeps every rule and is also for `localhost`, valid from 1975 to 4096.
    pub fn svid_for_localhost(&self, spiffe_id: &str) -> Issued {
        let mut params = leaf(spiffe_id, Stamp::ZERO, Stamp::ZERO);
        let unbounded = CertificateParams::default();
        (params.not_before, params.not_after) = (unbounded.not_before, unbounded.not_after);
        params.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer()).unwrap().der().clone();
        Issued { chain: [vec![leaf], self.intermediates.clone()].concat(), key }
    }

    /// The authority's own certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The authority's own certificate as PEM.
    pub fn pem(&self) -> String {
        pem([self.der()])
    }

    /// The authority's private key.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

impl Issued {
    /// The leaf alone.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.chain[0]
    }

    /// The leaf and what leads up to the root, as PEM.
    pub fn chain_pem(&self) -> String {
        pem(&self.chain)
    }

    /// The leaf's private key, PKCS#8 in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The leaf's private key, as rustls takes it.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// A CSR over a key. It asks for a subject and names that must not be heard.
pub fn csr(key: &KeyPair) -> CertificateSigningRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "root");
    params.subject_alt_names = vec![uri("spiffe://prod.example/admin")];
    params.serialize_request(key).unwrap()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn leaf(spiffe_id: &str, not_before: Stamp, not_after: Stamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    set_validity(&mut params, not_before, not_after);
    params.serial_number = Some(SerialNumber::from(vec![0x01, 0x02, 0x03]));
    params.subject_alt_names = vec![uri(spiffe_id)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn set_validity(params: &mut CertificateParams, not_before: Stamp, not_after: Stamp) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before.seconds());
    params.not_after = epoch + Duration::from_secs(not_after.seconds());
}

fn pem<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let mut text = String::new();
    for der in certificates {
        text += "-----BEGIN CERTIFICATE-----\n";
        for line in STANDARD.encode(der).as_bytes().chunks(64) {
            text += std::str::from_utf8(line).unwrap();
            text += "\n";
        }
        text += "-----END CERTIFICATE-----\n";
    }
    text
}

#[cfg(test)]
mod tests;
