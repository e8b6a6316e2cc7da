//! Who is calling: the proof of identity that every RPC needs.
//!
//! [`VerifiedCaller`] can be made only by a check in this module's siblings, and is what every later step demands.

mod handshake;
mod jwks_cache;
mod platform;
mod token_review;

pub mod agent_bundles;
pub mod authn;
pub mod bundle_endpoint;
pub mod bundle_files;
pub mod client_cert;
pub mod jwt_svid;
pub mod oidc;
pub mod peer;
pub mod trust_bundle;
pub mod trust_store;
pub mod x509_svid;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::trust_bundle::{TrustBundle, TrustBundles};
use crate::domain::principal::{Name, Principal};
use crate::domain::time::Stamp;
use crate::spiffe::id::TrustDomain;

/// A caller whose identity was checked, at one instant.
#[derive(Clone, Debug)]
pub struct VerifiedCaller {
    principal: Principal,
    instance: String,
    expires: Stamp,
    proof: Proof,
}

/// How the caller proved itself.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The client certificate of the connection, an X.509-SVID.
    Certificate {
        /// SHA-256 of its DER: the `x5t#S256` that tokens are bound to (RFC 8705 section 3.1).
        thumbprint: [u8; 32],
    },
    /// A JWT-SVID of a trusted trust domain.
    JwtSvid,
    /// A JWT of a configured OIDC issuer.
    Oidc {
        /// The issuer's name in the configuration.
        issuer: Name,
        /// String claims that role entries may match on, exactly as the token has them.
        claims: BTreeMap<String, String>,
    },
}

impl VerifiedCaller {
    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Which running copy it is, as far as the identity tells (FORMATS.md, Identity instance).
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// When the identity that was shown expires: nothing bound to it outlives this.
    pub fn expires(&self) -> Stamp {
        self.expires
    }

    /// How it was proved.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The claims that role entries may match on; a workload has none.
    pub fn claims(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match &self.proof {
            Proof::Certificate { .. } | Proof::JwtSvid => &NONE,
            Proof::Oidc { claims, .. } => claims,
        }
    }

    /// Thumbprint of the caller's certificate, if it has one.
    pub fn certificate_thumbprint(&self) -> Option<[u8; 32]> {
        match self.proof {
            Proof::Certificate { thumbprint } => Some(thumbprint),
            Proof::JwtSvid | Proof::Oidc { .. } => None,
        }
    }
}

/// A caller, and the bundle that vouched for it.
#[derive(Debug)]
struct Vouched {
    caller: VerifiedCaller,
    trust_domain: TrustDomain,
    bundle: Arc<TrustBundle>,
}

impl Vouched {
    /// Whether the very bundle that vouched is still the one that counts. Then what it verified need not be verified again.
    // INVARIANT (no longer than the bundle): nothing that a bundle vouched for outlives its replacement, or its age.
    fn holds(&self, bundles: &TrustBundles, now: Stamp) -> bool {
        let current = bundles.get(&self.trust_domain, now);
        current.is_ok_and(|bundle| Arc::ptr_eq(bundle, &self.bundle))
    }
}
