//! Ending a task: commit, RECORDED, FENCED. Broker 0 does it, once.

use super::protocol::{Action, Protocol};
use super::rules::Rule;
use super::state::{Broker, PARTITIONS, Partitions, Registry, State, Step};

impl Protocol {
    pub fn ending_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(broker) = state.running(0) else { return };
        match state.ending.step {
            Step::NotRecorded if broker.registered => {
                let is_listed = state.ending.listed.is_some();
                if is_listed || self.holds(Rule::RegistryAfterRecorded) {
                    let open = self.scenario.scope.except(state.store.written);
                    let next = (0..PARTITIONS).find(|p| open.has(*p));
                    actions.extend(next.map(|p| Action::Commit { p }));
                } else {
                    actions.push(Action::ListRegistry);
                }
            }
            Step::Recorded => self.fence_actions(state, broker, actions),
            Step::NotRecorded | Step::Fenced => {}
        }
    }

    fn fence_actions(&self, state: &State, broker: &Broker, actions: &mut Vec<Action>) {
        let store = &state.store;
        let lapse = self.lapse(self.delta_max());
        // The store's first incarnation had no registry before it.
        let is_first = broker.incarnation == 1 || !self.holds(Rule::OnlyFirstIsExempt);
        let is_whole = is_first || broker.incarnation_age == lapse;
        let is_current = broker.incarnation == store.incarnation;
        let counts = is_whole && is_current || !self.holds(Rule::YoungRegistry);
        let listed = state.ending.listed;
        let is_awaited = |record: usize| listed.is_none_or(|bits| bits & (1 << record) != 0);
        if counts && self.all_acked(&store.registry, is_awaited) {
            actions.push(Action::FenceByRegistry);
        }
        // The deposed primary takes the ending broker's beats too, and confirms none.
        let own = broker.applied.covers(self.scenario.scope);
        if let Some(deposed) = &store.deposed
            && is_whole
            && !is_current
            && own
            && self.all_acked(deposed, |record| record != 0)
        {
            actions.push(Action::FenceByDeposedRegistry);
        }
        if state.ending.waited == self.lapse(self.delta()) {
            actions.push(Action::FenceByLapse);
        }
    }

    fn all_acked(&self, registry: &Registry, is_awaited: impl Fn(usize) -> bool) -> bool {
        let has_acked = |acked: Partitions| acked.covers(self.scenario.scope);
        let mut records = registry.iter().enumerate();
        records.all(|(record, acked)| !is_awaited(record) || acked.is_none_or(has_acked))
    }

    /// Rule 3 broken: the registry is read first, and not again.
    pub fn list_registry(&self, state: &mut State) {
        let present = state.store.registry.iter().enumerate().filter(|(_, acked)| acked.is_some());
        state.ending.listed = Some(present.fold(0, |bits, (record, _)| bits | 1 << record));
    }

    /// Writes the revocation to one partition. After the last it is RECORDED at that instant: when durability takes longer,
    /// RECORDED is later and everything promised from then on is less.
    pub fn commit(&self, state: &mut State, p: usize) {
        state.store.written = state.store.written.with(Partitions::of(p));
        if state.store.written.covers(self.scenario.scope) {
            state.ending.step = Step::Recorded;
        }
    }

    pub fn fence(&self, state: &mut State) {
        state.ending.step = Step::Fenced;
        state.ending.waited = 0;
        state.ending.listed = None;
    }
}
