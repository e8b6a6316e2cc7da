//! The JWT-SVID of a task: bound to no key, and signed by none that signs anything else.

use super::{ActiveLease, MintError, agreeing};
use crate::domain::execution::Execution;
use crate::domain::lease::Kind;
use crate::domain::secret::Secret;
use crate::domain::time::Stamp;
use crate::identity::VerifiedCaller;
use crate::jose::access_token::AccessTokenError;
use crate::keys::Keys;
use crate::policy::Permit;
use crate::spiffe::id::SpiffeId;
use crate::spiffe::task_certificate::spiffe_id_text;
use crate::spiffe::task_jwt_svid::{self, TaskJwtSvid};

/// A minted JWT-SVID.
#[derive(Clone, Debug)]
pub struct MintedJwtSvid {
    /// The compact JWS.
    pub token: Secret,
    /// Whom it names.
    pub spiffe_id: SpiffeId,
}

/// Mints the JWT-SVID of a lease.
///
/// # Errors
/// [`MintError`]; [`MintError::refusal`] says whether the caller can help it.
pub fn jwt_svid(
    keys: &Keys,
    caller: &VerifiedCaller,
    permit: &Permit,
    lease: &ActiveLease,
) -> Result<MintedJwtSvid, MintError> {
    let lease = agreeing(caller, permit, lease, Kind::JwtSvid)?;
    let draft = &lease.draft;
    if draft.audience.is_empty() {
        return Err(MintError::Disagree("audience"));
    }
    // What it says has no place for a key, so a lease that names one expects something else.
    if draft.public_key.is_some() || draft.key_thumbprint.is_some() || draft.jkt.is_some() {
        return Err(MintError::Disagree("binding"));
    }
    let key = keys.jwt_svid_key_named(&draft.signing_key).ok_or(MintError::KeyGone)?;
    if Stamp::from_seconds(lease.expires_seconds) > key.life().expires() {
        return Err(MintError::KeyGone);
    }
    let (execution, settings) = (Execution::of(lease), keys.settings());
    let id = spiffe_id_text(&settings.trust_domain, &execution, permit.class());
    let svid = TaskJwtSvid {
        issuer: task_jwt_svid::issuer(&settings.base_url),
        spiffe_id: SpiffeId::parse(&id).map_err(|_| MintError::Disagree("spiffe id"))?,
        audience: draft.audience.clone(),
        issued_seconds: lease.issued_seconds(),
        expires_seconds: lease.expires_seconds,
        jti: draft.jti,
        execution,
        signing_key: draft.signing_key.clone(),
    };
    let token = svid.sign(key.key()).map_err(AccessTokenError::Signing)?;
    Ok(MintedJwtSvid { token, spiffe_id: svid.spiffe_id })
}
