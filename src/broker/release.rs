//! release and revoke: a lease is over before its time.

use crate::broker::access::{Caller, Rpc};
use crate::broker::commit::{Attempt, Committed};
use crate::broker::error::BrokerError;
use crate::broker::introspect::Presented;
use crate::broker::limits::Stranger;
use crate::broker::request::{Idempotency, check_reason};
use crate::broker::{Broker, LeaseState, LeaseView, Revoked};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::LeaseId;
use crate::domain::lattice::{Entry, Kill};
use crate::domain::lease::Lease;
use crate::domain::path::Origin;
use crate::domain::refusal::Refusal;
use crate::store::{Commit, Entries, Lane, Meta, Query, Record, RecordKey, Subject};

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
    /// [`BrokerError::RateLimited`], or the store's: then the token may still be alive.
    // INVARIANT (once): whoever has a token may show it as often as he likes, and its end is written, told and paid for once.
    pub async fn revoke_presented(&self, by: Stranger, token: &str) -> Result<(), BrokerError> {
        let Some(name) = self.presented_lease(&Presented::Token(token)) else { return Ok(()) };
        self.strangers.count_token(by)?;
        let entries = Entries::Hitting { tasks: vec![], reach: vec![], lease: Some(name) };
        let query = Query::new(name.partition(), vec![RecordKey::Lease(name)], entries);
        let snapshot = self.read(query.on(Lane::Ending)).await?;
        let Some(Some(Record::Lease(lease))) = snapshot.records.into_iter().next() else {
            return Ok(());
        };
        if snapshot.lattice.kills().any(|kill| kill == Kill::Lease(name)) {
            let Meta { incarnation, stamp, .. } = snapshot.meta;
            let written = [(name.partition(), Origin { incarnation, stamp })].into();
            return self.revoked(written, lease.draft.freshness).await.map(drop);
        }
        let cause = "the token itself was shown for revocation";
        self.end_lease(*lease, None, EventKind::LeaseRevoked, cause).await.map(drop)
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
