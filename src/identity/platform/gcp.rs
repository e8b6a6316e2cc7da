//! Google Cloud: the ID token of a service account, from the metadata server or by impersonation.
//!
//! ```text
//!  iss sub aud azp exp iat             `sub` and `azp` are the account's number, which is never given again
//!  email email_verified                with `format=full`: the account's name, which can be given again
//!  google.compute_engine               with `format=full` on a virtual machine: project_id, project_number, zone,
//!                                      instance_id, instance_name, instance_creation_timestamp, license_id …
//! ```
//!
//! The virtual machine is the instance, if the token names it. `email_verified` and numbers within `google` can be matched,
//! as `true` and decimal digits. One issuer serves every customer of Google: an entry that names no `sub` lets in whoever
//! has what it names.

use serde_json::Value;

use super::{Attested, PlatformError, flatten, is_number, number, text, text_at, texts};
use crate::jose::{ClaimError, Claims};

const NAMESPACE: &str = "google";
const PREFIX: &str = "google/";
const INSTANCE: &str = "google/compute_engine/instance_id";

pub(super) fn read(claims: &Claims) -> Result<Attested, PlatformError> {
    let account = number(claims, "sub")?;
    // A person's token is for the program that they use, and names it.
    if claims.text("azp")? != account {
        let rule = "`azp` is not the service account itself";
        return Err(PlatformError::NotAWorkload(rule));
    }
    let mut found = texts(claims);
    let verified = match claims.get("email_verified") {
        None => false,
        Some(value) => value.as_bool().ok_or(ClaimError::WrongType("email_verified"))?,
    };
    if claims.optional_text("email")?.is_some() && !verified {
        return Err(PlatformError::EmailUnverified);
    }
    if verified {
        found.insert("email_verified".to_owned(), "true".to_owned());
    }
    let mut instance = None;
    let google = claims.get(NAMESPACE);
    if let Some(google) = google {
        let members = google.as_object().ok_or(ClaimError::WrongType(NAMESPACE))?;
        if members.contains_key("compute_engine") {
            let id = text_at(google, &["compute_engine", "instance_id"], INSTANCE)?;
            if !is_number(id) {
                return Err(PlatformError::Malformed(INSTANCE));
            }
            instance = Some(format!("gce:{id}"));
        }
    }
    flatten(PREFIX, google, text_or_number, &mut found);
    Ok(Attested { instance, claims: found })
}

/// A whole number is as good as a text here: Google writes some ids as numbers.
fn text_or_number(value: &Value) -> Option<String> {
    text(value).or_else(|| value.as_u64().map(|number| number.to_string()))
}
