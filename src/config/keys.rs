//! `keys`: what seals the keyring, and the certificate authority.

use std::path::PathBuf;

use super::document::Field;
use super::secret_source::{self, SecretSource};
use super::section::Section;
use super::value;

/// An arc for examples (RFC 5612), until an owner registers one (FORMATS.md, Tokens).
const EXTENSION_OID: [u64; 8] = [1, 3, 6, 1, 4, 1, 32473, 1];

/// The broker's own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// 32 bytes that seal the keyring record in the store.
    pub encryption_key: SecretSource,
    /// The certificate authority; `None`: root and intermediate are made on first start and kept in the keyring.
    pub ca: Option<CaFiles>,
    /// Object identifier of the extension that holds the execution path.
    pub certificate_extension_oid: Vec<u64>,
}

/// A certificate authority from files, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFiles {
    /// The root's certificate. Its key stays elsewhere.
    pub root_cert_file: PathBuf,
    /// The intermediate's certificate.
    pub intermediate_cert_file: PathBuf,
    /// The intermediate's private key.
    pub intermediate_key_file: PathBuf,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Keys> {
    let source = secret_source::read(section, ("encryption_key_file", "encryption_key_env"));
    let ca = section.optional("ca", value::table(ca));
    let oid = section.or("certificate_extension_oid", EXTENSION_OID.to_vec(), oid);
    let Some(encryption_key) = source? else {
        let text = "has no key to seal the keyring with; write `encryption_key_file = \"keyring.key\"` or \
                    `encryption_key_env = \"LEASEHOLD_KEY\"`";
        return section.refuse("", text);
    };
    Some(Keys { encryption_key, ca: ca?, certificate_extension_oid: oid? })
}

fn ca(section: &mut Section<'_>) -> Option<CaFiles> {
    let root = section.required("root_cert_file", "root_cert_file = \"ca/root.pem\"", value::file);
    let cert = section.required(
        "intermediate_cert_file",
        "intermediate_cert_file = \"ca/intermediate.pem\"",
        value::file,
    );
    let key = section.required(
        "intermediate_key_file",
        "intermediate_key_file = \"ca/intermediate.key\"",
        value::file,
    );
    Some(CaFiles {
        root_cert_file: root?,
        intermediate_cert_file: cert?,
        intermediate_key_file: key?,
    })
}

/// Dotted numbers; the first two as ITU-T X.660 bounds them.
fn oid(field: &Field<'_>) -> Option<Vec<u64>> {
    let text = value::text(field)?;
    let arcs: Option<Vec<u64>> = text.split('.').map(|arc| arc.parse().ok()).collect();
    let canonical = |arcs: &Vec<u64>| {
        let parts: Vec<_> = arcs.iter().map(u64::to_string).collect();
        parts.join(".") == text
    };
    match arcs.filter(canonical).as_deref() {
        Some(arcs @ ([0 | 1, 0..=39, _, ..] | [2, 0..=999, _, ..])) => Some(arcs.to_vec()),
        _ => field.refuse(format!("is `{text}`; write dotted numbers, like `1.3.6.1.4.1.32473.1`")),
    }
}
