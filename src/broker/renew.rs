//! renew: not an extension but a new credential under the same lease, after fresh proof and fresh policy.

use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::issue::{
    Binding, Decided, Granted, Issued, Wish, another_key, caller_binding, credential_event, proved,
};
use crate::broker::request::{Idempotency, RenewalProof};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::LeaseId;
use crate::domain::lease::Lease;
use crate::domain::line::Line;
use crate::domain::refusal::Refusal;
use crate::domain::time::Stamp;
use crate::policy::Action;
use crate::store::{Guard, Lane, RecordKey};

impl Broker {
    /// Renews a lease.
    ///
    /// # Errors
    /// The lease is not the caller's, is over, or is held by another instance; its task moved on; policy says no; or too
    /// little is left until a limit, the ceiling among them.
    pub async fn renew(
        &self,
        caller: &Caller,
        id: &Idempotency,
        lease: LeaseId,
        ttl_seconds: Option<u64>,
        proof: Option<RenewalProof>,
    ) -> Result<Issued, BrokerError> {
        caller.admit(Rpc::RenewCredential)?;
        let held = self.find_lease(lease, Lane::Ordinary).await?;
        if !caller.holds(&held) {
            return Err(Refusal::NotFound("lease").into());
        }
        let binding = self.rebind(caller, &held, proof)?;
        if let Binding::Dpop(proof) = &binding {
            self.take_proof((caller, id), proof).await?;
        }
        let task = held.draft.path.own().task;
        let binding = &binding;
        let mut held = Some(held);
        let line = self.line(task).await?;
        let built = self.commit_on(line, |whole| {
            let held = held.take();
            async move {
                let line = &*whole;
                // Another broker may have renewed it in between.
                let held = match held {
                    Some(held) => held,
                    None => self.find_lease(lease, Lane::Ordinary).await?,
                };
                let floor = self.floor(task.partition());
                line.must_be_active(floor, self.store_now())?;
                must_be_current(&held, line, floor, self.now())?;
                if held.draft.instance != caller.identity().instance() {
                    return Err(Refusal::InstanceMismatch.into());
                }
                // Agents ask for another credential then, which its successor signs.
                if self.is_of_condemned_key(&held.draft) {
                    return Err(Refusal::LeaseRevoked.into());
                }
                let wish = Wish {
                    action: Action::Renew,
                    expected_epoch: None,
                    kind: held.draft.kind,
                    binding,
                    audience: &held.draft.audience,
                    asked: Some(&held.draft.grant),
                    ttl_seconds,
                    id,
                    held: Some(&held),
                };
                let Granted { permit, draft, limits, pinned } =
                    self.grant(caller, line, floor, &wish).await?;
                // The instance that holds the lease is pinned already.
                if pinned.is_some() {
                    return Err(Refusal::InstanceMismatch.into());
                }
                let mut commit =
                    self.credential_commit((line, floor), &draft, limits, (caller, id))?;
                let version = Some(held.origin.stamp);
                commit.guards.push(Guard { key: RecordKey::Lease(lease), version });
                // What reached the lease before may reach it no longer: a signing key that was replaced, for one.
                let marked = commit.unblocked.iter().copied().chain(held.full_reach());
                commit.unmarked = Some((marked.collect(), held.first_origin));
                let expires = Stamp::from_seconds(held.expires_seconds);
                commit.before = Some(commit.before.map_or(expires, |before| before.min(expires)));
                if let Some(times) = &mut commit.times {
                    times.lease_origin = Some(held.first_origin);
                }
                let event = self.event(EventKind::CredentialRenewed, Some((caller, id)), "")?;
                let changed = draft.key_thumbprint != held.draft.key_thumbprint;
                commit.event = Some(Event {
                    key_thumbprint: draft.key_thumbprint.filter(|_| changed),
                    ..credential_event(event, &draft)
                });
                Ok((commit, Decided { permit, draft, line: whole }))
            }
        });
        let (committed, decided) = built.await?;
        self.minted(caller, committed, decided).await
    }

    /// The same kind of binding as before: to the caller's present certificate, to a key that a new CSR proves, to the very
    /// key that made the DPoP proof before, or none.
    fn rebind(
        &self,
        caller: &Caller,
        held: &Lease,
        proof: Option<RenewalProof>,
    ) -> Result<Binding, Refusal> {
        let draft = &held.draft;
        match (&draft.public_key, draft.jkt, proof) {
            (Some(_), _, Some(RenewalProof::Csr(csr))) => proved(&csr),
            (Some(_), _, None) => Err(Refusal::invalid(
                "csr_der",
                "the lease holds a certificate; send a CSR for the next one",
            )),
            (None, _, Some(RenewalProof::Csr(_))) => {
                Err(Refusal::invalid("csr_der", "the lease holds no certificate; leave it out"))
            }
            (None, Some(key), Some(RenewalProof::Dpop(shown))) => {
                let proof = self.check_proof(&shown)?;
                if proof.thumbprint != key {
                    return Err(another_key());
                }
                Ok(Binding::Dpop(proof))
            }
            (None, Some(_), None) => Err(Refusal::ProofInvalid(
                "the lease is bound to a DPoP key; send a proof of it in the metadata `dpop`"
                    .into(),
            )),
            (_, _, Some(RenewalProof::Dpop(_))) => Err(Refusal::invalid(
                "dpop",
                "the lease is not bound to a DPoP key; leave the proof out",
            )),
            (None, None, None) if draft.key_thumbprint.is_some() => caller_binding(caller),
            (None, None, None) => Ok(Binding::Bearer),
        }
    }
}

/// That the lease's latest credential is alive as far as time, task and floor go. The end of a lease from before the floor may
/// have been lost.
fn must_be_current(held: &Lease, line: &Line, floor: Stamp, now: Stamp) -> Result<(), Refusal> {
    let before_loss = held.first_origin.incarnation < floor;
    if held.is_expired(now) || held.draft.path != line.path() || before_loss {
        return Err(Refusal::LeaseRevoked);
    }
    Ok(())
}
