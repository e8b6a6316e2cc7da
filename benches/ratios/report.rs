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
}

/// The floors under issuing on one store, at saturation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floors {
    pub(crate) echo: Duration,
    pub(crate) sign: Duration,
    pub(crate) commit: Duration,
}

impl Report {
    pub(crate) fn begin(is_json: bool, watch: Duration) -> Self {
        if !is_json {
            println!(
                "Leasehold on {} cores: {} s for each line, {CONNECTIONS} connections, clients and broker in one process",
                cores(),
                watch.as_secs_f64()
            );
            println!(
                "CPU is the processor time of one operation: clients, broker, redis-server, kernel included\n"
            );
            println!(
                "{:<26}{:>9}{:>10}{:>10}{:>10}{:>10}{:>11}{:>8}",
                "", "in flight", "per s", "p50 µs", "p99 µs", "CPU µs", "cores busy", "others"
            );
        }
        Self { is_json, rows: Vec::new(), efficiencies: Vec::new() }
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
            });
            println!("{report}");
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
