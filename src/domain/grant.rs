//! Grants: what a task's credentials may at most allow, as RFC 9396 `authorization_details`, partially ordered.
//!
//! Unknown types and members are refused, never ignored; there are no wildcards (FORMATS.md, Grants).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::domain::refusal::Refusal;

const MAX_JSON_BYTES: usize = 16 * 1024;
const MAX_ENTRIES: usize = 64;
const MAX_SET: usize = 256;
const MAX_TEXT_BYTES: usize = 255;

/// A non-empty list of entries, each checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Grant(Vec<ResourceAccess>);

/// `resource_access`, the one type of the first version: actions on one audience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceAccess {
    #[serde(deserialize_with = "kind")]
    r#type: Type,
    audience: String,
    actions: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    data_class: BTreeSet<String>,
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    max_ttl_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    ResourceAccess,
}

impl ResourceAccess {
    /// The one audience that the entry is about.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The actions that it allows.
    pub fn actions(&self) -> &BTreeSet<String> {
        &self.actions
    }

    /// Whether all that this entry allows, `parent` allows as well.
    fn fits(&self, parent: &Self) -> bool {
        self.audience == parent.audience
            && self.actions.is_subset(&parent.actions)
            && self.data_class.is_subset(&parent.data_class)
            && match (self.max_ttl_seconds, parent.max_ttl_seconds) {
                (_, None) => true,
                (Some(own), Some(most)) => own <= most,
                (None, Some(_)) => false,
            }
    }

    fn check(&self) -> Result<(), Refusal> {
        check_text("audience", &self.audience)?;
        if self.actions.is_empty() {
            return Err(invalid("`actions` is empty; name at least one action"));
        }
        if self.actions.len() > MAX_SET || self.data_class.len() > MAX_SET {
            return Err(invalid(format!("at most {MAX_SET} actions and data classes an entry")));
        }
        self.actions.iter().try_for_each(|action| check_text("actions", action))?;
        self.data_class.iter().try_for_each(|class| check_text("data_class", class))?;
        if self.max_ttl_seconds == Some(0) {
            return Err(invalid("`max_ttl_seconds` is 0; leave it out or give at least 1"));
        }
        Ok(())
    }
}

impl Grant {
    /// Reads `authorization_details`: a JSON array of at least one entry.
    ///
    /// # Errors
    /// [`Refusal::AuthorizationDetailsInvalid`] names what is wrong: JSON, type, member, wildcard, size.
    pub fn parse(json: &str) -> Result<Self, Refusal> {
        if json.len() > MAX_JSON_BYTES {
            return Err(invalid(format!("longer than {MAX_JSON_BYTES} bytes")));
        }
        Self::written(serde_json::from_str(json))
    }

    /// The same where the JSON was read already: from a value whose objects have no two members of one name.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read<'de>(json: impl Deserializer<'de>) -> Result<Self, Refusal> {
        Self::written(Vec::deserialize(json))
    }

    fn written<E: std::error::Error>(entries: Result<Vec<Written>, E>) -> Result<Self, Refusal> {
        let entries = entries.map_err(|error| invalid(error.to_string()))?;
        Self::new(entries.into_iter().map(|Written(entry)| entry).collect())
    }

    fn new(entries: Vec<ResourceAccess>) -> Result<Self, Refusal> {
        if entries.is_empty() {
            return Err(invalid("empty; name at least one entry"));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(invalid(format!("more than {MAX_ENTRIES} entries")));
        }
        entries.iter().try_for_each(ResourceAccess::check)?;
        Ok(Self(entries))
    }

    /// The entries, in the order given.
    pub fn entries(&self) -> &[ResourceAccess] {
        &self.0
    }

    /// The same in JSON, as tokens and records carry it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `self ⊆ parent`: every entry fits into **one** entry of the parent.
    pub fn fits(&self, parent: &Self) -> bool {
        self.0.iter().all(|entry| parent.0.iter().any(|wider| entry.fits(wider)))
    }

    /// The first entry that fits into no entry of `parent`, for an error that says which.
    pub fn first_wider(&self, parent: &Self) -> Option<&ResourceAccess> {
        self.0.iter().find(|entry| !parent.0.iter().any(|wider| entry.fits(wider)))
    }

    /// What the grant says of one audience.
    pub fn for_audience(&self, audience: &str) -> Option<Self> {
        let entries: Vec<_> = self.0.iter().filter(|e| e.audience == audience).cloned().collect();
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// The smallest `max_ttl_seconds` of all entries.
    pub fn max_ttl_seconds(&self) -> Option<u64> {
        self.0.iter().filter_map(|entry| entry.max_ttl_seconds).min()
    }
}

/// An entry as it must be written: an object. Of an array serde would make an entry as well.
struct Written(ResourceAccess);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Written, A::Error> {
                ResourceAccess::deserialize(MapAccessDeserializer::new(members)).map(Written)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The name as text; of an object with that name as member serde would make a type as well.
fn kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Type, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "resource_access" => Ok(Type::ResourceAccess),
        other => Err(D::Error::unknown_variant(other, &["resource_access"])),
    }
}

/// A number where there is a member: `null` is none, and not as if nothing stood there.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    u64::deserialize(deserializer).map(Some)
}

fn check_text(member: &str, text: &str) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > MAX_TEXT_BYTES {
        return Err(invalid(format!("a text in `{member}` has 1 to {MAX_TEXT_BYTES} bytes")));
    }
    if text.contains('*') {
        return Err(invalid(format!("`{member}` has a wildcard; name each one")));
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(invalid(format!(
            "a text in `{member}` has white space or a control character"
        )));
    }
    Ok(())
}

fn invalid(problem: impl Into<String>) -> Refusal {
    Refusal::AuthorizationDetailsInvalid(problem.into())
}

#[cfg(test)]
mod tests;
