//! The figures, for a person as they come, or for a machine as one JSON object at the end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::load::Measured;
use crate::meter::cores;
use crate::world::CONNECTIONS;

/// What efficiency should be on Redis.
const AIM: f64 = 0.75;

/// Writes to stdout.
pub(crate) struct Report {
    is_json: bool,
    rows: Vec<Value>,
    efficiencies: Vec<Value>,
    /// What is being told of now.
    part: String,
    figures: Vec<Value>,
}

/// The floors under issuing on one store, at saturation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floors {
    pub(crate) echo: Duration,
    pub(crate) sign: Duration,
    pub(crate) commit: Duration,
}

/// How long something took, each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) const NONE: Self = Self(Vec::new());

    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn p50(&self) -> Duration {
        self.at(50)
    }

    pub(crate) fn p99(&self) -> Duration {
        self.at(99)
    }

    /// Not more than so many of a hundred took less.
    fn at(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied().unwrap_or_default()
    }
}

impl Report {
    pub(crate) fn begin(is_json: bool) -> Self {
        if !is_json {
            println!("Leasehold on {} cores: brokers and callers in one process\n", cores());
        }
        let part = String::new();
        Self { is_json, rows: Vec::new(), efficiencies: Vec::new(), part, figures: Vec::new() }
    }

    /// Lines of issuing follow.
    pub(crate) fn begin_rows(&self, watch: Duration) {
        if !self.is_json {
            println!(
                "Issuing: {} s for each line, {CONNECTIONS} connections; CPU is the processor time of one operation: clients, broker,\nredis-server, kernel included\n",
                watch.as_secs_f64()
            );
            println!(
                "{:<26}{:>9}{:>10}{:>10}{:>10}{:>10}{:>11}{:>8}",
                "", "in flight", "per s", "p50 µs", "p99 µs", "CPU µs", "cores busy", "others"
            );
        }
    }

    /// Another part begins.
    pub(crate) fn begin_part(&mut self, part: &str) {
        if !self.is_json {
            println!("{part}");
        }
        part.clone_into(&mut self.part);
    }

    /// How long something took.
    pub(crate) fn times(&mut self, what: &str, times: &Times) {
        let (p50, p99) = (micros(times.p50()), micros(times.p99()));
        if !self.is_json {
            println!("  {what:<58}{p50:>10.0} µs p50{p99:>10.0} µs p99");
        }
        let part = &self.part;
        self.figures.push(json!({ "part": part, "what": what, "p50_us": p50, "p99_us": p99 }));
    }

    /// One time by another; at most the aim, if there is one.
    pub(crate) fn ratio(&mut self, what: &str, time: Duration, by: Duration, aim: Option<f64>) {
        self.value(what, time.as_secs_f64() / by.as_secs_f64(), "×", aim);
    }

    /// A number; at most the aim, if there is one.
    pub(crate) fn value(&mut self, what: &str, value: f64, unit: &str, aim: Option<f64>) {
        if !self.is_json {
            let verdict = aim.map_or_else(String::new, |aim| {
                format!("aim ≤ {aim}: {}", if value <= aim { "kept" } else { "missed" })
            });
            let digits = if value < 100.0 { 2 } else { 0 };
            println!("  {what:<58}{value:>10.digits$} {unit:<6} {verdict}");
        }
        let part = &self.part;
        self.figures
            .push(json!({ "part": part, "what": what, "value": value, "unit": unit, "aim": aim }));
    }

    /// One operation at one number in flight.
    pub(crate) fn row(&mut self, what: &str, measured: &Measured) {
        let Measured { in_flight, per_second, share, .. } = measured;
        let (p50, p99) = (micros(measured.p50), micros(measured.p99));
        let machine = micros(measured.machine_time);
        let busy = (share.ours + share.redis).as_secs_f64() / share.wall.as_secs_f64();
        let others = share.others;
        if !self.is_json {
            println!(
                "{what:<26}{in_flight:>9}{per_second:>10.0}{p50:>10.0}{p99:>10.0}{machine:>10.1}{busy:>11.2}{others:>8.2}"
            );
        }
        self.rows.push(json!({
            "operation": what, "in_flight": in_flight, "per_second": per_second, "p50_us": p50, "p99_us": p99,
            "cpu_us": machine, "redis_cpu_us": micros(share.redis) / per_second / share.wall.as_secs_f64(),
            "cores_busy": busy, "cores_busy_others": others,
        }));
    }

    /// What a store's issuing costs, beside what it cannot do without.
    pub(crate) fn efficiency(&mut self, store: &str, floors: Floors, issue: Duration) {
        let [echo, sign, commit, issue] =
            [floors.echo, floors.sign, floors.commit, issue].map(micros);
        let ratio = (echo + sign + commit) / issue;
        self.efficiencies.push(json!({
            "store": store, "echo_us": echo, "sign_us": sign, "commit_us": commit, "issue_us": issue, "efficiency": ratio,
        }));
        if !self.is_json {
            let aim = if store == "Redis" { format!(", aim {AIM}") } else { String::new() };
            println!(
                "efficiency of issuing, {store}: ({echo:.1} echo + {sign:.1} signature + {commit:.1} commit) / {issue:.1} = {ratio:.2}{aim}"
            );
        }
    }

    /// A line between two parts.
    pub(crate) fn gap(&self) {
        if !self.is_json {
            println!();
        }
    }

    pub(crate) fn end(self) {
        if self.is_json {
            let report = json!({
                "cores": cores(), "connections": CONNECTIONS, "rows": self.rows, "efficiency": self.efficiencies,
                "figures": self.figures,
            });
            println!("{report}");
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
