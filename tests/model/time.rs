//! Time, and the faults that belong to no one: what else goes wrong stands with whom it happens to.

use super::clock::TICK;
use super::protocol::{Action, Protocol};
use super::rules::Rule;
use super::state::{BROKERS, Broker, Life, Message, State, Step, Store, VERIFIERS, Verifier};

impl Protocol {
    pub fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        if state.faults.failovers > 0 {
            actions.push(Action::Failover);
        }
        if state.faults.drifts > 0 {
            let brokers = (0..BROKERS).filter(|b| state.running(*b).is_some());
            actions.extend(brokers.map(|b| Action::DriftOfBroker { b }));
            let verifiers = (0..VERIFIERS).filter(|v| state.verifiers[*v].is_some());
            actions.extend(verifiers.map(|v| Action::DriftOfVerifier { v }));
        }
    }

    /// One tick of true time, and what each clock makes of it.
    pub fn tick(&self, state: &mut State) {
        for b in 0..self.scenario.brokers.len() {
            if let Life::Running(broker) = &mut state.brokers[b] {
                self.tick_broker(broker, &state.store, b);
            }
        }
        for v in 0..self.scenario.verifiers.len() {
            let verifier = state.verifier(v);
            verifier.view_age = verifier.rate.age(verifier.view_age, self.delta());
            let verifier = *verifier;
            for b in 0..self.scenario.brokers.len() {
                self.tick_stream(state, b, v, &verifier);
            }
        }
        let ending = &mut state.ending;
        if ending.step != Step::NotRecorded {
            ending.since_recorded = (ending.since_recorded + TICK).min(self.bound());
        }
        if ending.step == Step::Recorded
            && let Life::Running(broker) = &state.brokers[0]
        {
            ending.waited = broker.rate.age(ending.waited, self.lapse(self.delta()));
        }
    }

    fn tick_broker(&self, broker: &mut Broker, store: &Store, b: usize) {
        let (rate, delta_max) = (broker.rate, self.delta_max());
        let lapse = self.lapse(delta_max);
        if broker.incarnation > 0 && b == 0 {
            broker.incarnation_age = rate.age(broker.incarnation_age, lapse);
        }
        broker.beat_age = rate.age(broker.beat_age, delta_max);
        for p in 0..self.scenario.partitions {
            broker.as_of_age[p] = rate.age(broker.as_of_age[p], delta_max);
            if let Some(read) = &mut broker.reads[p] {
                read.age = rate.age(read.age, delta_max);
            }
        }
        for entry in broker.answered.iter_mut() {
            if let Some(answered) = entry {
                answered.age = rate.age(answered.age, lapse);
                if answered.age == lapse {
                    *entry = None;
                }
            }
        }
        for record in 0..self.scenario.brokers.len() {
            if self.scenario.removal && b == 0 && store.registry[record].is_some() {
                broker.unchanged[record] = rate.age(broker.unchanged[record], lapse);
            }
        }
    }

    /// An answer on its way ages on the clock of the verifier, which counts from when it sent its keep-alive.
    fn tick_stream(&self, state: &mut State, b: usize, v: usize, verifier: &Verifier) {
        if !self.holds(Rule::FreshFromSendTime) {
            return;
        }
        if let Some(queue) = &mut state.streams[b][v] {
            for message in &mut queue.0 {
                if let Message::Answer(age) = message {
                    *age = verifier.rate.age(*age, self.delta());
                }
            }
        }
    }

    pub fn drift_of_broker(&self, state: &mut State, b: usize) {
        let broker = state.broker(b);
        broker.rate = broker.rate.other();
        state.faults.drifts -= 1;
    }

    pub fn drift_of_verifier(&self, state: &mut State, v: usize) {
        let verifier = state.verifier(v);
        verifier.rate = verifier.rate.other();
        state.faults.drifts -= 1;
    }

    /// Partition 0 gets a new primary and with it a new incarnation. The registry is lost; the revocation is not: it was
    /// confirmed, or recovery merged it back (DESIGN.md 6).
    pub fn failover(&self, state: &mut State) {
        state.faults.failovers -= 1;
        let store = &mut state.store;
        store.incarnation += 1;
        if !self.holds(Rule::RegistryReadConfirmed) {
            store.deposed = Some(store.registry);
        }
        store.registry = [None; BROKERS];
        if let Life::Running(broker) = &mut state.brokers[0] {
            broker.unchanged = [0; BROKERS];
        }
    }
}
