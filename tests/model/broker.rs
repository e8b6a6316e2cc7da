//! A broker: how it reads, registers, and grants freshness.

use super::clock::{Age, Rate};
use super::protocol::{Action, Protocol};
use super::rules::Rule;
use super::state::{
    Answered, BROKERS, Broker, Life, Message, PARTITIONS, Partitions, Queue, Read, State, VERIFIERS,
};

impl Protocol {
    pub fn broker_actions(&self, state: &State, b: usize, actions: &mut Vec<Action>) {
        let Some(broker) = state.running(b) else {
            let predecessor = self.scenario.brokers[b].succeeds;
            let may_start = predecessor.is_some_and(|p| state.brokers[p] == Life::Stopped);
            if may_start && state.brokers[b] == Life::NotStarted {
                actions.push(Action::Start { b });
            }
            return;
        };
        for p in 0..self.scenario.partitions {
            match broker.reads[p] {
                Some(_) => actions.push(Action::ReadReturns { b, p }),
                None if tells_something(broker, state, p) => actions.push(Action::Read { b, p }),
                None => {}
            }
        }
        actions.push(Action::Beat { b });
        if b > 0 && state.faults.broker_stops > 0 {
            actions.push(Action::Stop { b });
        }
        if b == 0 && self.scenario.removal {
            self.removals(state, broker, actions);
        }
        for v in 0..self.scenario.verifiers.len() {
            let may_answer = state.streams[b][v].is_some_and(|queue| !queue.has_answer())
                && self.granted_age(broker) < self.delta();
            if may_answer {
                actions.push(Action::AnswerKeepAlive { b, v });
            }
        }
    }

    fn removals(&self, state: &State, broker: &Broker, actions: &mut Vec<Action>) {
        let stands_still = |record: &usize| {
            let is_there = state.store.registry[*record].is_some();
            is_there && broker.unchanged[*record] == self.lapse(self.delta_max())
        };
        let still = (1..self.scenario.brokers.len()).filter(stands_still);
        if self.holds(Rule::RemovalCompares) {
            actions.extend(still.map(|record| Action::RemoveRecord { record }));
        } else if let Some(record) = broker.condemned {
            actions.push(Action::RemoveRecord { record: record.into() });
        } else {
            actions.extend(still.map(|record| Action::CondemnRecord { record }));
        }
    }

    /// Sends a read, which the server answers at that instant: a later answer tells more under the same `as_of`.
    pub fn read(&self, state: &mut State, b: usize, p: usize) {
        let saw_revocation = state.store.written.has(p);
        let incarnation = if p == 0 { state.store.incarnation } else { 0 };
        let broker = state.broker(b);
        let may_count = broker.registered || !self.holds(Rule::ReadsAfterRegistration);
        broker.reads[p] = Some(Read { age: 0, saw_revocation, incarnation, may_count });
        if !self.scenario.slow_reads {
            self.read_returns(state, b, p);
        }
    }

    /// The answer to a read: its events are queued on every stream, and then it counts.
    pub fn read_returns(&self, state: &mut State, b: usize, p: usize) {
        let broker = state.broker(b);
        let Some(read) = broker.reads[p].take() else { return };
        self.hear(broker, read.incarnation);
        let is_new = read.saw_revocation && !broker.applied.has(p);
        if is_new {
            broker.applied = broker.applied.with(Partitions::of(p));
        }
        let counts =
            read.may_count && (broker.registered || !self.holds(Rule::ReadsAfterRegistration));
        if counts {
            let age = if self.holds(Rule::AsOfIsSendTime) { read.age } else { 0 };
            broker.as_of_age[p] = broker.as_of_age[p].min(age);
        }
        for v in 0..self.scenario.verifiers.len() {
            if is_new && state.streams[b][v].is_some() {
                state.push_events(b, v, Partitions::of(p));
            }
        }
    }

    /// The broker hears which incarnation partition 0 has.
    fn hear(&self, broker: &mut Broker, incarnation: u8) {
        if incarnation <= broker.incarnation {
            return;
        }
        let is_first = broker.incarnation == 0;
        broker.incarnation = incarnation;
        broker.incarnation_age = 0;
        if !is_first && self.holds(Rule::RegistrationOfIncarnation) {
            broker.registered = false;
            self.forget_reads(broker);
        }
    }

    fn forget_reads(&self, broker: &mut Broker) {
        if !self.holds(Rule::ReadsAfterRegistration) {
            return;
        }
        broker.as_of_age = [self.delta_max(); PARTITIONS];
        for read in broker.reads.iter_mut().flatten() {
            read.may_count = false;
        }
    }

    /// Writes the whole record, and has it confirmed. The first is the registration.
    pub fn beat(&self, state: &mut State, b: usize) {
        let record = self.record_of(b);
        let was_there = state.store.registry[record].is_some();
        let incarnation = state.store.incarnation;
        let broker = state.broker(b);
        self.hear(broker, incarnation);
        let is_lost = !was_there && self.holds(Rule::RegistrationOfRecord);
        if !broker.registered || is_lost {
            broker.registered = true;
            self.forget_reads(broker);
        }
        broker.beat_age = 0;
        state.store.registry[record] = Some(self.acked(state, b));
        if let Life::Running(watcher) = &mut state.brokers[0] {
            watcher.unchanged[record] = 0;
        }
    }

    /// `acked`: where this broker has the revocation, and every verifier that counts.
    fn acked(&self, state: &State, b: usize) -> Partitions {
        let Some(broker) = state.running(b) else { return Partitions::NONE };
        let mut acked = broker.applied;
        for v in 0..VERIFIERS {
            let counts = self.holds(Rule::CountsUntilLapse) || state.streams[b][v].is_some();
            if let Some(answered) = broker.answered[v]
                && counts
            {
                acked = acked.both(answered.acked);
            }
        }
        acked
    }

    /// Which record of the registry is this instance's.
    pub fn record_of(&self, b: usize) -> usize {
        let predecessor = self.scenario.brokers[b].succeeds;
        if self.holds(Rule::InstanceIds) { b } else { predecessor.unwrap_or(b) }
    }

    /// Broker 0 saw the record's beat unchanged for `lapse(delta_max)`.
    pub fn remove_record(&self, state: &mut State, record: usize) {
        state.store.registry[record] = None;
        let watcher = state.broker(0);
        watcher.unchanged[record] = 0;
        watcher.condemned = None;
    }

    /// A keep-alive arrives, and its answer goes behind what is queued. The keep-alive was sent at this instant: one that
    /// was sent earlier makes the view older and changes nothing else.
    pub fn answer_keep_alive(&self, state: &mut State, b: usize, v: usize) {
        let known = state.verifier(v).known;
        let broker = state.broker(b);
        let age = self.granted_age(broker);
        let before = broker.answered[v].map_or(Partitions::NONE, |answered| answered.acked);
        broker.answered[v] = Some(Answered { age: 0, acked: before.with(known) });
        state.stream(b, v).push(Message::Answer(age));
    }

    /// `now − as_of`; `delta_max` where there is no answer.
    fn granted_age(&self, broker: &Broker) -> Age {
        if !broker.registered {
            return self.delta_max();
        }
        let mut age = broker.as_of_age[0];
        for p in 1..self.scenario.partitions {
            let of_partition = broker.as_of_age[p];
            let is_older = of_partition > age;
            if is_older == self.holds(Rule::EarliestPartition) {
                age = of_partition;
            }
        }
        if self.holds(Rule::BeatCounts) { age.max(broker.beat_age) } else { age }
    }

    /// What is on its way to verifiers still arrives.
    pub fn stop(&self, state: &mut State, b: usize) {
        state.faults.broker_stops -= 1;
        state.brokers[b] = Life::Stopped;
        if !self.holds(Rule::StoppingLeavesRecord) {
            let record = self.record_of(b);
            state.store.registry[record] = None;
        }
    }

    /// A new instance, to which verifiers connect.
    pub fn start(&self, state: &mut State, b: usize, rate: Rate) {
        state.brokers[b] = Life::Running(Broker {
            rate,
            incarnation: 0,
            incarnation_age: 0,
            registered: false,
            beat_age: self.delta_max(),
            applied: Partitions::NONE,
            as_of_age: [self.delta_max(); PARTITIONS],
            reads: [None; PARTITIONS],
            answered: [None; VERIFIERS],
            unchanged: [0; BROKERS],
            condemned: None,
        });
        if self.scenario.brokers[b].serves {
            for v in 0..self.scenario.verifiers.len() {
                state.streams[b][v] = Some(Queue::EMPTY);
            }
        }
    }
}

/// Whether a read now tells the broker more than it knows.
fn tells_something(broker: &Broker, state: &State, p: usize) -> bool {
    let is_news = state.store.written.has(p) && !broker.applied.has(p)
        || p == 0 && state.store.incarnation > broker.incarnation;
    is_news || broker.as_of_age[p] > 0
}
