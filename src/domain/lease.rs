//! Leases: the records of issued credentials.

use crate::domain::clamp::Clamp;
use crate::domain::grant::Grant;
use crate::domain::id::LeaseId;
use crate::domain::lattice::Facts;
use crate::domain::path::{Origin, Path};
use crate::domain::principal::{Name, Principal};
use crate::domain::scope::{Reach, Scope};
use crate::domain::time::{Span, Stamp};

/// What a lease is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RFC 9068 access token.
    AccessToken,
    /// X.509-SVID from a CSR.
    X509Svid,
    /// JWT-SVID.
    JwtSvid,
}

impl Kind {
    /// Its number in records and in the contract, from 1.
    pub fn number(self) -> u32 {
        match self {
            Self::AccessToken => 1,
            Self::X509Svid => 2,
            Self::JwtSvid => 3,
        }
    }

    /// The kind of that number.
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::AccessToken, Self::X509Svid, Self::JwtSvid]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

/// A lease before its commit: everything but the times, which the commit sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Its name. A name, never a capability.
    pub id: LeaseId,
    /// SHA-256 of the request that its first credential was issued for: the lease is the answer to it. `None` where that answer
    /// was kept apart.
    pub request: Option<[u8; 32]>,
    /// Of a renewed lease: its first credential while that lives, for whoever sends that request again.
    pub first: Option<Box<Lease>>,
    /// What it is for.
    pub kind: Kind,
    /// Who holds it.
    pub holder: Principal,
    /// Which running copy of the holder.
    pub instance: String,
    /// SHA-256 of the DER of the certificate that the credential is bound to; `None` for a bearer token, and for what is
    /// bound to a certificate that is minted with it.
    pub key_thumbprint: Option<[u8; 32]>,
    /// Thumbprint (RFC 7638) of the key that DPoP proofs are made with; `None` for what is bound in another way.
    pub jkt: Option<[u8; 32]>,
    /// DER of the SubjectPublicKeyInfo that a CSR proved.
    pub public_key: Option<Vec<u8>>,
    /// Subject key identifier, in hex, of the authority that signs the certificate that is minted with a token; `None` if none is,
    /// and for an X.509-SVID, whose authority is its `signing_key`.
    pub authority: Option<String>,
    /// The one resource; empty only for a certificate.
    pub audience: String,
    /// As granted.
    pub grant: Grant,
    /// The tier.
    pub tier: Name,
    /// Δ.
    pub freshness: Span,
    /// Its execution path.
    pub path: Path,
    /// Scopes that reach it, without tier, key and `all`.
    pub reach: Vec<Reach>,
    /// 16 random bytes that name the credential.
    pub jti: [u8; 16],
    /// How often it was renewed.
    pub renewals: u32,
    /// Seconds after first issue past which nothing is renewed.
    pub ceiling_seconds: u64,
    /// `kid` of the signing key, or the CA's SKI in hex.
    pub signing_key: String,
    /// The task's step.
    pub step: String,
    /// `sub`: the root task's agent.
    pub subject: Principal,
    /// Actors from this task's agent outward; the first is `client_id`.
    pub actors: Vec<Principal>,
}

/// A lease as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What the broker decided.
    pub draft: Draft,
    /// When the latest credential was committed.
    pub origin: Origin,
    /// When the first one was.
    pub first_origin: Origin,
    /// First issue for task, principal and audience: what the ceiling counts from.
    pub first_issue: Stamp,
    /// `exp` of the latest credential, in seconds.
    pub expires_seconds: u64,
    /// The limit that set it.
    pub clamp: Clamp,
}

impl Draft {
    /// Subject key identifier, in hex, of the authority that signs the certificate of the credential, if there is one.
    pub fn certificate_authority(&self) -> Option<&str> {
        match self.kind {
            Kind::X509Svid => Some(&self.signing_key),
            Kind::AccessToken | Kind::JwtSvid => self.authority.as_deref(),
        }
    }
}

impl Lease {
    /// `iat` of the latest credential, in seconds.
    pub fn issued_seconds(&self) -> u64 {
        self.origin.stamp.seconds()
    }

    /// When no renewal goes further, in seconds.
    pub fn ceiling_seconds(&self) -> u64 {
        self.first_issue.seconds().saturating_add(self.draft.ceiling_seconds)
    }

    /// Its first credential, as it was issued; `None` once it was renewed and that one's time is over.
    pub fn as_issued(&self) -> Option<&Self> {
        if self.draft.renewals == 0 { Some(self) } else { self.draft.first.as_deref() }
    }

    /// The first credential, for a renewal to keep while it lives.
    pub fn kept_first(&self, now: Stamp) -> Option<Box<Self>> {
        let first = self.as_issued().filter(|first| !first.is_expired(now))?;
        let draft = Draft { request: None, first: None, ..first.draft.clone() };
        Some(Box::new(Self { draft, ..first.clone() }))
    }

    /// Whether the latest credential's time is over.
    pub fn is_expired(&self, now: Stamp) -> bool {
        Stamp::from_seconds(self.expires_seconds) <= now
    }

    /// Every scope that reaches its credential.
    pub fn full_reach(&self) -> Vec<Reach> {
        full_reach(&self.draft.reach, &self.draft.tier, &self.draft.signing_key)
    }

    /// What revocation can hit of the latest credential.
    pub fn facts<'a>(&'a self, reach: &'a [Reach]) -> Facts<'a> {
        Facts { path: &self.draft.path, lease: self.draft.id, origin: self.origin, reach }
    }
}

/// The scopes of a credential's `reach`, and those that follow from the credential itself: tier, signing key and `all`.
pub fn full_reach(reach: &[Reach], tier: &Name, signing_key: &str) -> Vec<Reach> {
    let own = [Scope::Tier(tier.clone()), Scope::Key(signing_key.to_owned()), Scope::All];
    reach.iter().copied().chain(own.iter().map(Scope::reach)).collect()
}
