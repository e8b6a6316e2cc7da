//! Leases as they are read: whether they live, and who may see them.

use crate::broker::Broker;
use crate::broker::access::{Caller, Rpc};
use crate::broker::error::BrokerError;
use crate::broker::page::{Room, bad_token, lease_bytes};
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::Dead;
use crate::domain::lease::Lease;
use crate::domain::refusal::Refusal;
use crate::domain::task::State;
use crate::store::{Entries, Index, Lane, Listing, Query, Record, RecordKey, Snapshot};

/// Where a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Its latest credential is alive.
    Active,
    /// Its latest credential's time is over.
    Expired,
    /// It was released or revoked, or a quarantine hit it.
    Revoked,
    /// Its task or an ancestor changed, was suspended or ended.
    TaskChanged,
}

/// A lease, and where it stands.
#[derive(Clone, Debug)]
pub struct LeaseView {
    /// The lease.
    pub lease: Lease,
    /// Where it stands.
    pub state: LeaseState,
}

/// Some leases.
#[derive(Clone, Debug)]
pub struct LeasePage {
    /// Those of this page.
    pub leases: Vec<LeaseView>,
    /// Where the next page begins; empty on the last one.
    pub next_page_token: String,
}

impl Broker {
    /// One lease.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if there is none that the caller may see.
    pub async fn get_lease(
        &self,
        caller: &Caller,
        lease: LeaseId,
    ) -> Result<LeaseView, BrokerError> {
        caller.admit(Rpc::GetLease)?;
        let lease = self.find_lease(lease, Lane::Ordinary).await?;
        caller.on_lease(Rpc::GetLease, &lease)?;
        self.lease_view(lease).await
    }

    /// The leases of a task that the caller may see.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] if the caller may see neither the task nor a lease of it; [`Refusal::RequestInvalid`] for a page
    /// size or token that is not one.
    pub async fn list_leases(
        &self,
        caller: &Caller,
        task: TaskId,
        page_size: i32,
        page_token: &str,
    ) -> Result<LeasePage, BrokerError> {
        caller.admit(Rpc::ListLeases)?;
        let mut room = Room::new(page_size)?;
        if !page_token.is_empty() {
            LeaseId::parse(page_token).map_err(|_| bad_token())?;
        }
        let own = self.find_task(task, Lane::Ordinary).await?;
        let whole = caller.on_task(Rpc::ListLeases, &own).is_ok();
        if !whole {
            caller.on_task(Rpc::GetTask, &own)?;
        }
        let (partition, index, limit) = (task.partition(), Index::Leases(task), room.items());
        let listing = Listing { partition, index, after: page_token.to_owned(), limit };
        let names = self.parts.store.list(listing).await?;
        let mut page = LeasePage { leases: Vec::new(), next_page_token: String::new() };
        for name in &names {
            if room.is_full() {
                return Ok(page);
            }
            page.next_page_token.clone_from(name);
            let Ok(lease) = LeaseId::parse(name) else { continue };
            match self.find_lease(lease, Lane::Ordinary).await {
                Ok(lease) if whole || caller.holds(&lease) => {
                    let view = self.lease_view(lease).await?;
                    room.take(lease_bytes(&view));
                    page.leases.push(view);
                }
                // Somebody else's, or its record's time is over.
                Ok(_) | Err(BrokerError::Refused(Refusal::NotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
        if names.len() < limit {
            page.next_page_token.clear();
        }
        Ok(page)
    }

    /// A lease's record.
    pub(super) async fn find_lease(
        &self,
        lease: LeaseId,
        lane: Lane,
    ) -> Result<Lease, BrokerError> {
        let records = vec![RecordKey::Lease(lease)];
        let query = Query::new(lease.partition(), records, Entries::None).on(lane);
        match self.read(query).await?.records.into_iter().flatten().next() {
            Some(Record::Lease(lease)) => Ok(*lease),
            _ => Err(Refusal::NotFound("lease").into()),
        }
    }

    /// A lease, and where it stands now.
    async fn lease_view(&self, lease: Lease) -> Result<LeaseView, BrokerError> {
        let state = self.lease_state(&lease).await?;
        Ok(LeaseView { lease, state })
    }

    /// That the credential of a lease is alive.
    ///
    /// # Errors
    /// [`Refusal::LeaseRevoked`]
    pub(super) async fn must_live(&self, lease: &Lease) -> Result<(), BrokerError> {
        match self.lease_state(lease).await? {
            LeaseState::Active => Ok(()),
            LeaseState::Expired | LeaseState::Revoked | LeaseState::TaskChanged => {
                Err(Refusal::LeaseRevoked.into())
            }
        }
    }

    async fn lease_state(&self, lease: &Lease) -> Result<LeaseState, BrokerError> {
        let reach = lease.full_reach();
        let facts = lease.facts(&reach);
        let tasks: Vec<TaskId> = facts.path.hops().map(|hop| hop.task).collect();
        let entries = Entries::Hitting {
            tasks: tasks.clone(),
            reach: reach.clone(),
            lease: Some(facts.lease),
        };
        let records = tasks.into_iter().map(RecordKey::Task).collect();
        let query = Query::new(facts.lease.partition(), records, entries);
        let snapshot = self.read(query).await?;
        Ok(match snapshot.lattice.judge(&facts) {
            Err(Dead::Fenced) => LeaseState::TaskChanged,
            Err(Dead::LeaseOver | Dead::Quarantined | Dead::Lost | Dead::IncarnationUnknown) => {
                LeaseState::Revoked
            }
            Ok(()) if lease.is_expired(self.now()) => LeaseState::Expired,
            Ok(()) if self.is_active(&snapshot) => LeaseState::Active,
            Ok(()) => LeaseState::TaskChanged,
        })
    }

    /// Whether the line of tasks that a snapshot holds, root first, is effectively active.
    pub(super) fn is_active(&self, snapshot: &Snapshot) -> bool {
        let tasks: Option<Vec<_>> = snapshot
            .records
            .iter()
            .map(|record| match record {
                Some(Record::Task(task)) => Some((**task).clone()),
                _ => None,
            })
            .collect();
        let Some(mut tasks) = tasks else { return false };
        let Some(own) = tasks.pop() else { return false };
        let line = crate::domain::line::Line::new(tasks, own);
        line.is_some_and(|line| {
            line.standing(snapshot.meta.floor, self.now()).state == State::Active
        })
    }
}
