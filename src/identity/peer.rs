//! The client certificate of one connection: proved at the handshake, looked at again in every call.
//!
//! An HTTP/2 connection outlives a five-minute SVID, and a trust bundle may change under it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::pki_types::CertificateDer;

use super::trust_bundle::TrustBundles;
use super::x509_svid::{X509SvidError, verify_against};
use super::{VerifiedCaller, Vouched};
use crate::domain::time::Stamp;

/// A chain, leaf first. What was verified stays so until the bundle changes or time runs out.
#[derive(Debug)]
pub struct PeerSvid {
    chain: Vec<CertificateDer<'static>>,
    verified: ArcSwapOption<Vouched>,
}

impl PeerSvid {
    /// The chain of a connection whose handshake proved that the peer has the leaf's key.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { chain, verified: ArcSwapOption::empty() }
    }

    /// The leaf in DER: for whoever asks a third party about it.
    pub fn leaf(&self) -> Option<&[u8]> {
        self.chain.first().map(AsRef::as_ref)
    }

    /// Who is calling, now. Builds the chain only the first time, and when the bundle has changed since.
    ///
    /// # Errors
    /// [`X509SvidError`] if the certificate does not, or no longer, prove an identity.
    pub fn recheck(
        &self,
        bundles: &TrustBundles,
        now: Stamp,
    ) -> Result<VerifiedCaller, X509SvidError> {
        if let Some(held) = self.verified.load().as_ref().filter(|held| held.holds(bundles, now)) {
            return if now < held.caller.expires() {
                Ok(held.caller.clone())
            } else {
                Err(X509SvidError::Expired)
            };
        }
        let verified = verify_against(&self.chain, bundles, now)?;
        let caller = verified.caller.clone();
        self.verified.store(Some(Arc::new(verified)));
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::seams::Clock;
    use crate::domain::time::{INFINITY, Span};
    use crate::identity::trust_bundle::TrustDomainError;
    use crate::spiffe::id::TrustDomain;
    use crate::testing::ca::TestAuthority;
    use crate::testing::clock::TestClock;
    use crate::testing::trust::{bundle, trusting};

    const AGENT: &str = "spiffe://prod.example/agents/a";
    const MINUTE: Span = Span::from_seconds(60);

    #[test]
    fn class_09_a_svid_that_expires_on_an_open_connection_is_refused_at_the_next_call() {
        let (root, clock) = (TestAuthority::root("root"), TestClock::default());
        let bundles = trusting(&[("prod.example", &[&root])]);
        let issued = root.svid(AGENT, clock.now(), clock.now().plus(MINUTE));
        let peer = PeerSvid::new(issued.chain);
        peer.recheck(&bundles, clock.now()).unwrap();
        clock.forward(MINUTE);
        peer.recheck(&bundles, clock.now()).unwrap();
        clock.forward(Span::from_seconds(1));
        assert_eq!(peer.recheck(&bundles, clock.now()).unwrap_err(), X509SvidError::Expired);
    }

    #[test]
    fn class_09_a_bundle_that_changes_under_an_open_connection_decides_at_the_next_call() {
        let (root, next, now) =
            (TestAuthority::root("root"), TestAuthority::root("next"), TestClock::default().now());
        let peer = PeerSvid::new(root.svid(AGENT, now, now.plus(MINUTE)).chain);
        let bundles = trusting(&[("prod.example", &[&root]), ("test.example", &[&next])]);
        peer.recheck(&bundles, now).unwrap();
        let prod = TrustDomain::parse("prod.example").unwrap();
        let with = |bundles: &TrustBundles, bundle| {
            bundles.clone().with(&prod, Arc::new(bundle), INFINITY)
        };
        let rotated = with(&bundles, bundle(&[&root, &next]));
        peer.recheck(&rotated, now).unwrap();
        for withdrawn in [bundle(&[&next]), bundle(&[])] {
            let withdrawn = with(&rotated, withdrawn);
            let refusal = peer.recheck(&withdrawn, now).unwrap_err();
            assert!(matches!(refusal, X509SvidError::Untrusted(..)), "{refusal}");
        }
        let removed = trusting(&[("test.example", &[&root])]);
        let refusal = peer.recheck(&removed, now).unwrap_err();
        assert_eq!(refusal, TrustDomainError::Unknown(prod.clone()).into());
    }
}
