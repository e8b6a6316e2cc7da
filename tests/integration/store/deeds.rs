//! What random histories are made of: few tasks, leases, scopes and request ids, so that they meet.

use leasehold::domain::clamp::{Clamp, Limit};
use leasehold::domain::event::{Event, EventKind};
use leasehold::domain::lattice::{Entry, Fence};
use leasehold::domain::lease::Draft;
use leasehold::domain::path::{Counter, Origin};
use leasehold::domain::scope::Scope;
use leasehold::domain::task::{State, Task};
use leasehold::domain::time::Stamp;
use leasehold::store::{
    Commit, Entries, Guard, Query, Record, RecordKey, Store, Subject, Write, Written,
};
use leasehold::testing::model::ModelStore;
use leasehold::testing::store_contract::samples::{
    P, at, certificate, commit, draft, event, issue, lease_id, named, replay, scope, task, task_id,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// How far a history goes.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// The latest time.
    pub seconds: u64,
    /// Whether answers, claims and first issues may be over within it.
    pub expiring: bool,
    /// How many commits may be under way at once.
    pub together: usize,
}

/// One step of a history; times are seconds of [`at`].
#[derive(Clone, Debug)]
pub enum Step {
    Commits(Vec<Deed>),
    Prune(u64),
    Clock(u64),
}

/// A commit, but for versions and incarnations.
#[derive(Clone, Debug)]
pub struct Deed {
    time: u64,
    replay: Option<Request>,
    guards: Vec<(RecordKey, Version)>,
    before: Option<u64>,
    unblocked: Option<Scope>,
    unmarked: Option<(Scope, u64)>,
    unrevoked: Option<u128>,
    issue: Option<Issue>,
    writes: Vec<Write>,
    entries: Vec<Entry>,
    event: bool,
}

#[derive(Clone, Debug)]
struct Request {
    key: u8,
    hash: u8,
    checked: bool,
    keep_until: Option<u64>,
}

#[derive(Clone, Debug)]
struct Issue {
    /// Its task has the same number.
    lease: u128,
    ttl: u64,
    ceiling: u8,
    keep_until: u64,
    deadline: u64,
    /// The lease is the one that the request names.
    named: bool,
}

#[derive(Clone, Copy, Debug)]
enum Version {
    Current,
    Absent,
    Wrong,
}

impl Deed {
    /// The commit, decided on what the model holds.
    pub async fn commit(&self, model: &ModelStore) -> Commit {
        let records = self.guards.iter().map(|(key, _)| *key).collect();
        let query = Query::new(P, records, Entries::None);
        let known = model.read(query).await.unwrap();
        let version = |(wanted, record): (&(RecordKey, Version), &Option<Record>)| {
            let version = match wanted.1 {
                Version::Current => record.as_ref().map(Record::version),
                Version::Absent => None,
                Version::Wrong => Some(Stamp::from_seconds(7)),
            };
            Guard { key: wanted.0, version }
        };
        let mut commit = commit(at(self.time));
        let mut subject = Subject::Task(Box::new(task(1)));
        if let Some(of) = &self.issue {
            let mut draft = draft(of.lease, of.lease);
            subject = Subject::Lease(Written::Renewed);
            if let (true, Some(request)) = (of.named, &self.replay) {
                draft = Draft { request: Some([request.hash; 32]), ..named(request.key, of.lease) };
                subject = Subject::Lease(Written::Issued);
            }
            commit = issue(at(self.time), &draft, of.ttl);
            let certificate = Box::new(certificate(self.time.into(), of.lease));
            commit.writes.push(Write::Certificate(certificate));
            let times = commit.times.as_mut().unwrap();
            times.ceiling_key = [of.ceiling; 32];
            times.ceiling_keep_until = at(of.keep_until);
            let deadline = Limit::At(at(of.deadline).seconds());
            times.limits.limits.insert(1, (Clamp::TaskDeadline, deadline));
        } else if self.event {
            subject = Subject::Scope("all".to_owned());
        }
        commit.replay = self.replay.as_ref().map(|request| {
            let mut replay = replay(request.key, subject);
            replay.request_hash = [request.hash; 32];
            replay.checked = request.checked;
            replay.keep_until = request.keep_until.map(at);
            replay
        });
        commit.guards = self.guards.iter().zip(&known.records).map(version).collect();
        commit.before = self.before.map(at);
        commit.unblocked = self.unblocked.iter().map(Scope::reach).collect();
        commit.unmarked = self.unmarked.as_ref().map(|(scope, seconds)| {
            let incarnation = known.meta.incarnation;
            (vec![scope.reach()], Origin { incarnation, stamp: at(*seconds) })
        });
        commit.unrevoked = self.unrevoked.map(lease_id);
        commit.writes.extend(self.writes.iter().cloned());
        let entries = self.entries.clone();
        commit.event =
            self.event.then(|| Event { entries, ..event(EventKind::TaskAdvanced, self.time) });
        commit
    }
}

/// Histories within a horizon.
pub fn history(horizon: Horizon) -> impl Strategy<Value = Vec<Step>> {
    let time = 0..horizon.seconds;
    let step = prop_oneof![
        8 => vec(deed(horizon), 1..=horizon.together).prop_map(Step::Commits),
        1 => time.clone().prop_map(Step::Prune),
        1 => time.prop_map(Step::Clock),
    ];
    vec(step, 1..24)
}

fn deed(horizon: Horizon) -> impl Strategy<Value = Deed> {
    let time = 0..horizon.seconds;
    let number = 1u128..=3;
    let key = prop_oneof![
        number.clone().prop_map(|n| RecordKey::Task(task_id(n))),
        number.clone().prop_map(|n| RecordKey::Lease(lease_id(n))),
        Just(RecordKey::Keyring),
        Just(RecordKey::RevocationList),
    ];
    let version = prop_oneof![
        6 => Just(Version::Current),
        1 => Just(Version::Absent),
        1 => Just(Version::Wrong),
    ];
    let checks = (
        option::weighted(0.3, request(horizon)),
        vec((key, version), 0..3),
        option::weighted(0.1, time.clone()),
        option::weighted(0.2, scopes()),
        option::weighted(0.2, (scopes(), time.clone())),
        option::weighted(0.2, number),
    );
    let effects = (
        option::weighted(0.4, issues(horizon)),
        writes(horizon),
        vec(entry(), 0..3),
        any::<bool>(),
    );
    (time, checks, effects).prop_map(|(time, checks, effects)| {
        let (replay, guards, before, unblocked, unmarked, unrevoked) = checks;
        let (issue, writes, entries, event) = effects;
        let event = event || !entries.is_empty();
        Deed {
            time,
            replay,
            guards,
            before,
            unblocked,
            unmarked,
            unrevoked,
            issue,
            writes,
            entries,
            event,
        }
    })
}

fn until(horizon: Horizon) -> impl Strategy<Value = u64> {
    if horizon.expiring { 0..horizon.seconds } else { 604_800..604_801 }
}

fn request(horizon: Horizon) -> impl Strategy<Value = Request> {
    let hash = prop_oneof![9 => Just(1), 1 => Just(2)];
    (1u8..=3, hash, any::<bool>(), option::of(until(horizon)))
        .prop_map(|(key, hash, checked, keep_until)| Request { key, hash, checked, keep_until })
}

fn issues(horizon: Horizon) -> impl Strategy<Value = Issue> {
    let times = (5u64..1_800, until(horizon), 0..horizon.seconds * 2);
    (1u128..=3, 1u8..=2, times, any::<bool>()).prop_map(
        |(lease, ceiling, (ttl, keep_until, deadline), named)| Issue {
            lease,
            ttl,
            ceiling,
            keep_until,
            deadline,
            named,
        },
    )
}

/// At most one write of each kind, and none to a task that is dropped.
fn writes(horizon: Horizon) -> impl Strategy<Value = Vec<Write>> {
    let state = prop_oneof![3 => Just(State::Active), 1 => Just(State::Completed)];
    let of_task = (1u128..=3, state, 0..horizon.seconds, any::<bool>());
    let of_task = of_task.prop_map(|(number, state, due, drops)| {
        let task = Task { state, ..task(number) };
        if drops && state.is_ended() {
            return Write::DropTask { task: task.id, answer_key: task.answer_key };
        }
        Write::Task { task: Box::new(task), due: at(due) }
    });
    let claim = (1u8..=2, 1u128..=3, until(horizon)).prop_map(|(key, task, until)| {
        Write::ProvedKey { key: [key; 32], task: task_id(task), keep_until: at(until) }
    });
    let proof = (1u8..=2, 1u8..=3, until(horizon)).prop_map(|(id, request, until)| {
        Write::ShownProof { id: [id; 32], request: [request; 32], keep_until: at(until) }
    });
    let keyring = vec(any::<u8>(), 0..9).prop_map(Write::Keyring);
    let list = any::<u64>().prop_map(Write::RevocationList);
    let each = (
        option::weighted(0.5, of_task),
        option::weighted(0.2, claim),
        option::weighted(0.2, proof),
        option::weighted(0.1, prop_oneof![keyring, list]),
    );
    each.prop_map(|(task, claim, proof, keyring)| {
        task.into_iter().chain(claim).chain(proof).chain(keyring).collect()
    })
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![Just("all"), Just("class:finance"), Just("tier:standard")].prop_map(scope)
}

fn entry() -> impl Strategy<Value = Entry> {
    let counter = || prop_oneof![4 => 1u64..5, 1 => Just(u64::MAX)].prop_map(Counter::new);
    prop_oneof![
        (1u128..=3, counter(), counter())
            .prop_map(|(task, epoch, branch)| Entry::Fence(task_id(task), Fence { epoch, branch })),
        scopes().prop_map(|scope| Entry::Watermark(scope, Origin::default())),
        (scopes(), 1u64..5).prop_map(|(scope, count)| Entry::Block(scope, count)),
        (1u128..=3).prop_map(|lease| Entry::Lease(lease_id(lease))),
    ]
}
