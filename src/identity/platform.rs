//! What the claims of known platforms attest about a caller: its instance, and texts that role entries match on. Each
//! platform's file says what its tokens hold, what of it is required, and which tokens are refused.
//!
//! Roles match exact texts. A claim that is a text is taken as it is; a boolean or a whole number is taken, as `true`,
//! `false` or decimal digits, only where the platform's file says so; lists and `null` are never matched.

mod aws;
mod entra;
mod gcp;
mod github;
mod kubernetes;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::domain::platform::Platform;
use crate::jose::{ClaimError, Claims};

pub(super) use kubernetes::LEGACY_ISSUER;

/// Bytes of a text within a claim; as of a claim itself.
const MAX_TEXT_BYTES: usize = 2048;

/// A token that its issuer signed does not prove what its platform's tokens prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// What the platform attests is missing or has another type.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A text that is not as the platform writes it: an id that is no number, a role that is no ARN of one.
    #[error("the claim `{0}` has not the form that its platform gives it")]
    Malformed(&'static str),
    /// Two claims of one token tell of different workloads.
    #[error("the claims `{0}` and `{1}` do not agree")]
    Disagree(&'static str, &'static str),
    /// `aud` has further values: whoever takes the token there could show it here.
    #[error("the token is for other services too: request one for this broker's audience alone")]
    SharedAudience,
    /// Kubernetes: a Secret's token, which has no expiry and no audience and outlives every pod.
    #[error(
        "the token is a Secret's and lives for ever: mount a projected one (`serviceAccountToken`) with this broker's \
         audience"
    )]
    Legacy,
    /// Kubernetes: `warnafter` is there where a pod's default token was given a year (KEP-1205).
    #[error(
        "the token is the pod's default one, extended to a year: mount a projected one (`serviceAccountToken`) with this \
         broker's audience"
    )]
    Extended,
    /// Google Cloud, Entra: the token is of a person, or of somebody who acts for one.
    #[error("the token is not a workload's own: {0}")]
    NotAWorkload(&'static str),
    /// Google Cloud: `email` is there, and `email_verified` is not `true`.
    #[error("the token's `email` is not verified by its issuer")]
    EmailUnverified,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attested {
    /// Which running copy it is, if the token says so.
    pub(super) instance: Option<String>,
    /// The texts, by name; those within a claim as `kubernetes.io/pod/uid`.
    pub(super) claims: BTreeMap<String, String>,
}

/// Reads the claims of a verified token of an issuer; without a platform nothing but its texts is known.
///
/// # Errors
/// [`PlatformError`] names the rule of the platform that the token breaks.
pub(super) fn read(
    platform: Option<Platform>,
    issuer: &str,
    claims: &Claims,
) -> Result<Attested, PlatformError> {
    let Some(platform) = platform else {
        return Ok(Attested { instance: None, claims: texts(claims) });
    };
    if claims.audience()?.len() != 1 {
        return Err(PlatformError::SharedAudience);
    }
    match platform {
        Platform::Kubernetes => kubernetes::read(claims),
        Platform::Github => github::read(claims),
        Platform::Gcp => gcp::read(claims),
        Platform::Entra => entra::read(issuer, claims),
        Platform::Aws => aws::read(claims),
    }
}

/// The claims that are texts.
fn texts(claims: &Claims) -> BTreeMap<String, String> {
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    claims.members().iter().filter_map(text).collect()
}

/// Takes what `text` makes of the members of an object and of the objects in it, each level behind a `/`. Nothing is left
/// of other claims whose names begin like these.
///
/// INVARIANT (attested names): what another claim is called cannot pass for one that the platform attests.
fn flatten(
    prefix: &str,
    object: Option<&Value>,
    text: fn(&Value) -> Option<String>,
    texts: &mut BTreeMap<String, String>,
) {
    texts.retain(|name, _| !name.starts_with(prefix));
    let mut pending: Vec<_> =
        object.map(|object| (prefix.to_owned(), object)).into_iter().collect();
    while let Some((name, value)) = pending.pop() {
        if let Some(members) = value.as_object() {
            let separator = if name.ends_with('/') { "" } else { "/" };
            pending.extend(members.iter().map(|(m, v)| (format!("{name}{separator}{m}"), v)));
        } else if let Some(text) = text(value) {
            texts.insert(name, text);
        }
    }
}

/// A text that says something.
fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The text at a path in a claim that is an object; `name` is the whole path.
fn text_at<'v>(
    object: &'v Value,
    path: &[&str],
    name: &'static str,
) -> Result<&'v str, ClaimError> {
    let mut value = object;
    for member in path {
        let members = value.as_object().ok_or(ClaimError::WrongType(name))?;
        value = members.get(*member).ok_or(ClaimError::Missing(name))?;
    }
    let text = value.as_str().filter(|text| (1..=MAX_TEXT_BYTES).contains(&text.len()));
    text.ok_or(ClaimError::WrongType(name))
}

/// A text claim of decimal digits: an id that its platform counts up and never gives twice.
fn number<'c>(claims: &'c Claims, name: &'static str) -> Result<&'c str, PlatformError> {
    let text = claims.text(name)?;
    if is_number(text) { Ok(text) } else { Err(PlatformError::Malformed(name)) }
}

fn is_number(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
