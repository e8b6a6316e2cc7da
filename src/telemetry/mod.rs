//! Logs and metrics: what the broker says about itself.
//!
//! No token, key or assertion is in any of it. For our own events that is the work of the types that hold them
//! (`domain::secret`); other crates' events below `info` are never written, whatever the filter asks for, since some print
//! the headers and handshakes that pass through them.

pub mod metrics;

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter's text is not one of `tracing`'s directives.
    #[error(
        "log filter `{filter}` is not understood ({source}): write it like `info` or `warn,leasehold=debug`"
    )]
    Filter {
        /// The text as it was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Logs were set up before in this process.
    #[error("logs are already set up in this process: set them up once, in `main`")]
    AlreadySet(#[from] SetGlobalDefaultError),
}

/// Sends this process's logs to stderr. `filter` has the form of `RUST_LOG`: `info`, `warn,leasehold::store=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    tracing::subscriber::set_global_default(subscriber(
        format,
        filter,
        io::stderr().is_terminal(),
        io::stderr,
    )?)?;
    Ok(())
}

/// Reads a filter of the form of `RUST_LOG`.
///
/// # Errors
/// [`LogError::Filter`] if it is not understood.
pub fn directives(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .with_regex(false)
        .parse(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })
}

/// What [`init`] installs, over any writer.
///
/// # Errors
/// [`LogError::Filter`] if the filter is not understood.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colours: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let directives = directives(filter)?;
    let lines = fmt::layer().with_writer(writer).with_ansi(colours && format == LogFormat::Human);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let wanted = directives.and(filter_fn(may_be_written));
    Ok(tracing_subscriber::registry().with(lines.with_filter(wanted)))
}

/// Ours, or said loudly enough that no crate puts its traffic into it.
fn may_be_written(event: &Metadata<'_>) -> bool {
    let target = event.target();
    let ours = target == "leasehold" || target.starts_with("leasehold::");
    ours || *event.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str, say: fn()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = subscriber(format, filter, false, move || sink.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, say);
        let bytes = lines.bytes().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn class_17_other_crates_are_not_heard_below_info_whatever_the_filter_asks_for() {
        for filter in ["trace", "h2=trace", "leasehold_of_another=debug"] {
            let text = written(LogFormat::Human, filter, || {
                tracing::trace!(target: "h2::hpack", "authorization: Bearer abc");
                tracing::debug!(target: "leasehold_of_another", "authorization: Bearer abc");
            });
            assert_eq!(text, "", "with `{filter}`");
        }
        let loud = written(LogFormat::Human, "trace", || {
            tracing::info!(target: "h2", "closed");
            tracing::trace!(target: "leasehold::store", "committed");
        });
        assert!(loud.contains("closed") && loud.contains("committed"), "{loud}");
    }

    #[test]
    fn filter_silences_what_it_does_not_name() {
        let text = written(LogFormat::Human, "warn,leasehold::store=debug", || {
            tracing::debug!(target: "leasehold::store", "reopened");
            tracing::info!(target: "leasehold::broker", "began");
        });
        assert!(text.contains("reopened") && !text.contains("began"), "{text}");
    }

    #[test]
    fn json_lines_are_one_object_each_even_with_a_line_break_in_a_value() {
        let text = written(LogFormat::Json, "info", || {
            tracing::info!(target: "leasehold", agent = "a\n{\"level\":\"ERROR\"}", "began");
            tracing::info!(target: "leasehold", "ended");
        });
        let objects: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["agent"], "a\n{\"level\":\"ERROR\"}");
        assert_eq!(objects[1]["message"], "ended");
    }

    #[test]
    fn filter_that_is_not_understood_is_refused_by_its_text() {
        let refused = subscriber(LogFormat::Human, "leasehold=loud", false, io::sink).err();
        assert!(refused.unwrap().to_string().starts_with("log filter `leasehold=loud` is not"));
    }
}
