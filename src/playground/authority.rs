//! The playground's certificate authority: one root, which signs what it has to and is dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::{LIFE, PlaygroundError, TRUST_DOMAIN, Workload};
use crate::domain::secret::Secret;
use crate::domain::time::{Span, Stamp};

/// Certificates begin earlier than now: another clock may be behind.
const BACKDATED: Span = Span::from_seconds(5 * 60);

/// The root of the trust domain, with its private key.
pub(super) struct DevAuthority {
    root: CertifiedIssuer<'static, KeyPair>,
    now: Stamp,
}

/// A certificate and its private key.
pub(super) struct Issued {
    /// In PEM.
    pub(super) chain_pem: String,
    /// In PEM, PKCS#8.
    pub(super) key_pem: Secret,
}

impl DevAuthority {
    /// A new root.
    pub(super) fn make(now: Stamp) -> Result<Self, PlaygroundError> {
        let name = format!("spiffe://{TRUST_DOMAIN}");
        let fault = |fault| PlaygroundError::Certificate(name.clone(), fault);
        let mut params = params("Leasehold playground root", now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&name).map_err(fault)?];
        let key = KeyPair::generate().map_err(fault)?;
        Ok(Self { root: CertifiedIssuer::self_signed(params, key).map_err(fault)?, now })
    }

    /// Its own certificate, in PEM.
    pub(super) fn pem(&self) -> String {
        self.root.pem()
    }

    /// An X.509-SVID.
    pub(super) fn workload(
        &self,
        workload: Workload,
        instance: &str,
    ) -> Result<Issued, PlaygroundError> {
        let id = workload.spiffe_id(instance);
        let mut params = params(workload.name(), self.now);
        let name = uri(&id).map_err(|fault| PlaygroundError::Certificate(id.clone(), fault))?;
        params.subject_alt_names = vec![name];
        if workload == Workload::Documents {
            params.subject_alt_names.extend(local_names());
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&id, params)
    }

    /// The broker's certificate towards its callers: for this machine, and without a SPIFFE ID, so that it proves nothing
    /// to a broker.
    pub(super) fn broker(&self) -> Result<Issued, PlaygroundError> {
        let mut params = params("Leasehold playground broker", self.now);
        params.subject_alt_names = local_names();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("the broker", params)
    }

    fn issue(&self, whose: &str, mut params: CertificateParams) -> Result<Issued, PlaygroundError> {
        let fault = |fault| PlaygroundError::Certificate(whose.to_owned(), fault);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(fault)?;
        let certificate = params.signed_by(&key, &self.root).map_err(fault)?;
        Ok(Issued { chain_pem: certificate.pem(), key_pem: Secret::from(key.serialize_pem()) })
    }
}

fn params(common_name: &str, now: Stamp) -> CertificateParams {
    let epoch = date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = epoch + Duration::from_secs(now.minus(BACKDATED).seconds());
    params.not_after = epoch + Duration::from_secs(now.plus(LIFE).seconds());
    params
}

fn local_names() -> Vec<SanType> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let localhost = "localhost".try_into().map(SanType::DnsName);
    localhost.into_iter().chain(addresses.map(SanType::IpAddress)).collect()
}

fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}
