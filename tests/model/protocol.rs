//! The protocol as a transition system: which actions there are, and what must hold in every state.

use stateright::{Model, Property};

use super::clock::{Age, DRIFT, Rate};
use super::rules::{Rule, Rules};
use super::scenario::Scenario;
use super::state::{
    BROKERS, Broker, Ending, Life, Message, PARTITIONS, Partitions, Queue, State, Step, Store,
    VERIFIERS, Verifier,
};

/// No check at or after `R + Δ(1 + ρ)` accepts what was RECORDED at `R`.
pub const BOUND: &str = "bound";
/// No check after FENCED was answered accepts what it names.
pub const FENCED: &str = "fenced";
/// A task ends without anyone waiting: every verifier acknowledged, and checks go on with a fresh view.
pub const FENCED_AT_ONCE: &str = "fenced at once";
/// A task ends though a verifier is silent.
pub const FENCED_BY_LAPSE: &str = "fenced by lapse";
/// The window that the bound allows is used: someone accepts after RECORDED.
pub const WINDOW: &str = "accepted between RECORDED and FENCED";

#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub scenario: Scenario,
    pub rules: Rules,
}

/// Numbers are those of brokers (`b`), partitions (`p`) and verifiers (`v`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Tick,
    DriftOfBroker { b: usize },
    DriftOfVerifier { v: usize },
    Failover,

    Read { b: usize, p: usize },
    ReadReturns { b: usize, p: usize },
    Beat { b: usize },
    CondemnRecord { record: usize },
    RemoveRecord { record: usize },
    AnswerKeepAlive { b: usize, v: usize },
    Stop { b: usize },
    Start { b: usize },

    ListRegistry,
    Commit { p: usize },
    FenceByRegistry,
    FenceByDeposedRegistry,
    FenceByLapse,

    Connect { b: usize, v: usize },
    Disconnect { b: usize, v: usize },
    Receive { b: usize, v: usize },
    ReceiveAnswerFirst { b: usize, v: usize },
    RestartVerifier { v: usize },
}

impl Protocol {
    pub fn holds(&self, rule: Rule) -> bool {
        self.rules.hold(rule)
    }

    /// What a waiter waits on its own clock so that `delta` has surely passed on another's.
    pub fn lapse(&self, delta: Age) -> Age {
        if self.holds(Rule::LapseIsSquared) { delta * DRIFT * DRIFT } else { delta * DRIFT }
    }

    pub fn delta(&self) -> Age {
        self.scenario.delta
    }

    pub fn delta_max(&self) -> Age {
        self.scenario.delta_max
    }

    /// True time after RECORDED from which on nobody may accept.
    pub fn bound(&self) -> Age {
        self.scenario.delta * DRIFT
    }

    /// Everything runs and is connected; nothing is registered, read or known.
    fn initial(&self, rates: &[Rate]) -> State {
        let scenario = &self.scenario;
        let mut state = State {
            store: Store {
                incarnation: 1,
                written: Partitions::NONE,
                registry: [None; BROKERS],
                deposed: None,
            },
            brokers: [Life::NotStarted; BROKERS],
            verifiers: [None; VERIFIERS],
            streams: [[None; VERIFIERS]; BROKERS],
            ending: Ending { step: Step::NotRecorded, since_recorded: 0, waited: 0, listed: None },
            faults: scenario.faults,
        };
        for v in 0..scenario.verifiers.len() {
            let rate = rates[scenario.brokers.len() + v];
            // Without rule 19 the last broker of another store has just made it fresh.
            let view_age = if self.holds(Rule::OneStore) { self.delta() } else { 0 };
            state.verifiers[v] = Some(Verifier { rate, known: Partitions::NONE, view_age });
        }
        for (b, part) in scenario.brokers.iter().enumerate() {
            if part.succeeds.is_none() {
                self.start(&mut state, b, rates[b]);
            }
        }
        state
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    /// One for every combination of the scenario's clocks.
    fn init_states(&self) -> Vec<State> {
        let brokers = self.scenario.brokers.iter().map(|part| part.rates);
        let clocks = brokers.chain(self.scenario.verifiers.iter().copied());
        let combinations = clocks.fold(vec![Vec::new()], |before, rates| {
            let with = |rate| before.iter().map(move |b: &Vec<_>| [b.as_slice(), &[rate]].concat());
            rates.iter().copied().flat_map(with).collect()
        });
        combinations.iter().map(|rates| self.initial(rates)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        self.faults(state, actions);
        self.ending_actions(state, actions);
        for b in 0..self.scenario.brokers.len() {
            self.broker_actions(state, b, actions);
            for v in 0..self.scenario.verifiers.len() {
                self.stream_actions(state, b, v, actions);
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        match action {
            Action::Tick => self.tick(&mut state),
            Action::DriftOfBroker { b } => self.drift_of_broker(&mut state, b),
            Action::DriftOfVerifier { v } => self.drift_of_verifier(&mut state, v),
            Action::Failover => self.failover(&mut state),
            Action::Read { b, p } => self.read(&mut state, b, p),
            Action::ReadReturns { b, p } => self.read_returns(&mut state, b, p),
            Action::Beat { b } => self.beat(&mut state, b),
            Action::CondemnRecord { record } => state.broker(0).condemned = Some(record as u8),
            Action::RemoveRecord { record } => self.remove_record(&mut state, record),
            Action::AnswerKeepAlive { b, v } => self.answer_keep_alive(&mut state, b, v),
            Action::Stop { b } => self.stop(&mut state, b),
            Action::Start { b } => self.start(&mut state, b, self.scenario.brokers[b].rates[0]),
            Action::ListRegistry => self.list_registry(&mut state),
            Action::Commit { p } => self.commit(&mut state, p),
            Action::FenceByRegistry | Action::FenceByDeposedRegistry | Action::FenceByLapse => {
                self.fence(&mut state);
            }
            Action::Connect { b, v } => self.connect(&mut state, b, v),
            Action::Disconnect { b, v } => self.disconnect(&mut state, b, v),
            Action::Receive { b, v } => self.receive(&mut state, b, v),
            Action::ReceiveAnswerFirst { b, v } => self.receive_answer_first(&mut state, b, v),
            Action::RestartVerifier { v } => self.restart_verifier(&mut state, v),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(BOUND, Self::is_within_bound),
            Property::always(FENCED, Self::is_dead_when_fenced),
            Property::sometimes(FENCED_AT_ONCE, Self::is_fenced_at_once),
            Property::sometimes(FENCED_BY_LAPSE, Self::is_fenced_by_lapse),
            Property::sometimes(WINDOW, Self::is_in_window),
        ]
    }
}

/// Properties, of one state each: a check takes no time, and one that begins now sees the state of now.
impl Protocol {
    fn is_within_bound(&self, state: &State) -> bool {
        let ending = &state.ending;
        let is_over = ending.step != Step::NotRecorded && ending.since_recorded == self.bound();
        !is_over || !self.any_accepts(state)
    }

    fn is_dead_when_fenced(&self, state: &State) -> bool {
        state.ending.step != Step::Fenced || !self.any_accepts(state)
    }

    fn is_fenced_at_once(&self, state: &State) -> bool {
        let is_fresh = |verifier: &Verifier| verifier.view_age < self.delta();
        let ending = &state.ending;
        ending.step == Step::Fenced
            && ending.since_recorded == 0
            && state.verifiers.iter().flatten().all(is_fresh)
    }

    fn is_fenced_by_lapse(&self, state: &State) -> bool {
        let is_unaware = |verifier: &Verifier| verifier.known == Partitions::NONE;
        state.ending.step == Step::Fenced && state.verifiers.iter().flatten().all(is_unaware)
    }

    fn is_in_window(&self, state: &State) -> bool {
        state.ending.step == Step::Recorded && self.any_accepts(state)
    }

    /// A check that begins now accepts a credential that the revocation names.
    fn accepts(&self, verifier: &Verifier) -> bool {
        verifier.view_age < self.delta() && !verifier.known.covers(self.scenario.scope)
    }

    fn any_accepts(&self, state: &State) -> bool {
        state.verifiers.iter().flatten().any(|verifier| self.accepts(verifier))
    }
}

impl State {
    pub fn running(&self, b: usize) -> Option<&Broker> {
        match &self.brokers[b] {
            Life::Running(broker) => Some(broker),
            Life::NotStarted | Life::Stopped => None,
        }
    }

    pub fn broker(&mut self, b: usize) -> &mut Broker {
        match &mut self.brokers[b] {
            Life::Running(broker) => broker,
            Life::NotStarted | Life::Stopped => panic!("broker {b} does not run"),
        }
    }

    pub fn verifier(&mut self, v: usize) -> &mut Verifier {
        self.verifiers[v].as_mut().expect("a verifier of the scenario")
    }

    pub fn stream(&mut self, b: usize, v: usize) -> &mut Queue {
        self.streams[b][v].as_mut().expect("an open stream")
    }

    /// Queues the revocation on a stream, once for each partition of `partitions`.
    pub fn push_events(&mut self, b: usize, v: usize, partitions: Partitions) {
        for p in (0..PARTITIONS).filter(|p| partitions.has(*p)) {
            self.stream(b, v).push(Message::Event(p as u8));
        }
    }
}
