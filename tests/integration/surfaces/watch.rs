//! WatchTask over real sockets: what a watcher is told and when, by whichever broker, and what ends its stream.

use std::time::Duration;

use leasehold::domain::time::Span;
use leasehold::jose::SigningKey;
use leasehold::proto::v1;
use leasehold::proto::v1::task_service_client::TaskServiceClient;
use leasehold::testing::redis::RedisServer;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::site::{
    AGENT, AUDIENCE, GRANT, ORCHESTRATOR, OTHER_AGENT, OTHER_ORCHESTRATOR, SVID_LIFE, Site, reason,
    request_id, token_request,
};

/// No fact takes longer to come true.
const PATIENCE: Duration = Duration::from_secs(20);
const SECOND: Span = Span::from_seconds(1);
/// As many as a principal may have at one broker.
const WATCHES_OF_A_PRINCIPAL: usize = 1_024;
/// Streams that fit into one connection.
const STREAMS_OF_A_CONNECTION: usize = 256;

struct Watch(Streaming<v1::WatchTaskResponse>);

impl Watch {
    async fn open(site: &Site, spiffe_id: &str, task: &v1::Task) -> Result<Self, Status> {
        Self::over(&mut site.tasks(spiffe_id), task).await
    }

    async fn over(tasks: &mut TaskServiceClient<Channel>, task: &v1::Task) -> Result<Self, Status> {
        Ok(Self(tasks.watch_task(request(task)).await?.into_inner()))
    }

    /// What is told next; `None`: it ended in good order.
    async fn next(&mut self) -> Result<Option<v1::Task>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.0.message());
        next.await.expect("nothing came").map(|told| told.and_then(|told| told.task))
    }

    async fn told(&mut self) -> v1::Task {
        self.next().await.unwrap().expect("it ended")
    }

    async fn ends_as(&mut self, state: v1::TaskState) -> v1::Task {
        let last = self.told().await;
        assert_eq!(last.state(), state);
        assert_eq!(self.next().await.unwrap(), None, "nothing comes after the end");
        last
    }

    async fn refusal(&mut self) -> (Code, String) {
        let refusal = self.next().await.unwrap_err();
        (refusal.code(), reason(&refusal))
    }
}

fn request(task: &v1::Task) -> v1::WatchTaskRequest {
    v1::WatchTaskRequest { task_id: task.task_id.clone() }
}

async fn advance(site: &Site, task: &v1::Task, change: impl FnOnce(&mut v1::AdvanceTaskRequest)) {
    let mut request = v1::AdvanceTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        expected_epoch: site.get(task).await.epoch,
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    change(&mut request);
    site.tasks(ORCHESTRATOR).advance_task(request).await.unwrap();
}

async fn suspend(site: &Site, task: &v1::Task) {
    let request = v1::SuspendTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        reason: "wait a moment".into(),
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    site.tasks(ORCHESTRATOR).suspend_task(request).await.unwrap();
}

async fn resume(site: &Site, task: &v1::Task) {
    let request = v1::ResumeTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        expected_epoch: site.get(task).await.epoch,
    };
    site.tasks(ORCHESTRATOR).resume_task(request).await.unwrap();
}

async fn complete(site: &Site, task: &v1::Task) {
    let request = v1::CompleteTaskRequest {
        request_id: request_id(),
        task_id: task.task_id.clone(),
        reason: "the books are closed".into(),
        wait_for: v1::Enforcement::Recorded.into(),
        ..Default::default()
    };
    site.tasks(ORCHESTRATOR).complete_task(request).await.unwrap();
}

async fn delegate(site: &Site, parent: &v1::Task, agent: &str) -> v1::Task {
    let request = v1::DelegateTaskRequest {
        request_id: request_id(),
        parent_task_id: parent.task_id.clone(),
        expected_epoch: parent.epoch,
        agent: agent.into(),
        authorization_details: GRANT.into(),
        heartbeat_interval: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..Default::default()
    };
    let answer = site.tasks(ORCHESTRATOR).delegate_task(request).await.unwrap();
    answer.into_inner().task.unwrap()
}

#[tokio::test]
async fn a_watcher_is_told_the_task_as_it_is_then_each_change_then_its_end() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut watch = Watch::open(&site, AGENT, &task).await.unwrap();
    assert_eq!(watch.told().await, site.get(&task).await);
    advance(&site, &task, |request| request.step = Some("2 of 3".into())).await;
    let told = watch.told().await;
    assert_eq!((told.epoch, told.step.as_str()), (2, "2 of 3"));
    suspend(&site, &task).await;
    let told = watch.told().await;
    assert_eq!((told.state(), told.epoch), (v1::TaskState::Suspended, 3));
    assert_eq!(told.reason, "wait a moment");
    resume(&site, &task).await;
    assert_eq!(watch.told().await.state(), v1::TaskState::Active);
    complete(&site, &task).await;
    let last = watch.ends_as(v1::TaskState::Completed).await;
    assert_eq!(last, site.get(&task).await);
    assert_eq!(last.reason, "the books are closed");
}

#[tokio::test]
async fn a_task_that_has_ended_is_told_once() {
    let site = Site::start().await;
    let task = site.begin().await;
    complete(&site, &task).await;
    let mut watch = Watch::open(&site, ORCHESTRATOR, &task).await.unwrap();
    watch.ends_as(v1::TaskState::Completed).await;
}

#[tokio::test]
async fn class_05_what_happens_to_an_ancestor_reaches_whoever_watches_below() {
    let site = Site::start().await;
    let root = site.begin().await;
    let middle = delegate(&site, &root, AGENT).await;
    let leaf = delegate(&site, &middle, OTHER_AGENT).await;
    let mut watch = Watch::open(&site, OTHER_AGENT, &leaf).await.unwrap();
    assert_eq!(watch.told().await.state(), v1::TaskState::Active);
    suspend(&site, &root).await;
    let told = watch.told().await;
    assert_eq!((told.state(), &told.cause_task_id), (v1::TaskState::Suspended, &root.task_id));
    resume(&site, &root).await;
    assert_eq!(watch.told().await.state(), v1::TaskState::Active);
    complete(&site, &root).await;
    let last = watch.ends_as(v1::TaskState::Cancelled).await;
    assert_eq!(last.cause_task_id, root.task_id);
}

#[tokio::test]
async fn an_advance_above_is_told_below_where_it_ends_what_is_there_and_not_where_it_keeps_it() {
    let site = Site::start().await;
    let root = site.begin().await;
    let child = delegate(&site, &root, OTHER_AGENT).await;
    let mut watch = Watch::open(&site, OTHER_AGENT, &child).await.unwrap();
    watch.told().await;
    // Neither is a change of the child, though its record was written.
    let (request_id, task_id) = (request_id(), child.task_id.clone());
    let heartbeat = v1::HeartbeatRequest { request_id, task_id };
    site.tasks(ORCHESTRATOR).heartbeat(heartbeat).await.unwrap();
    advance(&site, &root, |request| request.keep_children = true).await;
    // Had that been told, it would be what comes next.
    advance(&site, &child, |_| {}).await;
    assert_eq!(watch.told().await.epoch, 2);
    advance(&site, &root, |_| {}).await;
    watch.ends_as(v1::TaskState::Cancelled).await;
}

#[tokio::test]
async fn what_is_said_of_credentials_alone_is_not_told() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut watch = Watch::open(&site, ORCHESTRATOR, &task).await.unwrap();
    watch.told().await;
    let lease_id = site.issue(&task).await.lease.unwrap().lease_id;
    let request = v1::ReleaseCredentialRequest { request_id: request_id(), lease_id };
    site.credentials(AGENT).release_credential(request).await.unwrap();
    complete(&site, &task).await;
    watch.ends_as(v1::TaskState::Completed).await;
}

#[tokio::test]
async fn a_broker_that_changed_nothing_itself_tells_what_another_did() {
    let server = RedisServer::durable();
    let (site, other) = tokio::join!(Site::start_on_redis(&server), Site::start_on_redis(&server));
    let root = site.begin().await;
    let child = delegate(&site, &root, OTHER_AGENT).await;
    let mut watch = Watch::open(&other, ORCHESTRATOR, &root).await.unwrap();
    let mut below = Watch::open(&other, OTHER_AGENT, &child).await.unwrap();
    assert_eq!((watch.told().await.epoch, below.told().await.epoch), (1, 1));
    advance(&site, &root, |request| request.keep_children = true).await;
    assert_eq!(watch.told().await.epoch, 2);
    complete(&site, &root).await;
    watch.ends_as(v1::TaskState::Completed).await;
    below.ends_as(v1::TaskState::Cancelled).await;
}

#[tokio::test]
async fn the_deadline_ends_a_watch_in_good_order() {
    let site = Site::start().await;
    let short = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let task = site.begin_with(|request| request.duration = short).await;
    let mut watch = Watch::open(&site, ORCHESTRATOR, &task).await.unwrap();
    watch.told().await;
    site.clock.forward(Span::from_seconds(60));
    site.clock.forward(SECOND);
    watch.ends_as(v1::TaskState::Expired).await;
}

#[tokio::test]
async fn a_watcher_that_is_slow_is_told_the_newest_and_never_anything_older() {
    let site = Site::start().await;
    // Each message is a large one: what the transport takes ahead is soon full.
    let actions: Vec<_> = (0..60).map(|n| format!("{n:0200}")).collect();
    let grant =
        serde_json::json!([{"type": "resource_access", "audience": AUDIENCE, "actions": actions}]);
    let task = site.begin_with(|request| request.authorization_details = grant.to_string()).await;
    let mut watch = Watch::open(&site, ORCHESTRATOR, &task).await.unwrap();
    for _ in 0..300 {
        advance(&site, &task, |request| request.checkpoint = Some(vec![7; 4_096])).await;
    }
    complete(&site, &task).await;
    let mut epochs = Vec::new();
    while let Some(told) = watch.next().await.unwrap() {
        epochs.push((told.epoch, told.state() == v1::TaskState::Completed));
    }
    assert!(epochs.is_sorted_by(|one, next| one < next), "{epochs:?}");
    assert_eq!(epochs.last(), Some(&(301, true)));
    assert!(epochs.len() < 300, "nothing queues up: {}", epochs.len());
}

#[tokio::test]
async fn class_03_who_may_not_get_a_task_is_told_the_same_by_its_watch_and_so_is_who_no_longer_may()
{
    let site = Site::start().await;
    let task = site.begin().await;
    let mut stranger = site.tasks(OTHER_ORCHESTRATOR);
    let get = v1::GetTaskRequest { task_id: task.task_id.clone() };
    let got = stranger.get_task(get).await.unwrap_err();
    let watched = stranger.watch_task(request(&task)).await.unwrap_err();
    let seen =
        |status: &Status| (status.code(), status.message().to_owned(), status.details().to_vec());
    assert_eq!(seen(&got), seen(&watched));
    let mut watch = Watch::open(&site, AGENT, &task).await.unwrap();
    watch.told().await;
    advance(&site, &task, |request| request.agent = Some(OTHER_AGENT.into())).await;
    assert_eq!(seen(&watch.next().await.unwrap_err()), seen(&got), "it is another's now");
}

#[tokio::test]
async fn class_09_a_watch_ends_with_the_certificate_of_its_caller() {
    let site = Site::start().await;
    let long = prost_types::Duration { seconds: 36_000, nanos: 0 };
    let task = site.begin_with(|request| request.duration = Some(long)).await;
    let mut watch = Watch::open(&site, ORCHESTRATOR, &task).await.unwrap();
    watch.told().await;
    site.clock.forward(SVID_LIFE);
    site.clock.forward(SECOND);
    assert_eq!(watch.refusal().await, (Code::Unauthenticated, "IDENTITY_UNVERIFIED".into()));
}

#[tokio::test]
async fn class_09_a_watch_ends_when_a_bundle_no_longer_vouches_for_its_caller() {
    let site = Site::start().await;
    let task = site.begin().await;
    let bearer = vec![format!("Bearer {}", site.jwt_svid(ORCHESTRATOR))];
    let watched = site.with_authorization(None, bearer).watch_task(request(&task)).await.unwrap();
    let mut watch = Watch(watched.into_inner());
    watch.told().await;
    site.replace_bundle(&[&SigningKey::generate().unwrap().0]);
    assert_eq!(watch.refusal().await, (Code::Unauthenticated, "IDENTITY_UNVERIFIED".into()));
}

#[tokio::test]
async fn a_broker_that_stops_tells_watchers_to_connect_again() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut watch = Watch::open(&site, ORCHESTRATOR, &task).await.unwrap();
    watch.told().await;
    let stopping = tokio::spawn(site.running.stop());
    let stopped = watch.next().await.unwrap_err();
    assert_eq!(stopped.code(), Code::Unavailable);
    assert!(stopped.message().contains("connect to another one, or again"), "{stopped}");
    stopping.await.unwrap();
}

#[tokio::test]
async fn class_15_no_principal_takes_every_watch_and_one_that_is_over_makes_room() {
    let site = Site::start().await;
    let task = site.begin().await;
    let mut open = Vec::new();
    for _ in 0..WATCHES_OF_A_PRINCIPAL / STREAMS_OF_A_CONNECTION {
        let mut tasks = site.tasks(ORCHESTRATOR);
        for _ in 0..STREAMS_OF_A_CONNECTION {
            open.push(Watch::over(&mut tasks, &task).await.unwrap());
        }
    }
    let mut more = site.tasks(ORCHESTRATOR);
    let refused = more.watch_task(request(&task)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "RATE_LIMITED")
    );
    assert!(refused.message().contains("1024 watches"), "{refused}");
    // Another principal is not concerned, and neither is another call.
    Watch::open(&site, AGENT, &task).await.unwrap();
    site.credentials(AGENT).issue_credential(token_request(&task)).await.unwrap();
    open.pop();
    let again = async { while Watch::over(&mut more, &task).await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    complete(&site, &task).await;
    for mut watch in open {
        watch.told().await;
        watch.ends_as(v1::TaskState::Completed).await;
    }
}
