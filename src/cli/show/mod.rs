//! Answers, for a person or as JSON for a program.
//!
//! JSON has the names of the contract's fields and every field always; enums by their names in the contract, times in
//! RFC 3339, lengths of time in seconds (`"300s"`), bytes in base64.

mod lease;
mod revocation;
mod status;
mod task;

use std::fmt;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::failure::Failure;
use crate::config::duration;
use crate::domain::grant::Grant;
use crate::domain::time::Span;

pub(super) use lease::{Issued, credential, lease, leases};
pub(super) use revocation::{pending, with_revocation};
pub(super) use status::status;
pub(super) use task::{change, task, tasks};

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For a person.
    #[default]
    Human,
    /// One JSON object.
    Json,
}

/// An answer, ready to be printed. It may hold a new token, so it has nothing to show to a debugger.
pub(super) struct Shown {
    /// For a program, on stdout.
    pub(super) json: Value,
    /// For a person, on stdout.
    pub(super) text: String,
    /// For a person, on stderr: what is said about the answer, where stdout is the answer alone.
    pub(super) aside: String,
    /// The exit code of the command; 0, unless what was asked for was not reached.
    pub(super) exit: u8,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown(…)")
    }
}

impl Shown {
    /// An answer that is all text.
    pub(super) fn new(json: Value, text: String) -> Self {
        Self { json, text, aside: String::new(), exit: 0 }
    }

    /// The same, with what the broker warns of, if it does.
    pub(super) fn warning(mut self, warning: &str) -> Self {
        if !warning.is_empty() {
            let line = format!("warning: {}", harmless(warning));
            let aside = [line.as_str(), &self.aside].into_iter().filter(|text| !text.is_empty());
            self.aside = aside.collect::<Vec<_>>().join("\n");
        }
        self
    }

    /// Prints the answer.
    pub(super) fn print(&self, output: Output) -> Result<(), Failure> {
        let (out, err) = match output {
            Output::Json => (self.json.to_string(), ""),
            Output::Human => (self.text.clone(), self.aside.as_str()),
        };
        let line = |mut to: &mut dyn Write, text: &str| match text {
            "" => Ok(()),
            text => writeln!(&mut to, "{text}"),
        };
        line(&mut io::stdout(), &out)
            .and_then(|()| line(&mut io::stderr(), err))
            .map_err(Failure::Print)
    }
}

/// One field a line, aligned; empty ones are left out. Control characters of what others wrote do not reach the terminal.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let shown: Vec<_> = fields.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &&(&str, String)| format!("{name:width$}  {}", harmless(value));
    shown.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Rows in aligned columns, the first of them their headings.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let rows = rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell)));
    let rows: Vec<_> = rows.collect();
    let cells = |n: usize| rows.iter().filter_map(move |row| row.get(n));
    let width = |n: usize| cells(n).map(|cell| cell.chars().count()).max();
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(n, cell)| format!("{cell:0$}", width(n).unwrap_or(0)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Without control characters that a terminal would act on.
pub(super) fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.into() };
    text.chars().map(shown).collect()
}

/// A time in RFC 3339; `None` if there is none.
pub(super) fn time(time: Option<prost_types::Timestamp>) -> Option<String> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok().map(|time| time.to_string())
}

/// A length of time in seconds.
fn seconds(duration: Option<prost_types::Duration>) -> Option<String> {
    let duration = duration?;
    Some(match duration.nanos / 1_000_000 {
        0 => format!("{}s", duration.seconds),
        millis => format!("{}.{millis:03}s", duration.seconds),
    })
}

/// A length of time as people write it.
fn span(length: Option<prost_types::Duration>) -> String {
    let length = length.and_then(|length| std::time::Duration::try_from(length).ok());
    length.map(|length| duration::render(Span::from(length))).unwrap_or_default()
}

/// A value of an enum of the contract in words: `TASK_STATE_ACTIVE` is `active`.
fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', " ")
}

/// A JSON text as JSON; as text if it is none.
pub(super) fn embedded_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// A grant in words.
fn grant(json: &str) -> String {
    let Ok(grant) = Grant::parse(json) else {
        return json.to_owned();
    };
    let entry = |entry: &crate::domain::grant::ResourceAccess| {
        let actions: Vec<_> = entry.actions().iter().map(String::as_str).collect();
        format!("{}: {}", entry.audience(), actions.join(", "))
    };
    grant.entries().iter().map(entry).collect::<Vec<_>>().join("; ")
}

/// DER in PEM, one block after the other.
pub(super) fn pem(label: &str, blocks: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in blocks {
        text.push_str(&format!("-----BEGIN {label}-----\n"));
        for (n, letter) in STANDARD.encode(der).chars().enumerate() {
            if n > 0 && n.is_multiple_of(64) {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push_str(&format!("\n-----END {label}-----\n"));
    }
    text
}

#[cfg(test)]
mod tests;
