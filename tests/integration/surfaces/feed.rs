//! The feed over real sockets: what a verifier is told, what its acknowledgement does, and what ends its stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::poll_fn;
use leasehold::broker::seams::{Clock, SystemEntropy};
use leasehold::domain::feed::{Drift, InstanceId, Progress, Registry};
use leasehold::domain::id::{LeaseId, Partition, TaskId};
use leasehold::domain::lattice;
use leasehold::domain::path::Origin;
use leasehold::domain::time::{Span, Stamp};
use leasehold::feed::hub::QUEUE_MOST;
use leasehold::feed::{Confirmed, Outcome, WaitFor};
use leasehold::proto::v1;
use leasehold::proto::v1::operator_service_client::OperatorServiceClient;
use leasehold::proto::v1::revocation_entry::Entry;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::proto::v1::watch_revocations_request::Message as Say;
use leasehold::proto::v1::watch_revocations_response::Message as Told;
use leasehold::store::Constants;
use leasehold::store::redis::RedisStore;
use leasehold::testing::ca::TestAuthority;
use leasehold::testing::redis::RedisServer;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use super::http::Http;
use super::outage::until_readiness_is;
use super::site::{
    AGENT, NOBODY, OPERATOR, ORCHESTRATOR, Site, VERIFIER, begin_request, reason, request_id,
    token_request,
};

/// No fact takes longer to come true.
const PATIENCE: Duration = Duration::from_secs(20);
const DELTA: Span = Span::from_seconds(5);
const DELTA_MAX: Span = Span::from_seconds(30);

/// A verifier on the feed, by hand.
pub(super) struct Watcher {
    say: UnboundedSender<v1::WatchRevocationsRequest>,
    told: Streaming<v1::WatchRevocationsResponse>,
    sequence: u64,
    /// Changes each time that the broker has read something.
    read: watch::Receiver<Option<Arc<Registry>>>,
}

impl Watcher {
    async fn open(site: &Site, spiffe_id: &str, first: Say) -> Result<Self, Status> {
        let (say, mut said) = unbounded_channel();
        say.send(request(first)).unwrap();
        let saying = poll_fn(move |context| said.poll_recv(context));
        let told = site.verification(spiffe_id).watch_revocations(saying).await?.into_inner();
        Ok(Self { say, told, sequence: 0, read: site.running.broker.feed().registry() })
    }

    pub(super) async fn subscribe(site: &Site, instance: u128) -> Self {
        Self::subscribe_or_not(site, instance).await.unwrap()
    }

    async fn subscribe_or_not(site: &Site, instance: u128) -> Result<Self, Status> {
        let mut watcher = Self::open(site, VERIFIER, subscribe(instance)).await?;
        let Some(Told::Subscribed(subscribed)) = watcher.next().await? else {
            panic!("the first message is another")
        };
        assert_eq!(subscribed.partitions, 16);
        assert_eq!(subscribed.drift_ppm, Drift::DEFAULT.ppm());
        Ok(watcher)
    }

    pub(super) async fn next(&mut self) -> Result<Option<Told>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.told.message());
        next.await.expect("nothing came").map(|m| m.and_then(|m| m.message))
    }

    fn say(&self, message: Say) {
        self.say.send(request(message)).unwrap();
    }

    /// Asks how fresh it is until it is told, and what came before that. A broker whose own view is too old does not answer: it
    /// is asked again once it has read more.
    pub(super) async fn fresh(&mut self) -> (Vec<v1::Revocations>, v1::Freshness) {
        let mut seen = Vec::new();
        loop {
            self.sequence += 1;
            self.say(Say::KeepAlive(v1::KeepAlive { sequence: self.sequence }));
            loop {
                tokio::select! {
                    _ = self.read.changed() => break,
                    told = self.told.message() => match told.unwrap().unwrap().message.unwrap() {
                        Told::Freshness(freshness) => return (seen, freshness),
                        Told::Revocations(revocations) => seen.push(revocations),
                        Told::Subscribed(_) => panic!("twice"),
                    }
                }
            }
        }
    }

    /// Everything until the fence of a task and the position with it.
    async fn until_fenced(&mut self, task: &v1::Task) -> v1::FeedPosition {
        let mut is_there = false;
        loop {
            if let Some(Told::Revocations(told)) = self.next().await.unwrap() {
                is_there |= told.entries.iter().any(|entry| is_fence(entry, task));
                if let (true, Some(position)) = (is_there, told.position) {
                    return position;
                }
            }
        }
    }

    fn acknowledge(&self, applied: Vec<v1::FeedPosition>) {
        self.say(Say::Acknowledgement(v1::Acknowledgement { applied, drained: vec![] }));
    }

    async fn refusal(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended without a word"),
                Err(status) => return status,
            }
        }
    }
}

fn request(message: Say) -> v1::WatchRevocationsRequest {
    v1::WatchRevocationsRequest { message: Some(message) }
}

fn subscribe(instance: u128) -> Say {
    let instance = format!("{instance:032x}");
    Say::Subscribe(v1::Subscribe { instance, name: String::new(), drains: false })
}

fn is_fence(entry: &v1::RevocationEntry, task: &v1::Task) -> bool {
    matches!(&entry.entry, Some(Entry::Fence(fence)) if fence.task_id == task.task_id)
}

async fn complete(site: &Site, task: &v1::Task) {
    let request = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    site.tasks(ORCHESTRATOR).complete_task(request).await.unwrap();
}

/// What the broker knows of an ending that was written there. The clock stands still from here on.
async fn recorded(site: &Site, at: &v1::FeedPosition, task: &v1::Task) -> Confirmed {
    // No registry that was read so far counts as one that was read since.
    site.clock.forward(Span::from_millis(1));
    let partition = TaskId::parse(&task.task_id).unwrap().partition();
    let stamp = |micros| Stamp::from_micros(micros).unwrap();
    let at = Origin { incarnation: stamp(at.incarnation), stamp: stamp(at.stamp) };
    let written = BTreeMap::from([(partition, at)]);
    site.running.broker.feed().recorded(written, DELTA).await.unwrap()
}

/// How far the ending is by a registry that was read after it, and after the broker wrote there that it has applied it.
async fn progress(site: &Site, confirmed: &Confirmed) -> Progress {
    let (feed, ending) = (site.running.broker.feed(), &confirmed.ending);
    let mut registry = feed.registry();
    let is_applied = |read: &Option<Arc<Registry>>| {
        read.iter().any(|read| read.sent >= ending.recorded && ending.is_applied(read))
    };
    let reading = registry.wait_for(is_applied);
    let read = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap().clone();
    ending.judge(read.as_deref(), ending.recorded, feed.settings().terms)
}

/// Waits for FENCED. While the clock stands still, only acknowledgements bring it.
async fn fenced(site: &Site, confirmed: &Confirmed) -> Outcome {
    let feed = site.running.broker.feed();
    let enforced = feed.enforced(confirmed, WaitFor::Fenced, None, DELTA_MAX);
    tokio::time::timeout(PATIENCE, enforced).await.unwrap()
}

fn pending(progress: Progress) -> Vec<InstanceId> {
    let Progress::Pending(Some(pending)) = progress else { panic!("{progress:?}") };
    pending.into_iter().map(|pending| pending.verifier.unwrap().0).collect()
}

/// A broker whose registry is old enough to be believed.
async fn old_site() -> Site {
    let site = Site::start().await;
    site.clock.forward(Drift::DEFAULT.lapse(DELTA_MAX));
    site
}

#[tokio::test]
async fn a_verifier_is_told_the_set_then_what_happens_and_how_fresh_that_is() {
    let site = Site::start().await;
    let (before, after) = (site.begin().await, site.begin().await);
    complete(&site, &before).await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    let (set, freshness) = watcher.fresh().await;
    assert!(set.iter().flat_map(|part| &part.entries).any(|entry| is_fence(entry, &before)));
    let ends = set.iter().flat_map(|part| &part.entries).filter(|entry| {
        matches!(&entry.entry, Some(Entry::End(end)) if end.last_stamp == (1 << 53) - 1)
            && entry.keep_until == 0
    });
    assert_eq!(ends.count(), 16, "the living incarnation of each partition");
    assert_eq!(freshness.positions.len(), 16);
    complete(&site, &after).await;
    let position = watcher.until_fenced(&after).await;
    assert!(
        freshness
            .positions
            .iter()
            .all(|p| p.stamp < position.stamp || p.partition != position.partition)
    );
}

#[tokio::test]
async fn an_ending_is_fenced_as_soon_as_the_verifier_acknowledged_it() {
    let site = old_site().await;
    let task = site.begin().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    complete(&site, &task).await;
    let position = watcher.until_fenced(&task).await;
    let confirmed = recorded(&site, &position, &task).await;
    assert_eq!(pending(progress(&site, &confirmed).await), [InstanceId::new(1)]);
    watcher.acknowledge(vec![position]);
    let outcome = fenced(&site, &confirmed).await;
    assert_eq!(outcome.reached, WaitFor::Fenced, "{outcome:?}");
    assert!(outcome.pending.is_empty());
}

#[tokio::test]
async fn rule_04_a_verifier_that_is_gone_is_waited_for_until_its_freshness_has_lapsed() {
    let site = old_site().await;
    let task = site.begin().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    drop(watcher);
    // Another run of it, which acknowledges, changes nothing for the first.
    let mut next = Watcher::subscribe(&site, 2).await;
    next.fresh().await;
    complete(&site, &task).await;
    let position = next.until_fenced(&task).await;
    next.acknowledge(vec![position]);
    let confirmed = recorded(&site, &position, &task).await;
    let waited_for = pending(progress(&site, &confirmed).await);
    assert!(waited_for.contains(&InstanceId::new(1)), "{waited_for:?}");
    site.clock.forward(Drift::DEFAULT.lapse(DELTA));
    assert_eq!(fenced(&site, &confirmed).await.reached, WaitFor::Fenced);
}

#[tokio::test]
async fn what_does_not_fit_ends_the_stream_and_says_what_was_expected() {
    let site = Site::start().await;
    for (says, expected) in [
        (request(subscribe(1)), "message"),
        (request(Say::Acknowledgement(ahead())), "acknowledgement"),
        (request(Say::KeepAlive(v1::KeepAlive { sequence: 1 })), "keep_alive.sequence"),
        (v1::WatchRevocationsRequest { message: None }, "message"),
    ] {
        let mut watcher = Watcher::subscribe(&site, 7).await;
        watcher.fresh().await;
        watcher.say.send(says).unwrap();
        let refused = watcher.refusal().await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, expected);
    }
    for first in [
        Say::KeepAlive(v1::KeepAlive { sequence: 1 }),
        Say::Subscribe(v1::Subscribe { instance: "1".into(), ..Default::default() }),
    ] {
        let refused = Watcher::open(&site, VERIFIER, first).await.err().unwrap();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

fn ahead() -> v1::Acknowledgement {
    let at = v1::FeedPosition { partition: 0, incarnation: (1 << 53) - 1, stamp: (1 << 53) - 1 };
    v1::Acknowledgement { applied: vec![at], drained: vec![] }
}

#[tokio::test]
async fn class_02_only_verifiers_subscribe() {
    let site = Site::start().await;
    for caller in [AGENT, ORCHESTRATOR, NOBODY] {
        let refused = Watcher::open(&site, caller, subscribe(1)).await.err().unwrap();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "ROLE_MISSING")
        );
    }
}

#[tokio::test]
async fn class_09_a_stream_does_not_outlive_the_identity_of_its_caller() {
    let site = Site::start().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    site.clock.forward(super::site::SVID_LIFE);
    site.clock.forward(Span::from_seconds(1));
    let refused = watcher.refusal().await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "IDENTITY_UNVERIFIED")
    );
}

#[tokio::test]
async fn class_09_a_stream_ends_when_no_root_of_the_bundle_vouches_for_its_caller_any_more() {
    let site = Site::start().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    site.replace_bundle_of(&TestAuthority::root("another"), &[&site.svid_key]);
    let refused = watcher.refusal().await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "IDENTITY_UNVERIFIED")
    );
}

#[tokio::test]
async fn class_09_a_stream_ends_when_its_verifier_is_quarantined() {
    let site = Site::start().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    let request = v1::QuarantineRequest {
        request_id: request_id(),
        scope: format!("principal:{VERIFIER}"),
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    let mut operator = OperatorServiceClient::new(site.channel(Some(OPERATOR)));
    operator.quarantine(request).await.unwrap();
    let refused = watcher.refusal().await;
    assert_eq!(reason(&refused), "QUARANTINED", "{refused:?}");
    let again = Watcher::subscribe_or_not(&site, 2).await.err().unwrap();
    assert_eq!(reason(&again), "QUARANTINED", "{again:?}");
}

/// More than a stream may be behind.
const LEASES: usize = QUEUE_MOST + 1;

/// As if the broker had committed it.
fn revoke_many(site: &Site) {
    let leases = (0..LEASES).map(|n| LeaseId::new(Partition::ZERO, u128::try_from(n).unwrap()));
    let entries: Vec<_> = leases.map(lattice::Entry::Lease).collect();
    let now = site.clock.now();
    let at = Origin { incarnation: now, stamp: now };
    site.running.broker.feed().merge(Partition::ZERO, at, &entries);
}

fn leases(part: &v1::Revocations) -> usize {
    part.entries.iter().filter(|e| matches!(&e.entry, Some(Entry::LeaseId(_)))).count()
}

/// A stream is closed, and nothing on it is left out: whoever subscribes again is told all of it.
#[tokio::test]
async fn class_15_a_stream_that_does_not_keep_up_is_ended_and_the_next_one_lacks_nothing() {
    let site = Site::start().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    revoke_many(&site);
    let refused = watcher.refusal().await;
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "FELL_BEHIND")
    );
    let (set, _) = Watcher::subscribe(&site, 2).await.fresh().await;
    assert_eq!(set.iter().map(leases).sum::<usize>(), LEASES);
}

/// The set is more than the transport takes ahead, so the broker hears of it while it still has something to send.
#[tokio::test]
async fn class_15_what_a_verifier_says_is_taken_while_there_is_more_to_send() {
    let site = Site::start().await;
    revoke_many(&site);
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.say(subscribe(1));
    let mut told = 0;
    let refused = loop {
        match watcher.next().await {
            Ok(Some(Told::Revocations(part))) => told += leases(&part),
            Ok(other) => panic!("{other:?}"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(told < LEASES, "not after everything else");
}

#[tokio::test]
async fn a_stopping_broker_ends_its_streams_at_once() {
    let site = Site::start().await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    let stopping = tokio::spawn(site.running.stop());
    assert_eq!(watcher.refusal().await.code(), Code::Unavailable);
    stopping.await.unwrap();
}

#[tokio::test]
async fn class_07_while_the_store_is_away_nobody_is_told_to_be_fresh_and_afterwards_the_feed_goes_on()
 {
    let mut server = RedisServer::durable();
    let site = Site::start_on_redis(&server).await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    let (_, freshness) = watcher.fresh().await;
    server.kill();
    site.clock.forward(DELTA_MAX);
    for sequence in 1_000..1_005 {
        watcher.say(Say::KeepAlive(v1::KeepAlive { sequence }));
    }
    watcher.sequence = 1_005;
    server.restart();
    let (_, again) = watcher.fresh().await;
    assert!(again.sequence > 1_005, "what was asked meanwhile is not answered");
    let before = freshness.positions.iter().map(|p| p.incarnation).max();
    let after = again.positions.iter().map(|p| p.incarnation).min();
    assert!(after > before, "it is another incarnation");
    let task = site.begin().await;
    complete(&site, &task).await;
    watcher.until_fenced(&task).await;
}

/// Its Redis was emptied, and a store made there anew, which another broker opened.
#[tokio::test]
async fn rule_19_a_broker_that_outlives_its_store_serves_nobody_and_leaves_the_next_one_alone() {
    let server = RedisServer::durable();
    let site = Site::start_on_redis_patiently(&server, "", "").await;
    let mut watcher = Watcher::subscribe(&site, 1).await;
    watcher.fresh().await;
    let (http, verifier) = (Http::of(&site, None), Http::of(&site, Some(VERIFIER)));
    until_readiness_is(&http, 200).await;
    let task = site.begin().await;
    let issued = site.issue(&task).await.credential.unwrap().access_token;
    let form = format!("token={issued}");
    assert_eq!(verifier.post("/oauth2/introspect", &form).await.1["active"], true);
    let watch = v1::WatchTaskRequest { task_id: task.task_id.clone() };
    let mut watch = site.tasks(ORCHESTRATOR).watch_task(watch).await.unwrap().into_inner();
    watch.message().await.unwrap();

    server.command(&["FLUSHALL"]);
    let entropy = Arc::new(SystemEntropy);
    RedisStore::init(&server.settings(), Constants::DEFAULT, entropy).await.unwrap();
    let other = site.another().await;

    let refused = watcher.refusal().await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("another broker"), "{refused:?}");
    until_readiness_is(&http, 503).await;
    let refused =
        Watcher::subscribe_or_not(&site, 2).await.err().expect("there is nothing to follow");
    assert_eq!(refused.code(), Code::Unavailable);
    let is_unavailable =
        |status: Status| assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    is_unavailable(site.tasks(ORCHESTRATOR).begin_task(begin_request()).await.unwrap_err());
    is_unavailable(
        site.credentials(AGENT).issue_credential(token_request(&task)).await.unwrap_err(),
    );
    let get = v1::GetTaskRequest { task_id: task.task_id.clone() };
    is_unavailable(site.tasks(ORCHESTRATOR).get_task(get).await.unwrap_err());
    let keys = site.verification(VERIFIER).get_trust_bundle(v1::GetTrustBundleRequest {}).await;
    is_unavailable(keys.unwrap_err());
    let unwatched = tokio::time::timeout(PATIENCE, watch.message()).await;
    is_unavailable(unwatched.expect("it goes on").unwrap_err());
    assert_eq!(verifier.post("/oauth2/introspect", &form).await.0, 503);
    assert_eq!(http.post("/oauth2/revoke", &form).await.0, 503);

    let brokers = other.broker.feed().brokers_now().await.unwrap();
    let brokers: Vec<_> = brokers.iter().map(|(record, _)| record.instance).collect();
    assert_eq!(brokers, [other.broker.feed().settings().identity.instance]);
    let mut tasks = TaskServiceClient::new(site.channel_to(&other, Some(&site.svid(ORCHESTRATOR))));
    tasks.begin_task(begin_request()).await.unwrap();
    other.stop().await;

    let site = site.restart(async || {}).await;
    until_readiness_is(&Http::of(&site, None), 200).await;
    site.begin().await;
}
