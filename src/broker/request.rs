//! What callers ask for, parsed: nothing here can still be malformed, much can still be refused.

use std::collections::BTreeMap;

use crate::domain::grant::Grant;
use crate::domain::id::TaskId;
use crate::domain::principal::Name;
use crate::domain::refusal::Refusal;
use crate::domain::task::Agent;
use crate::domain::time::{Span, Stamp};

const MAX_LABELS: usize = 16;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 256;
const MAX_STEP: usize = 63;
const MAX_TEXT: usize = 1_024;
const MAX_CHECKPOINT: usize = 4_096;

/// A request id, and the hash of the request that came with it.
#[derive(Clone, Debug)]
pub struct Idempotency {
    request_id: uuid::Uuid,
    request_hash: [u8; 32],
}

impl Idempotency {
    /// Reads `request_id`, a UUID, and takes the hash of the RPC's name and the request's bytes.
    ///
    /// # Errors
    /// [`Refusal::RequestInvalid`] if it is not a UUID in its hyphenated form.
    pub fn new(request_id: &str, rpc: &str, request: &[u8]) -> Result<Self, Refusal> {
        let problem = "must be a UUID such as `uuidgen` prints; draw one for each new request";
        let parsed = uuid::Uuid::try_parse(request_id).ok().filter(|_| request_id.len() == 36);
        let request_id = parsed.ok_or_else(|| Refusal::invalid("request_id", problem))?;
        Ok(Self { request_id, request_hash: hash(&[rpc.as_bytes(), request]) })
    }

    /// The id in its one spelling: lower case, hyphenated.
    pub fn request_id(&self) -> String {
        self.request_id.hyphenated().to_string()
    }

    /// SHA-256 of the request.
    pub fn request_hash(&self) -> [u8; 32] {
        self.request_hash
    }
}

/// SHA-256 of parts, each behind its length as four bytes, big-endian.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; 32];
    for (to, from) in digest.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    digest
}

/// When a task ends by itself.
#[derive(Clone, Copy, Debug)]
pub enum Deadline {
    /// At this time.
    At(Stamp),
    /// So long after it begins.
    After(Span),
    /// With its parent; a root must say.
    Parent,
}

/// A task to begin or delegate.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Who is to do it.
    pub agent: Agent,
    /// Why; at most 1,024 bytes.
    pub purpose: String,
    /// Who answers for it; empty: the agent class's owner.
    pub owner: String,
    /// At most 16.
    pub labels: BTreeMap<String, String>,
    /// What its credentials may at most allow.
    pub grant: Grant,
    /// The tier; `None`: the parent's.
    pub tier: Option<Name>,
    /// When it ends by itself.
    pub deadline: Deadline,
    /// How often the orchestrator says that it is there.
    pub heartbeat: Option<Span>,
    /// Where in the task the agent is.
    pub step: String,
    /// Opaque, at most 4,096 bytes.
    pub checkpoint: Vec<u8>,
    /// How many instances may hold credentials; 0 means 1.
    pub instances: u32,
}

impl TaskSpec {
    /// Holds the bounds of FORMATS.md's table.
    ///
    /// # Errors
    /// [`Refusal::RequestInvalid`] names the field and its bound.
    pub fn check(&self) -> Result<(), Refusal> {
        check_text("purpose", &self.purpose, MAX_TEXT)?;
        check_text("owner", &self.owner, MAX_TEXT)?;
        check_step(&self.step)?;
        check_checkpoint(&self.checkpoint)?;
        if self.labels.len() > MAX_LABELS {
            return Err(Refusal::invalid("labels", format!("more than {MAX_LABELS} labels")));
        }
        for (key, value) in &self.labels {
            if key.is_empty() {
                return Err(Refusal::invalid("labels", "a label has an empty name"));
            }
            check_text("labels", key, MAX_LABEL_KEY)?;
            check_text("labels", value, MAX_LABEL_VALUE)?;
        }
        if self.heartbeat.is_some_and(|span| span < Span::from_seconds(1)) {
            return Err(Refusal::invalid("heartbeat_interval", "at least 1 s"));
        }
        Ok(())
    }
}

/// Holds the bound of a step.
///
/// # Errors
/// [`Refusal::RequestInvalid`]
pub fn check_step(step: &str) -> Result<(), Refusal> {
    check_text("step", step, MAX_STEP)
}

/// Holds the bound of a reason.
///
/// # Errors
/// [`Refusal::RequestInvalid`]
pub fn check_reason(reason: &str) -> Result<(), Refusal> {
    check_text("reason", reason, MAX_TEXT)
}

/// Holds the bound of a checkpoint.
///
/// # Errors
/// [`Refusal::RequestInvalid`]
pub fn check_checkpoint(checkpoint: &[u8]) -> Result<(), Refusal> {
    if checkpoint.len() <= MAX_CHECKPOINT {
        return Ok(());
    }
    Err(Refusal::invalid("checkpoint", format!("longer than {MAX_CHECKPOINT} bytes")))
}

fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), Refusal> {
    if text.len() > most {
        return Err(Refusal::invalid(field, format!("longer than {most} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "holds a control character"));
    }
    Ok(())
}

/// A credential to issue.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    /// For which task.
    pub task: TaskId,
    /// The epoch that the caller means; `None`: the current one.
    pub expected_epoch: Option<u64>,
    /// The one resource; empty only for a certificate.
    pub audience: String,
    /// What is asked for; `None`: all that the grant says of the audience.
    pub asked: Option<Grant>,
    /// How long it should live, in seconds; `None`: as long as the tier says.
    pub ttl_seconds: Option<u64>,
    /// Which credential.
    pub credential: CredentialRequest,
}

/// Which credential is asked for.
#[derive(Clone, Debug)]
pub enum CredentialRequest {
    /// An access token.
    AccessToken(TokenProof),
    /// An X.509-SVID for the key of a CSR, in DER.
    X509Svid(Vec<u8>),
    /// A JWT-SVID; only where the tier allows bearer tokens.
    JwtSvid,
}

/// What an access token is bound to.
#[derive(Clone, Debug)]
pub enum TokenProof {
    /// The caller's client certificate.
    CallerCertificate,
    /// A certificate that is minted with it, for the key of a CSR, in DER.
    Csr(Vec<u8>),
    /// The key of a DPoP proof.
    Dpop(ShownProof),
    /// Nothing; only where the tier allows it.
    Bearer,
}

/// A DPoP proof that came with a call, unchecked.
#[derive(Clone, Debug)]
pub struct ShownProof {
    /// The compact JWS.
    pub jwt: String,
    /// The path of the call, which the proof must name.
    pub path: &'static str,
}

/// A key for the next credential of a lease.
#[derive(Clone, Debug)]
pub enum RenewalProof {
    /// That of a CSR, in DER.
    Csr(Vec<u8>),
    /// That of a DPoP proof: the same as before.
    Dpop(ShownProof),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_12_what_is_hashed_together_is_told_apart() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"abc"]), hash(&[b"abc", b""]));
        assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
    }
}
