//! `kill -9` in the middle of load: every fact that was answered is there after the restart.
//!
//! The test starts itself again as a writer, which prints each fact once it is answered, and kills it at some fact.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::sync::Arc;

use leasehold::broker::seams::{Clock, Entropy, SystemClock, SystemEntropy};
use leasehold::domain::event::{Event, EventKind};
use leasehold::domain::lattice::{Dead, Entry, Facts, Fence, Lattice};
use leasehold::domain::path::{Counter, Hop, Origin, Path};
use leasehold::domain::task::{State, Task};
use leasehold::domain::time::{Span, Stamp};
use leasehold::store::embedded::EmbeddedStore;
use leasehold::store::{
    Commit, Entries, Lane, Outcome, Query, Receipt, Record, RecordKey, Store, Upkeep, Write,
};
use leasehold::testing::store_contract::constants;
use leasehold::testing::store_contract::samples::{
    P, draft, event, issue, killing, lease_id, task, task_id,
};
use tokio::runtime::Runtime;

/// Where the writer finds the store; set only for it.
const FOLDER: &str = "LEASEHOLD_CRASH_FOLDER";
/// The writer's first number.
const FIRST: &str = "LEASEHOLD_CRASH_FIRST";
/// Stands in front of every fact.
const FACT: &str = "fact ";
const WRITERS: u128 = 8;

/// What an answer said.
#[derive(Debug, PartialEq, Eq)]
enum Fact {
    Begun(u128, Stamp),
    Issued(u128, Origin),
    Ended(u128, Stamp),
}

impl Fact {
    fn stamp(&self) -> Stamp {
        match self {
            Self::Begun(_, stamp) | Self::Ended(_, stamp) => *stamp,
            Self::Issued(_, origin) => origin.stamp,
        }
    }
}

#[test]
fn class_07_what_was_answered_survives_kill_9() {
    survives("class_07_what_was_answered_survives_kill_9", 10);
}

#[test]
#[ignore = "soak: a hundred kills"]
fn soak_what_was_answered_survives_a_hundred_kills() {
    survives("soak_what_was_answered_survives_a_hundred_kills", 100);
}

fn survives(test: &str, kills: u64) {
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_killed(FilePath::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for run in 0..kills {
        let facts = facts_of_a_killed_writer(test, folder.path(), run);
        assert!(!facts.is_empty(), "the writer did nothing");
        check(folder.path(), &facts);
        all.extend(facts);
    }
    check(folder.path(), &all);
}

fn facts_of_a_killed_writer(test: &str, folder: &FilePath, run: u64) -> Vec<Fact> {
    let mut random = [0; 2];
    SystemEntropy.fill(&mut random).unwrap();
    let last = 1 + usize::from(u16::from_be_bytes(random)) % 500;
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([&format!("store::crash::{test}"), "--exact", "--nocapture", "--include-ignored"])
        .env(FOLDER, folder)
        .env(FIRST, (run << 32).to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap());
    let mut facts = Vec::new();
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // What the pipe still holds after the kill was answered too; a torn line was not printed yet.
        if let Some(fact) = line.strip_prefix(FACT).and_then(|line| line.strip_suffix('\n')) {
            facts.push(parse(fact));
            if facts.len() == last {
                writer.kill().unwrap();
            }
        }
        line.clear();
    }
    let status = writer.wait().unwrap();
    assert!(!status.success(), "the writer ended by itself");
    facts
}

/// `FIRST` and on: begin, issue, end, each told once it is answered.
fn write_until_killed(folder: &FilePath) {
    let clock = Arc::new(SystemClock::default());
    let seams = (Arc::clone(&clock) as Arc<dyn Clock>, &SystemEntropy as &dyn Entropy);
    let store = EmbeddedStore::create_or_open(folder, seams, constants()).unwrap();
    let first: u128 = std::env::var(FIRST).unwrap().parse().unwrap();
    println!();
    Runtime::new().unwrap().block_on(async {
        let writers = (0..WRITERS).map(|writer| {
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            tokio::spawn(async move {
                for round in 0.. {
                    let number = first + round * WRITERS + writer;
                    live(&store, clock.now(), number, round % 2 == 0).await;
                }
            })
        });
        futures_util::future::join_all(writers).await;
    });
}

async fn live(store: &EmbeddedStore, now: Stamp, number: u128, ends: bool) {
    let write = |task: Task, due| Write::Task { task: Box::new(task), due };
    let done = async |mut commit: Commit, kind| {
        commit.event = Some(Event { entries: commit.entries().to_vec(), ..event(kind, 0) });
        match store.commit(commit).await.unwrap() {
            Outcome::Done(receipt) => receipt,
            other => panic!("{other:?}"),
        }
    };
    let ordinary = Commit::new(P, Lane::Ordinary);
    let begin = Commit { writes: vec![write(task(number), now)], ..ordinary };
    let Receipt { origin, .. } = done(begin, EventKind::TaskBegun).await;
    tell(&format!("begun {number} {}", origin.stamp));
    let mut of_lease = issue(now, &draft(number, number), 300);
    of_lease.times.as_mut().unwrap().ceiling_key[..16].copy_from_slice(&number.to_be_bytes());
    let Receipt { origin, .. } = done(of_lease, EventKind::CredentialIssued).await;
    tell(&format!("issued {number} {} {}", origin.incarnation, origin.stamp));
    if ends {
        let ended = Task { state: State::Completed, ..task(number) };
        let end = Commit {
            writes: vec![write(ended, now)],
            event: Some(killing(vec![Entry::Fence(task_id(number), Fence::ended())])),
            ..Commit::new(P, Lane::Ending)
        };
        let Receipt { origin, .. } = done(end, EventKind::TaskEnded).await;
        tell(&format!("ended {number} {}", origin.stamp));
    }
}

fn tell(fact: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{FACT}{fact}").unwrap();
    stdout.flush().unwrap();
}

fn parse(fact: &str) -> Fact {
    let words: Vec<_> = fact.split(' ').collect();
    let stamp = |word: &str| Stamp::from_micros(word.parse().unwrap()).unwrap();
    let number = words[1].parse().unwrap();
    match words[0] {
        "begun" => Fact::Begun(number, stamp(words[2])),
        "ended" => Fact::Ended(number, stamp(words[2])),
        "issued" => {
            let origin = Origin { incarnation: stamp(words[2]), stamp: stamp(words[3]) };
            Fact::Issued(number, origin)
        }
        _ => panic!("{fact}"),
    }
}

fn check(folder: &FilePath, facts: &[Fact]) {
    let store =
        EmbeddedStore::open(folder, Arc::new(SystemClock::default()), &SystemEntropy).unwrap();
    Runtime::new().unwrap().block_on(async {
        let whole = Query::new(P, Vec::new(), Entries::All);
        let whole = store.read(whole).await.unwrap();
        let first = facts.iter().map(Fact::stamp).min().unwrap();
        let before = first.minus(Span::from_micros(1));
        let events = store.events(P, before, usize::MAX >> 1).await.unwrap();
        for fact in facts {
            let key = match fact {
                Fact::Begun(number, _) | Fact::Ended(number, _) => {
                    RecordKey::Task(task_id(*number))
                }
                Fact::Issued(number, _) => RecordKey::Lease(lease_id(*number)),
            };
            let query = Query::new(P, vec![key], Entries::None);
            let record = store.read(query).await.unwrap().records.remove(0);
            let record = record.unwrap_or_else(|| panic!("lost: {fact:?}"));
            holds(fact, &record, &whole.lattice);
            let stamp = fact.stamp();
            assert!(whole.meta.stamp > stamp, "{fact:?}");
            let announced = events.binary_search_by_key(&stamp, |event| event.stamp);
            assert!(announced.is_ok(), "not announced: {fact:?}");
        }
    });
}

/// Holds a fact against what the store has.
fn holds(fact: &Fact, record: &Record, lattice: &Lattice) {
    match (fact, record) {
        (Fact::Begun(_, stamp), Record::Task(task)) => {
            assert!(task.version >= *stamp, "{fact:?}");
        }
        (Fact::Ended(_, stamp), Record::Task(task)) => {
            assert_eq!((task.version, task.state), (*stamp, State::Completed));
            let path = Path::new(Vec::new(), Hop { task: task.id, counter: Counter::FIRST });
            let incarnation = lattice.living().unwrap();
            let origin = Origin { incarnation, stamp: Stamp::ZERO };
            let lease = lease_id(0);
            let facts = Facts { path: &path, lease, origin, reach: &[] };
            assert_eq!(lattice.judge(&facts), Err(Dead::Fenced), "{fact:?}");
        }
        (Fact::Issued(number, origin), Record::Lease(stored)) => {
            assert_eq!(stored.origin, *origin, "{fact:?}");
            let judged = lattice.judge(&stored.facts(&stored.full_reach()));
            assert!(matches!(judged, Ok(()) | Err(Dead::Fenced)), "{fact:?}: {judged:?}");
            assert_eq!(stored.draft, draft(*number, *number));
        }
        _ => panic!("{fact:?} beside {record:?}"),
    }
}
