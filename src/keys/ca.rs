//! A certificate authority of ours: its key parsed once, and everything that must hold before it signs.

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DistinguishedName, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::parse_x509_certificate;

use super::keyring::Life;
use crate::domain::time::{Span, Stamp};
use crate::spiffe::authority::{Authority, AuthorityError};
use crate::spiffe::id::TrustDomain;

/// Signs certificates: an intermediate below the root, or the root itself.
pub struct IssuerCa {
    issuer: Issuer<'static, KeyPair>,
    authority: Authority,
    /// What a holder shows besides its leaf: the intermediate, or nothing if the root signs.
    chain: Vec<Vec<u8>>,
    key_id: String,
    life: Life,
}

/// A certificate and its key cannot be an authority here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// Not the certificate of an authority (X509-SVID section 4; THREATS.md class 8).
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Valid only later, or no longer.
    #[error("the certificate is not valid now; renew it, or check the clock")]
    NotValidNow,
    /// A URI among its names is not the ID of the trust domain (X509-SVID section 4.1).
    #[error("the certificate names `{found}`, and the configured trust domain is `{trust_domain}`")]
    OtherTrustDomain {
        /// The URI in the certificate.
        found: String,
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// No subject key identifier, or one of more than 32 bytes (RFC 5280 section 4.2.1.2).
    #[error("the certificate needs a `subjectKeyIdentifier` of at most 32 bytes")]
    NoKeyId,
    /// The root does not allow an intermediate below it (RFC 5280 section 4.2.1.9).
    #[error(
        "the root's `pathLenConstraint` is 0, so no intermediate may stand below it; leave the intermediate out, or make another root"
    )]
    PathLength,
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// The bundle can name RSA keys and EC keys on P-256 and P-384 only.
    #[error("the root's key must be RSA, or EC on P-256 or P-384")]
    RootKey,
    /// Certificates that it signs would not be accepted.
    #[error(
        "a certificate signed with it does not lead to the root ({0}); check that the root signed the intermediate, and that neither has name constraints"
    )]
    Chain(String),
    /// It did not sign.
    #[error("the authority cannot sign certificates")]
    Signing,
}

impl IssuerCa {
    /// Takes an authority below `root`, or the root itself, after it signed a certificate that a verifier accepts.
    ///
    /// # Errors
    /// [`CaError`] names the first rule that does not hold.
    pub(super) fn new(
        certificate: &[u8],
        root: &Authority,
        key: KeyPair,
        trust_domain: &TrustDomain,
        (life, now): (Life, Stamp),
    ) -> Result<Self, CaError> {
        let authority = check(certificate, trust_domain, now)?;
        let is_root = certificate == root.der();
        if !is_root && root.path_length() == Some(0) {
            return Err(CaError::PathLength);
        }
        let key_id = authority.subject_key_id().filter(|id| (1..=64).contains(&id.len()));
        let key_id = key_id.ok_or(CaError::NoKeyId)?;
        let (_, x509) = parse_x509_certificate(certificate).map_err(|_| CaError::Signing)?;
        if x509.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(CaError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate.into(), key);
        let issuer = issuer.map_err(|_| CaError::Signing)?;
        let chain = if is_root { vec![] } else { vec![certificate.to_vec()] };
        let ca = Self { issuer, authority, chain, key_id, life };
        ca.trial(root, trust_domain, now)?;
        Ok(ca)
    }

    /// Signs a certificate for a public key.
    ///
    /// # Errors
    /// [`CaError::Signing`].
    pub fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, CaError> {
        let certificate = params.signed_by(key, &self.issuer).map_err(|_| CaError::Signing)?;
        Ok(certificate.into())
    }

    /// Signs a revocation list.
    ///
    /// # Errors
    /// [`CaError::Signing`], also where [`Authority::signs_lists`] says no.
    pub fn sign_list(&self, list: &CertificateRevocationListParams) -> Result<Vec<u8>, CaError> {
        let list = list.signed_by(&self.issuer).map_err(|_| CaError::Signing)?;
        Ok(list.der().to_vec())
    }

    /// Its own certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What follows a leaf on the way to the root, in DER; the root left out.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Its subject key identifier in hex: how a lease names it.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// When it signs; nothing that it signs may be valid longer.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Signs a leaf for its own key and looks at it as a verifier does.
    fn trial(
        &self,
        root: &Authority,
        trust_domain: &TrustDomain,
        now: Stamp,
    ) -> Result<(), CaError> {
        let id = format!("spiffe://{trust_domain}/trial");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(1));
        params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(|_| CaError::Signing)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now, now.plus(Span::from_seconds(1)));
        let leaf = self.sign(&params, self.issuer.key())?;
        let fault = |error: webpki::Error| CaError::Chain(error.to_string());
        let root = CertificateDer::from(root.der());
        let anchor = webpki::anchor_from_trusted_cert(&root).map_err(fault)?;
        let between: Vec<CertificateDer<'_>> =
            self.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        EndEntityCert::try_from(&leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    rustls::crypto::ring::default_provider().signature_verification_algorithms.all,
                    &[anchor],
                    &between,
                    UnixTime::since_unix_epoch(std::time::Duration::from_micros(now.micros())),
                    KeyUsage::client_auth(),
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(fault)
    }
}

impl std::fmt::Debug for IssuerCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuerCa({})", self.key_id)
    }
}

/// The rules of one certificate of an authority of ours.
pub(super) fn check(
    certificate: &[u8],
    trust_domain: &TrustDomain,
    now: Stamp,
) -> Result<Authority, CaError> {
    let authority = Authority::check(certificate)?;
    if !authority.is_valid_at(now) {
        return Err(CaError::NotValidNow);
    }
    let own = format!("spiffe://{trust_domain}");
    if let Some(found) = authority.uris().into_iter().find(|uri| *uri != own) {
        return Err(CaError::OtherTrustDomain { found, trust_domain: trust_domain.clone() });
    }
    Ok(authority)
}

/// Sets `notBefore` and `notAfter`, which is inclusive, to whole seconds.
pub fn set_validity(params: &mut CertificateParams, not_before: Stamp, not_after: Stamp) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + std::time::Duration::from_secs(not_before.seconds());
    params.not_after = epoch + std::time::Duration::from_secs(not_after.seconds());
}
