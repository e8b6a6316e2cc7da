//! quarantine and lift: the kill switch for a whole scope, written partition by partition.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use crate::broker::access::{Caller, Rpc};
use crate::broker::commit::{Attempt, Committed};
use crate::broker::error::BrokerError;
use crate::broker::request::{Idempotency, check_reason};
use crate::broker::{Broker, Revoked};
use crate::domain::event::{Event, EventKind};
use crate::domain::id::Partition;
use crate::domain::lattice::Entry;
use crate::domain::path::Origin;
use crate::domain::role::{Pattern, Role};
use crate::domain::scope::Scope;
use crate::domain::time::Stamp;
use crate::store::{Commit, Entries, Lane, Query, Subject};

/// Why the broker writes it.
const UNFINISHED: &str = "whoever wrote it in other partitions did not come to this one";

impl Broker {
    /// Kills every credential that the scope reaches, blocks issuing for it, and stops callers whom it reaches from driving
    /// tasks; ending them stays possible. When this answers, both hold in every
    /// partition; the answer is when the last one was written. If it fails half way, trying again with the same request id
    /// writes the rest. Of a signing key it kills also what it signs from now on, whoever has it, and for good; a successor
    /// signs instead.
    ///
    /// # Errors
    /// The caller is no operator, or the store did not answer for some partition.
    pub async fn quarantine(
        &self,
        caller: &Caller,
        id: &Idempotency,
        scope: Scope,
        reason: String,
    ) -> Result<Revoked, BrokerError> {
        caller.admit(Rpc::Quarantine)?;
        let switched = self.switch((caller, id), &scope, reason, EventKind::Quarantined).await?;
        let written = match switched {
            Switched::Now(written) => written,
            Switched::Before(_) | Switched::Never(_) => self.marks(&scope).await?,
        };
        self.revoked(written, self.parts.upkeep.constants().delta_max).await
    }

    /// Lets issuing for a scope go on. What was killed stays dead, and a signing key out of use.
    ///
    /// # Errors
    /// The caller is no operator, or the store did not answer for some partition.
    pub async fn lift_quarantine(
        &self,
        caller: &Caller,
        id: &Idempotency,
        scope: Scope,
        reason: String,
    ) -> Result<Lifted, BrokerError> {
        caller.admit(Rpc::LiftQuarantine)?;
        let switched =
            self.switch((caller, id), &scope, reason, EventKind::QuarantineLifted).await?;
        let was_quarantined = !matches!(switched, Switched::Never(_));
        Ok(Lifted { at: switched.at(), was_quarantined })
    }

    /// What is odd about a scope: this broker's configuration, or its keyring, has nothing by its name. Somebody else's may
    /// have, or had.
    pub fn doubt(&self, scope: &Scope) -> Option<&'static str> {
        let settings = self.settings();
        let roles = || settings.roles.iter();
        let (is_known, doubt) = match scope {
            Scope::All => return None,
            Scope::Key(key_id) => (
                self.keys().key_ids().any(|known| known == key_id),
                "no key that this broker signs with, or did, has this id",
            ),
            Scope::Principal(principal) => (
                roles().any(|entry| entry.pattern.may_match(principal)),
                "no `[[roles]]` entry matches this principal in this broker's configuration",
            ),
            Scope::Class(name) => (
                roles().any(|entry| matches!(&entry.role, Role::Agent(class) if class.name == *name)),
                "no `[[roles]]` entry has this agent class in this broker's configuration",
            ),
            Scope::Orchestrator(name) => (
                roles().any(|entry| matches!(&entry.role, Role::Orchestrator(entry) if entry == name)),
                "no `[[roles]]` entry of an orchestrator has this name in this broker's configuration",
            ),
            Scope::Issuer(name) => (
                roles().any(|entry| matches!(&entry.pattern, Pattern::Oidc { issuer, .. } if issuer == name)),
                "no `[[roles]]` entry has this issuer in this broker's configuration",
            ),
            Scope::TrustDomain(domain) => (
                roles().any(|entry| matches!(&entry.pattern, Pattern::Spiffe(p) if p.trust_domain() == domain)),
                "no `[[roles]]` entry lies in this trust domain in this broker's configuration",
            ),
            Scope::Tier(name) => {
                (settings.tiers.iter().any(|tier| tier.name == *name), "there is no such tier in this broker's configuration")
            }
        };
        (!is_known).then_some(doubt)
    }

    async fn switch(
        &self,
        by: (&Caller, &Idempotency),
        scope: &Scope,
        reason: String,
        kind: EventKind,
    ) -> Result<Switched, BrokerError> {
        check_reason(&reason)?;
        if let Some((answer, _)) =
            self.answered((Partition::ZERO, Lane::Ending), by.0, by.1).await?
        {
            return Ok(Switched::Before(answer.origin.stamp));
        }
        let partitions = self.parts.upkeep.constants().partitions;
        let counts = try_join_all(partitions.all().map(|p| self.block_count(p, scope))).await?;
        let count = counts.into_iter().max().unwrap_or(0);
        // INVARIANT (a quarantine wins): odd blocks, and the count is always above the one that was read. Whoever lifts what stood
        // before writes less than that, however late.
        let count = match (kind == EventKind::Quarantined, count % 2 == 1) {
            (true, true) => count.saturating_add(2),
            (false, false) => return self.never_quarantined(by, scope).await,
            (true, false) | (false, true) => count.saturating_add(1),
        };
        let write = |partition| self.switch_one(Some(by), partition, (scope, count), &reason, kind);
        // Partition 0 last: the stored answer says that all of them are written.
        let others = partitions.all().filter(|partition| *partition != Partition::ZERO);
        let mut written = try_join_all(others.map(write)).await?;
        written.push(write(Partition::ZERO).await?);
        let mut at = BTreeMap::new();
        for (partition, committed) in written {
            match committed {
                Committed::Done(receipt) => drop(at.insert(partition, receipt.origin)),
                // The same request was faster on another way.
                Committed::Replayed(answer) => return Ok(Switched::Before(answer.origin.stamp)),
            }
        }
        Ok(Switched::Now(at))
    }

    /// That there is nothing to lift is an answer too, and kept like any other.
    async fn never_quarantined(
        &self,
        (caller, id): (&Caller, &Idempotency),
        scope: &Scope,
    ) -> Result<Switched, BrokerError> {
        let mut commit = Commit::new(Partition::ZERO, Lane::Ending);
        commit.replay = Some(self.replay(caller, id, Subject::Scope(scope.to_string())));
        match self.attempt(commit).await? {
            Attempt::Settled(Committed::Done(receipt)) => Ok(Switched::Never(receipt.origin.stamp)),
            Attempt::Settled(Committed::Replayed(answer)) => {
                Ok(Switched::Before(answer.origin.stamp))
            }
            Attempt::Again | Attempt::Overdue => Err(BrokerError::Contended),
        }
    }

    /// When the watermark of the scope was made, in each partition.
    async fn marks(&self, scope: &Scope) -> Result<BTreeMap<Partition, Origin>, BrokerError> {
        let mark = async |partition| {
            let reach = vec![scope.reach()];
            let entries = Entries::Raised { tasks: vec![], reach, leases: vec![] };
            let query = Query::new(partition, vec![], entries).on(Lane::Ending);
            let snapshot = self.read(query).await?;
            let mark = snapshot.raised.into_iter().find_map(|(entry, _)| match entry {
                Entry::Watermark(_, mark) => Some(mark),
                _ => None,
            });
            let Some(mark) = mark else { return Ok(None) };
            let at = Origin { incarnation: snapshot.meta.incarnation, stamp: mark.stamp };
            // As it is, and not as if it were made in what lives now: it kills nothing that came after it.
            self.merge(partition, mark, &[Entry::Watermark(scope.clone(), mark)]);
            Ok::<_, BrokerError>(Some((partition, at)))
        };
        let partitions = self.parts.upkeep.constants().partitions;
        let marks = try_join_all(partitions.all().map(mark)).await?;
        Ok(marks.into_iter().flatten().collect())
    }

    async fn switch_one(
        &self,
        by: Option<(&Caller, &Idempotency)>,
        partition: Partition,
        (scope, count): (&Scope, u64),
        reason: &str,
        kind: EventKind,
    ) -> Result<(Partition, Committed), BrokerError> {
        let mut commit = Commit::new(partition, Lane::Ending);
        let mut entries = vec![Entry::Block(scope.clone(), count)];
        if kind == EventKind::Quarantined {
            entries.push(Entry::Watermark(scope.clone(), Origin::default()));
        }
        commit.event = Some(Event { entries, ..self.event(kind, by, reason)? });
        if partition == Partition::ZERO {
            let subject = || Subject::Scope(scope.to_string());
            commit.replay = by.map(|(caller, id)| self.replay(caller, id, subject()));
        }
        match self.attempt(commit).await? {
            Attempt::Settled(committed) => Ok((partition, committed)),
            Attempt::Again | Attempt::Overdue => Err(BrokerError::Contended),
        }
    }

    /// Writes what is missing of a switch whose writer died between two partitions: a count that another partition has
    /// already. What is uneven for the first time is left alone, since its writer may be at work.
    pub(super) async fn even_out(
        &self,
        partitions: &[(Partition, BTreeMap<Scope, u64>)],
    ) -> Result<(), BrokerError> {
        let mut highest: BTreeMap<&Scope, u64> = BTreeMap::new();
        for (scope, count) in partitions.iter().flat_map(|(_, blocks)| blocks) {
            let known = highest.entry(scope).or_insert(*count);
            *known = (*known).max(*count);
        }
        let lacks = |blocks: &BTreeMap<Scope, u64>, scope: &Scope, count: u64| {
            blocks.get(scope).copied().unwrap_or(0) < count
        };
        let is_uneven = |(scope, count): &(&Scope, u64)| {
            partitions.iter().any(|(_, blocks)| lacks(blocks, scope, *count))
        };
        let uneven: Vec<_> = highest.into_iter().filter(is_uneven).collect();
        let owned = uneven.iter().map(|(scope, count)| ((*scope).clone(), *count)).collect();
        let before = std::mem::replace(&mut *self.uneven.lock(), owned);
        for (scope, count) in uneven {
            if !before.contains(&(scope.clone(), count)) {
                continue;
            }
            let kind = match count % 2 {
                1 => EventKind::Quarantined,
                _ => EventKind::QuarantineLifted,
            };
            let (first, others): (Vec<_>, Vec<_>) = partitions
                .iter()
                .filter(|(_, blocks)| lacks(blocks, scope, count))
                .map(|(partition, _)| *partition)
                .partition(|partition| *partition == Partition::ZERO);
            // Partition 0 last, here too: its event says that all of them are written.
            for partition in others.into_iter().chain(first) {
                self.switch_one(None, partition, (scope, count), UNFINISHED, kind).await?;
            }
        }
        Ok(())
    }

    async fn block_count(&self, partition: Partition, scope: &Scope) -> Result<u64, BrokerError> {
        Ok(self.read(hitting(partition, scope)).await?.lattice.block_count(scope))
    }
}

/// What became of a wish to lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifted {
    /// When issuing went on, by the stamp of the last commit.
    pub at: Stamp,
    /// Whether there was anything to lift.
    pub was_quarantined: bool,
}

/// What a switch came to.
enum Switched {
    /// It was written, there and then.
    Now(BTreeMap<Partition, Origin>),
    /// The same request wrote it before; partition 0 last, at this stamp.
    Before(Stamp),
    /// There was nothing to lift.
    Never(Stamp),
}

impl Switched {
    fn at(&self) -> Stamp {
        match self {
            Self::Now(written) => written.values().map(|at| at.stamp).max().unwrap_or_default(),
            Self::Before(at) | Self::Never(at) => *at,
        }
    }
}

/// A partition's entries about a scope.
fn hitting(partition: Partition, scope: &Scope) -> Query {
    let entries = Entries::Hitting { tasks: vec![], reach: vec![scope.reach()], lease: None };
    Query::new(partition, vec![], entries).on(Lane::Ending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world::{BATCH, FINANCE, STRANGER, World};

    #[tokio::test]
    async fn a_scope_that_the_configuration_does_not_name_is_doubted_and_no_other() {
        let broker = World::on_model().await.broker();
        let doubt = |scope: &str| broker.doubt(&Scope::parse(scope).unwrap());
        let [finance, batch, stranger] =
            [FINANCE, BATCH, STRANGER].map(|principal| format!("principal:{principal}"));
        let key = format!("key:{}", broker.keys().key_ids().next().unwrap());
        for known in [
            &finance,
            &batch,
            "class:finance",
            "orchestrator:ci",
            "issuer:k8s",
            "td:lab.example",
            "tier:standard",
            &key,
            "all",
        ] {
            assert_eq!(doubt(known), None, "{known}");
        }
        for odd in [
            &stranger,
            "principal:oidc:k8s:nobody",
            "class:finanse",
            "orchestrator:finance",
            "issuer:k9s",
            "td:labs.example",
            "tier:class",
            "key:0",
        ] {
            assert!(doubt(odd).is_some(), "{odd}");
        }
    }
}
