//! From the call of `complete` to the last of ten verifiers refusing, beside one round trip to the store and one on the feed.
//!
//! The floors, the bare commit of `commits` and a keep-alive, are taken before each ending, while nothing else happens. Each
//! verifier checks the token whenever its view changes. `complete` waits for FENCED, as it does if nothing is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::yield_now;

use leasehold::proto::v1::{Enforcement, Revocation};
use leasehold::testing::redis::RedisServer;
use rustix::process::setpriority_process;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, block_in_place};
use tokio::time::Instant;

use crate::calls::{Agent, Orchestrator};
use crate::commits::{Disk, Server};
use crate::load::Caller;
use crate::probe::Probe;
use crate::report::{Report, Times};
use crate::verifiers::Verifiers;
use crate::world::World;
use crate::{Outcome, Scale};

const VERIFIERS: usize = 10;
/// Requests for tokens that are in flight during a flood.
const FLOOD: usize = 64;
/// By how much their threads give way.
const CALLERS_NICE: i32 = 10;
/// What p99 should be at most: of the floors, and of what it is while nothing else happens.
const AIM: f64 = 3.0;
const AIM_IN_FLOOD: f64 = 2.0;

/// On both stores.
pub(crate) async fn measure(scale: Scale, report: &mut Report) -> Outcome<()> {
    let disk = Disk::open()?;
    let floor = disk.callers(1)?.pop().ok_or("no caller")?;
    on("embedded", &World::start(None).await?, floor, (scale, report)).await?;
    disk.remove()?;
    let server = RedisServer::durable();
    let floor = Server::connect(&server).await?.callers(1)?.pop().ok_or("no caller")?;
    on("Redis", &World::start(Some(&server)).await?, floor, (scale, report)).await
}

async fn on(
    store: &str,
    world: &World,
    mut floor: impl Caller,
    (scale, report): (Scale, &mut Report),
) -> Outcome<()> {
    report.begin_part(&format!("Endings, {store} store, {VERIFIERS} verifiers"));
    let to_all = Probe::to_all(world, VERIFIERS, scale.endings).await?;
    let mut stage = Stage::open(world).await?;
    let probe = Probe::open(world).await?;
    world.settled().await;
    let (mut commits, mut keep_alives) = (Times::default(), Times::default());
    let mut idle = Ended::NONE;
    for _ in 0..scale.endings {
        let began = Instant::now();
        floor.run().await?;
        commits.add(began.elapsed());
        keep_alives.add(probe.round_trip().await?);
        stage.complete(&mut idle).await?;
    }
    report.times("bare commit", &commits);
    report.times("keep-alive and its answer", &keep_alives);
    report.times("ten at once, to the last answer", &to_all);
    report.times("complete, to the first verifier refusing", &idle.first);
    report.times("complete, to the last verifier refusing", &idle.refused);
    report.times("complete, to its answer: FENCED", &idle.answered);
    let floors = commits.p99() + keep_alives.p99();
    report.ratio("p99 to refusing, by p99 of both floors", idle.refused.p99(), floors, Some(AIM));
    let floors = commits.p50() + keep_alives.p50();
    report.ratio("p50 to refusing, by p50 of both floors", idle.refused.p50(), floors, None);
    let flood = Flood::begin(world).await?;
    let mut flooded = Ended::NONE;
    for _ in 0..scale.endings {
        stage.complete(&mut flooded).await?;
    }
    let per_second = flood.end().await?;
    report.times("in a flood, to the last verifier refusing", &flooded.refused);
    report.times("in a flood, to its answer: FENCED", &flooded.answered);
    let (flooded, idle) = (flooded.refused.p99(), idle.refused.p99());
    report.ratio("p99 in a flood, by p99 idle", flooded, idle, Some(AIM_IN_FLOOD));
    report.value("tokens issued in the flood", per_second, "per s", None);
    report.gap();
    Ok(())
}

/// Verifiers, and those who begin, hold and end tasks.
pub(crate) struct Stage {
    verifiers: Verifiers,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) agent: Agent,
}

/// How long endings took.
pub(crate) struct Ended {
    /// From the call to the first verifier refusing.
    first: Times,
    /// From the call to the last verifier refusing.
    pub(crate) refused: Times,
    /// From the call to its answer.
    pub(crate) answered: Times,
}

impl Ended {
    pub(crate) const NONE: Self =
        Self { first: Times::NONE, refused: Times::NONE, answered: Times::NONE };
}

impl Stage {
    pub(crate) async fn open(world: &World) -> Outcome<Self> {
        Ok(Self {
            verifiers: Verifiers::start(world, VERIFIERS).await?,
            orchestrator: world.orchestrator().await?,
            agent: world.callers(1).await?.pop().ok_or("no agent")?,
        })
    }

    /// Begins a task, issues a token, and completes the task.
    async fn complete(&mut self, ended: &mut Ended) -> Outcome<()> {
        let task = self.orchestrator.begin().await?;
        let token = self.agent.of(task.clone()).issue().await?;
        let mut orchestrator = self.orchestrator.clone();
        self.end(&token, orchestrator.complete(&task, Enforcement::Fenced), ended).await
    }

    /// Ends something that the token is of.
    pub(crate) async fn end(
        &self,
        token: &str,
        ending: impl Future<Output = Outcome<Revocation>>,
        ended: &mut Ended,
    ) -> Outcome<()> {
        let watched = self.verifiers.watch(token)?;
        let called = Instant::now();
        let revocation = ending.await?;
        ended.answered.add(called.elapsed());
        if revocation.enforcement() != Enforcement::Fenced {
            return Err("the ending was answered before it was FENCED".into());
        }
        let [first, last] = watched.all_refused().await?;
        ended.first.add(first - called);
        ended.refused.add(last - called);
        Ok(())
    }
}

/// Agents that ask for tokens without end, on threads of their own, which give way to the broker's and the verifiers': in life they
/// are other machines.
struct Flood {
    began: Instant,
    asking: JoinSet<Outcome<()>>,
    issued: Arc<AtomicU32>,
    threads: Runtime,
}

impl Flood {
    async fn begin(world: &World) -> Outcome<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.on_thread_start(|| {
            // Where it is refused the broker and its callers take turns, and the figures are worse.
            let _ = setpriority_process(None, CALLERS_NICE);
        });
        let threads = builder.thread_name("flood").enable_all().build()?;
        // A connection belongs to the runtime that it is made on.
        let callers = block_in_place(|| threads.block_on(world.callers(FLOOD)))?;
        let (mut asking, issued) = (JoinSet::new(), Arc::<AtomicU32>::default());
        for mut agent in callers {
            let issued = Arc::clone(&issued);
            let asks = async move {
                loop {
                    agent.run().await?;
                    // A low priority alone does not: whoever has a core keeps it until the system's clock ticks.
                    yield_now();
                    issued.fetch_add(1, Ordering::Relaxed);
                }
            };
            asking.spawn_on(asks, threads.handle());
        }
        Ok(Self { began: Instant::now(), asking, issued, threads })
    }

    /// How many tokens it got in a second.
    async fn end(mut self) -> Outcome<f64> {
        let per_second =
            f64::from(self.issued.load(Ordering::Relaxed)) / self.began.elapsed().as_secs_f64();
        self.asking.abort_all();
        while let Some(asked) = self.asking.join_next().await {
            // Those that were aborted end with an error of their own.
            if let Ok(asked) = asked {
                asked?;
            }
        }
        self.threads.shutdown_background();
        Ok(per_second)
    }
}
