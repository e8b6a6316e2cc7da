//! Reading a certificate so that nothing in it can be overlooked.

use std::collections::HashSet;

use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use super::authority::Authority;
use crate::domain::time::{Span, Stamp};
use crate::jose::json::Object;
use crate::jose::{self, Curve};

const NO_REV_AVAIL: Oid<'static> = oid!(2.5.29.56);

/// A certificate with every extension that we know read, and none of those in doubt.
pub(super) struct Certificate<'a> {
    x509: X509Certificate<'a>,
}

/// The bytes are not exactly one X.509 v3 certificate with readable, unique extensions (RFC 5280 section 4).
pub(super) struct Malformed;

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let (rest, x509) = X509Certificate::from_der(der).map_err(|_| Malformed)?;
        let mut seen = HashSet::new();
        // x509-parser's own `basic_constraints()` reads an extension that does not parse as absent.
        let sound = x509.extensions().iter().all(|extension| {
            extension.parsed_extension().error().is_none() && seen.insert(&extension.oid)
        });
        if rest.is_empty() && sound && x509.version() == X509Version::V3 {
            Ok(Self { x509 })
        } else {
            Err(Malformed)
        }
    }

    pub(super) fn is_authority(&self) -> bool {
        self.extensions()
            .any(|(_, extension)| matches!(extension, ParsedExtension::BasicConstraints(b) if b.ca))
    }

    pub(super) fn has_no_rev_avail(&self) -> bool {
        self.x509.extensions().iter().any(|extension| extension.oid == NO_REV_AVAIL)
    }

    /// Key usage and whether it is critical.
    pub(super) fn key_usage(&self) -> Option<(&KeyUsage, bool)> {
        self.extensions().find_map(|(critical, extension)| match extension {
            ParsedExtension::KeyUsage(usage) => Some((usage, critical)),
            _ => None,
        })
    }

    pub(super) fn extended_key_usage(&self) -> Option<&ExtendedKeyUsage<'a>> {
        self.extensions().find_map(|(_, extension)| match extension {
            ParsedExtension::ExtendedKeyUsage(usage) => Some(usage),
            _ => None,
        })
    }

    /// Subject alternative names, none if there is no such extension, and whether it is critical.
    pub(super) fn names(&self) -> (&[GeneralName<'a>], bool) {
        let names = self.extensions().find_map(|(critical, extension)| match extension {
            ParsedExtension::SubjectAlternativeName(san) => {
                Some((san.general_names.as_slice(), critical))
            }
            _ => None,
        });
        names.unwrap_or_default()
    }

    pub(super) fn has_subject(&self) -> bool {
        self.x509.subject().iter().next().is_some()
    }

    /// Whether there is a critical extension besides those that a leaf's rules are about.
    pub(super) fn has_unknown_critical_extension(&self) -> bool {
        self.extensions().any(|(critical, extension)| {
            critical
                && !matches!(
                    extension,
                    ParsedExtension::BasicConstraints(_)
                        | ParsedExtension::KeyUsage(_)
                        | ParsedExtension::ExtendedKeyUsage(_)
                        | ParsedExtension::SubjectAlternativeName(_)
                )
        })
    }

    /// First instant of validity, and the first instant after it: `notAfter` is inclusive (RFC 5280 section 4.1.2.5).
    pub(super) fn validity(&self) -> (Stamp, Stamp) {
        let validity = self.x509.validity();
        // Times before 1970 all read as 1970.
        let [from, last] = [validity.not_before, validity.not_after]
            .map(|time| u64::try_from(time.timestamp()).unwrap_or(0));
        (Stamp::from_seconds(from), Stamp::from_seconds(last).plus(Span::from_seconds(1)))
    }

    pub(super) fn subject_key_id(&self) -> Option<&'a [u8]> {
        self.extensions().find_map(|(_, extension)| match extension {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
            _ => None,
        })
    }

    pub(super) fn path_length(&self) -> Option<u32> {
        self.extensions().find_map(|(_, extension)| match extension {
            ParsedExtension::BasicConstraints(constraints) => constraints.path_len_constraint,
            _ => None,
        })
    }

    pub(super) fn uris(&self) -> Vec<String> {
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        self.names().0.iter().filter_map(uri).collect()
    }

    /// The bytes of the serial number as they stand there.
    pub(super) fn serial_number(&self) -> &[u8] {
        self.x509.raw_serial()
    }

    /// Whether the extension under an object identifier is critical, and its value.
    pub(super) fn extension(&self, arcs: &[u64]) -> Option<(bool, &'a [u8])> {
        let oid = Oid::from(arcs).ok()?;
        let extension = self.x509.extensions().iter().find(|extension| extension.oid == oid)?;
        Some((extension.critical, extension.value))
    }

    /// Whether this authority, by name and key, signed it.
    pub(super) fn is_signed_by(&self, authority: &Authority) -> bool {
        let Ok(signer) = Certificate::read(authority.der()) else { return false };
        self.x509.issuer().as_raw() == signer.x509.subject().as_raw()
            && self.x509.verify_signature(Some(signer.x509.public_key())).is_ok()
    }

    /// The members of its key's JWK, if `jose` knows the kind of key.
    pub(super) fn public_key_members(&self) -> Option<Object> {
        let key = match self.x509.public_key().parsed().ok()? {
            PublicKey::EC(point) if point.data().len() == 65 => {
                jose::PublicKey::ec(Curve::P256, point.data())
            }
            PublicKey::EC(point) => jose::PublicKey::ec(Curve::P384, point.data()),
            PublicKey::RSA(key) => {
                jose::PublicKey::rsa(unsigned(key.modulus), unsigned(key.exponent))
            }
            _ => return None,
        };
        Some(key.ok()?.required_members())
    }

    fn extensions(&self) -> impl Iterator<Item = (bool, &ParsedExtension<'a>)> {
        self.x509
            .extensions()
            .iter()
            .map(|extension| (extension.critical, extension.parsed_extension()))
    }
}

/// An INTEGER's bytes without the zero that only says that it is positive.
fn unsigned(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}
