//! Kubernetes: the projected service account token of a pod.
//!
//! ```text
//!  iss sub aud exp iat nbf jti
//!  kubernetes.io   namespace, serviceaccount { name, uid }, pod { name, uid }, node { name, uid }?, warnafter?
//! ```
//!
//! Names are given again to whoever comes next; the uids are not, so role entries name `kubernetes.io/serviceaccount/uid`.
//! The pod is the instance. A signature does not see that a pod is gone: that is what a token review asks.

use super::{Attested, PlatformError, flatten, text, text_at, texts};
use crate::jose::{ClaimError, Claims};

/// `iss` of tokens that are kept in Secrets.
pub(in crate::identity) const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

const NAMESPACE: &str = "kubernetes.io";
/// Tokens that are kept in Secrets have claims of such names at the top.
const LEGACY: &str = "kubernetes.io/serviceaccount/";

pub(super) fn read(claims: &Claims) -> Result<Attested, PlatformError> {
    if claims.members().keys().any(|name| name.starts_with(LEGACY)) {
        return Err(PlatformError::Legacy);
    }
    let attested = claims.get(NAMESPACE).ok_or(ClaimError::Missing(NAMESPACE))?;
    let namespace = text_at(attested, &["namespace"], "kubernetes.io/namespace")?;
    let path = ["serviceaccount", "name"];
    let account = text_at(attested, &path, "kubernetes.io/serviceaccount/name")?;
    text_at(attested, &["serviceaccount", "uid"], "kubernetes.io/serviceaccount/uid")?;
    // A token that is bound to no pod is nobody's in particular, and ends with nothing.
    let pod = text_at(attested, &["pod", "uid"], "kubernetes.io/pod/uid")?;
    if attested.get("warnafter").is_some() {
        return Err(PlatformError::Extended);
    }
    if claims.text("sub")? != format!("system:serviceaccount:{namespace}:{account}") {
        return Err(PlatformError::Disagree("sub", NAMESPACE));
    }
    let mut found = texts(claims);
    flatten(NAMESPACE, Some(attested), text, &mut found);
    Ok(Attested { instance: Some(format!("pod:{pod}")), claims: found })
}
