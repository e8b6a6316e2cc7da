//! Processor time: our own, that of redis-server, and what the rest of the machine takes meanwhile. Linux only.

use std::fs;
use std::time::Duration;

use leasehold::testing::redis::RedisServer;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::Outcome;

/// Reads the clocks of this process and of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    redis: Option<u32>,
}

/// The clocks at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    ours: Duration,
    redis: Duration,
    machine: Ticks,
}

/// What was used between two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) wall: Duration,
    /// Processor time of this process: clients and broker.
    pub(crate) ours: Duration,
    /// Processor time of redis-server.
    pub(crate) redis: Duration,
    /// Cores that somebody else kept busy: above a tenth of a core the figures are not worth much.
    pub(crate) others: f64,
}

/// Of all cores, in a unit that does not matter.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    busy: f64,
    all: f64,
}

impl Meter {
    /// Counts the server's processor time too.
    pub(crate) fn with_redis(server: &RedisServer) -> Outcome<Self> {
        let text: String = redis::from_redis_value(server.command(&["INFO", "server"]))?;
        let id = text.lines().find_map(|line| line.strip_prefix("process_id:"));
        Ok(Self { redis: Some(id.ok_or("redis-server does not say its process id")?.parse()?) })
    }

    pub(crate) fn read(&self) -> Outcome<Reading> {
        let ours = clock_gettime(ClockId::ProcessCPUTime);
        let ours = Duration::new(u64::try_from(ours.tv_sec)?, u32::try_from(ours.tv_nsec)?);
        let redis = self.redis.map_or(Ok(Duration::ZERO), of_threads)?;
        Ok(Reading { at: Instant::now(), ours, redis, machine: machine()? })
    }
}

impl Reading {
    pub(crate) fn since(&self, earlier: &Self) -> Share {
        let wall = self.at - earlier.at;
        let (ours, redis) = (self.ours - earlier.ours, self.redis - earlier.redis);
        let busy = self.machine.busy - earlier.machine.busy;
        let all = (self.machine.all - earlier.machine.all).max(1.0);
        let machine = busy / all * cores();
        let others = machine - (ours + redis).as_secs_f64() / wall.as_secs_f64();
        Share { wall, ours, redis, others: others.max(0.0) }
    }
}

/// How many cores there are.
pub(crate) fn cores() -> f64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(cores).map_or(1.0, f64::from)
}

/// The time that all threads of a process have run, to the nanosecond.
fn of_threads(process: u32) -> Outcome<Duration> {
    let mut total = Duration::ZERO;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        let nanos = stat.split(' ').next().ok_or("`schedstat` is empty")?;
        total += Duration::from_nanos(nanos.parse()?);
    }
    Ok(total)
}

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal.
fn machine() -> Outcome<Ticks> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let all = ticks.iter().sum();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    Ok(Ticks { busy: all - idle, all })
}
