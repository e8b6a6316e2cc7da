//! Tiers: an operator's named sets of limits.

use crate::domain::principal::Name;
use crate::domain::task::OnSilence;
use crate::domain::time::Span;

/// Whether credentials of a tier are bound to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofRequirement {
    /// Always.
    Required,
    /// The caller may ask for a bearer token.
    Optional,
}

/// A named set of limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: Name,
    /// How long a credential lives unless something else is shorter; whole seconds.
    pub ttl_seconds: u64,
    /// How long after the first issue the last renewal may end; whole seconds.
    pub ceiling_seconds: u64,
    /// Nothing shorter is issued; whole seconds.
    pub min_ttl_seconds: u64,
    /// Δ: how old a verifier's view may be; 500 ms to `delta_max`.
    pub freshness: Span,
    /// Bound to a key, or not.
    pub proof: ProofRequirement,
    /// What three missed heartbeats do.
    pub on_silence: OnSilence,
}
