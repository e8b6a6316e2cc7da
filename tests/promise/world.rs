//! The simulated world: one queue of events in true time, and what must never be seen in it.

use std::cmp;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;
use leasehold::domain::feed::{InstanceId, Terms};
use leasehold::domain::id::{Partition, PartitionCount};
use leasehold::domain::time::{Span, Stamp};
use leasehold::proto::v1::{WatchRevocationsRequest, WatchRevocationsResponse};
use leasehold::store::{Constants, Upkeep as _};
use leasehold::testing::clock::TestClock;
use leasehold::testing::model::ModelStore;

use super::broker::{Broker, Reply, Request};
use super::checks::By;
use super::clock::{Chance, Clocks, START_SECONDS, drift};
use super::ending::{Credential, Task, Wanted};
use super::faults::Fault;
use super::issuing::Issuer;
use super::report::Report;
use super::verifier::{Link, Takes, Verifier};

/// How long a broker waits for an answer of the store, in microseconds.
pub const PATIENCE: u64 = 300_000;
/// Streams of a broker.
pub const STREAMS: usize = 100;
/// The smallest that a store may have.
pub const DELTA_MAX: Span = Span::from_seconds(1);
/// What `feed::cadence` gives for the smallest Δ that there may be.
pub const CADENCE: Span = Span::from_millis(100);
const BROKERS: usize = 3;
const VERIFIERS: usize = 10;
/// How long a world lasts, in true time.
pub const LASTS: u64 = 20_000_000;

pub fn partitions() -> PartitionCount {
    PartitionCount::new(2).unwrap()
}

pub fn terms() -> Terms {
    Terms { drift: drift(), delta_max: DELTA_MAX }
}

/// The model never waits.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

/// What is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    Nothing,
    /// One of the rules of DESIGN.md 5.
    Rule(u8),
    /// FENCED is answered at RECORDED.
    FenceWait,
    /// Issues rest on nothing: neither tasks nor blocks.
    Guards,
    /// There is no view: a credential lives until it expires.
    View,
    /// Ages are judged by the monotonic clock alone.
    Witness,
}

pub enum Event {
    Read(usize, u64, Partition, bool),
    Beat(usize, u64, bool),
    ReadRegistry(usize, u64, bool),
    AtStore(usize, u64, Request),
    Answer(usize, u64, Reply),
    Pump(usize, u64),
    Look(usize, u64),
    Up(usize, u64, u64, WatchRevocationsRequest),
    BrokerSees(usize, u64, u64),
    StartBroker(usize),
    Down(usize, u64, usize, u64, WatchRevocationsResponse),
    VerifierSees(usize, u64, usize, u64),
    Connect(usize, u64, usize),
    KeepAlive(usize, u64, usize, u64),
    Begin,
    Reissue,
    Issue(u64),
    End,
    Checks(usize),
    CheckAll(usize),
    Fault,
    CutReads(usize),
    Prune,
}

struct Scheduled {
    at: u64,
    sequence: u64,
    event: Event,
}

pub struct World {
    pub seed: u64,
    pub off: Off,
    pub faults: Vec<Fault>,
    /// Those that did not happen since all of them had.
    pub left: Vec<Fault>,
    /// About how often one of them happens.
    fault_every: u64,
    pub chance: Chance,
    pub now: u64,
    sequence: u64,
    queue: BinaryHeap<Scheduled>,
    pub store: Arc<ModelStore>,
    pub store_clock: Arc<TestClock>,
    pub store_step: i64,
    pub store_away_until: u64,
    pub brokers: Vec<Broker>,
    pub verifiers: Vec<Verifier>,
    pub links: BTreeMap<u64, Link>,
    pub links_made: u64,
    instances: u128,
    pub tasks: Vec<Task>,
    pub issuer: Issuer,
    pub agents: usize,
    /// Agents whose quarantine is RECORDED.
    pub blocked: BTreeSet<usize>,
    pub credentials: Vec<Credential>,
    pub endings: Vec<Wanted>,
    pub report: Report,
}

impl World {
    /// `faults`: which of them happen, about how often.
    pub fn new(seed: u64, off: Off, (faults, fault_every): (&[Fault], u64)) -> Self {
        let store_clock = Arc::new(TestClock::at(Stamp::from_seconds(START_SECONDS)));
        let constants = Constants { partitions: partitions(), delta_max: DELTA_MAX };
        let store = Arc::new(ModelStore::new(store_clock.clone(), constants));
        let mut world = Self {
            issuer: Issuer::new(seed, off, store.clone(), store_clock.clone()),
            seed,
            off,
            faults: faults.to_vec(),
            left: Vec::new(),
            fault_every,
            chance: Chance::new(seed),
            now: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            store,
            store_clock,
            store_step: 0,
            store_away_until: 0,
            brokers: Vec::new(),
            verifiers: Vec::new(),
            links: BTreeMap::new(),
            links_made: 0,
            instances: 0,
            tasks: Vec::new(),
            agents: 0,
            blocked: BTreeSet::new(),
            credentials: Vec::new(),
            endings: Vec::new(),
            report: Report::default(),
        };
        for b in 0..BROKERS {
            let (instance, clocks) = (world.instance(), world.clocks(0));
            world.brokers.push(Broker::new(b, 0, instance, clocks));
            world.start_broker(b);
        }
        for v in 0..VERIFIERS {
            let rate = world.chance.rate_ppm();
            let clocks = world.clocks(rate);
            // Some have one broker only, and each broker is the only one of some.
            let brokers = match v % 2 {
                0 => vec![v / 2 % BROKERS],
                _ => vec![v % BROKERS, (v + 1) % BROKERS],
            };
            // And some of either sort of those are servers for tokens, some ask for client certificates.
            let takes = if v % 4 < 2 { Takes::Tokens } else { Takes::Certificates };
            let instance = world.instance();
            world.verifiers.push(Verifier::new(instance, clocks, takes, brokers));
            world.restart_verifier(v);
            world.after(v as u64 * 500, Event::Checks(v));
        }
        for event in [Event::Begin, Event::Reissue, Event::End, Event::Fault, Event::Prune] {
            world.after(300_000, event);
        }
        world
    }

    pub fn run(self) -> Report {
        self.run_until(LASTS, |_| false).0
    }

    /// Runs until then, or until it shows enough; and until when that was.
    pub fn run_until(mut self, end: u64, is_enough: impl Fn(&Report) -> bool) -> (Report, u64) {
        while let Some(next) = self.queue.pop()
            && next.at < end
            && !is_enough(&self.report)
        {
            self.now = next.at;
            let wall = (START_SECONDS * 1_000_000 + self.now) as i64 + self.store_step;
            self.store_clock.set(Stamp::saturating_from_micros(wall as u64));
            if let Some(until) = self.paused(&next.event)
                && until > self.now
            {
                // In the order in which it came.
                self.queue.push(Scheduled { at: until, ..next });
                continue;
            }
            if self.is_for_the_living(&next.event) {
                self.happen(next.event);
            }
        }
        self.report.refused_commits = self.issuer.refused.load(Ordering::Relaxed);
        (self.report, self.now)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Read(b, _, partition, is_periodic) => self.read(b, partition, is_periodic),
            Event::Beat(b, _, is_due) => self.beat(b, is_due),
            Event::ReadRegistry(b, _, is_periodic) => self.read_registry(b, is_periodic),
            Event::AtStore(b, run, request) => self.at_store(b, run, request),
            Event::Answer(b, _, reply) => self.answer(b, reply),
            Event::Pump(b, _) => self.pump_now(b),
            Event::Look(b, _) => self.judge(b, None),
            Event::Up(b, _, link, request) => {
                if self.links.contains_key(&link) {
                    self.up(b, link, request);
                }
            }
            Event::BrokerSees(b, _, link) => self.broker_sees(b, link),
            Event::StartBroker(b) => self.start_broker(b),
            Event::Down(v, _, b, link, response) => {
                if self.links.contains_key(&link) {
                    self.down(v, link, b, response);
                }
            }
            Event::VerifierSees(v, _, b, link) => self.verifier_sees(v, b, link),
            Event::Connect(v, _, b) => self.connect(v, b),
            Event::KeepAlive(v, _, b, link) => self.keep_alive(v, b, link),
            Event::Begin => {
                self.begin();
                self.again(60_000, Event::Begin);
            }
            Event::Reissue => {
                let recent = self.tasks.len().min(16);
                if recent > 0 {
                    let t = self.tasks.len() - 1 - self.chance.below(recent);
                    self.ask_for_credential(t);
                }
                self.again(40_000, Event::Reissue);
            }
            Event::Issue(n) => self.issue(n),
            Event::End => {
                self.end();
                self.again(80_000, Event::End);
            }
            Event::Checks(v) => self.checks(v),
            Event::CheckAll(e) => self.check_all(e),
            Event::Fault => {
                self.fault();
                self.again(self.fault_every, Event::Fault);
            }
            Event::CutReads(b) => self.cut_reads(b),
            Event::Prune => {
                for partition in partitions().all() {
                    let now = Stamp::from_seconds(START_SECONDS).plus(Span::from_micros(self.now));
                    at_once(self.store.prune(partition, now)).unwrap();
                }
                self.again(2_000_000, Event::Prune);
            }
        }
    }

    /// Until when whoever it happens to does nothing.
    fn paused(&self, event: &Event) -> Option<u64> {
        match event {
            Event::Read(b, ..)
            | Event::Beat(b, ..)
            | Event::ReadRegistry(b, ..)
            | Event::Answer(b, ..)
            | Event::Pump(b, _)
            | Event::Look(b, _)
            | Event::Up(b, ..)
            | Event::BrokerSees(b, ..) => Some(self.brokers[*b].paused_until),
            Event::Down(v, ..)
            | Event::VerifierSees(v, ..)
            | Event::Connect(v, ..)
            | Event::KeepAlive(v, ..)
            | Event::Checks(v) => Some(self.verifiers[*v].paused_until),
            _ => None,
        }
    }

    fn is_for_the_living(&self, event: &Event) -> bool {
        match event {
            Event::Read(b, run, ..)
            | Event::Beat(b, run, _)
            | Event::ReadRegistry(b, run, _)
            | Event::Answer(b, run, _)
            | Event::Pump(b, run)
            | Event::Look(b, run)
            | Event::Up(b, run, ..)
            | Event::BrokerSees(b, run, _) => {
                self.brokers[*b].run == *run && self.brokers[*b].is_up
            }
            Event::Down(v, run, ..)
            | Event::VerifierSees(v, run, ..)
            | Event::Connect(v, run, _)
            | Event::KeepAlive(v, run, ..) => self.verifiers[*v].run == *run,
            _ => true,
        }
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Scheduled { at, sequence: self.sequence, event });
    }

    pub fn after(&mut self, micros: u64, event: Event) {
        self.at(self.now + micros, event);
    }

    /// About so often.
    pub fn again(&mut self, about: u64, event: Event) {
        let micros = self.chance.between(about / 2, about * 3 / 2);
        self.after(micros, event);
    }

    pub fn instance(&mut self) -> InstanceId {
        self.instances += 1;
        InstanceId::new(self.instances)
    }

    /// Those of a process that starts now.
    pub fn clocks(&self, rate_ppm: i64) -> Clocks {
        Clocks::new(self.now, rate_ppm, self.off != Off::Witness)
    }

    pub fn is_off(&self, rule: u8) -> bool {
        self.off == Off::Rule(rule)
    }

    pub fn is_without_wait(&self) -> bool {
        self.off == Off::FenceWait
    }

    /// Something that must never be, and by what it was let happen, if by a check.
    pub fn violation(&mut self, by: Option<By>, what: String) {
        let (seed, now) = (self.seed, self.now);
        self.report.violations += 1;
        let told = || format!("seed {seed}, at {now} us, by {by:?}: {what}");
        self.report.first.entry(by).or_insert_with(told);
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == cmp::Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
