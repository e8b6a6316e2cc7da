//! The claim `leasehold`, which tokens of ours have in common: where in which execution they belong (FORMATS.md, Tokens).

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::base64url;
use super::claims::Claims;
use super::json::Written;
use crate::domain::execution::{Execution, ExecutionError, Spelled};

/// Its name.
pub const NAME: &str = "leasehold";

/// `v` of the claim.
const VERSION: u64 = 1;

/// The claim is not one that Leasehold writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionClaimError {
    /// There is none.
    Missing,
    /// It is not of the form that FORMATS.md gives.
    Malformed,
    /// `v` is not one that this version knows.
    Version,
    /// A member of it.
    Execution(ExecutionError),
}

/// The claim as it is spelled.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecutionClaim {
    v: u64,
    path: Vec<(String, u64)>,
    lease: String,
    origin: [String; 2],
    tier: String,
    delta_ms: u64,
    reach: Vec<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    step: Option<String>,
}

impl ExecutionClaim {
    /// The claim of an execution.
    pub fn of(execution: &Execution) -> Self {
        let spelled = execution.spelled();
        Self {
            v: VERSION,
            path: spelled.path,
            lease: spelled.lease,
            origin: [spelled.incarnation.to_string(), spelled.stamp.to_string()],
            tier: spelled.tier,
            delta_ms: spelled.delta_ms,
            reach: spelled.reach.iter().map(base64url::encode).collect(),
            step: spelled.step,
        }
    }

    /// Bytes of `reach` in JSON, each scope with its quotes and comma.
    pub(super) fn reach_bytes(&self) -> usize {
        self.reach.iter().map(|scope| scope.len() + 3).sum()
    }

    /// The execution among the claims of a token.
    ///
    /// # Errors
    /// [`ExecutionClaimError`] says what is wrong with the claim.
    pub fn read(claims: &Claims) -> Result<Execution, ExecutionClaimError> {
        let value = claims.get(NAME).ok_or(ExecutionClaimError::Missing)?;
        // Another version may have other members.
        if value.get("v").and_then(Value::as_u64).is_some_and(|v| v != VERSION) {
            return Err(ExecutionClaimError::Version);
        }
        let Written(claim) =
            Written::<Self>::deserialize(value).map_err(|_| ExecutionClaimError::Malformed)?;
        claim.into_execution()
    }

    /// The execution that it spells.
    ///
    /// # Errors
    /// [`ExecutionClaimError`] says what is wrong with the claim.
    pub(super) fn into_execution(self) -> Result<Execution, ExecutionClaimError> {
        if self.v != VERSION {
            return Err(ExecutionClaimError::Version);
        }
        self.spelled().and_then(Execution::read).map_err(ExecutionClaimError::Execution)
    }

    fn spelled(self) -> Result<Spelled, ExecutionError> {
        let [incarnation, stamp] = self.origin.map(|text| decimal(&text));
        let reach: Option<Vec<_>> = self.reach.iter().map(|text| base64url::decode(text)).collect();
        Ok(Spelled {
            path: self.path,
            lease: self.lease,
            incarnation: incarnation.ok_or(ExecutionError("origin"))?,
            stamp: stamp.ok_or(ExecutionError("origin"))?,
            tier: self.tier,
            delta_ms: self.delta_ms,
            reach: reach.ok_or(ExecutionError("reach"))?,
            step: self.step,
        })
    }
}

/// A member that may be absent, and is not `null` where it is there.
fn present<'de, D: Deserializer<'de>>(member: D) -> Result<Option<String>, D::Error> {
    String::deserialize(member).map(Some)
}

/// A number in its one decimal spelling.
fn decimal(text: &str) -> Option<u64> {
    let is_canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}
