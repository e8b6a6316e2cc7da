//! Tasks that began, had a token issued and were completed: what is left of them once their time is over.
//!
//! Some run and go before the first look, so that what grows once only has grown. A day passes at once: for the broker and the
//! embedded store by their clock; redis-server has its own, so the expiry of every key of it that has one is moved instead, and
//! what else a broker there waits for is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leasehold::domain::time::Span;
use leasehold::proto::v1::Enforcement;
use leasehold::testing::redis::RedisServer;
use tokio::task::JoinSet;

use crate::calls::Agent;
use crate::report::Report;
use crate::stored::{self, Kinds};
use crate::world::{PER_CONNECTION, World};
use crate::{Outcome, Scale};

/// So short that it can be waited for.
const TTL: Span = Span::from_seconds(3);
/// Longer than anything is kept: a stored answer, a lease after its end.
const DAY: Span = Span::from_seconds(25 * 3_600);
const IN_FLIGHT: usize = 64;
/// How often it is looked whether the store's files are done with.
const LOOK: Duration = Duration::from_millis(100);
/// Of the tasks, so many run before the first look.
const WARM_UP: usize = 10;
/// A sweep drops at least so many of the rows that tasks leave behind, if there are so many; and each leaves fewer than ten.
const SWEPT: usize = 4_096;
const LEFT: usize = 10;

/// What there is.
struct Look {
    kinds: Kinds,
    process: f64,
    store: f64,
}

/// On both stores.
pub(crate) async fn measure(scale: Scale, report: &mut Report) -> Outcome<()> {
    on("embedded", None, (scale, report)).await?;
    let server = RedisServer::durable();
    on("Redis", Some(&server), (scale, report)).await
}

async fn on(
    store: &str,
    server: Option<&RedisServer>,
    (scale, report): (Scale, &mut Report),
) -> Outcome<()> {
    report.begin_part(&format!("Tasks, {store} store: {} that ended", scale.tasks));
    let world = World::with_ttl(server, Some(TTL)).await?;
    let few = scale.tasks.div_ceil(WARM_UP);
    run(&world, few).await?;
    pass(&world, server, few).await?;
    let (world, before) = look(world, server).await?;
    run(&world, scale.tasks).await?;
    let (world, most) = look(world, server).await?;
    pass(&world, server, scale.tasks).await?;
    let (world, after) = look(world, server).await?;
    tell((&before, &most, &after), server.is_some(), report);
    world.end().await;
    report.gap();
    Ok(())
}

fn tell((before, most, after): (&Look, &Look, &Look), is_redis: bool, report: &mut Report) {
    let keys = |look: &Look| look.kinds.values().map(|held| held.keys).sum::<f64>();
    report.value("keys before", keys(before), "", None);
    report.value("keys at the end of the last task", keys(most), "", None);
    report.value("keys a day later", keys(after), "", None);
    for (kind, held) in &after.kinds {
        let more = held.keys - before.kinds.get(kind).map_or(0.0, |held| held.keys);
        if more > 0.0 {
            report.value(&format!("keys a day later, more than before: `{kind}`"), more, "", None);
        }
    }
    let store = if is_redis { "memory of redis-server" } else { "files of the store" };
    let mut megabytes = |what: &str, bytes: [f64; 3]| {
        for (when, bytes) in
            ["before", "at the end of the last task", "a day later"].iter().zip(bytes)
        {
            report.value(&format!("{what}, {when}"), bytes / 1e6, "MB", None);
        }
    };
    megabytes("memory of broker and callers", [before, most, after].map(|look| look.process));
    megabytes(store, [before, most, after].map(|look| look.store));
}

/// Begins tasks, has a token issued for each, and completes them.
async fn run(world: &World, mut count: usize) -> Outcome<()> {
    while count > 0 {
        let some = count.min(PER_CONNECTION);
        run_some(world, some).await?;
        count -= some;
    }
    Ok(())
}

async fn run_some(world: &World, count: usize) -> Outcome<()> {
    let channels = world.connections(world.address()).await?;
    let (mut working, taken) = (JoinSet::new(), Arc::<AtomicUsize>::default());
    let orchestrator = world.orchestrator().await?;
    for channel in channels.iter().cycle().take(IN_FLIGHT.min(count)) {
        let agent = Agent::new(channel.clone(), String::new());
        let (mut orchestrator, taken) = (orchestrator.clone(), Arc::clone(&taken));
        working.spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < count {
                let task = orchestrator.begin().await?;
                agent.of(task.clone()).issue().await?;
                orchestrator.complete(&task, Enforcement::Recorded).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(done) = working.join_next().await {
        done??;
    }
    Ok(())
}

/// Looks at all there is; of the embedded store, while its broker is stopped.
async fn look(world: World, server: Option<&RedisServer>) -> Outcome<(World, Look)> {
    let process = stored::process_bytes()?;
    if let Some(server) = server {
        let (kinds, store) = (stored::of_redis(server)?, stored::redis_bytes(server)?);
        return Ok((world, Look { kinds, process, store }));
    }
    let folder = world.store_dir().ok_or("the store has no folder")?;
    let stopped = world.stop().await;
    let (kinds, store) = (stored::of_folder(&folder)?, stored::disk_bytes(&folder)?);
    Ok((stopped.start().await?, Look { kinds, process, store }))
}

/// Lets the time of everything that ended be over, and the sweeper do its work.
async fn pass(world: &World, server: Option<&RedisServer>, tasks: usize) -> Outcome<()> {
    match server {
        None => world.clock.pass(DAY),
        Some(server) => {
            tokio::time::sleep(TTL.to_std() + Duration::from_secs(2)).await;
            stored::move_expiries(server, DAY)?;
        }
    }
    while world.broker().sweep().await?.dropped > 0 {}
    for _ in 0..=(tasks * LEFT).div_ceil(SWEPT) {
        world.broker().sweep().await?;
    }
    // The last of what was dropped leaves the files.
    while stored::is_compacting()? {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
