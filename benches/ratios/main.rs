//! What issuing, ending and checking cost beside what they cannot do without, on this machine, in one run: `make bench`.
//!
//! ```text
//!  issuing   processor time, against a bare echo, signature and commit
//!  checks    a verifier's check, against a bare signature verification
//!  endings   call of complete to the last of ten verifiers refusing, against a commit and a keep-alive; idle, and in a flood
//!  leases    a million living: bytes of each, from restart to the first issue, and what it takes to end their task
//!  tasks     those that have ended: what is left of them once their time is over
//! ```
//!
//! Brokers, agents and verifiers share one process, and but for a flood's its runtime, and speak over mutual TLS; `redis-server` has
//! its own. Both stores sync before they answer. Without `--bench`, as `cargo test` runs it, everything is done a few times, to see
//! that it still can be.

mod calls;
mod checks;
mod commits;
mod echo;
mod endings;
mod issuing;
mod leases;
mod load;
mod meter;
mod moved_clock;
mod probe;
mod report;
mod sign;
mod stored;
mod tasks;
mod verifiers;
mod world;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use leasehold::telemetry::{self, LogFormat};
use mimalloc::MiMalloc;

use report::Report;

/// The program's own, for the floors as well.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "write `[--json] [--endings N] [--leases N] [--tasks N] [issuing|checks|endings|leases|tasks]…`";
const FIGURES: [&str; 5] = ["issuing", "checks", "endings", "leases", "tasks"];

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// For each line of issuing.
    watch: Duration,
    /// Rounds of checks.
    checks: usize,
    /// Endings for each quantile.
    endings: usize,
    /// Leases of the largest task.
    leases: usize,
    /// Tasks that end.
    tasks: usize,
}

impl Scale {
    const FULL: Self = Self {
        watch: Duration::from_secs(4),
        checks: 200,
        endings: 1_000,
        leases: 1_000_000,
        tasks: 100_000,
    };
    /// Enough to see that all of it still works.
    const TINY: Self =
        Self { watch: Duration::from_millis(20), checks: 1, endings: 2, leases: 20, tasks: 20 };
}

/// What was asked for.
struct Asked {
    is_json: bool,
    scale: Scale,
    figures: Vec<String>,
}

fn main() -> ExitCode {
    let done = asked(std::env::args().skip(1));
    let done = done.and_then(|asked| match asked.figures.is_empty() {
        true => Ok(()),
        false => run(asked),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the report ends here: {error}");
            ExitCode::FAILURE
        }
    }
}

fn asked(words: impl Iterator<Item = String>) -> Outcome<Asked> {
    let words: Vec<String> = words.collect();
    // `cargo bench` adds it, behind all others.
    let is_bench = words.iter().any(|word| word == "--bench");
    let scale = if is_bench { Scale::FULL } else { Scale::TINY };
    let mut asked = Asked { is_json: false, scale, figures: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let number = |words: &mut dyn Iterator<Item = String>| -> Outcome<usize> {
            Ok(words.next().ok_or(USAGE)?.parse()?)
        };
        match word.as_str() {
            "--bench" => {}
            "--json" => asked.is_json = true,
            "--endings" => asked.scale.endings = number(&mut words)?,
            "--leases" => asked.scale.leases = number(&mut words)?,
            "--tasks" => asked.scale.tasks = number(&mut words)?,
            figure if FIGURES.contains(&figure) => asked.figures.push(word),
            other if is_bench => return Err(format!("`{other}` is not known here: {USAGE}").into()),
            // A filter or a flag of `cargo test`, which is for tests.
            _ => return Ok(Asked { figures: Vec::new(), ..asked }),
        }
    }
    if asked.figures.is_empty() {
        asked.figures = FIGURES.map(str::to_owned).to_vec();
    }
    Ok(asked)
}

#[tokio::main]
async fn run(asked: Asked) -> Outcome<()> {
    let provider = rustls::crypto::ring::default_provider();
    provider.install_default().map_err(|_| "rustls has a provider already")?;
    // Logs as `serve` has them by default, so that calls pay for their spans; nobody reads them.
    let logs = telemetry::subscriber(LogFormat::Human, "info", false, std::io::sink)?;
    tracing::subscriber::set_global_default(logs)?;
    let (mut report, scale) = (Report::begin(asked.is_json), asked.scale);
    for figure in &asked.figures {
        match figure.as_str() {
            "issuing" => issuing::measure(scale, &mut report).await?,
            "checks" => checks::measure(scale, &mut report).await?,
            "endings" => endings::measure(scale, &mut report).await?,
            "leases" => leases::measure(scale, &mut report).await?,
            _ => tasks::measure(scale, &mut report).await?,
        }
    }
    report.end();
    Ok(())
}
