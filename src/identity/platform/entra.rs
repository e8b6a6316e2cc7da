//! Microsoft Entra: the access token of an application or a managed identity, of version 1 or 2.
//!
//! ```text
//!  iss sub aud exp iat nbf uti
//!  tid  the tenant, which must be the issuer's     idtyp  `app`: nobody's but the application's own
//!  oid  the service principal, never given again   azp    the application (version 1: appid)
//!  xms_mirid  of a managed identity: the resource it belongs to
//! ```
//!
//! `idtyp` is an optional claim of the application that the token is for: without it a person's token could not be told from
//! an application's, so it is required. Nothing of the token says which running copy calls.

use super::{Attested, PlatformError, texts};
use crate::domain::platform::{entra_tenant, is_guid};
use crate::jose::{ClaimError, Claims};

pub(super) fn read(issuer: &str, claims: &Claims) -> Result<Attested, PlatformError> {
    if Some(guid(claims, "tid")?) != entra_tenant(issuer) {
        return Err(PlatformError::Disagree("tid", "iss"));
    }
    if claims.text("idtyp")? != "app" {
        return Err(PlatformError::NotAWorkload("`idtyp` is not `app`"));
    }
    guid(claims, "oid")?;
    let of_version = |name| claims.get(name).map(|_| guid(claims, name)).transpose();
    match (of_version("azp")?, of_version("appid")?) {
        (None, None) => return Err(ClaimError::Missing("azp").into()),
        (Some(one), Some(other)) if one != other => {
            return Err(PlatformError::Disagree("azp", "appid"));
        }
        _ => {}
    }
    claims.optional_text("xms_mirid")?;
    Ok(Attested { instance: None, claims: texts(claims) })
}

fn guid<'c>(claims: &'c Claims, name: &'static str) -> Result<&'c str, PlatformError> {
    let text = claims.text(name)?;
    if is_guid(text) { Ok(text) } else { Err(PlatformError::Malformed(name)) }
}
