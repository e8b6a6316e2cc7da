//! What revocation lists are made from, to bytes and back.

use prost::Message;

use crate::domain::certificate::{CertificateDraft, IssuedCertificate};
use crate::domain::path::Path;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::proto::store as wire;
use crate::store::StoreError;
use crate::store::codec::{
    VERSION, bytes, corrupt, hop, hop_to_wire, lease_id, must_be_version, origin, stamp,
};

/// The body of a certificate's record.
pub fn certificate_body(draft: &CertificateDraft) -> Vec<u8> {
    wire::Certificate {
        version: VERSION,
        jti: draft.jti.to_vec().into(),
        lease: draft.lease.to_string(),
        path: draft.path.hops().map(hop_to_wire).collect(),
        reach: draft.reach.iter().map(|reach| reach.0.to_vec().into()).collect(),
        authority: draft.authority.clone(),
        ..Default::default()
    }
    .encode_to_vec()
}

/// A certificate from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn certificate(value: &[u8]) -> Result<IssuedCertificate, StoreError> {
    let record = wire::Certificate::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    let hops = record.path.iter().map(hop).collect::<Result<_, _>>()?;
    let reach = record.reach.iter().map(|reach| bytes(reach).map(Reach));
    if record.expires == 0 {
        return Err(corrupt("a certificate without end"));
    }
    let draft = CertificateDraft {
        jti: bytes(&record.jti)?,
        lease: lease_id(&record.lease)?,
        path: Path::from_hops(hops).ok_or_else(|| corrupt("path"))?,
        reach: reach.collect::<Result<_, _>>()?,
        authority: record.authority,
    };
    let origin = origin(record.incarnation, record.stamp)?;
    Ok(IssuedCertificate { draft, origin, expires_seconds: record.expires })
}

/// The body of the record of the newest revocation list.
pub fn revocation_list_body(number: u64) -> Vec<u8> {
    wire::RevocationList { version: VERSION, number, ..Default::default() }.encode_to_vec()
}

/// The number of the newest revocation list and the version of the record, from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn revocation_list(value: &[u8]) -> Result<(u64, Stamp), StoreError> {
    let record = wire::RevocationList::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    Ok((record.number, stamp(record.stamp)?))
}
