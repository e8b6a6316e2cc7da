//! What issuing costs beside what it cannot do without, on this machine, in one run: `make bench`.
//!
//! ```text
//!  efficiency = (t_echo + t_sign + t_commit) / t_issue        t: processor time of one operation, at saturation
//! ```
//!
//! Clients, broker and echo share one process and its runtime; `redis-server` has its own. Processor time is that of this
//! process (CLOCK_PROCESS_CPUTIME_ID) and of every thread of redis-server (/proc), user and kernel, divided by the operations
//! that were done; waiting for a disk is in the latencies and not in it. Both stores sync before they answer.

mod commits;
mod echo;
mod load;
mod meter;
mod report;
mod sign;
mod world;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use leasehold::telemetry::{self, LogFormat};
use leasehold::testing::redis::RedisServer;
use mimalloc::MiMalloc;
use tokio_util::sync::CancellationToken;

use commits::{Disk, Server};
use echo::Echo;
use load::{Caller, Measured};
use meter::Meter;
use report::{Floors, Report};
use sign::Signer;
use world::{Sizes, World};

/// The program's own, for the floors as well.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const IN_FLIGHT: [usize; 3] = [1, 8, 64];
const WATCH: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` adds `--bench`.
    if let Some(word) = words.iter().find(|word| !["--bench", "--json"].contains(&word.as_str())) {
        eprintln!("`{word}` is not known here; the report takes `--json` and nothing else");
        return ExitCode::from(2);
    }
    let report = Report::begin(words.iter().any(|word| word == "--json"), WATCH);
    match run(report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the report ends here: {error}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(mut report: Report) -> Outcome<()> {
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| "rustls has a provider already")?;
    // Logs as `serve` has them by default, so that calls pay for their spans; nobody reads them.
    let logs = telemetry::subscriber(LogFormat::Human, "info", false, std::io::sink)?;
    tracing::subscriber::set_global_default(logs)?;
    let meter = Meter::default();
    let world = World::start(None).await?;
    let sizes = world.sizes().await?;
    let echo = echo(&world, sizes, &mut report).await?;
    report.gap();
    let signer = vec![Signer::new(sizes.signed)?];
    let sign = measure("ES256 signature, bare", signer, &meter, &mut report).await?;
    report.gap();
    let disk = Disk::open()?;
    let mut commit = None;
    for in_flight in IN_FLIGHT {
        let callers = disk.callers(in_flight)?;
        commit = Some(measure("embedded commit, bare", callers, &meter, &mut report).await?);
    }
    disk.remove()?;
    let floors = Floors { echo, sign, commit: commit.ok_or("nothing was committed")? };
    let issue = issue("issue, embedded store", &world, &meter, &mut report).await?;
    report.efficiency("embedded", floors, issue);
    world.end().await;
    report.gap();
    on_redis(floors, &mut report).await?;
    report.end();
    Ok(())
}

async fn on_redis(floors: Floors, report: &mut Report) -> Outcome<()> {
    let server = RedisServer::durable();
    let meter = Meter::with_redis(&server)?;
    let bare = Server::connect(&server).await?;
    let mut commit = None;
    for in_flight in IN_FLIGHT {
        let callers = bare.callers(in_flight)?;
        commit = Some(measure("Redis commit, bare", callers, &meter, report).await?);
    }
    server.command(&["FLUSHALL"]);
    let floors = Floors { commit: commit.ok_or("nothing was committed")?, ..floors };
    let world = World::start(Some(&server)).await?;
    let issue = issue("issue, Redis store", &world, &meter, report).await?;
    report.efficiency("Redis", floors, issue);
    world.end().await;
    Ok(())
}

/// The processor time of an echo at saturation.
async fn echo(world: &World, sizes: Sizes, report: &mut Report) -> Outcome<Duration> {
    let stop = CancellationToken::new();
    let address = echo::start(&world.playground, sizes.response, stop.clone()).await?;
    let channels = world.connections(address).await?;
    let mut machine_time = Duration::ZERO;
    for in_flight in IN_FLIGHT {
        let callers = channels.iter().cycle().take(in_flight);
        let callers =
            callers.map(|channel| Echo::new(channel.clone(), sizes.request, sizes.response));
        let what = "mTLS gRPC echo, bare";
        machine_time = measure(what, callers.collect(), &Meter::default(), report).await?;
    }
    stop.cancel();
    Ok(machine_time)
}

/// The processor time of issuing at saturation.
async fn issue(what: &str, world: &World, meter: &Meter, report: &mut Report) -> Outcome<Duration> {
    let mut machine_time = Duration::ZERO;
    for in_flight in IN_FLIGHT {
        let callers = world.callers(in_flight).await?;
        machine_time = measure(what, callers, meter, report).await?;
    }
    Ok(machine_time)
}

async fn measure(
    what: &str,
    callers: Vec<impl Caller>,
    meter: &Meter,
    report: &mut Report,
) -> Outcome<Duration> {
    let measured: Measured = load::run(callers, meter, WATCH).await?;
    report.row(what, &measured);
    Ok(measured.machine_time)
}
