//! A verifier's process: `verifier::{Mirror, Stream}` driven as `src/verifier/connection.rs` drives them, and its links to brokers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leasehold::clock::Present;
use leasehold::domain::feed::InstanceId;
use leasehold::domain::time::{Moment, Span};
use leasehold::proto::v1::watch_revocations_response::Message as Heard;
use leasehold::proto::v1::{WatchRevocationsRequest, WatchRevocationsResponse};
use leasehold::testing::world::LEDGER_AUDIENCE;
use leasehold::verifier::{Checker, Mirror, Rules, Stream};

use super::checks::Open;
use super::clock::Clocks;
use super::issuing;
use super::world::{CADENCE, Event, World, partitions};

/// What a verifier asks its callers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Tokens,
    Certificates,
}

pub struct Verifier {
    pub run: u64,
    pub mirror: Arc<Mirror>,
    pub takes: Takes,
    pub checker: Checker,
    /// Credentials that this run's checker has verified.
    pub seen: BTreeSet<usize>,
    pub open: Vec<Open>,
    /// Rule 11's switch: how old the view of the run before was, and when.
    kept: Option<(Span, Present)>,
    pub clocks: Clocks,
    pub paused_until: u64,
    /// The brokers that it is configured with.
    pub brokers: Vec<usize>,
    /// By broker.
    connections: BTreeMap<usize, Connection>,
}

struct Connection {
    link: u64,
    stream: Stream,
    opened: u64,
    /// Rule 12's switch: keep-alives that were sent, and are not noted before their answers come.
    sequence: u64,
}

/// A connection, from outside: FIFO each way, and at some instant cut.
pub struct Link {
    pub verifier: usize,
    pub verifier_run: u64,
    pub broker: usize,
    pub broker_run: u64,
    up: u64,
    down: u64,
    pub slow_until: u64,
}

impl Verifier {
    pub fn new(instance: InstanceId, clocks: Clocks, takes: Takes, brokers: Vec<usize>) -> Self {
        let mirror = Mirror::new(instance);
        Self {
            run: 0,
            checker: checker(&mirror),
            mirror,
            takes,
            seen: BTreeSet::new(),
            open: Vec::new(),
            kept: None,
            clocks,
            paused_until: 0,
            brokers,
            connections: BTreeMap::new(),
        }
    }
}

/// As the library makes it, with the broker's keys.
fn checker(mirror: &Arc<Mirror>) -> Checker {
    // No proofs are shown here, so it does not matter since when they are remembered.
    let checker = Checker::new(Rules::new(LEDGER_AUDIENCE), Arc::clone(mirror), Moment::default());
    checker.set_trust(issuing::trust());
    checker
}

impl World {
    pub fn restart_verifier(&mut self, v: usize) {
        let links: Vec<_> = self.verifiers[v].connections.values().map(|c| c.link).collect();
        for link in links {
            self.cut(link);
        }
        let mirror = Mirror::new(self.instance());
        let keeps = self.is_off(11) && self.verifiers[v].run > 0;
        let clocks = match keeps {
            // The same clock, or what was kept would mean nothing.
            true => None,
            false => {
                let rate = self.chance.rate_ppm();
                Some(self.clocks(rate))
            }
        };
        let now = self.now;
        let verifier = &mut self.verifiers[v];
        verifier.run += 1;
        let present = verifier.clocks.present(now);
        let age = verifier.mirror.age(present).filter(|_| keeps);
        verifier.kept = age.map(|age| (age, present));
        (verifier.checker, verifier.mirror) = (checker(&mirror), mirror);
        verifier.seen.clear();
        verifier.open.clear();
        verifier.connections.clear();
        if let Some(clocks) = clocks {
            verifier.clocks = clocks;
        }
        let (run, brokers) = (verifier.run, verifier.brokers.clone());
        for b in brokers {
            let delay = self.chance.between(1_000, 50_000);
            self.after(delay, Event::Connect(v, run, b));
        }
    }

    pub fn connect(&mut self, v: usize, b: usize) {
        let run = self.verifiers[v].run;
        if self.verifiers[v].connections.contains_key(&b) {
            return;
        }
        if !self.brokers[b].is_up {
            return self.after(100_000, Event::Connect(v, run, b));
        }
        self.links_made += 1;
        let link = self.links_made;
        let verifier = &mut self.verifiers[v];
        let name = format!("verifier-{v}");
        let (stream, first) = Stream::open(Arc::clone(&verifier.mirror), &name);
        let connection = Connection { link, stream, opened: self.now, sequence: 0 };
        verifier.connections.insert(b, connection);
        let broker_run = self.brokers[b].run;
        self.links.insert(
            link,
            Link {
                verifier: v,
                verifier_run: run,
                broker: b,
                broker_run,
                up: 0,
                down: 0,
                slow_until: 0,
            },
        );
        self.send_up(link, first);
        self.after(1_000, Event::KeepAlive(v, run, b, link));
    }

    pub fn down(&mut self, v: usize, link: u64, b: usize, response: WatchRevocationsResponse) {
        let late = self.is_off(12);
        let verifier = &mut self.verifiers[v];
        let present = verifier.clocks.present(self.now);
        let Some(connection) = verifier.connections.get_mut(&b).filter(|c| c.link == link) else {
            return;
        };
        if late && matches!(response.message, Some(Heard::Freshness(_))) {
            // Rule 12's switch: the send time is when the answer came.
            let _ = connection.stream.keep_alive(present);
        }
        if let Err(error) = connection.stream.receive(response, present) {
            // A broker that was behind when it was joined has not sent every partition yet.
            self.report.stream_errors += 1;
            let _ = error;
            self.cut(link);
            return self.lost(v, b);
        }
        let mut acknowledgements = vec![connection.stream.settle(present)];
        let view = verifier.mirror.view();
        let is_whole = partitions().all().all(|partition| view.position(partition).is_some());
        drop(view);
        if let Some((age, at)) = verifier.kept.filter(|_| is_whole) {
            // Rule 11's switch: it is as fresh as the run before was.
            verifier.kept = None;
            if let Some(request) = connection.stream.keep_alive(present) {
                let age =
                    Span::from_micros(age.micros() + present.moment.since(at.moment).micros());
                let _ = connection.stream.receive(answer(request, age), present);
                acknowledgements.push(connection.stream.settle(present));
            }
        }
        for acknowledgement in acknowledgements.into_iter().flatten() {
            self.send_up(link, acknowledgement);
        }
    }

    pub fn keep_alive(&mut self, v: usize, b: usize, link: u64) {
        let late = self.is_off(12);
        let (run, now) = (self.verifiers[v].run, self.now);
        let verifier = &mut self.verifiers[v];
        let present = verifier.clocks.present(now);
        let next = verifier.clocks.true_micros(CADENCE);
        let Some(connection) = verifier.connections.get_mut(&b).filter(|c| c.link == link) else {
            return;
        };
        let is_silent = connection.stream.is_silent(present)
            || connection.stream.terms().is_none() && now > connection.opened + 2_000_000;
        if is_silent {
            self.cut(link);
            return self.lost(v, b);
        }
        let request = match late {
            false => connection.stream.keep_alive(present),
            true => connection.stream.terms().map(|_| {
                connection.sequence += 1;
                keep_alive(connection.sequence)
            }),
        };
        if let Some(request) = request {
            self.send_up(link, request);
        }
        self.after(next, Event::KeepAlive(v, run, b, link));
    }

    /// The verifier sees that its connection is gone, and makes another.
    pub fn lost(&mut self, v: usize, b: usize) {
        self.verifiers[v].connections.remove(&b);
        let (run, delay) = (self.verifiers[v].run, self.chance.between(10_000, 200_000));
        self.after(delay, Event::Connect(v, run, b));
    }

    /// Nothing passes any more; either side sees it sooner or later.
    pub fn cut(&mut self, link: u64) {
        let Some(gone) = self.links.remove(&link) else { return };
        let (soon, late) = (self.chance.between(0, 300_000), self.chance.between(0, 1_000_000));
        self.after(soon, Event::VerifierSees(gone.verifier, gone.verifier_run, gone.broker, link));
        self.after(late, Event::BrokerSees(gone.broker, gone.broker_run, link));
    }

    pub fn verifier_sees(&mut self, v: usize, b: usize, link: u64) {
        if self.verifiers[v].connections.get(&b).is_some_and(|c| c.link == link) {
            self.lost(v, b);
        }
    }

    pub fn broker_sees(&mut self, b: usize, link: u64) {
        let now = self.present_of(b);
        if let Some(stream) = self.brokers[b].streams.remove(&link) {
            self.brokers[b].core.leave(stream, now);
            self.beat(b, false);
        }
    }

    pub fn send_up(&mut self, id: u64, request: WatchRevocationsRequest) {
        let delay = self.chance.delay();
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up = link.up.max((now + delay).max(link.slow_until));
        let (at, b, run) = (link.up, link.broker, link.broker_run);
        self.at(at, Event::Up(b, run, id, request));
    }

    pub fn send_down(&mut self, id: u64, response: WatchRevocationsResponse) {
        let delay = self.chance.delay();
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        link.down = link.down.max((now + delay).max(link.slow_until));
        let (at, v, run, b) = (link.down, link.verifier, link.verifier_run, link.broker);
        self.at(at, Event::Down(v, run, b, id, response));
    }

    /// What is sent next takes longer.
    pub fn linger(&mut self, id: u64) {
        let pause = self.chance.between(5_000, 200_000);
        if let Some(link) = self.links.get_mut(&id) {
            link.down = link.down.max(self.now) + pause;
        }
    }
}

fn keep_alive(sequence: u64) -> WatchRevocationsRequest {
    use leasehold::proto::v1::KeepAlive;
    use leasehold::proto::v1::watch_revocations_request::Message;
    WatchRevocationsRequest { message: Some(Message::KeepAlive(KeepAlive { sequence })) }
}

/// What a broker says whose view is so old.
fn answer(to: WatchRevocationsRequest, age: Span) -> WatchRevocationsResponse {
    use leasehold::proto::v1::Freshness;
    use leasehold::proto::v1::watch_revocations_request::Message;
    let Some(Message::KeepAlive(keep_alive)) = to.message else { panic!("{to:?}") };
    let age = prost_types::Duration {
        seconds: age.seconds() as i64,
        nanos: (age.micros() % 1_000_000) as i32 * 1_000,
    };
    let freshness =
        Freshness { sequence: keep_alive.sequence, age: Some(age), ..Default::default() };
    WatchRevocationsResponse { message: Some(Heard::Freshness(freshness)) }
}
