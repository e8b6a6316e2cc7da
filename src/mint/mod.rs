//! Minting: a credential from three facts, each a value that only its own check can make.
//!
//! [`VerifiedCaller`] comes from identity, [`Permit`] from policy, [`ActiveLease`] from the store's commit. Without one of
//! them a credential does not compile, and nobody else can make one:
//!
//! ```compile_fail,E0061
//! use leasehold::{identity::VerifiedCaller, keys::Keys, mint::{self, ActiveLease}};
//! fn without_a_permit(keys: &Keys, caller: &VerifiedCaller, lease: &ActiveLease) {
//!     let _ = mint::access_token(keys, caller, lease);
//! }
//! ```
//!
//! ```compile_fail,E0423
//! use leasehold::{domain::lease::Lease, mint::ActiveLease};
//! fn without_a_commit(lease: Lease) -> ActiveLease {
//!     ActiveLease(lease)
//! }
//! ```
//!
//! ```
//! use leasehold::{identity::VerifiedCaller, keys::Keys, mint::{self, ActiveLease}, policy::Permit};
//! fn with_all_three(keys: &Keys, caller: &VerifiedCaller, permit: &Permit, lease: &ActiveLease) {
//!     let _ = mint::access_token(keys, caller, permit, lease);
//! }
//! ```
//!
//! All times of a credential come from the lease, none from a clock: a request that is replayed gets the same ones again.

pub mod csr;
mod jwt_svid;
mod revocation_list;
mod x509;

pub use jwt_svid::{MintedJwtSvid, jwt_svid};
pub use revocation_list::{ListTimes, distribution_point, revocation_list};
pub use x509::MintedCertificate;

use crate::domain::execution::Execution;
use crate::domain::lease::{Draft, Kind, Lease};
use crate::domain::path::Origin;
use crate::domain::refusal::Refusal;
use crate::domain::secret::Secret;
use crate::domain::time::{INFINITY, Stamp};
use crate::identity::VerifiedCaller;
use crate::jose::access_token::{AccessToken, AccessTokenError, Confirmation};
use crate::jose::certificate_thumbprint;
use crate::keys::{CaError, Keys};
use crate::policy::Permit;
use crate::spiffe::task_extension::TaskExtensionError;
use crate::store::{Answer, Receipt, Subject};

/// A lease that the store has committed. Only the broker makes one, from what the store answered.
#[derive(Clone, Debug)]
pub struct ActiveLease(Lease);

impl ActiveLease {
    /// The lease of a draft that was committed with this receipt; `None` if the commit set no times for a credential.
    pub(crate) fn from_receipt(draft: Draft, receipt: &Receipt) -> Option<Self> {
        let times = receipt.credential?;
        Some(Self(Lease {
            draft,
            origin: receipt.origin,
            first_origin: times.lease_origin,
            first_issue: times.first_issue,
            expires_seconds: times.expiry.expires_seconds,
            clamp: times.expiry.clamp,
        }))
    }

    /// The lease of a request that was answered before, after its checks held again; `None` if it was about no lease.
    pub(crate) fn from_answer(answer: &Answer) -> Option<Self> {
        match &answer.subject {
            Subject::Lease(lease) => Some(Self((**lease).clone())),
            Subject::Task(_) | Subject::Scope(_) => None,
        }
    }
}

impl ActiveLease {
    /// The lease itself.
    pub fn lease(&self) -> &Lease {
        &self.0
    }

    /// The lease itself, once everything is minted.
    pub fn into_lease(self) -> Lease {
        self.0
    }
}

/// A minted access token.
#[derive(Clone, Debug)]
pub struct MintedToken {
    /// The compact JWS.
    pub token: Secret,
    /// What it is bound to.
    pub confirmation: Option<Confirmation>,
    /// The certificate that it is bound to, where that was minted with it.
    pub certificate: Option<MintedCertificate>,
}

impl MintedToken {
    /// How it is shown: `Bearer` or `DPoP`.
    pub fn token_type(&self) -> &'static str {
        Confirmation::token_type(self.confirmation)
    }
}

/// A credential could not be minted. Nothing of it is in the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// The facts do not agree with each other; this must not happen.
    #[error("the facts for the credential do not agree: {0}")]
    Disagree(&'static str),
    /// The lease is bound to another certificate than the one that the caller shows now.
    #[error(
        "the lease is bound to another certificate than the one that you show; renew the lease"
    )]
    OtherCertificate,
    /// The key that the lease was committed for has been replaced, or ends before the lease.
    #[error(
        "the signing key that the lease was made for is no longer used; issue a new credential"
    )]
    KeyGone,
    /// The token.
    #[error(transparent)]
    Token(#[from] AccessTokenError),
    /// The certificate's extension.
    #[error(transparent)]
    Extension(#[from] TaskExtensionError),
    /// The certificate authority did not sign.
    #[error("the certificate authority did not sign")]
    Signing,
}

impl From<CaError> for MintError {
    fn from(_: CaError) -> Self {
        Self::Signing
    }
}

impl MintError {
    /// What to tell the caller, where the caller can do something about it; `None` where the fault is ours.
    pub fn refusal(&self) -> Option<Refusal> {
        let text = self.to_string();
        match self {
            Self::OtherCertificate => Some(Refusal::ProofInvalid(text)),
            Self::KeyGone => Some(Refusal::LeaseRevoked),
            Self::Token(AccessTokenError::TooLarge(_)) => {
                Some(Refusal::AuthorizationDetailsInvalid(text))
            }
            Self::Disagree(_) | Self::Token(_) | Self::Extension(_) | Self::Signing => None,
        }
    }
}

/// Mints the access token of a lease; and the certificate that it is bound to, if a key was proved for it.
///
/// # Errors
/// [`MintError`]; [`MintError::refusal`] says whether the caller can help it.
pub fn access_token(
    keys: &Keys,
    caller: &VerifiedCaller,
    permit: &Permit,
    lease: &ActiveLease,
) -> Result<MintedToken, MintError> {
    let lease = agreeing(caller, permit, lease, Kind::AccessToken)?;
    let draft = &lease.draft;
    if draft.audience.is_empty() {
        return Err(MintError::Disagree("audience"));
    }
    let key = keys.access_token_key_named(&draft.signing_key).ok_or(MintError::KeyGone)?;
    if Stamp::from_seconds(lease.expires_seconds) > key.life().expires() {
        return Err(MintError::KeyGone);
    }
    let (certificate, confirmation) = match (&draft.public_key, draft.key_thumbprint, draft.jkt) {
        (Some(_), None, None) => {
            let ca = draft.authority.as_deref().and_then(|id| keys.authority_named(id));
            let ca = ca.ok_or(MintError::KeyGone)?;
            let minted = x509::certificate(keys.settings(), ca, lease, permit.class())?;
            let hash = certificate_thumbprint(minted.leaf());
            (Some(minted), Some(Confirmation::Certificate(hash)))
        }
        (None, Some(hash), None) => (None, Some(Confirmation::Certificate(hash))),
        (None, None, Some(hash)) => (None, Some(Confirmation::Key(hash))),
        (None, None, None) => (None, None),
        // INVARIANT (one binding): a token that could be shown in two ways could be stolen in two.
        (_, _, _) => return Err(MintError::Disagree("binding")),
    };
    let token = body(keys, draft, Execution::of(lease), lease.expires_seconds)?;
    let token = AccessToken { confirmation, ..token };
    Ok(MintedToken { token: token.sign(key.key())?, confirmation, certificate })
}

/// Mints the X.509-SVID of a lease, for the key that was proved for it.
///
/// # Errors
/// [`MintError`]; [`MintError::refusal`] says whether the caller can help it.
pub fn x509_svid(
    keys: &Keys,
    caller: &VerifiedCaller,
    permit: &Permit,
    lease: &ActiveLease,
) -> Result<MintedCertificate, MintError> {
    let lease = agreeing(caller, permit, lease, Kind::X509Svid)?;
    let ca = keys.authority_named(&lease.draft.signing_key).ok_or(MintError::KeyGone)?;
    x509::certificate(keys.settings(), ca, lease, permit.class())
}

/// That the token of a draft will not be too large: asked before the commit, so that no lease stands for nothing.
///
/// # Errors
/// [`AccessTokenError::TooLarge`] as a [`MintError`].
pub fn must_fit(keys: &Keys, draft: &Draft) -> Result<(), MintError> {
    let latest = Origin { incarnation: INFINITY, stamp: INFINITY };
    let execution = Execution {
        path: draft.path.clone(),
        lease: draft.id,
        origin: latest,
        tier: draft.tier.clone(),
        freshness: draft.freshness,
        reach: draft.reach.clone(),
        step: draft.step.clone(),
    };
    let token = body(keys, draft, execution, INFINITY.seconds())?;
    Ok(AccessToken { confirmation: Some(Confirmation::Certificate([0; 32])), ..token }
        .must_fit()?)
}

// INVARIANT (three facts): what is minted is for whom identity proved, for what policy allowed, and as the store has it.
fn agreeing<'l>(
    caller: &VerifiedCaller,
    permit: &Permit,
    lease: &'l ActiveLease,
    kind: Kind,
) -> Result<&'l Lease, MintError> {
    let lease = lease.lease();
    let draft = &lease.draft;
    let own = draft.path.own();
    let holder = &draft.holder;
    for (agrees, what) in [
        (draft.kind == kind, "kind"),
        (holder == caller.principal() && holder == permit.principal(), "principal"),
        (draft.instance == caller.instance(), "instance"),
        (draft.actors.first() == Some(holder), "actors"),
        (own.task == permit.task(), "task"),
        (own.counter == permit.epoch(), "epoch"),
        (draft.audience == permit.audience(), "audience"),
        (draft.grant == *permit.grant(), "grant"),
        (lease.issued_seconds() < lease.expires_seconds, "times"),
    ] {
        if !agrees {
            return Err(MintError::Disagree(what));
        }
    }
    if draft.key_thumbprint.is_some() {
        if draft.key_thumbprint != caller.certificate_thumbprint() {
            return Err(MintError::OtherCertificate);
        }
        // INVARIANT (bound token): a token that is bound to a certificate never outlives it.
        if Stamp::from_seconds(lease.expires_seconds) > caller.expires() {
            return Err(MintError::Disagree("caller's expiry"));
        }
    }
    Ok(lease)
}

/// The token of a draft, not bound to anything yet.
fn body(
    keys: &Keys,
    draft: &Draft,
    execution: Execution,
    expires_seconds: u64,
) -> Result<AccessToken, MintError> {
    // The subject acts for nobody: it is the last of the actors, and no `act` of its own.
    let actors = draft.actors.strip_suffix(std::slice::from_ref(&draft.subject));
    let actors = actors.ok_or(MintError::Disagree("subject"))?;
    Ok(AccessToken {
        issuer: keys.settings().base_url.clone(),
        subject: draft.subject.clone(),
        actors: actors.to_vec(),
        audience: draft.audience.clone(),
        issued_seconds: execution.origin.stamp.seconds(),
        expires_seconds,
        jti: draft.jti,
        grant: draft.grant.clone(),
        confirmation: None,
        execution,
        signing_key: draft.signing_key.clone(),
    })
}

#[cfg(test)]
mod tests;
