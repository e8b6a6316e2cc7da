//! Tasks, credentials and endings, as commits of the store; and what is true of them.

use std::collections::BTreeMap;

use leasehold::domain::event::{Event as Committed, EventKind};
use leasehold::domain::feed::{Ending, InstanceId};
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::lattice::{Entry, Fence};
use leasehold::domain::path::{Counter, Hop, Origin, Path};
use leasehold::domain::scope::Reach;
use leasehold::domain::task::{Agent, State, Task as Record};
use leasehold::domain::time::{Moment, Span, Stamp};
use leasehold::store::{
    self, Commit, Entries, Feed as _, Guard, Lane, Outcome, Query, RecordKey, Store as _, Write,
};
use leasehold::testing::store_contract::samples;

use super::broker::Request;
use super::issuing::{agent_name, agent_scope};
use super::world::{DELTA_MAX, Event, World, at_once, partitions, terms};

/// Δ of root tasks, in milliseconds: from the smallest that there may be to the store's `delta_max`.
const DELTAS: [u64; 4] = [500, 500, 700, 1_000];

pub struct Task {
    pub id: TaskId,
    parent: Option<usize>,
    lineage: Vec<Hop>,
    pub agent: usize,
    delta: Span,
    epoch: Counter,
    branch: Counter,
    pub is_over: bool,
    /// Below which epoch an ending of it was RECORDED.
    pub recorded_below: Counter,
}

/// A credential as its holder shows it.
pub enum Shown {
    Token {
        text: String,
        certificate: Option<[u8; 32]>,
    },
    /// The leaf, and what follows it.
    Certificate(Vec<Vec<u8>>),
}

pub struct Credential {
    pub task: usize,
    pub shown: Shown,
    pub path: Path,
    pub lease: LeaseId,
    pub origin: Origin,
    pub reach: Vec<Reach>,
    pub delta: Span,
    pub expires: Stamp,
    /// Some whole checker let it in.
    pub was_accepted: bool,
    /// When FENCED was answered for it.
    pub fenced: Option<u64>,
    /// When nobody may accept it, whatever was answered.
    pub bound: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub enum Kills {
    End(usize),
    Advance(usize),
    Lease(usize),
    Agent(usize),
}

pub struct Wanted {
    pub kills: Kills,
    partitions: Vec<Partition>,
    written: BTreeMap<Partition, Origin>,
    pub killed: Vec<usize>,
    pub ending: Option<Ending>,
    recorded: Option<u64>,
    pub members_before: Vec<InstanceId>,
}

impl World {
    pub fn begin(&mut self) {
        let delta = DELTAS[self.chance.below(DELTAS.len())];
        let parent = match self.tasks.len() {
            0 => None,
            n => Some(n - 1 - self.chance.below(n.min(8))),
        };
        let parent = parent.filter(|p| !self.tasks[*p].is_over && self.chance.percent(40));
        let partition = match parent {
            Some(p) => self.tasks[p].id.partition(),
            None => Partition(self.chance.below(usize::from(partitions().get())) as u8),
        };
        let delta = Span::from_millis(delta).min(parent.map_or(DELTA_MAX, |p| self.tasks[p].delta));
        let agent = parent.map_or(self.agents, |p| self.tasks[p].agent);
        if self.chance.percent(25) {
            self.agents += 1;
        }
        let hop = |p: usize| Hop { task: self.tasks[p].id, counter: self.tasks[p].branch };
        let above = |p: usize| self.tasks[p].lineage.iter().copied().chain([hop(p)]).collect();
        let lineage = parent.map(above).unwrap_or_default();
        let id = TaskId::new(partition, u128::from(self.chance.number()));
        let task = Task {
            id,
            parent,
            lineage,
            agent,
            delta,
            epoch: Counter::FIRST,
            branch: Counter::FIRST,
            is_over: false,
            recorded_below: Counter::new(0),
        };
        let mut commit = Commit::new(partition, Lane::Ordinary);
        commit.writes = vec![first_record(&task)];
        let Outcome::Done(_) = at_once(self.store.commit(commit)).unwrap() else { return };
        self.tasks.push(task);
        let t = self.tasks.len() - 1;
        for _ in 0..2 {
            self.ask_for_credential(t);
        }
    }

    /// The task and its ancestors.
    pub fn line(&self, t: usize) -> Vec<usize> {
        std::iter::successors(Some(t), |t| self.tasks[*t].parent).collect()
    }

    pub fn end(&mut self) {
        let recent = self.tasks.len().min(12);
        if recent == 0 || self.credentials.is_empty() {
            return;
        }
        let t = self.tasks.len() - 1 - self.chance.below(recent);
        let kills = match self.chance.below(10) {
            0 => Kills::Agent(self.tasks[t].agent),
            1 => Kills::Lease(
                self.credentials.len() - 1 - self.chance.below(self.credentials.len().min(10)),
            ),
            2..4 => Kills::Advance(t),
            _ => Kills::End(t),
        };
        let up: Vec<usize> = (0..self.brokers.len()).filter(|b| self.brokers[*b].is_up).collect();
        if up.is_empty() {
            return;
        }
        let b = up[self.chance.below(up.len())];
        // A broker that is not registered answers no mutation.
        if !self.brokers[b].core.is_registered() {
            return;
        }
        let partitions = match kills {
            Kills::End(t) | Kills::Advance(t) => vec![self.tasks[t].id.partition()],
            Kills::Lease(c) => vec![self.credentials[c].lease.partition()],
            Kills::Agent(_) => partitions().all().collect(),
        };
        let first = partitions[0];
        let members_before = self.brokers[b].members.1.clone();
        self.endings.push(Wanted {
            kills,
            partitions,
            written: BTreeMap::new(),
            killed: Vec::new(),
            ending: None,
            recorded: None,
            members_before,
        });
        self.ask(b, Request::End(self.endings.len() - 1, first));
    }

    /// The task as it is written: by its first issue the broker has pinned the agent's instance to it.
    fn stored(&self, t: usize) -> Record {
        let task = self.tasks[t].id;
        let query = Query::new(task.partition(), vec![RecordKey::Task(task)], Entries::None);
        let found = at_once(self.store.read(query)).unwrap().records.pop().flatten();
        match found {
            Some(store::Record::Task(task)) => *task,
            other => panic!("{other:?}"),
        }
    }

    /// At the store.
    pub fn commit_ending(&mut self, e: usize, partition: Partition) -> Option<Origin> {
        let kills = self.endings[e].kills;
        let mut commit = Commit::new(partition, Lane::Ending);
        let nowhere = Origin { incarnation: Stamp::ZERO, stamp: Stamp::ZERO };
        let mut entries = Vec::new();
        let mut written = None;
        match kills {
            Kills::End(t) | Kills::Advance(t) => {
                let task = &self.tasks[t];
                if task.is_over {
                    return None;
                }
                let advances = matches!(kills, Kills::Advance(_));
                let (epoch, branch) = match advances {
                    true => (task.epoch.raised(), task.branch.raised()),
                    false => (Counter::infinity(), Counter::infinity()),
                };
                entries.push(Entry::Fence(task.id, Fence { epoch, branch }));
                let state = if advances { State::Active } else { State::Completed };
                let stands = self.stored(t);
                let (key, version) = (RecordKey::Task(task.id), Some(stands.version));
                commit.guards = vec![Guard { key, version }];
                commit.writes = vec![write(Record { epoch, branch, state, ..stands })];
                written = Some((t, epoch, branch, !advances));
            }
            Kills::Lease(c) => entries.push(Entry::Lease(self.credentials[c].lease)),
            Kills::Agent(a) => {
                entries.push(Entry::Block(agent_scope(a), 1));
                entries.push(Entry::Watermark(agent_scope(a), nowhere));
            }
        }
        let tag = self.chance.number();
        let event = Committed::of_broker(tag, EventKind::TaskEnded, "");
        commit.event = Some(Committed { entries, ..event });
        let Outcome::Done(receipt) = at_once(self.store.commit(commit)).unwrap() else {
            return None;
        };
        if let Some((t, epoch, branch, is_over)) = written {
            let task = &mut self.tasks[t];
            (task.epoch, task.branch, task.is_over) = (epoch, branch, is_over);
        }
        let dead: Vec<usize> =
            (0..self.credentials.len()).filter(|c| self.is_hit(kills, *c)).collect();
        let dead: Vec<usize> = dead
            .into_iter()
            .filter(|c| self.credentials[*c].lease.partition() == partition)
            .collect();
        self.endings[e].killed.extend(dead);
        // Brokers are told, soon, or never.
        for b in 0..self.brokers.len() {
            if self.chance.percent(80) {
                let (run, delay) = (self.brokers[b].run, self.chance.delay());
                self.after(delay, Event::Read(b, run, partition, false));
            }
        }
        Some(receipt.origin)
    }

    /// By what the ending says, without the lattice's help.
    fn is_hit(&self, kills: Kills, c: usize) -> bool {
        let credential = &self.credentials[c];
        match kills {
            Kills::Lease(lease) => c == lease,
            Kills::Agent(agent) => self.tasks[credential.task].agent == agent,
            Kills::End(t) | Kills::Advance(t) => {
                let task = &self.tasks[t];
                let own = credential.path.own();
                own.task == task.id && own.counter < task.epoch
                    || credential
                        .path
                        .ancestors()
                        .iter()
                        .any(|hop| hop.task == task.id && hop.counter < task.branch)
            }
        }
    }

    /// The broker hears that it is written in one partition.
    pub fn ended(&mut self, b: usize, e: usize, partition: Partition, at: Origin) {
        let entries = match self.endings[e].kills {
            Kills::End(t) | Kills::Advance(t) => {
                let task = &self.tasks[t];
                // What was written: nobody advanced it since, or it is dead the more.
                vec![Entry::Fence(task.id, Fence { epoch: task.epoch, branch: task.branch })]
            }
            Kills::Lease(c) => vec![Entry::Lease(self.credentials[c].lease)],
            Kills::Agent(a) => {
                vec![Entry::Block(agent_scope(a), 1), Entry::Watermark(agent_scope(a), at)]
            }
        };
        self.brokers[b].core.recorded(at, partition, &entries);
        self.read(b, partition, false);
        let ending = &mut self.endings[e];
        ending.written.insert(partition, at);
        let next = ending.partitions.iter().find(|p| !ending.written.contains_key(p)).copied();
        match next {
            Some(partition) => self.ask(b, Request::End(e, partition)),
            None => self.ask(b, Request::Confirm(e)),
        }
    }

    /// At the store: whether every partition still is what was written to.
    pub fn is_there(&self, e: usize) -> bool {
        self.endings[e].written.iter().all(|(partition, at)| {
            let page = at_once(self.store.page(*partition, None, 1)).unwrap();
            page.meta.open && page.meta.incarnation == at.incarnation
        })
    }

    pub fn recorded(&mut self, b: usize, e: usize, now: Moment) {
        let kills = self.endings[e].kills;
        let delta = match kills {
            Kills::End(t) | Kills::Advance(t) => self.tasks[t].delta,
            Kills::Lease(c) => self.credentials[c].delta,
            Kills::Agent(_) => DELTA_MAX,
        };
        let written = self.endings[e].written.clone();
        let ending = Ending { written, recorded: now, delta };
        let latest = ending.at_latest(terms());
        self.endings[e].ending = Some(ending);
        self.endings[e].recorded = Some(self.now);
        self.report.recorded += 1;
        for c in self.endings[e].killed.clone() {
            let credential = &mut self.credentials[c];
            let bound = self.now + terms().drift.bound(credential.delta).micros() + 1;
            credential.bound = Some(credential.bound.map_or(bound, |known| known.min(bound)));
        }
        if let Kills::End(t) | Kills::Advance(t) = kills {
            let below = self.tasks[t].epoch.max(self.tasks[t].recorded_below);
            self.tasks[t].recorded_below = below;
        }
        if let Kills::Agent(agent) = kills {
            self.blocked.insert(agent);
        }
        let bound = terms().drift.bound(delta).micros() + 2;
        self.after(bound, Event::CheckAll(e));
        if self.is_without_wait() {
            return self.fenced(e, false);
        }
        self.brokers[b].waiting.push(e);
        self.read_registry(b, false);
        let wait = if self.is_off(8) { delta } else { latest.since(now) };
        let (run, wait) = (self.brokers[b].run, self.brokers[b].clocks.true_micros(wait));
        self.after(wait, Event::Look(b, run));
        self.after(wait + 1_000, Event::Look(b, run));
    }

    pub fn fenced(&mut self, e: usize, by_lapse: bool) {
        match by_lapse {
            true => self.report.fenced_by_lapse += 1,
            false => self.report.fenced_by_acknowledgement += 1,
        }
        for c in self.endings[e].killed.clone() {
            let credential = &mut self.credentials[c];
            if credential.fenced.is_none() && credential.was_accepted {
                let lived = match credential.shown {
                    Shown::Token { .. } => &mut self.report.tokens_lived,
                    Shown::Certificate(_) => &mut self.report.certificates_lived,
                };
                *lived += 1;
            }
            credential.fenced.get_or_insert(self.now);
        }
        self.check_all(e);
        self.hang_up(e);
    }

    /// One of those that it kills.
    pub fn killed(&mut self, e: usize) -> Option<usize> {
        let many = self.endings[e].killed.len();
        (many > 0).then(|| self.chance.below(many)).map(|n| self.endings[e].killed[n])
    }

    pub fn check_all(&mut self, e: usize) {
        for v in 0..self.verifiers.len() {
            for c in self.endings[e].killed.clone() {
                self.check(v, c);
            }
        }
    }
}

fn first_record(task: &Task) -> Write {
    write(Record {
        id: task.id,
        lineage: task.lineage.clone(),
        agent: Agent::One(agent_name(task.agent)),
        freshness: task.delta,
        epoch: task.epoch,
        branch: task.branch,
        ..samples::task(1)
    })
}

fn write(task: Record) -> Write {
    Write::Task { due: task.deadline, task: Box::new(task) }
}
