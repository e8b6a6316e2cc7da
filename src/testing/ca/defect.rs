//! Leaves with one defect each: what a verifier must refuse, named by what is wrong.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose,
};

use super::{leaf, set_validity, uri};
use crate::domain::time::{Span, Stamp};

/// What is wrong with a leaf that is otherwise good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// No URI among its names, but a DNS name.
    NoUriSan,
    /// A SPIFFE ID as common name, and no URI among its names.
    SpiffeIdAsCommonName,
    /// Two SPIFFE IDs.
    TwoUriSans,
    /// A SPIFFE ID and, behind it, a URI of another scheme.
    HttpUriBesideSpiffeId,
    /// A SPIFFE ID and, behind it, a URI that is not text.
    BrokenUriBesideSpiffeId,
    /// One URI, of scheme `http`.
    HttpUriSan,
    /// The ID of the trust domain itself.
    RootPath,
    /// The trust domain in upper case.
    UpperCaseTrustDomain,
    /// A port behind the trust domain.
    Port,
    /// `..` in the path.
    DotSegment,
    /// An empty segment in the path.
    EmptySegment,
    /// A NUL in the path.
    NulInPath,
    /// 2049 bytes long.
    TooLongId,
    /// `cA` is true.
    CertificateAuthority,
    /// `cA` is true, and noRevAvail is there.
    NoRevAvailOnAuthority,
    /// Basic constraints that do not parse, which lenient readers take for absent.
    BrokenBasicConstraints,
    /// No key usage.
    NoKeyUsage,
    /// Key usage that is not critical.
    KeyUsageNotCritical,
    /// Key usage without `digitalSignature`.
    NoDigitalSignature,
    /// Key usage with `keyCertSign`.
    KeyCertSign,
    /// Key usage with `cRLSign`.
    CrlSign,
    /// Extended key usage `clientAuth` alone.
    ClientAuthOnly,
    /// Extended key usage `serverAuth` alone.
    ServerAuthOnly,
    /// Extended key usage that is an empty sequence (CVE-2026-40097).
    EmptyExtendedKeyUsage,
    /// A critical extension that nobody knows.
    UnknownCriticalExtension,
    /// Empty subject, and names that are not critical.
    SanNotCritical,
    /// Two extensions with the names, each with one URI.
    TwoSanExtensions,
    /// Expired a second ago.
    Expired,
    /// Valid from the next second on.
    NotYetValid,
}

impl Defect {
    /// Every defect.
    pub const ALL: [Self; 29] = [
        Self::NoUriSan,
        Self::SpiffeIdAsCommonName,
        Self::TwoUriSans,
        Self::HttpUriBesideSpiffeId,
        Self::BrokenUriBesideSpiffeId,
        Self::HttpUriSan,
        Self::RootPath,
        Self::UpperCaseTrustDomain,
        Self::Port,
        Self::DotSegment,
        Self::EmptySegment,
        Self::NulInPath,
        Self::TooLongId,
        Self::CertificateAuthority,
        Self::NoRevAvailOnAuthority,
        Self::BrokenBasicConstraints,
        Self::NoKeyUsage,
        Self::KeyUsageNotCritical,
        Self::NoDigitalSignature,
        Self::KeyCertSign,
        Self::CrlSign,
        Self::ClientAuthOnly,
        Self::ServerAuthOnly,
        Self::EmptyExtendedKeyUsage,
        Self::UnknownCriticalExtension,
        Self::SanNotCritical,
        Self::TwoSanExtensions,
        Self::Expired,
        Self::NotYetValid,
    ];

    pub(super) fn params(self, trust_domain: &str, now: Stamp) -> CertificateParams {
        let good = format!("spiffe://{trust_domain}/defective");
        let hour = Span::from_seconds(3600);
        let mut params = leaf(&good, now.minus(hour), now.plus(hour));
        let second = Span::from_seconds(1);
        match self {
            Self::Expired => set_validity(&mut params, now.minus(hour), now.minus(second)),
            Self::NotYetValid => set_validity(&mut params, now.plus(second), now.plus(hour)),
            Self::CertificateAuthority | Self::NoRevAvailOnAuthority => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                if self == Self::NoRevAvailOnAuthority {
                    params.custom_extensions.push(no_rev_avail());
                }
            }
            Self::BrokenBasicConstraints => {
                params.is_ca = IsCa::NoCa;
                params.custom_extensions.push(raw(&[2, 5, 29, 19], true, &[0x30, 0x7f, 0x01]));
            }
            Self::UnknownCriticalExtension => {
                params.custom_extensions.push(raw(&[1, 3, 6, 1, 4, 1, 32473, 99], true, &[5, 0]));
            }
            _ => self.spoil_usages(&mut params).spoil_names(&mut params, trust_domain, &good),
        }
        params
    }

    fn spoil_usages(self, params: &mut CertificateParams) -> Self {
        match self {
            Self::NoKeyUsage => params.key_usages.clear(),
            Self::KeyUsageNotCritical => {
                params.key_usages.clear();
                params.custom_extensions.push(raw(&[2, 5, 29, 15], false, &[3, 2, 7, 0x80]));
            }
            Self::NoDigitalSignature => {
                params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
            }
            Self::KeyCertSign => params.key_usages.push(KeyUsagePurpose::KeyCertSign),
            Self::CrlSign => params.key_usages.push(KeyUsagePurpose::CrlSign),
            Self::ClientAuthOnly => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
            Self::ServerAuthOnly => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Self::EmptyExtendedKeyUsage => {
                params.extended_key_usages.clear();
                params.custom_extensions.push(raw(&[2, 5, 29, 37], false, &[0x30, 0]));
            }
            _ => {}
        }
        self
    }

    fn spoil_names(self, params: &mut CertificateParams, trust_domain: &str, good: &str) {
        let names = |texts: &[&str]| texts.iter().map(|text| uri(text)).collect();
        match self {
            Self::NoUriSan => {
                let dns = CertificateParams::new(vec!["prod.example".to_owned()]).unwrap();
                params.subject_alt_names = dns.subject_alt_names;
            }
            Self::SpiffeIdAsCommonName => {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, good);
            }
            Self::TwoUriSans => params.subject_alt_names.push(uri(&format!("{good}/too"))),
            Self::HttpUriBesideSpiffeId => {
                params.subject_alt_names = names(&[good, "http://prod.example/"]);
            }
            Self::BrokenUriBesideSpiffeId => {
                params.subject_alt_names.clear();
                params.custom_extensions.push(san(true, &[good.as_bytes(), &[0xff]]));
            }
            Self::HttpUriSan => params.subject_alt_names = names(&["http://prod.example/a"]),
            Self::RootPath => {
                params.subject_alt_names = names(&[&format!("spiffe://{trust_domain}")]);
            }
            Self::UpperCaseTrustDomain => {
                let upper = trust_domain.to_uppercase();
                params.subject_alt_names = names(&[&format!("spiffe://{upper}/a")]);
            }
            Self::Port => {
                params.subject_alt_names = names(&[&format!("spiffe://{trust_domain}:443/a")]);
            }
            Self::DotSegment => params.subject_alt_names = names(&[&format!("{good}/../admin")]),
            Self::EmptySegment => params.subject_alt_names = names(&[&format!("{good}//admin")]),
            Self::NulInPath => params.subject_alt_names = names(&[&format!("{good}\0/admin")]),
            Self::TooLongId => {
                let padding = "a".repeat(2049 - good.len());
                params.subject_alt_names = names(&[&format!("{good}{padding}")]);
            }
            Self::SanNotCritical => {
                params.subject_alt_names.clear();
                params.custom_extensions.push(san(false, &[good.as_bytes()]));
            }
            Self::TwoSanExtensions => {
                params.custom_extensions.push(san(false, &[good.as_bytes(), b"/too"]));
            }
            _ => {}
        }
    }
}

/// noRevAvail: NULL, not critical (RFC 9608 section 2).
pub(super) fn no_rev_avail() -> CustomExtension {
    raw(&[2, 5, 29, 56], false, &[5, 0])
}

/// Name constraints: URIs of this host only, critical (RFC 5280 section 4.2.1.10).
pub(super) fn uri_constraint(host: &str) -> CustomExtension {
    let subtree = tagged(0x30, &tagged(0x86, host.as_bytes()));
    raw(&[2, 5, 29, 30], true, &tagged(0x30, &tagged(0xa0, &subtree)))
}

/// Names that are these URIs, as bytes.
pub(super) fn san(critical: bool, uris: &[&[u8]]) -> CustomExtension {
    let names = uris.iter().flat_map(|uri| tagged(0x86, uri)).collect::<Vec<_>>();
    raw(&[2, 5, 29, 17], critical, &tagged(0x30, &names))
}

/// A DER value of fewer than 128 bytes.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).unwrap()], content].concat()
}

fn raw(oid: &[u64], critical: bool, der: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, der.to_vec());
    extension.set_criticality(critical);
    extension
}
