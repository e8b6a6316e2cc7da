//! What issuing costs beside what it cannot do without.
//!
//! ```text
//!  efficiency = (t_echo + t_sign + t_commit) / t_issue        t: processor time of one operation, at saturation
//! ```
//!
//! Processor time is that of this process (CLOCK_PROCESS_CPUTIME_ID) and of every thread of redis-server (/proc), user and
//! kernel, divided by the operations that were done; waiting for a disk is in the latencies and not in it.

use std::time::Duration;

use leasehold::testing::redis::RedisServer;
use tokio_util::sync::CancellationToken;

use crate::commits::{Disk, Server};
use crate::echo::{self, Echo};
use crate::load::{self, Caller, Measured};
use crate::meter::Meter;
use crate::report::{Floors, Report};
use crate::sign::Signer;
use crate::world::{Sizes, World};
use crate::{Outcome, Scale};

const IN_FLIGHT: [usize; 3] = [1, 8, 64];

/// On both stores.
pub(crate) async fn measure(scale: Scale, report: &mut Report) -> Outcome<()> {
    let watch = scale.watch;
    report.begin_rows(watch);
    let meter = Meter::default();
    let world = World::start(None).await?;
    let sizes = world.sizes().await?;
    let echo = echo(&world, sizes, watch, report).await?;
    report.gap();
    let signer = vec![Signer::new(sizes.signed)?];
    let sign = row("ES256 signature, bare", signer, (&meter, watch), report).await?;
    report.gap();
    let disk = Disk::open()?;
    let mut commit = None;
    for in_flight in IN_FLIGHT {
        let callers = disk.callers(in_flight)?;
        commit = Some(row("embedded commit, bare", callers, (&meter, watch), report).await?);
    }
    disk.remove()?;
    let floors = Floors { echo, sign, commit: commit.ok_or("nothing was committed")? };
    let issue = issue("issue, embedded store", &world, (&meter, watch), report).await?;
    report.efficiency("embedded", floors, issue);
    world.end().await;
    report.gap();
    on_redis(floors, watch, report).await
}

async fn on_redis(floors: Floors, watch: Duration, report: &mut Report) -> Outcome<()> {
    let server = RedisServer::durable();
    let meter = Meter::with_redis(&server)?;
    let bare = Server::connect(&server).await?;
    let mut commit = None;
    for in_flight in IN_FLIGHT {
        let callers = bare.callers(in_flight)?;
        commit = Some(row("Redis commit, bare", callers, (&meter, watch), report).await?);
    }
    server.command(&["FLUSHALL"]);
    let floors = Floors { commit: commit.ok_or("nothing was committed")?, ..floors };
    let world = World::start(Some(&server)).await?;
    let issue = issue("issue, Redis store", &world, (&meter, watch), report).await?;
    report.efficiency("Redis", floors, issue);
    world.end().await;
    report.gap();
    Ok(())
}

/// The processor time of an echo at saturation.
async fn echo(
    world: &World,
    sizes: Sizes,
    watch: Duration,
    report: &mut Report,
) -> Outcome<Duration> {
    let stop = CancellationToken::new();
    let address = echo::start(&world.playground, sizes.response, stop.clone()).await?;
    let channels = world.connections(address).await?;
    let (meter, mut machine_time) = (Meter::default(), Duration::ZERO);
    for in_flight in IN_FLIGHT {
        let callers = channels.iter().cycle().take(in_flight);
        let callers =
            callers.map(|channel| Echo::new(channel.clone(), sizes.request, sizes.response));
        let what = "mTLS gRPC echo, bare";
        machine_time = row(what, callers.collect(), (&meter, watch), report).await?;
    }
    stop.cancel();
    Ok(machine_time)
}

/// The processor time of issuing at saturation.
async fn issue(
    what: &str,
    world: &World,
    how: (&Meter, Duration),
    report: &mut Report,
) -> Outcome<Duration> {
    let mut machine_time = Duration::ZERO;
    for in_flight in IN_FLIGHT {
        let callers = world.callers(in_flight).await?;
        machine_time = row(what, callers, how, report).await?;
    }
    Ok(machine_time)
}

async fn row(
    what: &str,
    callers: Vec<impl Caller>,
    (meter, watch): (&Meter, Duration),
    report: &mut Report,
) -> Outcome<Duration> {
    let measured: Measured = load::run(callers, meter, watch).await?;
    report.row(what, &measured);
    Ok(measured.machine_time)
}
