//! DPoP: the proof that a call brings of the key that its token is to be bound to, good for one request.
//!
//! A proof is remembered in the partition that its own hash names, not in the task's: whoever shows it again, for whatever
//! task and to whichever broker, asks the same place. There the store's clock says when it is forgotten, and the same clock,
//! in the same commit, says until when it counts: no instant lies between the two.
//!
//! It belongs to the request that it came with. That request, sent again because no answer came, may bring it again, and gets
//! the credential that it got; any other is refused.

use crate::broker::Broker;
use crate::broker::access::Caller;
use crate::broker::commit::Attempt;
use crate::broker::error::BrokerError;
use crate::broker::request::{Idempotency, ShownProof, hash};
use crate::domain::id::Partition;
use crate::domain::refusal::Refusal;
use crate::jose::dpop::{self, DpopError, Expect, HttpsUri, Proof};
use crate::store::{Commit, Lane, Write};

/// Every call of gRPC.
const METHOD: &str = "POST";

/// What proofs of DPoP must say.
#[derive(Clone, Debug)]
pub struct DpopSettings {
    /// Where callers may say that they call: scheme, host and port, each without a path.
    pub targets: Vec<HttpsUri>,
    /// Whether they must have a nonce of ours.
    pub is_nonce_required: bool,
}

impl Broker {
    /// Checks a proof against the call that it came with. Whether it was shown before is asked later.
    pub(super) fn check_proof(&self, shown: &ShownProof) -> Result<Proof, Refusal> {
        let (settings, keys, now) = (&self.settings.dpop, self.keys(), self.now());
        let uris = settings.targets.iter().map(|target| target.with_path(shown.path));
        let uris: Vec<HttpsUri> = uris.filter_map(Result::ok).collect();
        let nonce = settings.is_nonce_required.then(|| keys.dpop_nonces());
        let expect = Expect { method: METHOD, uris: &uris, token: None, nonce };
        dpop::verify(&shown.jwt, expect, now).map_err(|error| match error {
            DpopError::Nonce => {
                Refusal::ProofNonceRequired { nonce: keys.dpop_nonces().fresh(now) }
            }
            DpopError::OtherUri => {
                let known: Vec<_> = uris.iter().map(|uri| format!("`{uri}`")).collect();
                let known = known.join(" or ");
                Refusal::ProofInvalid(format!(
                    "{error}; it must be {known}: an operator adds others to `dpop.targets`"
                ))
            }
            error => Refusal::ProofInvalid(error.to_string()),
        })
    }

    /// Takes a proof for this one request.
    // INVARIANT (proof once): it is forgotten at the very stamp from which it is refused as too old.
    pub(super) async fn take_proof(
        &self,
        by: (&Caller, &Idempotency),
        proof: &Proof,
    ) -> Result<(), BrokerError> {
        let (caller, id) = by;
        let partition = Partition::of_hash(&proof.id(), self.parts.upkeep.constants().partitions);
        let request = hash(&[&self.answer_key(caller, id), &id.request_hash()]);
        let keep_until = proof.expires();
        let commit = Commit {
            before: Some(keep_until),
            writes: vec![Write::ShownProof { id: proof.id(), request, keep_until }],
            ..Commit::new(partition, Lane::Ordinary)
        };
        match self.attempt(commit).await? {
            Attempt::Settled(_) => Ok(()),
            Attempt::Overdue => Err(Refusal::ProofInvalid(DpopError::TooOld.to_string()).into()),
            Attempt::Again => Err(BrokerError::Contended),
        }
    }
}
