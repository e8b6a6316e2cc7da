//! The one owner of what is trusted: every source of bundles puts what it learns in here, and everyone reads one snapshot.
//!
//! ```text
//!  file ──────────┐
//!  workload API ──┼── put, confirm ──▶ TrustStore ── swaps ──▶ TrustBundles ── get(domain, now) ──▶ every handshake and call
//!  endpoint ──────┘
//! ```
//!
//! What a source keeps to:
//!
//! - Configuration binds each trust domain to one source, and the store knows no other domain.
//! - [`TrustStore::put`] takes the **whole** bundle of a domain, X.509 authorities and JWT keys together, and replaces what was
//!   there; nothing is ever merged. Whoever learns the two halves apart puts them together first. A domain that its source no
//!   longer speaks of is put as `Bundle::default()`, which trusts nothing.
//! - `confirmed_at` is when the source was asked, by the broker's clock, not when it answered. A source that says that nothing
//!   changed is worth a [`TrustStore::confirm`]; one that does not answer is worth nothing: then the bundle grows old.
//! - A bundle that cannot be read is not put. The former one stays, for as long as it may.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::trust_bundle::{
    SharedBundles, TrustBundle, TrustBundleError, TrustBundles, TrustBundlesError, TrustDomainError,
};
use crate::domain::time::{INFINITY, Span, Stamp};
use crate::spiffe::bundle::Bundle;
use crate::spiffe::id::TrustDomain;
use crate::telemetry::metrics;

/// A trust domain that configuration trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedDomain {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// For how long its bundle counts after its source last confirmed it; `None`: for ever.
    pub max_age: Option<Span>,
}

/// A bundle was not taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Nobody configured the trust domain.
    #[error(transparent)]
    Domain(#[from] TrustDomainError),
    /// It cannot be used to verify with.
    #[error(transparent)]
    Bundle(#[from] TrustBundleError),
}

/// The bundles of all trusted trust domains, and when each was last confirmed.
#[derive(Debug)]
pub struct TrustStore {
    shared: SharedBundles,
    /// Held by whoever swaps the snapshot.
    domains: Mutex<BTreeMap<TrustDomain, State>>,
    started: Stamp,
}

#[derive(Debug)]
struct State {
    max_age: Option<Span>,
    confirmed: Option<Stamp>,
    /// What was last said about it in the log.
    is_stale: bool,
}

impl TrustStore {
    /// Trusts these domains; nothing of them until their sources have put a bundle.
    ///
    /// # Errors
    /// [`TrustBundlesError`] if `own` is among them or one is there twice.
    pub fn new(
        own: &TrustDomain,
        trusted: impl IntoIterator<Item = TrustedDomain>,
        now: Stamp,
    ) -> Result<Self, TrustBundlesError> {
        let mut domains = BTreeMap::new();
        for TrustedDomain { trust_domain, max_age } in trusted {
            if trust_domain == *own {
                return Err(TrustBundlesError::Own(trust_domain));
            }
            let state = State { max_age, confirmed: None, is_stale: false };
            if domains.insert(trust_domain.clone(), state).is_some() {
                return Err(TrustBundlesError::Twice(trust_domain));
            }
        }
        let shared = TrustBundles::awaiting(domains.keys().cloned()).shared();
        Ok(Self { shared, domains: Mutex::new(domains), started: now })
    }

    /// The snapshot, always the current one.
    pub fn shared(&self) -> SharedBundles {
        Arc::clone(&self.shared)
    }

    /// Takes over the whole bundle of a trust domain, as its source had it at `confirmed_at`. Whether anything changed.
    ///
    /// # Errors
    /// [`PutError`]; then the former bundle stays.
    pub fn put(
        &self,
        domain: &TrustDomain,
        bundle: Bundle,
        confirmed_at: Stamp,
    ) -> Result<bool, PutError> {
        let mut domains = self.domains.lock();
        let state = domains.get_mut(domain);
        let state = state.ok_or_else(|| TrustDomainError::Unknown(domain.clone()))?;
        let former = self.shared.load().last(domain).cloned();
        match former {
            Some(former) if *former.source() == bundle => {
                self.swap(domain, former, state, confirmed_at);
                Ok(false)
            }
            former => {
                let next = TrustBundle::of(bundle)?;
                tell_change(domain, former.as_deref(), &next);
                self.swap(domain, Arc::new(next), state, confirmed_at);
                Ok(true)
            }
        }
    }

    /// The source says that what it gave last is still so. Without a bundle it says nothing.
    pub fn confirm(&self, domain: &TrustDomain, confirmed_at: Stamp) {
        let mut domains = self.domains.lock();
        let former = self.shared.load().last(domain).cloned();
        if let (Some(state), Some(bundle)) = (domains.get_mut(domain), former) {
            self.swap(domain, bundle, state, confirmed_at);
        }
    }

    /// How long ago each domain's source last confirmed its bundle; if never, how long the broker has waited for it.
    pub fn ages(&self, now: Stamp) -> Vec<(TrustDomain, Span)> {
        let domains = self.domains.lock();
        let age = |state: &State| now.since(state.confirmed.unwrap_or(self.started));
        domains.iter().map(|(domain, state)| (domain.clone(), age(state))).collect()
    }

    /// Shows the ages, and says in the log which domain's bundle has become too old, or counts again. Called every few seconds;
    /// what is trusted does not depend on it.
    pub fn look(&self, now: Stamp) {
        for (domain, age) in self.ages(now) {
            metrics::trust_bundle_age(domain.as_str(), age.to_std());
        }
        let snapshot = self.shared.load();
        for (domain, state) in self.domains.lock().iter_mut() {
            let is_stale = matches!(snapshot.get(domain, now), Err(TrustDomainError::Stale(_)));
            if std::mem::replace(&mut state.is_stale, is_stale) == is_stale {
                continue;
            }
            if is_stale {
                tracing::error!(trust_domain = %domain, "trust bundle too old, the domain is not trusted");
            } else {
                tracing::info!(trust_domain = %domain, "trust bundle confirmed, the domain is trusted again");
            }
        }
    }

    /// INVARIANT (one writer): the caller holds `domains`.
    fn swap(
        &self,
        domain: &TrustDomain,
        bundle: Arc<TrustBundle>,
        state: &mut State,
        confirmed_at: Stamp,
    ) {
        // An answer that was overtaken by a later one makes nothing older.
        let confirmed = state.confirmed.map_or(confirmed_at, |before| before.max(confirmed_at));
        state.confirmed = Some(confirmed);
        let usable_until = state.max_age.map_or(INFINITY, |max_age| confirmed.plus(max_age));
        let snapshot = TrustBundles::clone(&self.shared.load());
        self.shared.store(Arc::new(snapshot.with(domain, bundle, usable_until)));
    }
}

fn tell_change(domain: &TrustDomain, former: Option<&TrustBundle>, next: &TrustBundle) {
    metrics::trust_loaded("bundle", "ok");
    let (authorities, jwt_keys) =
        (next.source().authorities().len(), next.jwt_keys().iter().count());
    tracing::info!(trust_domain = %domain, authorities, jwt_keys, "trust bundle taken over");
    for reason in next.refused() {
        tracing::warn!(trust_domain = %domain, %reason, "a JWT key of the trust bundle is left out");
    }
    let sequence = |bundle: &TrustBundle| bundle.source().sequence();
    if let (Some(before), Some(now)) = (former.and_then(sequence), sequence(next))
        && now <= before
    {
        tracing::warn!(
            trust_domain = %domain, before, now,
            "the trust bundle changed and its `spiffe_sequence` did not rise"
        );
    }
}

#[cfg(test)]
mod tests;
