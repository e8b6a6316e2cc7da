//! A verifier and its streams: how revocations and freshness reach the view.

use super::protocol::{Action, Protocol};
use super::rules::Rule;
use super::state::{BROKERS, Life, Message, Partitions, Queue, State};

impl Protocol {
    pub fn stream_actions(&self, state: &State, b: usize, v: usize, actions: &mut Vec<Action>) {
        if v < self.scenario.verifiers.len() && b == 0 && state.faults.verifier_restarts > 0 {
            actions.push(Action::RestartVerifier { v });
        }
        let Some(queue) = state.streams[b][v] else {
            if self.scenario.brokers[b].serves && state.running(b).is_some() {
                actions.push(Action::Connect { b, v });
            }
            return;
        };
        if state.faults.disconnects > 0 {
            actions.push(Action::Disconnect { b, v });
        }
        if queue.0[0] != Message::Nothing {
            actions.push(Action::Receive { b, v });
        }
        let is_behind = queue.has_answer() && !matches!(queue.0[0], Message::Answer(_));
        if is_behind && !self.holds(Rule::AnswerBehindEvents) {
            actions.push(Action::ReceiveAnswerFirst { b, v });
        }
    }

    /// A new stream begins after what this verifier instance has acknowledged.
    pub fn connect(&self, state: &mut State, b: usize, v: usize) {
        let broker = state.broker(b);
        let acked = broker.answered[v].map_or(Partitions::NONE, |answered| answered.acked);
        let events = broker.applied.except(acked);
        state.streams[b][v] = Some(Queue::EMPTY);
        state.push_events(b, v, events);
    }

    pub fn disconnect(&self, state: &mut State, b: usize, v: usize) {
        state.faults.disconnects -= 1;
        state.streams[b][v] = None;
    }

    pub fn receive(&self, state: &mut State, b: usize, v: usize) {
        let message = state.stream(b, v).remove(0);
        self.swap_in(state, v, message);
    }

    pub fn receive_answer_first(&self, state: &mut State, b: usize, v: usize) {
        let queue = state.stream(b, v);
        let is_answer = |message: &Message| matches!(message, Message::Answer(_));
        if let Some(place) = queue.0.iter().position(is_answer) {
            let message = queue.remove(place);
            self.swap_in(state, v, message);
        }
    }

    /// View and freshness are swapped whole, then acknowledged to every broker that the verifier is connected to. An
    /// acknowledgement arrives at once: a later one only delays what waits for it.
    fn swap_in(&self, state: &mut State, v: usize, message: Message) {
        let verifier = state.verifier(v);
        match message {
            Message::Nothing => {}
            Message::Answer(age) => verifier.view_age = verifier.view_age.min(age),
            Message::Event(p) => {
                verifier.known = verifier.known.with(Partitions::of(p.into()));
                let known = verifier.known;
                for b in 0..BROKERS {
                    if state.streams[b][v].is_some()
                        && let Life::Running(broker) = &mut state.brokers[b]
                        && let Some(answered) = &mut broker.answered[v]
                    {
                        answered.acked = answered.acked.with(known);
                    }
                }
            }
        }
    }

    /// A new instance: no view, no freshness, no stream. The old one accepts nothing any more, so that nobody need count
    /// it; a broker that does waits longer.
    pub fn restart_verifier(&self, state: &mut State, v: usize) {
        state.faults.verifier_restarts -= 1;
        let stale = self.delta();
        let verifier = state.verifier(v);
        verifier.known = Partitions::NONE;
        if self.holds(Rule::RestartIsStale) {
            verifier.view_age = stale;
        }
        for b in 0..BROKERS {
            state.streams[b][v] = None;
            if let Life::Running(broker) = &mut state.brokers[b]
                && self.holds(Rule::InstanceIds)
            {
                broker.answered[v] = None;
            }
        }
    }
}
