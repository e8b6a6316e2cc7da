//! Values on the command line, each read into its type before anything is sent.

use std::fs;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use crate::config::duration;
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::scope::Scope;
use crate::domain::time::Span;

/// What is said of a token on the command line, where its file should be named.
pub(super) const TOKEN_ITSELF: &str = "there is what looks like a token itself on the command line: the shell's history has it now, and whoever lists processes. \
     Name a file that holds it, or pipe it in as `-`; whoever may have seen it, `leasehold revoke --token -` ends it";

/// Whether text is a token, whole or in part: a JOSE header begins with `{"`, in base64url.
pub(super) fn is_token(text: &str) -> bool {
    text.len() >= 32 && text.trim_start_matches("Bearer ").starts_with("eyJ")
}

/// The id under which a change is made once, however often it is sent.
#[derive(Debug, Args)]
pub(super) struct RequestId {
    /// A UUID; give the one of an attempt that failed, to try it again
    #[arg(long, value_name = "UUID")]
    request_id: Option<uuid::Uuid>,
}

impl RequestId {
    /// The one given, or a new one.
    pub(super) fn into_id(self) -> String {
        self.request_id.unwrap_or_else(uuid::Uuid::new_v4).to_string()
    }
}

/// Which part of a long list.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// How many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(super) page_size: i32,
    /// Where to go on, as the page before said
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) page_token: String,
}

/// The id of a task.
pub(super) fn task_id(text: &str) -> Result<String, String> {
    TaskId::parse(text).map(|id| id.to_string()).map_err(|error| error.to_string())
}

/// The id of a lease.
pub(super) fn lease_id(text: &str) -> Result<String, String> {
    LeaseId::parse(text).map(|id| id.to_string()).map_err(|error| error.to_string())
}

/// A scope of the kill switch.
pub(super) fn scope(text: &str) -> Result<String, String> {
    Scope::parse(text).map(|scope| scope.to_string()).map_err(|error| error.to_string())
}

/// A length of time, like `5m`.
pub(super) fn span(text: &str) -> Result<Span, String> {
    match duration::parse(text) {
        Ok(Span::ZERO) => Err("give more than nothing".to_owned()),
        Ok(span) => Ok(span),
        Err(error) => Err(error.to_string()),
    }
}

/// A point in time, like `2026-11-22T15:00:00Z`.
pub(super) fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let time: Timestamp = text
        .parse()
        .map_err(|_| "write a time with its zone, like `2026-11-22T15:00:00Z`".to_owned())?;
    Ok(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// A label, `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write a label as `key=value`".to_owned()),
    }
}

/// Text, or `@` and the name of a file that holds it.
pub(super) fn text_or_file(text: &str) -> Result<String, String> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some(file) => {
            fs::read_to_string(file).map_err(|error| format!("`{file}` cannot be read: {error}"))
        }
    }
}

/// The wire's duration.
pub(super) fn wire(span: Span) -> prost_types::Duration {
    let nanos = i32::try_from(span.micros() % 1_000_000 * 1_000).unwrap_or_default();
    let seconds = i64::try_from(span.seconds()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos }
}

/// The standard library's duration.
pub(super) fn standard(span: Span) -> Duration {
    Duration::from_micros(span.micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_a_meaning_are_refused_before_anything_is_sent() {
        assert!(task_id("lse_0000000000000000000000000000").is_err());
        assert!(lease_id("tsk_0000000000000000000000000000").is_err());
        assert!(scope("class:Finance").is_err());
        assert!(span("0s").is_err());
        assert!(span("5").is_err());
        assert!(time("2026-11-22T15:00:00").is_err());
        assert!(label("novalue").is_err());
        assert!(label("=x").is_err());
        assert!(text_or_file("@/nowhere/file").unwrap_err().contains("/nowhere/file"));
    }

    #[test]
    fn times_and_lengths_reach_the_wire_exactly() {
        let time = time("2026-11-22T16:00:00.5+01:00").unwrap();
        assert_eq!((time.seconds, time.nanos), (1_795_359_600, 500_000_000));
        let half = wire(span("1500ms").unwrap());
        assert_eq!((half.seconds, half.nanos), (1, 500_000_000));
    }
}
