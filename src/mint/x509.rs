//! The X.509-SVID of a task (STANDARDS.md section 9 E): every member set here, none taken from the request.

use rcgen::{
    CertificateParams, CrlDistributionPoint, CustomExtension, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};

use super::{MintError, distribution_point};
use crate::domain::certificate::is_listed;
use crate::domain::execution::Execution;
use crate::domain::lease::Lease;
use crate::domain::principal::Name;
use crate::domain::time::{Span, Stamp};
use crate::keys::{IssuerCa, Settings, set_validity};
use crate::spiffe::id::SpiffeId;
use crate::spiffe::task_certificate::{serial_number, spiffe_id_text};
use crate::spiffe::task_extension;

/// `notBefore` lies so long before `iat`.
const BACKDATED: Span = Span::from_seconds(30);
/// noRevAvail (RFC 9608): its value is NULL.
const NO_REV_AVAIL: &[u64] = &[2, 5, 29, 56];
const NULL: &[u8] = &[5, 0];

/// A minted certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintedCertificate {
    /// DER of the leaf and of what follows on the way to the root, which is left out.
    pub chain: Vec<Vec<u8>>,
    /// Whom it names.
    pub spiffe_id: SpiffeId,
}

impl MintedCertificate {
    /// The certificate itself.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map(Vec::as_slice).unwrap_or_default()
    }
}

/// Signs the certificate of a lease for the public key that was proved for it.
pub(super) fn certificate(
    settings: &Settings,
    ca: &IssuerCa,
    lease: &Lease,
    class: &Name,
) -> Result<MintedCertificate, MintError> {
    let spki = lease.draft.public_key.as_deref().ok_or(MintError::Disagree("public key"))?;
    let key =
        SubjectPublicKeyInfo::from_der(spki).map_err(|_| MintError::Disagree("public key"))?;
    let expires = Stamp::from_seconds(lease.expires_seconds);
    if expires > ca.life().expires() {
        return Err(MintError::KeyGone);
    }
    let execution = Execution::of(lease);
    let id = spiffe_id_text(&settings.trust_domain, &execution, class);
    let spiffe_id = SpiffeId::parse(&id).map_err(|_| MintError::Disagree("spiffe id"))?;

    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial_number(lease.draft.jti)));
    // Critical, since the subject is empty (RFC 5280 section 4.2.1.6).
    params.subject_alt_names =
        vec![SanType::URI(id.try_into().map_err(|_| MintError::Disagree("spiffe id"))?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    // INVARIANT (listed): the commit decided by the same times whether who makes the lists finds it.
    if is_listed(lease.issued_seconds(), lease.expires_seconds) {
        if !ca.authority().signs_lists() {
            return Err(MintError::Signing);
        }
        // One point with one name: some readers look at the first only (RUSTSEC-2026-0049).
        let uris = vec![distribution_point(&settings.base_url, ca.key_id())];
        params.crl_distribution_points = vec![CrlDistributionPoint { uris }];
    } else {
        // Both together are forbidden (RFC 9608 section 3).
        let none = CustomExtension::from_oid_content(NO_REV_AVAIL, NULL.to_vec());
        params.custom_extensions.push(none);
    }
    params.custom_extensions.push(CustomExtension::from_oid_content(
        settings.task_extension.arcs(),
        task_extension::encode(&execution)?,
    ));
    let issued = Stamp::from_seconds(lease.issued_seconds());
    // `notAfter` is inclusive.
    set_validity(&mut params, issued.minus(BACKDATED), expires.minus(Span::from_seconds(1)));
    let leaf = ca.sign(&params, &key)?;
    let chain = std::iter::once(leaf.to_vec()).chain(ca.chain().iter().cloned()).collect();
    Ok(MintedCertificate { chain, spiffe_id })
}
