//! A broker's keys, tokens and feed, made by hand, and the checks that go by them.

mod admissions;
mod certificates;
mod checks;
mod feeds;
mod guards;
mod proofs;
mod served;
mod stores;

use std::sync::Arc;

use super::*;
use crate::clock::Present;
use crate::domain::execution::Execution;
use crate::domain::feed::InstanceId;
use crate::domain::grant::Grant;
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::path::{Counter, Hop, Origin, Path};
use crate::domain::principal::{Name, Principal};
use crate::domain::scope::Scope;
use crate::domain::time::{INFINITY, Moment, Span, Stamp};
use crate::jose::access_token::{AccessToken, Confirmation};
use crate::jose::dpop::{self, HttpsUri, Statement};
use crate::jose::{KeySet, SigningKey};
use crate::proto::v1::revocation_entry::Entry;
use crate::proto::v1::watch_revocations_request::Message as Say;
use crate::proto::v1::watch_revocations_response::Message as Heard;
use crate::proto::v1::*;

pub(super) const AUDIENCE: &str = "https://ledger.example";
pub(super) const BOUND: [u8; 32] = [7; 32];
pub(super) const INCARNATION: u64 = 1_790_000_000_000_000;
const ISSUER: &str = "https://leasehold.example";
const PARTITIONS: u32 = 2;

/// So many milliseconds after the start of the test, by both clocks.
pub(super) fn at(millis: u64) -> Present {
    let (start, span) = (Stamp::from_seconds(1_790_000_100), Span::from_millis(millis));
    Present { wall: start.plus(span), moment: Moment::new(Span::from_seconds(100)).plus(span) }
}

pub(super) fn task(n: u128) -> TaskId {
    TaskId::new(Partition(1), n)
}

pub(super) fn lease(n: u128) -> LeaseId {
    LeaseId::new(Partition(1), n)
}

/// A broker's signing key, and what it says of its keys.
pub(super) struct Signer {
    pub(super) key: SigningKey,
    pub(super) bundle: GetTrustBundleResponse,
}

impl Signer {
    pub(super) fn new() -> Self {
        let (key, _) = SigningKey::generate().unwrap();
        let keys = KeySet::of([key.verifying_key().clone()]).unwrap();
        let bundle = GetTrustBundleResponse {
            trust_domain: "leasehold.example".to_owned(),
            spiffe_bundle: r#"{"keys":[]}"#.to_owned(),
            access_token_jwks: keys.to_document().to_string(),
            issuer: ISSUER.to_owned(),
        };
        Self { key, bundle }
    }

    pub(super) fn trust(&self) -> Trust {
        Trust::read(self.bundle.clone(), None).unwrap()
    }

    /// A token of task 2 in epoch 3, below task 1 at branch 5, for five minutes from second 50 on.
    pub(super) fn claims(&self) -> AccessToken {
        let hop = |n, counter| Hop { task: task(n), counter: Counter::new(counter) };
        let agent = Principal::parse("spiffe://prod.example/agents/a").unwrap();
        let stamp = Stamp::from_micros(INCARNATION + 50_000_000).unwrap();
        let incarnation = Stamp::from_micros(INCARNATION).unwrap();
        AccessToken {
            issuer: ISSUER.to_owned(),
            subject: agent.clone(),
            actors: Vec::new(),
            audience: AUDIENCE.to_owned(),
            issued_seconds: stamp.seconds(),
            expires_seconds: stamp.seconds() + 300,
            jti: [1; 16],
            grant: Grant::parse(
                r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read","write"]}]"#,
            )
            .unwrap(),
            confirmation: Some(Confirmation::Certificate(BOUND)),
            execution: Execution {
                path: Path::new(vec![hop(1, 5)], hop(2, 3)),
                lease: lease(9),
                origin: Origin { incarnation, stamp },
                tier: Name::parse("standard").unwrap(),
                freshness: Span::from_seconds(5),
                reach: vec![Scope::Principal(agent).reach(), scope("finance").reach()],
                step: String::new(),
            },
            signing_key: self.key.kid().to_owned(),
        }
    }

    pub(super) fn sign(&self, token: &AccessToken) -> String {
        token.sign(&self.key).unwrap().expose_text().to_owned()
    }

    pub(super) fn token(&self) -> String {
        self.sign(&self.claims())
    }
}

pub(super) fn scope(class: &str) -> Scope {
    Scope::Class(Name::parse(class).unwrap())
}

/// As somebody shows it who holds the certificate that it is bound to.
pub(super) fn shown(token: &str) -> Presented<'_> {
    Presented {
        scheme: Scheme::Bearer,
        token,
        certificate: Some(BOUND),
        proof: None,
        request: ("GET", "/entries"),
        actions: &["read"],
    }
}

/// A checker with its mirror, and one connection.
pub(super) struct Bench {
    pub(super) signer: Signer,
    pub(super) checker: Checker,
    pub(super) stream: Stream,
    /// What a broker knows by what it was told.
    acknowledged: Acknowledgement,
}

impl Bench {
    /// Subscribed, and told of nothing.
    pub(super) fn subscribed() -> Self {
        let mut rules = Rules::new(AUDIENCE);
        rules.targets = vec![HttpsUri::parse("https://ledger.example").unwrap()];
        Self::with(rules)
    }

    pub(super) fn with(rules: Rules) -> Self {
        let (signer, mirror) = (Signer::new(), Mirror::new(InstanceId::new(1)));
        let (mut stream, _) = Stream::open(Arc::clone(&mirror), "ledger");
        // Long enough ago that no proof of today was shown before.
        let checker = Checker::new(rules, mirror, Moment::default());
        checker.set_trust(signer.trust());
        stream.receive(subscribed(), at(0)).unwrap();
        Self { signer, checker, stream, acknowledged: Acknowledgement::default() }
    }

    /// The connection is over.
    pub(super) fn hang_up(&mut self) {
        self.stream = Stream::open(Arc::clone(self.checker.mirror()), "ledger").0;
    }

    /// Fresh at 0, with the living incarnation and nothing revoked.
    pub(super) fn fresh() -> Self {
        let mut bench = Self::subscribed();
        bench.load();
        bench.beat(at(0), Span::ZERO, at(0));
        bench
    }

    pub(super) fn load(&mut self) {
        for partition in 0..PARTITIONS {
            let living = incarnation(INCARNATION, INFINITY.micros());
            self.stream.receive(revoked(partition, [living], Some(0)), at(0)).unwrap();
        }
        self.settle();
    }

    /// A keep-alive that is sent and answered.
    pub(super) fn beat(&mut self, sent: Present, age: Span, heard: Present) -> Option<Say> {
        let keep_alive = self.stream.keep_alive(sent).unwrap();
        let Some(Say::KeepAlive(KeepAlive { sequence })) = keep_alive.message else { panic!() };
        self.stream.receive(freshness(sequence, age, &[]), heard).unwrap();
        self.stream.settle(heard).and_then(|request| request.message)
    }

    /// Tells of entries of partition 1, up to a stamp, and gives back how far everything is acknowledged if that is news.
    pub(super) fn tell(&mut self, entries: Vec<Entry>, up_to: u64) -> Option<Acknowledgement> {
        self.stream.receive(revoked(1, entries, Some(up_to)), at(0)).unwrap();
        self.settle()
    }

    fn settle(&mut self) -> Option<Acknowledgement> {
        match self.stream.settle(at(0))?.message {
            Some(Say::Acknowledgement(news)) => keep(&mut self.acknowledged, &news),
            other => panic!("{other:?}"),
        }
        Some(self.acknowledged.clone())
    }

    pub(super) fn check(&self, token: &str, now: Present) -> Result<Admission, Refused> {
        self.checker.check(&shown(token), now)
    }
}

/// Keeps the newest of each partition, as a broker does.
pub(super) fn keep(known: &mut Acknowledgement, news: &Acknowledgement) {
    for (known, news) in [(&mut known.applied, &news.applied), (&mut known.drained, &news.drained)]
    {
        known.retain(|known| news.iter().all(|news| news.partition != known.partition));
        known.extend(news);
        known.sort_by_key(|position| position.partition);
    }
}

pub(super) fn heard(message: Heard) -> WatchRevocationsResponse {
    WatchRevocationsResponse { message: Some(message) }
}

pub(super) fn subscribed() -> WatchRevocationsResponse {
    subscribed_to(INCARNATION)
}

/// By a broker over this store.
pub(super) fn subscribed_to(store: u64) -> WatchRevocationsResponse {
    let duration = |span: Span| {
        Some(prost_types::Duration {
            seconds: span.seconds().try_into().unwrap(),
            nanos: ((span.micros() % 1_000_000) * 1_000).try_into().unwrap(),
        })
    };
    heard(Heard::Subscribed(Subscribed {
        broker_instance: InstanceId::new(9).to_string(),
        broker_name: "b".to_owned(),
        partitions: PARTITIONS,
        delta_max: duration(Span::from_seconds(30)),
        drift_ppm: 10_000,
        keep_alive_interval: duration(Span::from_millis(200)),
        store,
    }))
}

pub(super) fn position(partition: u32, millis: u64) -> FeedPosition {
    FeedPosition { partition, incarnation: INCARNATION, stamp: INCARNATION + millis * 1_000 }
}

pub(super) fn revoked(
    partition: u32,
    entries: impl IntoIterator<Item = Entry>,
    up_to: Option<u64>,
) -> WatchRevocationsResponse {
    let entry = |entry| RevocationEntry { entry: Some(entry), keep_until: 0 };
    let entries = entries.into_iter().map(entry).collect();
    let position = up_to.map(|millis| position(partition, millis));
    heard(Heard::Revocations(Revocations { partition, entries, position }))
}

pub(super) fn freshness(
    sequence: u64,
    age: Span,
    positions: &[FeedPosition],
) -> WatchRevocationsResponse {
    heard(Heard::Freshness(Freshness {
        sequence,
        age: Some(prost_types::Duration {
            seconds: age.seconds().try_into().unwrap(),
            nanos: ((age.micros() % 1_000_000) * 1_000).try_into().unwrap(),
        }),
        positions: positions.to_vec(),
        store_time: at(0).wall.micros(),
    }))
}

pub(super) fn incarnation(incarnation: u64, last_stamp: u64) -> Entry {
    Entry::End(IncarnationEnd { incarnation, last_stamp })
}

pub(super) fn fence(n: u128, epoch: u64, branch: u64) -> Entry {
    Entry::Fence(TaskFence { task_id: task(n).to_string(), epoch, branch })
}

pub(super) fn watermark(scope: &Scope, millis: u64) -> Entry {
    Entry::Watermark(ScopeWatermark {
        reach: scope.reach().0.to_vec(),
        incarnation: INCARNATION,
        stamp: INCARNATION + millis * 1_000,
    })
}
