//! Leases to bytes and back: what is a lease's own, and the terms that leases of a task share.
//!
//! ```text
//!  stamp | version, name of the terms, request | jti, renewals, key of a CSR, first credential | incarnation, expiry, first issue
//! ```
//!
//! A message may be cut anywhere between two fields: terms behind a lease's own bytes are the whole lease.

use prost::Message;

use crate::domain::id::LeaseId;
use crate::domain::lease::{Draft, Kind, Lease};
use crate::domain::path::Path;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::proto::store as wire;
use crate::store::StoreError;
use crate::store::codec::{
    Header, bytes, corrupt, grant, hop, hop_to_wire, lease_id, millis, name, origin, principal,
    thumbprint, times,
};

/// The version that kept every lease whole; it is still read.
const WHOLE: u32 = 1;
/// The version that is written.
const VERSION: u32 = 2;

/// Tags of the fields that a commit sets, in front of eight bytes each.
const STAMP: u8 = 0x09;
const INCARNATION: u8 = 0x11;
const EXPIRES: u8 = 0x21;
const CLAMP: u8 = 0x29;
const FIRST_ISSUE: u8 = 0x31;
const LEASE_INCARNATION: u8 = 0x39;
const LEASE_STAMP: u8 = 0x41;

/// Behind the stamp: the version, and the tag and the length of the name of the terms.
const NAMES_TERMS: [u8; 5] = [0x48, 0x02, 0xfa, 0x01, 0x10];

/// What terms are kept under: the first 16 bytes of their SHA-256.
// Two terms of one name take 2^64 tries; whoever has them was permitted both.
pub type TermsName = [u8; 16];

/// A lease before its commit, as it is stored.
pub struct LeaseBytes {
    /// Its own, but for the times.
    pub own: Vec<u8>,
    /// What it shares.
    pub terms: Vec<u8>,
    /// What that is kept under.
    pub name: TermsName,
}

/// The bytes of a lease.
pub fn lease_bytes(draft: &Draft) -> LeaseBytes {
    let terms = terms(draft).encode_to_vec();
    let digest = ring::digest::digest(&ring::digest::SHA256, &terms);
    let mut name = [0; 16];
    name.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    let request = draft.request.map(|hash| hash.to_vec().into()).unwrap_or_default();
    let (version, named) = (VERSION, name.to_vec().into());
    // These stand in front, where scripts find them.
    let head = wire::Lease { version, terms: named, request, ..Default::default() };
    let first = draft.first.as_deref().map(|lease| Box::new(whole(lease)));
    let own = [head.encode_to_vec(), wire::Lease { first, ..own(draft) }.encode_to_vec()].concat();
    LeaseBytes { own, terms, name }
}

impl LeaseBytes {
    /// How many bytes an answer has of it.
    pub fn length(&self) -> usize {
        self.terms.len().saturating_add(self.own.len())
    }

    /// What is stored of a lease with these times, apart from its terms.
    pub fn value(&self, header: &Header) -> Vec<u8> {
        let (at, times) = (header.origin, header.credential);
        let mut value = field(STAMP, at.stamp.micros()).to_vec();
        value.extend_from_slice(&self.own);
        value.extend(field(INCARNATION, at.incarnation.micros()));
        let Some(times) = times else { return value };
        value.extend(field(EXPIRES, times.expiry.expires_seconds));
        value.extend(field(CLAMP, times.expiry.clamp.number()));
        if times.first_issue != at.stamp {
            value.extend(field(FIRST_ISSUE, times.first_issue.micros()));
        }
        if times.lease_origin != at {
            value.extend(field(LEASE_INCARNATION, times.lease_origin.incarnation.micros()));
            value.extend(field(LEASE_STAMP, times.lease_origin.stamp.micros()));
        }
        value
    }
}

fn field(tag: u8, number: u64) -> [u8; 9] {
    let mut field = [tag; 9];
    field.iter_mut().skip(1).zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    field
}

/// The terms that a stored lease names; `None` if it is whole.
pub fn terms_of(value: &[u8]) -> Option<TermsName> {
    let named = value.get(9..)?.strip_prefix(&NAMES_TERMS)?;
    named.first_chunk().copied()
}

/// A lease from its id and what is stored of it: its own bytes, and its terms behind them.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn lease(id: LeaseId, value: &[u8]) -> Result<Lease, StoreError> {
    let mut record = wire::Lease::decode(value).map_err(corrupt)?;
    if record.id.is_empty() {
        record.id = id.to_string();
    }
    lease_from_wire(record)
}

/// What leases of a task share as long as nothing changes.
fn terms(draft: &Draft) -> wire::Lease {
    wire::Lease {
        kind: draft.kind.number(),
        holder: draft.holder.to_string(),
        instance: draft.instance.clone(),
        key_thumbprint: draft.key_thumbprint.map(|t| t.to_vec().into()).unwrap_or_default(),
        audience: draft.audience.clone(),
        grant: draft.grant.to_json(),
        tier: draft.tier.to_string(),
        freshness_millis: draft.freshness.millis(),
        path: draft.path.hops().map(hop_to_wire).collect(),
        reach: draft.reach.iter().map(|reach| reach.0.to_vec().into()).collect(),
        ceiling_seconds: draft.ceiling_seconds,
        signing_key: draft.signing_key.clone(),
        step: draft.step.clone(),
        subject: draft.subject.to_string(),
        actors: draft.actors.iter().map(ToString::to_string).collect(),
        jkt: draft.jkt.map(|t| t.to_vec().into()).unwrap_or_default(),
        authority: draft.authority.clone().unwrap_or_default(),
        ..Default::default()
    }
}

fn own(draft: &Draft) -> wire::Lease {
    wire::Lease {
        jti: draft.jti.to_vec().into(),
        renewals: draft.renewals,
        public_key: draft.public_key.clone().map(Into::into).unwrap_or_default(),
        ..Default::default()
    }
}

/// A lease in one piece, but for its id: that of the lease that it is kept in.
fn whole(lease: &Lease) -> wire::Lease {
    let own = own(&lease.draft);
    wire::Lease {
        stamp: lease.origin.stamp.micros(),
        incarnation: lease.origin.incarnation.micros(),
        expires: lease.expires_seconds,
        clamp: lease.clamp.number(),
        first_issue: lease.first_issue.micros(),
        lease_incarnation: lease.first_origin.incarnation.micros(),
        lease_stamp: lease.first_origin.stamp.micros(),
        version: VERSION,
        jti: own.jti,
        renewals: own.renewals,
        public_key: own.public_key,
        ..terms(&lease.draft)
    }
}

pub(in crate::store) fn lease_from_wire(record: wire::Lease) -> Result<Lease, StoreError> {
    must_be_known(record.version)?;
    if !record.terms.is_empty() && record.holder.is_empty() {
        return Err(corrupt("the terms that a lease names are gone"));
    }
    let first = match record.first {
        Some(first) if first.first.is_none() => {
            let first = wire::Lease { id: record.id.clone(), ..*first };
            Some(Box::new(lease_from_wire(first)?))
        }
        Some(_) => return Err(corrupt("a first credential with one before it")),
        None => None,
    };
    let origin = origin(record.incarnation, record.stamp)?;
    let times = times(&wire::Header {
        expires: record.expires,
        clamp: record.clamp,
        first_issue: record.first_issue,
        lease_incarnation: record.lease_incarnation,
        lease_stamp: record.lease_stamp,
        ..Default::default()
    })?;
    let is_whole = record.version == WHOLE;
    let hops = record.path.iter().map(hop).collect::<Result<_, _>>()?;
    let reach = record.reach.iter().map(|reach| bytes(reach).map(Reach));
    let draft = Draft {
        id: lease_id(&record.id)?,
        request: thumbprint(&record.request)?,
        first,
        kind: Kind::from_number(record.kind).ok_or_else(|| corrupt("unknown credential kind"))?,
        holder: principal(&record.holder)?,
        instance: record.instance,
        key_thumbprint: thumbprint(&record.key_thumbprint)?,
        jkt: thumbprint(&record.jkt)?,
        public_key: (!record.public_key.is_empty()).then(|| record.public_key.to_vec()),
        authority: (!record.authority.is_empty()).then_some(record.authority),
        audience: record.audience,
        grant: grant(&record.grant)?,
        tier: name(&record.tier)?,
        freshness: millis(record.freshness_millis)?,
        path: Path::from_hops(hops).ok_or_else(|| corrupt("path"))?,
        reach: reach.collect::<Result<_, _>>()?,
        jti: bytes(&record.jti)?,
        renewals: record.renewals,
        ceiling_seconds: record.ceiling_seconds,
        signing_key: record.signing_key,
        step: record.step,
        subject: principal(&record.subject)?,
        actors: record.actors.iter().map(|a| principal(a)).collect::<Result<_, _>>()?,
    };
    let lease = Lease {
        draft,
        origin,
        first_origin: left_out(is_whole, times.lease_origin, origin),
        first_issue: left_out(is_whole, times.first_issue, origin.stamp),
        expires_seconds: times.expiry.expires_seconds,
        clamp: times.expiry.clamp,
    };
    // No commit has such a stamp: it would be another one when it is written again.
    if [lease.origin.stamp, lease.first_origin.stamp, lease.first_issue].contains(&Stamp::ZERO) {
        return Err(corrupt("a lease without a time"));
    }
    Ok(lease)
}

/// A time that is left out where it is the commit's own.
fn left_out<T: Default + PartialEq>(is_whole: bool, time: T, own: T) -> T {
    if is_whole || time != T::default() { time } else { own }
}

fn must_be_known(version: u32) -> Result<(), StoreError> {
    if [WHOLE, VERSION].contains(&version) {
        return Ok(());
    }
    Err(corrupt(format!(
        "lease of version {version}; this program knows versions {WHOLE} and {VERSION}"
    )))
}
