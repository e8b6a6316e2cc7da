//! The X.509-SVID that a Workload API gives to this process.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize as _, Zeroizing};

use super::X509Svids;
use crate::domain::time::Stamp;
use crate::proto::workload_api::X509svid;
use crate::spiffe::concatenated::{ConcatenatedError, certificates};
use crate::spiffe::id::SpiffeId;
use crate::spiffe::leaf::{Leaf, LeafError};

/// The most certificates from the leaf to the root.
const MAX_CHAIN: usize = 8;

/// An SVID and its key, which may not belong together: whoever uses them looks.
pub struct OwnSvid {
    chain: Vec<CertificateDer<'static>>,
    key: Zeroizing<Vec<u8>>,
}

/// An agent's answer has no SVID that could be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// None at all, which an agent says in another way (SPIFFE Workload API section 5.2.1).
    #[error("the answer has no SVID")]
    None,
    /// Some, but not the one that is wanted.
    #[error("there is no SVID for `{0}`; register this process for it, or ask for another")]
    NotThere(SpiffeId),
    /// The chain is not certificates, or none.
    #[error("the SVID's chain: {0}")]
    Chain(#[from] ConcatenatedError),
    /// The leaf breaks a rule (X509-SVID section 5.2).
    #[error("the SVID: {0}")]
    Leaf(#[from] LeafError),
    /// The certificate names somebody else than the answer does.
    #[error("the SVID is said to be for `{said}` and names `{named}`")]
    OtherId {
        /// What the answer says.
        said: String,
        /// What stands in the certificate.
        named: SpiffeId,
    },
}

impl OwnSvid {
    /// The SVID for `wanted`, or without one the first, which is the default (SPIFFE Workload API section 5.3). The others
    /// are not looked at, and the keys of all are wiped.
    ///
    /// # Errors
    /// [`SvidError`] names what is wrong with the one.
    pub(crate) fn of(
        answer: X509Svids,
        wanted: Option<&SpiffeId>,
        now: Stamp,
    ) -> Result<Self, SvidError> {
        let mut chosen = None;
        for mut svid in answer.svids {
            if chosen.is_none() && wanted.is_none_or(|wanted| wanted.as_str() == svid.spiffe_id) {
                chosen = Some(Self::check(&mut svid, now));
            }
            svid.x509_svid_key.zeroize();
        }
        chosen.unwrap_or_else(|| {
            Err(wanted.map_or(SvidError::None, |id| SvidError::NotThere(id.clone())))
        })
    }

    fn check(svid: &mut X509svid, now: Stamp) -> Result<Self, SvidError> {
        let key = Zeroizing::new(std::mem::take(&mut svid.x509_svid_key));
        let chain = certificates(&svid.x509_svid, MAX_CHAIN)?;
        let leaf = Leaf::check(chain.first().copied().unwrap_or_default(), now)?;
        if leaf.id().as_str() != svid.spiffe_id {
            let (said, named) = (svid.spiffe_id.clone(), leaf.id().clone());
            return Err(SvidError::OtherId { said, named });
        }
        let chain = chain.into_iter().map(|der| CertificateDer::from(der).into_owned()).collect();
        Ok(Self { chain, key })
    }

    /// The chain, leaf first, and the leaf's private key.
    pub fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, PrivatePkcs8KeyDer::from(self.key.to_vec()).into())
    }
}
