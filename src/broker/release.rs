//! release and revoke: a lease is over before its time.

use crate::broker::access::{Caller, Rpc};
use crate::broker::commit::{Attempt, Committed};
use crate::broker::error::BrokerError;
use crate::broker::introspect::Presented;
use crate::broker::request::{Idempotency, check_reason};
use crate::broker::{Broker, LeaseState, LeaseView, Revoked};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::LeaseId;
use crate::domain::lattice::Entry;
use crate::domain::lease::Lease;
use crate::domain::refusal::Refusal;
use crate::store::{Commit, Lane, Subject};

impl Broker {
    /// Gives a lease back: its credentials are dead when this answers.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the lease is not the caller's.
    pub async fn release(
        &self,
        caller: &Caller,
        id: &Idempotency,
        lease: LeaseId,
    ) -> Result<(LeaseView, Revoked), BrokerError> {
        caller.admit(Rpc::ReleaseCredential)?;
        let held = self.find_lease(lease, Lane::Ending).await?;
        if !caller.holds(&held) {
            return Err(Refusal::NotFound("lease").into());
        }
        if held.draft.instance != caller.identity().instance() {
            return Err(Refusal::InstanceMismatch.into());
        }
        self.end_lease(held, Some((caller, id)), EventKind::LeaseReleased, "").await
    }

    /// Kills a lease: its credentials are dead when this answers.
    ///
    /// # Errors
    /// The caller is no operator, or there is no such lease.
    pub async fn revoke_lease(
        &self,
        caller: &Caller,
        id: &Idempotency,
        lease: LeaseId,
        reason: String,
    ) -> Result<(LeaseView, Revoked), BrokerError> {
        caller.admit(Rpc::RevokeLease)?;
        check_reason(&reason)?;
        let lease = self.find_lease(lease, Lane::Ending).await?;
        self.end_lease(lease, Some((caller, id)), EventKind::LeaseRevoked, &reason).await
    }

    /// Kills the lease of a token that is shown: possession is the right to revoke (RFC 7009). An unknown, expired or dead
    /// token is no error, since it has no use already.
    ///
    /// # Errors
    /// The store's: then the token may still be alive.
    pub async fn revoke_presented(&self, token: &str) -> Result<(), BrokerError> {
        let Some(lease) = self.presented_lease(&Presented::Token(token)) else { return Ok(()) };
        match self.find_lease(lease, Lane::Ending).await {
            Ok(lease) => {
                let cause = "the token itself was shown for revocation";
                self.end_lease(lease, None, EventKind::LeaseRevoked, cause).await?;
                Ok(())
            }
            Err(BrokerError::Refused(Refusal::NotFound(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn end_lease(
        &self,
        lease: Lease,
        by: Option<(&Caller, &Idempotency)>,
        kind: EventKind,
        cause: &str,
    ) -> Result<(LeaseView, Revoked), BrokerError> {
        let name = lease.draft.id;
        let mut commit = Commit::new(name.partition(), Lane::Ending);
        commit.event = Some(Event {
            entries: vec![Entry::Lease(name)],
            task: Some(lease.draft.path.own().task),
            lease: Some(name),
            ..self.event(kind, by, cause)?
        });
        let subject = Subject::Scope(name.to_string());
        commit.replay = by.map(|(caller, id)| self.replay(caller, id, subject));
        let at = match (self.attempt(commit).await?, by) {
            (Attempt::Settled(Committed::Done(receipt)), _) => receipt.origin,
            (Attempt::Settled(Committed::Replayed(_)), Some(by)) => {
                let (_, at) = self.answered_before((name.partition(), Lane::Ending), by).await?;
                self.merge(name.partition(), at, &[Entry::Lease(name)]);
                at
            }
            _ => return Err(BrokerError::Contended),
        };
        let revoked = self.revoked([(name.partition(), at)].into(), lease.draft.freshness).await?;
        Ok((LeaseView { lease, state: LeaseState::Revoked }, revoked))
    }
}
