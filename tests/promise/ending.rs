//! Tasks, credentials and endings, as commits of the store; and what is true of them.

use std::collections::BTreeMap;

use leasehold::domain::clamp::{Clamp, Limit, Limits};
use leasehold::domain::event::{Event as Committed, EventKind};
use leasehold::domain::feed::{Ending, InstanceId};
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::lattice::{Entry, Fence};
use leasehold::domain::path::{Counter, Hop, Origin, Path};
use leasehold::domain::scope::{Reach, Scope};
use leasehold::domain::task::State;
use leasehold::domain::time::{Moment, Span, Stamp};
use leasehold::store::{
    Commit, Feed as _, Guard, IssueTimes, Lane, Outcome, RecordKey, Store as _, Write,
};
use leasehold::testing::store_contract::samples;

use super::broker::Request;
use super::world::{DELTA_MAX, Event, Off, World, at_once, partitions, terms};

/// Longest lives of credentials, in seconds.
const TTLS: [u64; 3] = [3, 8, 20];

pub struct Task {
    pub id: TaskId,
    parent: Option<usize>,
    class: usize,
    delta: Span,
    epoch: Counter,
    branch: Counter,
    version: Stamp,
    is_over: bool,
    /// When an ending of it, of an ancestor or of its class was RECORDED; by the epoch that it ends.
    recorded_below: Counter,
}

pub struct Credential {
    pub task: usize,
    pub path: Path,
    pub lease: LeaseId,
    pub origin: Origin,
    pub reach: Vec<Reach>,
    pub delta: Span,
    pub expires: Stamp,
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
    Class(usize),
}

pub struct Wanted {
    pub kills: Kills,
    partitions: Vec<Partition>,
    written: BTreeMap<Partition, Origin>,
    killed: Vec<usize>,
    pub ending: Option<Ending>,
    recorded: Option<u64>,
    pub members_before: Vec<InstanceId>,
}

impl World {
    pub fn begin(&mut self) {
        let delta = [200, 400, 700, 1_000][self.chance.below(4)];
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
        let class = parent.map_or(self.classes, |p| self.tasks[p].class);
        if self.chance.percent(25) {
            self.classes += 1;
        }
        let id = TaskId::new(partition, u128::from(self.chance.number()));
        let mut task = Task {
            id,
            parent,
            class,
            delta,
            epoch: Counter::FIRST,
            branch: Counter::FIRST,
            version: Stamp::ZERO,
            is_over: false,
            recorded_below: Counter::new(0),
        };
        let mut commit = Commit::new(partition, Lane::Ordinary);
        commit.writes = vec![record(&task, State::Active)];
        let Outcome::Done(receipt) = at_once(self.store.commit(commit)).unwrap() else { return };
        task.version = receipt.origin.stamp;
        self.tasks.push(task);
        let t = self.tasks.len() - 1;
        for _ in 0..2 {
            self.decide_issue(t);
        }
    }

    /// The broker reads, decides, and commits a while later under what it read.
    pub fn decide_issue(&mut self, t: usize) {
        if self.line(t).iter().any(|t| self.tasks[*t].is_over) {
            return;
        }
        let line = self.line(t);
        let hops: Vec<Hop> = line
            .iter()
            .rev()
            .map(|t| {
                let task = &self.tasks[*t];
                Hop { task: task.id, counter: task.branch }
            })
            .collect();
        let (own, ancestors) = hops.split_last().unwrap();
        let own = Hop { task: own.task, counter: self.tasks[t].epoch };
        let path = Path::new(ancestors.to_vec(), own);
        let guards = line.iter().map(|t| {
            let task = &self.tasks[*t];
            Guard { key: RecordKey::Task(task.id), version: Some(task.version) }
        });
        let guards = guards.collect();
        let class = class(self.tasks[t].class);
        let mut commit = Commit::new(self.tasks[t].id.partition(), Lane::Ordinary);
        if self.off != Off::Guards {
            commit.guards = guards;
            commit.unblocked = vec![class.reach()];
        }
        let ttl = TTLS[self.chance.below(TTLS.len())];
        commit.times = Some(IssueTimes {
            limits: Limits { limits: vec![(Clamp::Tier, Limit::After(ttl))], minimum_seconds: 1 },
            ceiling_key: [u8::try_from(t % 256).unwrap(); 32],
            ceiling_keep_until: Stamp::ZERO,
            lease_origin: None,
        });
        let lease = LeaseId::new(commit.partition, u128::from(self.chance.number()));
        let mut event = Committed::of_broker(self.chance.number(), EventKind::CredentialIssued, "");
        event.lease = Some(lease);
        commit.event = Some(event);
        let delay = self.chance.delay() + self.chance.delay();
        self.after(delay, Event::Issue(t, path, Box::new(commit)));
    }

    pub fn issue(&mut self, t: usize, path: Path, commit: Commit) {
        if self.now < self.store_away_until {
            return;
        }
        let lease = commit.event.as_ref().and_then(|event| event.lease).unwrap();
        let Outcome::Done(receipt) = at_once(self.store.commit(commit)).unwrap() else {
            self.report.refused_commits += 1;
            return;
        };
        // INVARIANT: nothing is committed for a dead epoch or a blocked scope after RECORDED.
        let is_dead = path.hops().any(|hop| {
            let task = self.tasks.iter().find(|task| task.id == hop.task).unwrap();
            hop.counter < task.recorded_below
        });
        if is_dead || self.blocked.contains(&self.tasks[t].class) {
            self.violation(format!("a credential was committed at {path:?} after RECORDED"));
        }
        let task = &self.tasks[t];
        self.credentials.push(Credential {
            task: t,
            path,
            lease,
            origin: receipt.origin,
            reach: vec![class(task.class).reach()],
            delta: task.delta,
            expires: Stamp::from_seconds(receipt.credential.unwrap().expiry.expires_seconds),
            fenced: None,
            bound: None,
        });
        self.report.issued += 1;
    }

    /// The task and its ancestors.
    fn line(&self, t: usize) -> Vec<usize> {
        std::iter::successors(Some(t), |t| self.tasks[*t].parent).collect()
    }

    pub fn end(&mut self) {
        let recent = self.tasks.len().min(12);
        if recent == 0 || self.credentials.is_empty() {
            return;
        }
        let t = self.tasks.len() - 1 - self.chance.below(recent);
        let kills = match self.chance.below(10) {
            0 => Kills::Class(self.tasks[t].class),
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
            Kills::Class(_) => partitions().all().collect(),
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
                commit.guards =
                    vec![Guard { key: RecordKey::Task(task.id), version: Some(task.version) }];
                let task = Task { epoch, branch, ..*task };
                commit.writes = vec![record(&task, state)];
                written = Some((t, epoch, branch, !advances));
            }
            Kills::Lease(c) => entries.push(Entry::Lease(self.credentials[c].lease)),
            Kills::Class(c) => {
                entries.push(Entry::Block(class(c), 1));
                entries.push(Entry::Watermark(class(c), nowhere));
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
            task.version = receipt.origin.stamp;
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
            Kills::Class(class) => self.tasks[credential.task].class == class,
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
            Kills::Class(c) => vec![Entry::Block(class(c), 1), Entry::Watermark(class(c), at)],
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
            Kills::Class(_) => DELTA_MAX,
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
        if let Kills::Class(class) = kills {
            self.blocked.insert(class);
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
            let fenced = &mut self.credentials[c].fenced;
            *fenced = Some(fenced.map_or(self.now, |known| known.min(self.now)));
        }
        self.check_all(e);
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

fn class(n: usize) -> Scope {
    Scope::parse(&format!("class:c{n}")).unwrap()
}

fn record(task: &Task, state: State) -> Write {
    let record = leasehold::domain::task::Task {
        id: task.id,
        freshness: task.delta,
        epoch: task.epoch,
        branch: task.branch,
        state,
        ..samples::task(1)
    };
    Write::Task { due: record.deadline, task: Box::new(record) }
}
