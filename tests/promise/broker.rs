//! A broker's process: `feed::core::Core` driven as `src/feed/run.rs`, `registry.rs` and `enforce.rs` drive it.

use std::collections::BTreeMap;
use std::sync::Arc;

use leasehold::domain::feed::{Beats, BrokerRecord, InstanceId, Progress, ReadPosition, Registry};
use leasehold::domain::id::Partition;
use leasehold::domain::path::Origin;
use leasehold::domain::time::{Moment, Present, Span, Stamp};
use leasehold::feed::Settings;
use leasehold::feed::core::{Core, Identity};
use leasehold::feed::hub::{Message, Next, Positions, StreamId};
use leasehold::feed::reader::Ask;
use leasehold::proto::v1::WatchRevocationsRequest;
use leasehold::proto::v1::watch_revocations_request::Message as Say;
use leasehold::store::{Entries, Feed as _, Meta, Page, Query, Snapshot, Store as _};
use leasehold::testing::feed_wire;
use tokio::sync::Notify;

use super::clock::Clocks;
use super::world::{
    CADENCE, DELTA_MAX, Event, PATIENCE, STREAMS, World, at_once, partitions, terms,
};

pub struct Broker {
    pub run: u64,
    pub instance: InstanceId,
    pub is_up: bool,
    pub paused_until: u64,
    /// Until when its reads of partitions, or its writes to the registry, are lost.
    pub reads_cut_until: u64,
    pub beats_cut_until: u64,
    /// The same of its reads of the registry.
    pub registry_cut_until: u64,
    pub clocks: Clocks,
    pub core: Core,
    reading: Vec<bool>,
    look: Vec<bool>,
    /// The last answer of each partition: what rule 7's switch tells of the others.
    pub metas: BTreeMap<Partition, Meta>,
    is_beating: bool,
    told: Option<Positions>,
    pub streams: BTreeMap<u64, StreamId>,
    beats: Beats,
    is_reading_registry: bool,
    /// Rule 3's switch: who was in the registry some time ago, and when that was.
    pub members: (Moment, Vec<InstanceId>),
    pub waiting: Vec<usize>,
}

/// What the store is asked.
#[derive(Clone)]
pub enum Request {
    Page(Partition, Option<ReadPosition>, Present),
    Set(Partition),
    Beat(Box<BrokerRecord>, Present),
    Registry(Moment),
    Forget(InstanceId, u64),
    /// The part of an ending that is in one of its partitions.
    End(usize, Partition),
    /// Whether what was written is there to stay.
    Confirm(usize),
}

/// What it says.
pub enum Reply {
    Page(Partition, Box<Page>, Present),
    Set(Partition, Box<Snapshot>),
    ReadFailed(Partition),
    Beat(Option<Stamp>, Present),
    Registry(Stamp, Vec<BrokerRecord>, Moment),
    RegistryFailed,
    Ended(usize, Partition, Origin),
    Confirmed(usize, bool),
}

impl Broker {
    pub fn new(index: usize, run: u64, instance: InstanceId, clocks: Clocks) -> Self {
        let name = format!("broker-{index}");
        let identity = Identity { instance, name, address: String::new() };
        let count = usize::from(partitions().get());
        Self {
            run,
            instance,
            is_up: true,
            paused_until: 0,
            reads_cut_until: 0,
            beats_cut_until: 0,
            registry_cut_until: 0,
            clocks,
            core: Core::new(identity, terms(), partitions(), STREAMS),
            reading: vec![false; count],
            look: vec![false; count],
            metas: BTreeMap::new(),
            is_beating: false,
            told: None,
            streams: BTreeMap::new(),
            beats: Beats::default(),
            is_reading_registry: false,
            members: Default::default(),
            waiting: Vec::new(),
        }
    }
}

impl World {
    pub fn start_broker(&mut self, b: usize) {
        let run = self.brokers[b].run + 1;
        // Rule 5's switch: a restart keeps the name.
        let instance = match self.is_off(5) {
            true => self.brokers[b].instance,
            false => self.instance(),
        };
        let rate = self.chance.rate_ppm();
        let clocks = self.clocks(rate);
        // What is cut is the way to the store, whoever takes it.
        let Broker { reads_cut_until, beats_cut_until, registry_cut_until, .. } = self.brokers[b];
        let new = Broker::new(b, run, instance, clocks);
        self.brokers[b] = Broker { reads_cut_until, beats_cut_until, registry_cut_until, ..new };
        for partition in partitions().all() {
            self.after(0, Event::Read(b, run, partition, true));
        }
        self.after(1, Event::Beat(b, run, true));
        self.after(2, Event::ReadRegistry(b, run, true));
    }

    pub fn stop_broker(&mut self, b: usize) {
        let broker = &mut self.brokers[b];
        broker.is_up = false;
        // Rule 10's switch: it takes its record along.
        let instance = broker.instance;
        let streams: Vec<u64> = broker.streams.keys().copied().collect();
        for link in streams {
            self.cut(link);
        }
        if self.is_off(10) {
            self.forget_record(instance);
        }
    }

    pub fn forget_record(&mut self, instance: InstanceId) {
        let (_, records) = at_once(self.store.brokers()).unwrap();
        if let Some(record) = records.iter().find(|record| record.instance == instance) {
            at_once(self.store.forget(instance, record.beat)).unwrap();
        }
    }

    /// Who is in the registry.
    pub fn registered(&self) -> Vec<InstanceId> {
        let (_, records) = at_once(self.store.brokers()).unwrap();
        records.iter().map(|record| record.instance).collect()
    }

    fn moment_of(&self, b: usize) -> Moment {
        self.brokers[b].clocks.moment(self.now)
    }

    pub fn present_of(&self, b: usize) -> Present {
        self.brokers[b].clocks.present(self.now)
    }

    pub fn ask(&mut self, b: usize, request: Request) {
        let run = self.brokers[b].run;
        let delay = self.chance.delay();
        self.after(delay, Event::AtStore(b, run, request));
    }

    /// The request arrives, also if whoever sent it is gone by now.
    pub fn at_store(&mut self, b: usize, run: u64, request: Request) {
        let cut = match &request {
            Request::Page(..) | Request::Set(_) => self.brokers[b].reads_cut_until,
            Request::Beat(..) => self.brokers[b].beats_cut_until,
            Request::Registry(_) => self.brokers[b].registry_cut_until,
            _ => 0,
        };
        let is_lost = self.now < cut.max(self.store_away_until) || self.chance.percent(1);
        let reply = match request {
            Request::Page(partition, after, sent) => {
                let page = at_once(self.store.page(partition, after, 8)).unwrap();
                match is_lost {
                    true => Some(Reply::ReadFailed(partition)),
                    false => Some(Reply::Page(partition, Box::new(page), sent)),
                }
            }
            Request::Set(partition) if is_lost => Some(Reply::ReadFailed(partition)),
            Request::Set(partition) => {
                let query = Query::new(partition, vec![], Entries::All);
                Some(Reply::Set(partition, Box::new(at_once(self.store.read(query)).unwrap())))
            }
            Request::Beat(_, sent) if is_lost => Some(Reply::Beat(None, sent)),
            Request::Beat(record, sent) => {
                Some(Reply::Beat(Some(at_once(self.store.beat(&record)).unwrap()), sent))
            }
            Request::Registry(_) if is_lost => Some(Reply::RegistryFailed),
            Request::Registry(sent) => {
                let (incarnation, records) = at_once(self.store.brokers()).unwrap();
                Some(Reply::Registry(incarnation, records, sent))
            }
            Request::Forget(instance, beat) => {
                at_once(self.store.forget(instance, beat)).unwrap();
                None
            }
            Request::End(_, _) if self.now < self.store_away_until => None,
            Request::End(ending, partition) => {
                let at = self.commit_ending(ending, partition);
                // An answer that is lost: it is dead, and nobody says so.
                at.filter(|_| !is_lost).map(|at| Reply::Ended(ending, partition, at))
            }
            Request::Confirm(_) if is_lost => None,
            Request::Confirm(ending) => Some(Reply::Confirmed(ending, self.is_there(ending))),
        };
        if let Some(reply) = reply {
            let delay = if is_lost { PATIENCE } else { self.chance.delay() };
            self.after(delay, Event::Answer(b, run, reply));
        }
    }

    pub fn read(&mut self, b: usize, partition: Partition, is_periodic: bool) {
        if is_periodic {
            let next = self.brokers[b].clocks.true_micros(CADENCE);
            let run = self.brokers[b].run;
            self.after(next, Event::Read(b, run, partition, true));
        }
        let p = usize::from(partition.0);
        if std::mem::replace(&mut self.brokers[b].reading[p], true) {
            self.brokers[b].look[p] = true;
            return;
        }
        self.read_next(b, partition);
    }

    fn read_next(&mut self, b: usize, partition: Partition) {
        let sent = self.present_of(b);
        let request = match self.brokers[b].core.ask(partition) {
            Ask::Page(after) => Request::Page(partition, after, sent),
            Ask::Set => Request::Set(partition),
        };
        self.ask(b, request);
    }

    pub fn answer(&mut self, b: usize, reply: Reply) {
        let now = self.present_of(b);
        match reply {
            Reply::Page(partition, page, sent) => self.take_page(b, partition, *page, sent),
            Reply::Set(partition, set) => {
                self.brokers[b].core.set(partition, &set, now);
                self.read_next(b, partition);
            }
            Reply::ReadFailed(partition) => self.read_over(b, partition),
            Reply::Beat(incarnation, sent) => {
                self.brokers[b].is_beating = false;
                if let Some(incarnation) = incarnation {
                    let was = self.brokers[b].core.is_registered();
                    self.brokers[b].core.confirmed(incarnation, sent, now);
                    if !was {
                        partitions().all().for_each(|partition| self.read(b, partition, false));
                    }
                }
                self.beat(b, false);
            }
            Reply::Registry(incarnation, records, sent) => {
                self.take_registry(b, incarnation, records, sent);
            }
            Reply::RegistryFailed => self.registry_over(b),
            Reply::Ended(ending, partition, at) => self.ended(b, ending, partition, at),
            Reply::Confirmed(ending, is_there) => {
                if is_there {
                    self.recorded(b, ending, now.moment);
                }
            }
        }
        self.pump(b);
    }

    fn take_page(&mut self, b: usize, partition: Partition, page: Page, sent: Present) {
        let now = self.present_of(b);
        let meta = page.meta;
        // Rule 1's switch: it counts from the answer.
        let counts_from = if self.is_off(1) { now } else { sent };
        if partition == Partition::ZERO {
            self.take_for_registered(b, meta.incarnation, sent);
        }
        let broker = &mut self.brokers[b];
        let step = broker.core.page(partition, page, counts_from, now);
        broker.metas.insert(partition, meta);
        if self.is_off(7) && step.counted {
            // Rule 7's switch: one partition's read counts for all.
            let broker = &mut self.brokers[b];
            for (other, meta) in broker.metas.iter().filter(|(other, _)| **other != partition) {
                let events = leasehold::store::Continuity::Continued(Vec::new());
                let page = Page { meta: *meta, events, more: false, head: None };
                if matches!(broker.core.ask(*other), Ask::Page(Some(_))) {
                    broker.core.page(*other, page, counts_from, now);
                }
            }
        }
        if step.kills {
            self.beat(b, false);
        }
        match step.again {
            true => self.read_next(b, partition),
            false => self.read_over(b, partition),
        }
    }

    fn read_over(&mut self, b: usize, partition: Partition) {
        let p = usize::from(partition.0);
        self.brokers[b].reading[p] = false;
        if std::mem::take(&mut self.brokers[b].look[p]) {
            self.read(b, partition, false);
        }
    }

    /// Writes the record, if it is due or if acknowledgements moved it.
    pub fn beat(&mut self, b: usize, is_due: bool) {
        let (now, run) = (self.present_of(b), self.brokers[b].run);
        if is_due {
            let next = self.brokers[b].clocks.true_micros(CADENCE);
            self.after(next, Event::Beat(b, run, true));
        }
        let acked = self.brokers[b].core.acked(now);
        if self.brokers[b].is_beating || (!is_due && self.brokers[b].told.as_ref() == Some(&acked))
        {
            return;
        }
        let Some(mut record) = self.brokers[b].core.record(now) else { return };
        if self.is_off(4) {
            // Rule 4's switch: who is not connected does not count.
            for (partition, position) in &mut record.applied.clone() {
                let behind = record.verifiers.iter().filter(|verifier| verifier.connected);
                let behind = behind.filter_map(|v| v.behind.get(partition)).min();
                record.acked.insert(*partition, behind.copied().unwrap_or(*position));
            }
        }
        let broker = &mut self.brokers[b];
        broker.is_beating = true;
        broker.told = Some(acked);
        self.ask(b, Request::Beat(Box::new(record), now));
    }

    pub fn read_registry(&mut self, b: usize, is_periodic: bool) {
        let run = self.brokers[b].run;
        if is_periodic {
            self.after(1_000_000, Event::ReadRegistry(b, run, true));
        }
        if !std::mem::replace(&mut self.brokers[b].is_reading_registry, true) {
            let sent = self.moment_of(b);
            self.ask(b, Request::Registry(sent));
        }
    }

    fn registry_over(&mut self, b: usize) {
        self.brokers[b].is_reading_registry = false;
        if !self.brokers[b].waiting.is_empty() {
            let (run, pause) = (self.brokers[b].run, self.chance.between(1_000, 20_000));
            self.after(pause, Event::ReadRegistry(b, run, false));
        }
    }

    fn take_registry(
        &mut self,
        b: usize,
        incarnation: Stamp,
        records: Vec<BrokerRecord>,
        sent: Moment,
    ) {
        let (now, present) = (self.moment_of(b), self.present_of(b));
        let broker = &mut self.brokers[b];
        if let Some(mut incarnation_known) = broker.core.registry_known(incarnation, present) {
            let lapse = terms().drift.lapse(DELTA_MAX);
            let still = broker.beats.still(&records, now, lapse);
            let own = broker.instance;
            if now.since(broker.members.0) >= Span::from_seconds(2) {
                broker.members = (now, records.iter().map(|record| record.instance).collect());
            }
            if self.is_off(13) {
                // Rule 13's switch: a young registry counts like an old one.
                incarnation_known = Moment::default();
            }
            for (instance, beat) in still.into_iter().filter(|(instance, _)| *instance != own) {
                self.report.forgotten += 1;
                self.ask(b, Request::Forget(instance, beat));
            }
            let is_first = self.store.first() == Some(incarnation);
            let reader = own;
            self.judge(b, Some(&Registry { reader, sent, incarnation_known, is_first, records }));
        }
        self.registry_over(b);
    }

    pub fn judge(&mut self, b: usize, registry: Option<&Registry>) {
        let now = self.moment_of(b);
        let mut terms = terms();
        if self.is_off(8) {
            // Rule 8's switch: Δ on the waiter's own clock.
            terms.drift = leasehold::domain::feed::Drift::from_ppm(100).unwrap();
        }
        for e in std::mem::take(&mut self.brokers[b].waiting) {
            let Some(ending) = self.endings[e].ending.clone() else { continue };
            let mut registry = registry.cloned();
            if self.is_off(3)
                && let Some(registry) = &mut registry
            {
                // Rule 3's switch: whom to wait for was read before.
                let members = &self.endings[e].members_before;
                registry.records.retain(|record| members.contains(&record.instance));
            }
            match ending.judge(registry.as_ref(), now, terms) {
                Progress::Fenced => self.fenced(e, now >= ending.at_latest(terms)),
                Progress::Pending(_) => self.brokers[b].waiting.push(e),
            }
        }
    }

    /// A message of a verifier.
    pub fn up(&mut self, b: usize, link: u64, request: WatchRevocationsRequest) {
        let now = self.present_of(b);
        let forgets_beats = self.is_off(9);
        let broker = &mut self.brokers[b];
        match (request.message.unwrap(), broker.streams.get(&link).copied()) {
            (Say::Subscribe(subscribe), None) => {
                let subscriber = feed_wire::subscriber(&subscribe, &subscribe.name).unwrap();
                let Ok(stream) = broker.core.subscribe(subscriber, Arc::new(Notify::new()), now)
                else {
                    return self.cut(link);
                };
                broker.streams.insert(link, stream);
                let hello = feed_wire::subscribed(&Settings {
                    identity: broker.core.identity().clone(),
                    terms: terms(),
                    partitions: partitions(),
                    store: self.store.identity(),
                    first: self.store.first(),
                    streams: STREAMS,
                    cadence: CADENCE,
                });
                self.send_down(link, hello);
            }
            (Say::KeepAlive(keep_alive), Some(stream)) => {
                if forgets_beats && broker.core.is_registered() {
                    // Rule 9's switch: beats count as if each was confirmed at once.
                    if let Some(meta) = broker.metas.get(&Partition::ZERO) {
                        broker.core.confirmed(meta.incarnation, now, now);
                    }
                }
                let answer = self.brokers[b].core.keep_alive(stream, keep_alive.sequence, now);
                assert!(answer.is_ok(), "{answer:?}");
            }
            (Say::Acknowledgement(told), Some(stream)) => {
                let read = |told: &[_]| feed_wire::positions("acknowledgement", told).unwrap();
                let (applied, drained) = (read(&told.applied), read(&told.drained));
                // A broker that started again takes nothing that it has not read.
                if broker.core.acknowledge(stream, &applied, &drained).is_err() {
                    self.report.misuses += 1;
                    return self.cut(link);
                }
                self.beat(b, false);
            }
            _ => {}
        }
        self.pump(b);
    }

    /// Sends what is queued, sooner or later.
    pub fn pump(&mut self, b: usize) {
        if self.chance.percent(30) {
            let (run, pause) = (self.brokers[b].run, self.chance.between(500, 20_000));
            return self.after(pause, Event::Pump(b, run));
        }
        self.pump_now(b);
    }

    pub fn pump_now(&mut self, b: usize) {
        let streams: Vec<_> = self.brokers[b].streams.iter().map(|(l, s)| (*l, *s)).collect();
        for (link, stream) in streams {
            let mut messages = Vec::new();
            while let Next::Message(message) = self.brokers[b].core.next(stream) {
                messages.push(message);
            }
            if self.is_off(6) {
                // Rule 6's switch: answers overtake events.
                messages.sort_by_key(|message| matches!(message, Message::Revocations(_)));
            }
            for message in messages {
                if self.is_off(6) && matches!(message, Message::Revocations(_)) {
                    self.linger(link);
                }
                self.send_down(link, feed_wire::message(message));
            }
        }
    }
}
