//! From RECORDED to FENCED and DRAINED: what whoever ended something waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::Feed;
use crate::domain::feed::{Drain, Ending, InstanceId, Pending, Progress, Registry, Run};
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::time::{Moment, Span, Stamp};
use crate::store::StoreError;
use crate::telemetry::metrics;

/// Nobody waits longer.
const WAIT_MOST: Span = Span::from_seconds(60);
/// How long DRAINED is waited for if nobody says.
const DRAIN_WAIT: Span = Span::from_seconds(10);
/// How often the clock is looked at, whatever timers do: it counts also while the machine sleeps.
const LOOK: Duration = Duration::from_millis(100);
/// What stands for verifiers that are not known: the registry is young, or they may be gone since.
const UNKNOWN: &str = "(verifiers that this broker does not know of)";

/// The verifiers that the registry has listed since the ending was committed; `None`: that is not known of all.
type Listed = Option<BTreeMap<Run, String>>;

/// How far an ending is to be before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitFor {
    /// It is durably recorded.
    Recorded,
    /// No subscribed verifier accepts any more what it names.
    Fenced,
    /// Nothing runs any more that one of them had let in.
    Drained,
}

/// A revocation that is RECORDED, and when by the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// What is waited for.
    pub ending: Ending,
    /// When it was known to be RECORDED.
    pub at: Stamp,
    /// When it was committed, or before: long ago where the same was asked again.
    pub since: Moment,
}

/// It may not be RECORDED: the same request may be tried again.
#[derive(Debug, thiserror::Error)]
pub enum NotDurable {
    /// The partition is not any more what it was written to.
    #[error(
        "the store changed while this was written, so it may be lost: try again with the same `request_id`"
    )]
    Changed,
    /// The store did not say.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far an ending is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was reached.
    pub reached: WaitFor,
    /// When it was RECORDED.
    pub recorded_at: Stamp,
    /// When it was known to be FENCED.
    pub fenced_at: Option<Stamp>,
    /// By then it is, whatever happens.
    pub fenced_at_latest: Stamp,
    /// When it was known to be DRAINED.
    pub drained_at: Option<Stamp>,
    /// Who might still accept; empty if it is not known who.
    pub pending: Vec<PendingVerifier>,
    /// Where something still runs, by name.
    pub undrained: Vec<String>,
    /// Where it will not be known, by name.
    pub drain_unknown: Vec<String>,
}

/// Who might still accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingVerifier {
    /// The verifier's run; `None`: the broker itself is behind, with all on its feed.
    pub instance: Option<InstanceId>,
    /// The verifier's name; empty for a broker.
    pub name: String,
    /// The broker that speaks for it.
    pub broker: String,
    /// By then it surely does not.
    pub may_accept_until: Stamp,
}

impl Feed {
    /// Makes sure that what was written is there to stay, which makes it RECORDED; the waiting counts from now. `delta` is the largest
    /// Δ of what it kills: the task's, `delta_max` for a scope. It was merged before ([`Feed::merge`]).
    ///
    /// # Errors
    /// [`NotDurable`]
    pub async fn recorded(
        &self,
        written: BTreeMap<Partition, Origin>,
        delta: Span,
    ) -> Result<Confirmed, NotDurable> {
        let look = written.iter().map(async |(partition, at)| {
            let page = self.parts.feed.page(*partition, None, 1).await?;
            let is_same = page.meta.open && page.meta.incarnation == at.incarnation;
            // No less than the time since: sweeps raise the partition's stamp with it, even if its clock was set back.
            let age = page.meta.now.since(at.stamp);
            if is_same { Ok(age) } else { Err(NotDurable::Changed) }
        });
        let age = try_join_all(look).await?.into_iter().max().unwrap_or_default();
        let recorded = self.moment();
        let delta = delta.min(self.settings.terms.delta_max);
        let ending = Ending { written, recorded, delta };
        // INVARIANT (drained, by all): no later than it was, however slow the store's clock and fast this one: who left since is asked
        // for, too.
        let since = recorded.minus(self.settings.terms.drift.lapse(age));
        Ok(Confirmed { ending, at: self.parts.clock.now(), since })
    }

    /// Waits until it is as far as `wait_for`, for at most `wait`; by itself until it is certain to be FENCED, and 10 s for DRAINED.
    /// Not longer than `at_most` in any case, counted from now.
    pub async fn enforced(
        &self,
        confirmed: &Confirmed,
        wait_for: WaitFor,
        wait: Option<Span>,
        at_most: Span,
    ) -> Outcome {
        let mut outcome = self.outcome(confirmed);
        if wait_for == WaitFor::Recorded {
            return outcome;
        }
        let until = self.until(&confirmed.ending, wait_for, wait);
        let until = until.min(self.moment().plus(at_most));
        let mut waiting = self.registry.wait();
        let mut listed = None;
        loop {
            let (registry, now) = (waiting.latest(), self.moment());
            let registry = registry.as_deref().filter(|r| r.sent >= confirmed.ending.recorded);
            // INVARIANT (drained, by all): who let something in was answered before its broker applied the ending, so it is in
            // every record that was written since, unless it is gone by now; one from before may lack it.
            if listed.is_none()
                && let Some(registry) = registry.filter(|r| confirmed.ending.is_applied(r))
            {
                listed = Some(self.listed(registry, confirmed.since));
            }
            self.judge(confirmed, registry, now, &mut outcome);
            let is_over = outcome.reached >= wait_for
                || wait_for == WaitFor::Drained
                    && outcome.fenced_at.is_some()
                    && self.drain(confirmed, (listed.as_ref(), registry), &mut outcome);
            if is_over || now >= until {
                return outcome;
            }
            let latest = confirmed.ending.at_latest(self.settings.terms);
            let next = if outcome.fenced_at.is_none() { until.min(latest) } else { until };
            let pause = next.since(now).to_std().min(LOOK);
            tokio::select! {
                () = waiting.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn until(&self, ending: &Ending, wait_for: WaitFor, wait: Option<Span>) -> Moment {
        let latest = ending.at_latest(self.settings.terms);
        let by_itself = match wait_for {
            WaitFor::Drained => latest.max(ending.recorded.plus(DRAIN_WAIT)),
            WaitFor::Recorded | WaitFor::Fenced => latest,
        };
        let until = wait.map_or(by_itself, |wait| ending.recorded.plus(wait));
        until.min(ending.recorded.plus(WAIT_MOST))
    }

    fn outcome(&self, confirmed: &Confirmed) -> Outcome {
        let lapse = self.settings.terms.drift.lapse(confirmed.ending.delta);
        Outcome {
            reached: WaitFor::Recorded,
            recorded_at: confirmed.at,
            fenced_at: None,
            fenced_at_latest: confirmed.at.plus(lapse),
            drained_at: None,
            pending: Vec::new(),
            undrained: Vec::new(),
            drain_unknown: Vec::new(),
        }
    }

    fn judge(
        &self,
        confirmed: &Confirmed,
        registry: Option<&Registry>,
        now: Moment,
        outcome: &mut Outcome,
    ) {
        if outcome.fenced_at.is_some() {
            return;
        }
        let terms = self.settings.terms;
        match confirmed.ending.judge(registry, now, terms) {
            Progress::Fenced => {
                outcome.fenced_at = Some(self.parts.clock.now());
                outcome.reached = WaitFor::Fenced;
                outcome.pending = Vec::new();
                metrics::fenced(now.since(confirmed.ending.recorded).to_std());
            }
            Progress::Pending(None) => {}
            Progress::Pending(Some(pending)) => {
                let until = confirmed.at.plus(terms.drift.bound(confirmed.ending.delta));
                outcome.pending = pending.into_iter().map(|p| named(p, until)).collect();
            }
        }
    }

    /// The verifiers that were in the registry since then; `None`: that is not known of all.
    fn listed(&self, registry: &Registry, since: Moment) -> Listed {
        let terms = self.settings.terms;
        let is_whole = registry.is_whole(terms.drift.lapse(terms.delta_max));
        is_whole.then(|| self.registry.seen_since(since)).flatten()
    }

    /// Whether there is nothing to wait for: it drained, or that will not be known.
    fn drain(
        &self,
        confirmed: &Confirmed,
        facts: (Option<&Listed>, Option<&Registry>),
        outcome: &mut Outcome,
    ) -> bool {
        let (Some(listed), Some(registry)) = facts else { return false };
        let Some(listed) = listed else {
            outcome.drain_unknown = vec![UNKNOWN.to_owned()];
            return true;
        };
        outcome.undrained = Vec::new();
        match confirmed.ending.drain(listed, registry) {
            Drain::Drained => {
                outcome.drained_at = Some(self.parts.clock.now());
                outcome.reached = WaitFor::Drained;
                true
            }
            Drain::Running(names) => {
                outcome.undrained = names;
                false
            }
            Drain::Unknown(names) => {
                outcome.drain_unknown = names;
                true
            }
        }
    }
}

fn named(pending: Pending, until: Stamp) -> PendingVerifier {
    let (instance, name) = pending.verifier.unzip();
    PendingVerifier {
        instance,
        name: name.unwrap_or_default(),
        broker: pending.broker,
        may_accept_until: until,
    }
}

#[cfg(test)]
mod tests;
