//! `limits` and `log`: a number on everything that can grow, and what is written about it.

use super::document::Field;
use super::section::Section;
use super::value;
use crate::domain::time::Span;
use crate::telemetry::{self, LogFormat};

/// Upper limits. Every one has a bound that no configuration passes (FORMATS.md, Numbers).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of children below a root task, whose depth is 0; 1 to 16.
    pub depth: usize,
    /// Living children of one task; 1 to 4,096.
    pub fan_out: u32,
    /// The most instances that a task may ask for; 1 to 1,024.
    pub instances: u32,
    /// How long an ended task can still be looked at; 1 h to 30 d.
    pub ended_task_retention: Span,
    /// Requests per second that one principal may send to this broker, and as many endings; 1 to 100,000.
    pub requests_per_second_per_principal: u32,
    /// Tokens of ours per second that anybody may show to this broker to end them, all together; 1 to 100,000.
    pub shown_tokens_per_second: u32,
    /// What one address (of IPv6, one /64) may show, tokens or not; 1 to 100,000.
    pub shown_tokens_per_second_per_address: u32,
    /// Requests that this broker works on at once; 1 to 65,536.
    pub requests_in_flight: usize,
    /// Connections that are open at once, on each socket; 1 to 65,536. There are a sixteenth more for those who end things.
    pub connections: usize,
    /// Those of one address (of IPv6, of one /64), on each socket; 1 to 65,536, a quarter of all if nothing is said.
    pub connections_per_address: usize,
    /// How long one request may take; 100 ms to 60 s.
    pub request_timeout: Span,
    /// How long a stopping broker waits for what it works on; 0 s to 5 min.
    pub drain_timeout: Span,
}

/// Logs of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// What is written, in the form of `RUST_LOG`.
    pub filter: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 8,
            fan_out: 64,
            instances: 1_024,
            ended_task_retention: Span::from_seconds(86_400),
            requests_per_second_per_principal: 200,
            shown_tokens_per_second: 200,
            shown_tokens_per_second_per_address: 20,
            requests_in_flight: 1_024,
            connections: 4_096,
            connections_per_address: 1_024,
            request_timeout: Span::from_seconds(10),
            drain_timeout: Span::from_seconds(20),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".to_owned() }
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<Limits> {
    let default = Limits::default();
    let seconds = |least, most| Span::from_seconds(least)..=Span::from_seconds(most);
    let depth = section.or("depth", default.depth, value::integer(1..=16));
    let fan_out = section.or("fan_out", default.fan_out, value::integer(1..=4_096));
    let instances = section.or("instances", default.instances, value::integer(1..=1_024));
    let retention = section.or(
        "ended_task_retention",
        default.ended_task_retention,
        value::duration(seconds(3_600, 30 * 86_400)),
    );
    let rate = section.or(
        "requests_per_second_per_principal",
        default.requests_per_second_per_principal,
        value::integer(1..=100_000),
    );
    let shown = section.or(
        "shown_tokens_per_second",
        default.shown_tokens_per_second,
        value::integer(1..=100_000),
    );
    let shown_per_address = section.or(
        "shown_tokens_per_second_per_address",
        default.shown_tokens_per_second_per_address,
        value::integer(1..=100_000),
    );
    let in_flight =
        section.or("requests_in_flight", default.requests_in_flight, value::integer(1..=65_536));
    let connections = section.or("connections", default.connections, value::integer(1..=65_536));
    let quarter = connections.unwrap_or(default.connections).div_ceil(4);
    let per_address = section.or("connections_per_address", quarter, value::integer(1..=65_536));
    let request_timeout = section.or(
        "request_timeout",
        default.request_timeout,
        value::duration(Span::from_millis(100)..=Span::from_seconds(60)),
    );
    let drain_timeout =
        section.or("drain_timeout", default.drain_timeout, value::duration(seconds(0, 300)));
    Some(Limits {
        depth: depth?,
        fan_out: fan_out?,
        instances: instances?,
        ended_task_retention: retention?,
        requests_per_second_per_principal: rate?,
        shown_tokens_per_second: shown?,
        shown_tokens_per_second_per_address: shown_per_address?,
        requests_in_flight: in_flight?,
        connections: connections?,
        connections_per_address: per_address?,
        request_timeout: request_timeout?,
        drain_timeout: drain_timeout?,
    })
}

pub(super) fn log(section: &mut Section<'_>) -> Option<Log> {
    let default = Log::default();
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    let format = section.or("format", default.format, value::choice(&formats));
    let filter = section.or("filter", default.filter, filter);
    Some(Log { format: format?, filter: filter? })
}

fn filter(field: &Field<'_>) -> Option<String> {
    let text = value::text(field)?;
    match telemetry::directives(text) {
        Ok(_) => Some(text.to_owned()),
        Err(_) => {
            field.refuse(format!("is `{text}`; write it like `info` or `warn,leasehold=debug`"))
        }
    }
}
