//! Single steps of the broker's path, without I/O: `cargo bench --all-features --bench parts`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a bench that cannot be set up stops; criterion writes an undocumented function"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use leasehold::domain::clamp::{Clamp, Limit, Limits, clamp};
use leasehold::domain::decide::{Command, decide};
use leasehold::domain::execution::Execution;
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::lattice::{Entry, Facts, Fence, Lattice};
use leasehold::domain::lease::full_reach;
use leasehold::domain::path::Origin;
use leasehold::domain::principal::{Name, Principal};
use leasehold::domain::task::State;
use leasehold::domain::time::{INFINITY, Span, Stamp};
use leasehold::jose::access_token::{AccessToken, Confirmation, verify};
use leasehold::jose::{KeySet, SigningKey};
use leasehold::mint::csr;
use leasehold::testing::{ca, scenario};
use rcgen::KeyPair;

const ISSUER: &str = "https://leasehold.example";
const AGENT: &str = "spiffe://td/agents/a";
/// Tasks that ended, in one partition.
const FENCES: u128 = 10_000;

fn now() -> Stamp {
    Stamp::from_seconds(1_500)
}

fn token(key: &SigningKey) -> AccessToken {
    let (line, agent) = (scenario::root(), Principal::parse(AGENT).unwrap());
    let origin = Origin { incarnation: Stamp::from_seconds(1), stamp: now() };
    AccessToken {
        issuer: ISSUER.to_owned(),
        subject: agent.clone(),
        actors: Vec::new(),
        audience: "https://ledger.example".to_owned(),
        issued_seconds: now().seconds(),
        expires_seconds: now().seconds() + 300,
        jti: [7; 16],
        grant: scenario::grant(),
        confirmation: Some(Confirmation::Certificate([7; 32])),
        execution: Execution {
            path: line.path(),
            lease: LeaseId::new(Partition(1), 1),
            origin,
            tier: Name::parse("standard").unwrap(),
            freshness: Span::from_seconds(5),
            reach: line.reach(Some(&agent)),
            step: "s-1".to_owned(),
        },
        signing_key: key.kid().to_owned(),
    }
}

fn tokens(c: &mut Criterion) {
    let (key, _) = SigningKey::generate().unwrap();
    let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
    let token = token(&key);
    let compact = token.sign(&key).unwrap();
    c.bench_function("token, claims to signed JWS", |b| b.iter(|| black_box(&token).sign(&key)));
    c.bench_function("token, JWS to verified claims", |b| {
        b.iter(|| verify(black_box(compact.expose_text()), &keys, ISSUER, now()).unwrap());
    });
    let csr = ca::csr(&KeyPair::generate().unwrap());
    c.bench_function("CSR, proved", |b| b.iter(|| csr::prove(black_box(csr.der())).unwrap()));
}

fn rules(c: &mut Criterion) {
    let limits = Clamp::ALL.map(|clamp| (clamp, Limit::At(now().seconds() + 300)));
    let limits = Limits { limits: limits.to_vec(), minimum_seconds: 10 };
    c.bench_function("clamp, every limit", |b| {
        b.iter(|| clamp(now(), now(), black_box(&limits)).unwrap());
    });
    let mut lattice = Lattice::default();
    let incarnation = Stamp::from_seconds(1);
    lattice.merge(&Entry::End(incarnation, INFINITY));
    for task in 0..FENCES {
        let task = TaskId::new(Partition(1), task + 2);
        lattice.merge(&Entry::Fence(task, Fence::ended()));
    }
    let (line, agent) = (scenario::root(), Principal::parse(AGENT).unwrap());
    let (path, reach) = (line.path(), line.reach(Some(&agent)));
    let reach = full_reach(&reach, &Name::parse("standard").unwrap(), "key");
    let origin = Origin { incarnation, stamp: now() };
    let facts = Facts { path: &path, lease: LeaseId::new(Partition(1), 1), origin, reach: &reach };
    c.bench_function("lattice of 10,000 fences, judge", |b| {
        b.iter(|| lattice.judge(black_box(&facts)).unwrap());
    });
    let end = Command::End { state: State::Completed, reason: "done".to_owned() };
    c.bench_function("decide, complete", |b| {
        b.iter(|| decide(black_box(&line), end.clone(), Stamp::ZERO, now()).unwrap());
    });
}

criterion_group!(parts, tokens, rules);
criterion_main!(parts);
