//! A task with a million living leases: what they take up, what a restart takes, and what it takes to end the task.
//!
//! Every lease is issued by the broker to an agent that asks for it. A restart is that of the broker, in this process: from before it
//! reads its store to the token of an agent that connected anew; Redis runs on. Endings are advances, since a task can be
//! advanced again and again: the same one write. Each has its own task's token refused by ten verifiers, as in `endings`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leasehold::domain::time::Span;
use leasehold::playground::Workload;
use leasehold::proto::v1::Enforcement;
use leasehold::testing::redis::RedisServer;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::calls::Agent;
use crate::endings::{Ended, Stage};
use crate::report::{Report, Times};
use crate::stored::{self, Kinds};
use crate::world::{PER_CONNECTION, Stopped, World};
use crate::{Outcome, Scale};

/// They outlive the measurement.
const TTL: Span = Span::from_seconds(3_600);
const IN_FLIGHT: usize = 64;
const SOME: usize = 1_000;
const RESTARTS: usize = 5;
/// Endings of each task, for so many of `endings`.
const FEWER: usize = 4;

const AIM_BYTES: f64 = 400.0;
const AIM_ENDING: f64 = 1.2;
const AIM_RESTART_EMBEDDED: f64 = 5.0;
const AIM_RESTART_REDIS: f64 = 1.0;

/// On both stores.
pub(crate) async fn measure(scale: Scale, report: &mut Report) -> Outcome<()> {
    on("embedded", None, AIM_RESTART_EMBEDDED, (scale, report)).await?;
    let server = RedisServer::durable();
    on("Redis", Some(&server), AIM_RESTART_REDIS, (scale, report)).await
}

async fn on(
    store: &str,
    server: Option<&RedisServer>,
    aim: f64,
    (scale, report): (Scale, &mut Report),
) -> Outcome<()> {
    report.begin_part(&format!("Leases, {store} store: a task with {} that live", scale.leases));
    let world = World::with_ttl(server, Some(TTL)).await?;
    let [one, some, many] = tasks(&world, [1, SOME.min(scale.leases)]).await?;
    let before = Memory::now(server)?;
    let began = Instant::now();
    fill(&world, &many, scale.leases).await?;
    let took = began.elapsed().as_secs_f64();
    report.value("issued", f64::from(u32::try_from(scale.leases)?) / took, "per s", None);
    let after = Memory::now(server)?;
    let folder = world.store_dir();
    let stopped = world.stop().await;
    bytes(server, folder.as_deref(), (before, after), (scale.leases, report))?;
    let world = restarts(stopped, &many, aim, report).await?;
    endings(&world, [one, some, many], (scale, report)).await?;
    world.end().await;
    report.gap();
    Ok(())
}

/// Tasks with so many leases, and one that has none yet.
async fn tasks(world: &World, leases: [usize; 2]) -> Outcome<[String; 3]> {
    let mut orchestrator = world.orchestrator().await?;
    let mut tasks = [const { String::new() }; 3];
    for (task, count) in tasks.iter_mut().zip(leases.into_iter().chain([0])) {
        *task = orchestrator.begin().await?;
        fill(world, task, count).await?;
    }
    Ok(tasks)
}

/// Has so many tokens issued.
async fn fill(world: &World, task: &str, mut count: usize) -> Outcome<()> {
    while count > 0 {
        let some = count.min(PER_CONNECTION);
        let channels = world.connections(world.address()).await?;
        let agents = channels.into_iter().map(|channel| Agent::new(channel, task.to_owned()));
        fill_some(agents.collect(), some).await?;
        count -= some;
    }
    Ok(())
}

async fn fill_some(agents: Vec<Agent>, count: usize) -> Outcome<()> {
    let (mut asking, taken) = (JoinSet::new(), Arc::<AtomicUsize>::default());
    for agent in agents.iter().cycle().take(IN_FLIGHT.min(count)) {
        let (mut agent, taken) = (agent.clone(), Arc::clone(&taken));
        asking.spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < count {
                agent.issue().await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked??;
    }
    Ok(())
}

/// What is in memory, in bytes.
#[derive(Clone, Copy)]
struct Memory {
    process: f64,
    redis: f64,
}

impl Memory {
    fn now(server: Option<&RedisServer>) -> Outcome<Self> {
        let redis = server.map_or(Ok(0.0), stored::redis_bytes)?;
        Ok(Self { process: stored::process_bytes()?, redis })
    }
}

/// For each lease, by part.
fn bytes(
    server: Option<&RedisServer>,
    folder: Option<&Path>,
    (before, after): (Memory, Memory),
    (leases, report): (usize, &mut Report),
) -> Outcome<()> {
    // Those of the other tasks lie there too.
    let all = f64::from(u32::try_from(leases + 1 + SOME.min(leases))?);
    let leases = f64::from(u32::try_from(leases)?);
    let each = |bytes: f64| bytes / all;
    let parts = |kinds: &Kinds, report: &mut Report| {
        for (kind, held) in kinds.iter().filter(|(_, held)| each(held.bytes) >= 1.0) {
            report.value(&format!("bytes for each lease: `{kind}`"), each(held.bytes), "B", None);
        }
    };
    match (server, folder) {
        (Some(server), _) => {
            parts(&stored::of_redis(server)?, report);
            let what = "bytes for each lease: redis-server, all in all";
            report.value(what, (after.redis - before.redis) / leases, "B", Some(AIM_BYTES));
        }
        (None, Some(folder)) => {
            let kinds = stored::of_folder(folder)?;
            parts(&kinds, report);
            let rows = kinds.values().map(|held| held.bytes).sum();
            report.value(
                "bytes for each lease: rows, all in all",
                each(rows),
                "B",
                Some(AIM_BYTES),
            );
            let disk = stored::disk_bytes(folder)?;
            report.value("bytes for each lease: files, as they are now", each(disk), "B", None);
        }
        (None, None) => {}
    }
    for (when, bytes) in [("before", before.process), ("with all leases", after.process)] {
        let what = format!("memory of broker and callers, {when}");
        report.value(&what, bytes / 1e6, "MB", None);
    }
    Ok(())
}

/// Starts the broker again and again, and has an agent ask for a token.
async fn restarts(
    mut stopped: Stopped,
    task: &str,
    aim: f64,
    report: &mut Report,
) -> Outcome<World> {
    let mut times = Times::default();
    loop {
        let began = Instant::now();
        let world = stopped.start().await?;
        let channel = world.connect(Workload::Summarizer, world.address()).await?;
        Agent::new(channel, task.to_owned()).issue().await?;
        times.add(began.elapsed());
        if times.len() == RESTARTS {
            let worst = times.p99().as_secs_f64();
            report.value("restart to first issue, the longest of five", worst, "s", Some(aim));
            return Ok(world);
        }
        stopped = world.stop().await;
    }
}

/// Advances the three tasks in turn.
async fn endings(
    world: &World,
    tasks: [String; 3],
    (scale, report): (Scale, &mut Report),
) -> Outcome<()> {
    let stage = Stage::open(world).await?;
    world.settled().await;
    let mut ended = [const { Ended::NONE }; 3];
    for epoch in 1..=u64::try_from(scale.endings.div_ceil(FEWER))? {
        for (task, ended) in tasks.iter().zip(&mut ended) {
            let token = stage.agent.of(task.clone()).issue().await?;
            let mut orchestrator = stage.orchestrator.clone();
            let ending = orchestrator.advance(task, epoch, Enforcement::Fenced);
            stage.end(&token, ending, ended).await?;
        }
    }
    let counts = [1, SOME.min(scale.leases), scale.leases];
    for (count, ended) in counts.iter().zip(&ended) {
        let what = format!("ending, {count} leases, to the last verifier refusing");
        report.times(&what, &ended.refused);
    }
    let [one, some, many] = ended.map(|ended| ended.refused.p50());
    let [_, thousand, million] = counts;
    report.ratio(&format!("p50 with {thousand} leases, by 1"), some, one, Some(AIM_ENDING));
    report.ratio(&format!("p50 with {million} leases, by 1"), many, one, Some(AIM_ENDING));
    Ok(())
}
