//! Certificates that live so long that they are put on a revocation list when they die before their time.
//!
//! A verdict is [`Lattice::judge`]'s, as everywhere. What is added here is what a list says besides: when, and why.

use std::collections::BTreeMap;

use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::{Entry, Facts, Fence, Lattice};
use crate::domain::path::{Counter, Origin, Path};
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;

/// A certificate that lives no longer says that no list tells of it (`noRevAvail`, RFC 9608); a longer one names its list.
pub const LONGEST_UNLISTED_SECONDS: u64 = 15 * 60;

/// Whether a certificate of these times is put on a list when it dies.
pub fn is_listed(issued_seconds: u64, expires_seconds: u64) -> bool {
    expires_seconds.saturating_sub(issued_seconds) > LONGEST_UNLISTED_SECONDS
}

/// What a list needs to know of a certificate before its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateDraft {
    /// 16 random bytes, part of its serial number.
    pub jti: [u8; 16],
    /// The lease.
    pub lease: LeaseId,
    /// The execution path.
    pub path: Path,
    /// Every scope that reaches it; tier, key and `all` among them.
    pub reach: Vec<Reach>,
    /// Subject key identifier, in hex, of the authority that signs it.
    pub authority: String,
}

/// A certificate as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// What was known before.
    pub draft: CertificateDraft,
    /// Its commit.
    pub origin: Origin,
    /// `exp`, in seconds: its first dead second.
    pub expires_seconds: u64,
}

impl IssuedCertificate {
    /// What revocation can hit of it.
    pub fn facts(&self) -> Facts<'_> {
        let draft = &self.draft;
        Facts { path: &draft.path, lease: draft.lease, origin: self.origin, reach: &draft.reach }
    }
}

/// Why a certificate is on a list: those codes of RFC 5280 section 5.3.1 that something here stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The task changed or was suspended, and goes on with other credentials.
    Superseded,
    /// The task is over, or one above it.
    CessationOfOperation,
    /// The lease was released or revoked, or a quarantine reaches it. That the key leaked nobody said.
    PrivilegeWithdrawn,
}

/// When a certificate died, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revocation {
    /// The commit that killed it.
    pub at: Stamp,
    /// `None` where its own commit was lost: it should never have been.
    pub reason: Option<Reason>,
}

/// What is known of revocations, and since when.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    lattice: Lattice,
    fences: BTreeMap<TaskId, (Fence, Stamp)>,
    watermarks: BTreeMap<Reach, Origin>,
    leases: BTreeMap<LeaseId, Stamp>,
}

impl Deaths {
    /// Those of a partition at one instant: its lattice, and entries with the commits that made or last raised them.
    pub fn of(lattice: Lattice, raised: Vec<(Entry, Stamp)>) -> Self {
        let mut deaths = Self { lattice, ..Self::default() };
        for (entry, stamp) in raised {
            match entry {
                Entry::Fence(task, fence) => {
                    deaths.fences.insert(task, (fence, stamp));
                }
                Entry::Watermark(scope, origin) => {
                    deaths.watermarks.insert(scope.reach(), origin);
                }
                Entry::Lease(lease) => {
                    deaths.leases.insert(lease, stamp);
                }
                Entry::Block(..) | Entry::End(..) => {}
            }
        }
        deaths
    }

    /// When and why a certificate died; `None` while it is alive. Of several causes the earliest counts, as far as it is
    /// known: a fence that was raised again tells the later time.
    pub fn of_certificate(&self, certificate: &IssuedCertificate) -> Option<Revocation> {
        self.lattice.judge(&certificate.facts()).err()?;
        let unknown = Revocation { at: certificate.origin.stamp, reason: None };
        Some(self.causes(certificate).min().unwrap_or(unknown))
    }

    fn causes(&self, certificate: &IssuedCertificate) -> impl Iterator<Item = Revocation> {
        let (path, origin) = (&certificate.draft.path, certificate.origin);
        let own = path.own();
        let fence = |task: TaskId| self.fences.get(&task).copied();
        let epoch = fence(own.task).map(|(fence, at)| (own.counter, fence.epoch, at));
        let branches = path.ancestors().iter().filter_map(move |hop| {
            let (fence, at) = fence(hop.task)?;
            Some((hop.counter, fence.branch, at))
        });
        let fenced =
            epoch.into_iter().chain(branches).filter(|(counter, least, _)| counter < least);
        let fenced = fenced.map(|(_, least, at)| Revocation { at, reason: Some(moved_on(least)) });
        let withdrawn = |at| Revocation { at, reason: Some(Reason::PrivilegeWithdrawn) };
        let marks = certificate.draft.reach.iter().filter_map(|reach| self.watermarks.get(reach));
        let marks = marks.filter(move |mark| origin <= **mark).map(|mark| mark.stamp);
        let lease = self.leases.get(&certificate.draft.lease).copied();
        fenced.chain(marks.chain(lease).map(withdrawn))
    }
}

fn moved_on(least: Counter) -> Reason {
    if least == Counter::infinity() { Reason::CessationOfOperation } else { Reason::Superseded }
}

#[cfg(test)]
mod tests;
