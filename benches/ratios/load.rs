//! Closed-loop load: so many operations in flight, for so long, after a warm-up that does not count.

use std::future::Future;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Outcome;
use crate::meter::{Meter, Share};

/// The warm-up is so much shorter than what counts.
const WARM_UP: u32 = 4;
/// Latencies are kept in nanoseconds to three digits.
const DIGITS: u8 = 3;

/// One caller: each run is one operation, and the next begins when it is over.
pub(crate) trait Caller: Send + 'static {
    /// Does the operation once; an answer that is not what it should be is an error, and ends the report.
    fn run(&mut self) -> impl Future<Output = Outcome<()>> + Send;
}

/// What was seen of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) in_flight: usize,
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Processor time of one operation: clients, broker and store together.
    pub(crate) machine_time: Duration,
    pub(crate) share: Share,
}

/// Lets every caller work, and watches for `watch`.
pub(crate) async fn run(
    callers: Vec<impl Caller>,
    meter: &Meter,
    watch: Duration,
) -> Outcome<Measured> {
    let in_flight = callers.len();
    let begin = Instant::now() + watch / WARM_UP;
    let end = begin + watch;
    let mut working = JoinSet::new();
    for caller in callers {
        working.spawn(work(caller, begin, end));
    }
    sleep_until(begin).await;
    let before = meter.read()?;
    sleep_until(end).await;
    let after = meter.read()?;
    let mut latencies = Histogram::<u64>::new(DIGITS)?;
    while let Some(done) = working.join_next().await {
        latencies.add(done??)?;
    }
    let operations = u32::try_from(latencies.len())?;
    if operations == 0 {
        return Err("nothing was done in time".into());
    }
    let share = after.since(&before);
    let latency = |quantile| Duration::from_nanos(latencies.value_at_quantile(quantile));
    Ok(Measured {
        in_flight,
        per_second: f64::from(operations) / share.wall.as_secs_f64(),
        p50: latency(0.5),
        p99: latency(0.99),
        machine_time: (share.ours + share.redis) / operations,
        share,
    })
}

async fn work(mut caller: impl Caller, begin: Instant, end: Instant) -> Outcome<Histogram<u64>> {
    let mut latencies = Histogram::new(DIGITS)?;
    let mut started = Instant::now();
    loop {
        caller.run().await?;
        let done = Instant::now();
        // However short the time is, something counts.
        if begin <= done && (done < end || latencies.is_empty()) {
            latencies.record(u64::try_from((done - started).as_nanos())?)?;
        }
        if end <= done {
            return Ok(latencies);
        }
        started = done;
    }
}
