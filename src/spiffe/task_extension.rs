//! The extension that says in which execution a certificate belongs, as DER (FORMATS.md, Tokens).
//!
//! ```text
//! SEQUENCE { version INTEGER, path SEQUENCE OF SEQUENCE { task IA5String, counter INTEGER }, lease IA5String,
//!            incarnation INTEGER, stamp INTEGER, tier UTF8String, deltaMs INTEGER,
//!            reach SEQUENCE OF OCTET STRING, step UTF8String OPTIONAL }
//! ```

use super::der::{Elements, IA5_STRING, OCTET_STRING, SEQUENCE, UTF8_STRING, element, integer};
use crate::domain::execution::{Execution, ExecutionError, Spelled};

/// The longest extension, in bytes.
pub const MAX_BYTES: usize = 4 * 1024;

const VERSION: u64 = 1;
/// Arcs of an object identifier.
const MAX_ARCS: usize = 32;

/// The bytes of an extension are not one that we wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskExtensionError {
    /// More than [`MAX_BYTES`].
    #[error("the certificate's task extension has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not DER of the form above, or something behind it (X.690).
    #[error("the certificate's task extension is not DER of the form that Leasehold writes")]
    Malformed,
    /// A version that is not known here.
    #[error(
        "the certificate's task extension is of a version that is not known here; upgrade the verifier"
    )]
    Version,
    /// A member breaks its rule.
    #[error(transparent)]
    Execution(#[from] ExecutionError),
}

/// Under which object identifier the extension stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionOid(Vec<u64>);

/// A text is not an object identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an object identifier is 3 to {MAX_ARCS} numbers with dots between, the first `1` or `2`: `1.3.6.1.4.1.32473.1`"
)]
pub struct ExtensionOidError;

impl ExtensionOid {
    /// Reads dotted decimal notation.
    ///
    /// # Errors
    /// [`ExtensionOidError`]
    pub fn parse(text: &str) -> Result<Self, ExtensionOidError> {
        let arcs: Option<Vec<u64>> = text.split('.').map(arc).collect();
        let arcs = arcs.filter(|arcs| (3..=MAX_ARCS).contains(&arcs.len()));
        match arcs.as_deref() {
            // Arc 2.5.29 is where X.509 has its own extensions.
            Some([2, 5, 29, ..]) => Err(ExtensionOidError),
            Some([1, 0..40, ..] | [2, ..]) => Ok(Self(arcs.unwrap_or_default())),
            _ => Err(ExtensionOidError),
        }
    }

    /// Its numbers.
    pub fn arcs(&self) -> &[u64] {
        &self.0
    }
}

impl Default for ExtensionOid {
    /// An arc for examples, until an owner registers one (RFC 5612).
    fn default() -> Self {
        Self(vec![1, 3, 6, 1, 4, 1, 32473, 1])
    }
}

/// Below 2^32, so that no reader of certificates is tried; in its one spelling.
fn arc(text: &str) -> Option<u64> {
    let arc = text.parse::<u32>().ok().filter(|number| number.to_string() == text);
    arc.map(u64::from)
}

/// Writes the extension's value.
///
/// # Errors
/// [`TaskExtensionError::TooLarge`].
pub fn encode(execution: &Execution) -> Result<Vec<u8>, TaskExtensionError> {
    let spelled = execution.spelled();
    let ia5 = |text: &str| element(IA5_STRING, text.as_bytes());
    let utf8 = |text: &str| element(UTF8_STRING, text.as_bytes());
    let hop = |(task, counter): &(String, u64)| {
        element(SEQUENCE, &[ia5(task), integer(*counter)].concat())
    };
    let path: Vec<u8> = spelled.path.iter().flat_map(hop).collect();
    let reach: Vec<u8> =
        spelled.reach.iter().flat_map(|bytes| element(OCTET_STRING, bytes)).collect();
    let members = [
        integer(VERSION),
        element(SEQUENCE, &path),
        ia5(&spelled.lease),
        integer(spelled.incarnation),
        integer(spelled.stamp),
        utf8(&spelled.tier),
        integer(spelled.delta_ms),
        element(SEQUENCE, &reach),
        spelled.step.as_deref().map(utf8).unwrap_or_default(),
    ];
    let der = element(SEQUENCE, &members.concat());
    if der.len() > MAX_BYTES { Err(TaskExtensionError::TooLarge) } else { Ok(der) }
}

/// Reads the extension's value.
///
/// # Errors
/// [`TaskExtensionError`] names the rule that the bytes break.
pub fn decode(der: &[u8]) -> Result<Execution, TaskExtensionError> {
    if der.len() > MAX_BYTES {
        return Err(TaskExtensionError::TooLarge);
    }
    let mut outer = Elements(der);
    let mut members = outer.sequence().ok_or(TaskExtensionError::Malformed)?;
    match members.integer() {
        None => return Err(TaskExtensionError::Malformed),
        Some(VERSION) => {}
        Some(_) => return Err(TaskExtensionError::Version),
    }
    let spelled = spelled(members).filter(|_| outer.is_empty());
    Ok(Execution::read(spelled.ok_or(TaskExtensionError::Malformed)?)?)
}

/// What follows the version.
fn spelled(mut members: Elements<'_>) -> Option<Spelled> {
    let mut hops = members.sequence()?;
    let mut path = Vec::new();
    while !hops.is_empty() {
        let mut hop = hops.sequence()?;
        path.push((hop.text(IA5_STRING)?.to_owned(), hop.integer()?));
        if !hop.is_empty() {
            return None;
        }
    }
    let lease = members.text(IA5_STRING)?.to_owned();
    let (incarnation, stamp) = (members.integer()?, members.integer()?);
    let tier = members.text(UTF8_STRING)?.to_owned();
    let delta_ms = members.integer()?;
    let mut scopes = members.sequence()?;
    let mut reach = Vec::new();
    while !scopes.is_empty() {
        reach.push(scopes.next(OCTET_STRING)?.to_vec());
    }
    let step = match members.is_empty() {
        true => None,
        false => Some(members.text(UTF8_STRING)?.to_owned()),
    };
    members.is_empty().then_some(Spelled {
        path,
        lease,
        incarnation,
        stamp,
        tier,
        delta_ms,
        reach,
        step,
    })
}

#[cfg(test)]
mod tests;
