//! The demo's steps as they happen: for a person, or one JSON object a line.

use std::future::Future;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

/// What a step showed: its result, and a few words about it.
pub(super) struct Seen<T> {
    /// For the steps that follow.
    pub(super) value: T,
    /// For whoever watches.
    pub(super) note: String,
}

/// A step was not what it should be. Nothing of a credential is in it.
#[derive(Debug, thiserror::Error)]
pub enum Mishap {
    /// A call that should have succeeded.
    #[error("{0}")]
    Failed(String),
    /// An answer that should have been another.
    #[error("expected {expected}, and it was {found}")]
    Otherwise {
        /// What should have been.
        expected: String,
        /// What was.
        found: String,
    },
}

/// The story stopped.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// At this step.
    #[error("step `{step}`: {mishap}")]
    Step {
        /// The step's name.
        step: &'static str,
        /// What was wrong.
        mishap: Mishap,
    },
    /// Nobody reads on.
    #[error("the timeline cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// How a timeline looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Chapters and marks, in colour or not.
    Human {
        /// ANSI colours.
        colour: bool,
    },
    /// One object a step: `step`, `says`, `ok`, `elapsed_ms`, `note`.
    Json,
}

/// Writes steps down as they are done.
pub(super) struct Timeline<W> {
    out: W,
    look: Look,
    steps: u32,
    began: Instant,
}

impl<W: Write> Timeline<W> {
    /// Nothing has happened yet.
    pub(super) fn new(out: W, look: Look) -> Self {
        Self { out, look, steps: 0, began: Instant::now() }
    }

    /// A line for people only.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        match self.look {
            Look::Human { .. } => writeln!(self.out, "{text}"),
            Look::Json => Ok(()),
        }
    }

    /// The next part of the story.
    pub(super) fn chapter(&mut self, title: &str) -> io::Result<()> {
        let title = self.painted("1", title);
        self.say(&format!("\n  {title}"))
    }

    /// Does one step and writes it down. `says` is what should be: the step's claim.
    pub(super) async fn step<T>(
        &mut self,
        step: &'static str,
        says: &str,
        work: impl Future<Output = Result<Seen<T>, Mishap>>,
    ) -> Result<T, StoryError> {
        let began = Instant::now();
        let outcome = work.await;
        let elapsed = began.elapsed();
        self.steps += 1;
        match outcome {
            Ok(Seen { value, note }) => {
                self.write(step, says, elapsed, Ok(&note))?;
                Ok(value)
            }
            Err(mishap) => {
                self.write(step, says, elapsed, Err(&mishap.to_string()))?;
                Err(StoryError::Step { step, mishap })
            }
        }
    }

    /// Something that happened during the step before, at so long after its beginning.
    pub(super) fn moment(
        &mut self,
        step: &'static str,
        says: &str,
        at: Duration,
        note: &str,
    ) -> io::Result<()> {
        self.steps += 1;
        self.write(step, says, at, Ok(note))
    }

    /// The last line, after the last step.
    pub(super) fn end(&mut self) -> io::Result<()> {
        let (steps, took) = (self.steps, self.began.elapsed().as_secs_f64());
        let text = format!("{steps} steps, every one as it should be, in {took:.2} s.");
        let text = self.painted("1", &text);
        self.say(&format!("\n  {text}"))
    }

    fn write(
        &mut self,
        step: &str,
        says: &str,
        elapsed: Duration,
        outcome: Result<&str, &str>,
    ) -> io::Result<()> {
        let elapsed_ms = elapsed.as_secs_f64() * 1_000.0;
        let (Ok(note) | Err(note)) = outcome;
        match self.look {
            Look::Json => {
                let ok = outcome.is_ok();
                let elapsed_ms = (elapsed_ms * 1_000.0).round() / 1_000.0;
                let line = json!({
                    "step": step, "says": says, "ok": ok, "elapsed_ms": elapsed_ms, "note": note,
                });
                writeln!(self.out, "{line}")
            }
            Look::Human { .. } => {
                let mark = match outcome {
                    Ok(_) => self.painted("32", "✓"),
                    Err(_) => self.painted("31", "✗"),
                };
                if note.is_empty() {
                    return writeln!(self.out, "  {mark} {elapsed_ms:>7.1} ms  {says}");
                }
                let note = self.painted("2", note);
                writeln!(self.out, "  {mark} {elapsed_ms:>7.1} ms  {says:<50} {note}")
            }
        }
    }

    fn painted(&self, style: &str, text: &str) -> String {
        match self.look {
            Look::Human { colour: true } => format!("\x1b[{style}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(look: Look) -> (String, Result<(), StoryError>) {
        let mut text = Vec::new();
        let mut timeline = Timeline::new(&mut text, look);
        timeline.chapter("First").unwrap();
        let good = async { Ok(Seen { value: 7, note: "seven".to_owned() }) };
        assert_eq!(timeline.step("one", "counts", good).await.unwrap(), 7);
        let (expected, found) = ("401".to_owned(), "200".to_owned());
        let bad = async { Err(Mishap::Otherwise { expected, found }) };
        let outcome = timeline.step::<()>("two", "is refused", bad).await;
        (String::from_utf8(text).unwrap(), outcome)
    }

    #[tokio::test]
    async fn a_step_that_is_not_what_it_should_be_ends_the_story_by_its_name() {
        let (text, outcome) = told(Look::Human { colour: false }).await;
        let error = outcome.unwrap_err().to_string();
        assert_eq!(error, "step `two`: expected 401, and it was 200");
        assert!(text.contains("✓") && text.contains("✗"), "{text}");
        assert!(text.contains("expected 401, and it was 200"), "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    #[tokio::test]
    async fn machines_get_one_object_a_step_and_nothing_else() {
        let (text, _) = told(Look::Json).await;
        let steps: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(steps.len(), 2);
        assert_eq!((&steps[0]["step"], &steps[0]["ok"]), (&json!("one"), &json!(true)));
        assert_eq!((&steps[1]["step"], &steps[1]["ok"]), (&json!("two"), &json!(false)));
        assert!(steps[0]["elapsed_ms"].is_number());
    }
}
