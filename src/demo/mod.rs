//! The whole story in one process: a broker, a resource server and workloads, over real sockets and mutual TLS.
//!
//! ```text
//!  orchestrator ──begin, advance, complete──▶ broker ◀──issue── agent ──token, certificate──▶ documents
//!                                               ▲                                                │
//!                                               └────────────────── is it active? ───────────────┘
//! ```
//!
//! Each step is a claim that is checked; the first that does not hold ends the story.

mod acts;
mod api;
mod client;
mod setup;
mod side_by_side;
mod story;
mod timeline;

use std::io::Write;

pub use self::client::ClientError;
pub use self::setup::SetupError;
pub use self::timeline::{Look, Mishap, StoryError};

use self::setup::Stage;
use self::story::Story;
use self::timeline::Timeline;
use crate::config::store::RedisConfig;

/// What the story is told on.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Redis server; without one, an embedded store in a folder that is removed at the end.
    pub redis: Option<RedisConfig>,
    /// How the timeline looks.
    pub look: Look,
}

/// The story was not told to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// It could not begin.
    #[error("the demo cannot begin: {0}")]
    Setup(#[from] SetupError),
    /// A step was not what it should be.
    #[error(transparent)]
    Story(#[from] StoryError),
}

/// Tells the story, a line a step.
///
/// # Errors
/// [`DemoError`] names the first step that was not what it should be, or why nothing could begin.
pub async fn run(options: &Options, out: impl Write) -> Result<(), DemoError> {
    let mut timeline = Timeline::new(out, options.look);
    let stage = Stage::build(options.redis.clone()).await?;
    let told = Story::new(&stage, &mut timeline).tell().await;
    stage.strike().await;
    Ok(told?)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn steps(told: &[u8]) -> Vec<Value> {
        let lines = std::str::from_utf8(told).unwrap().lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_story_is_told_to_its_end() {
        let mut told = Vec::new();
        let options = Options { redis: None, look: Look::Json };
        run(&options, &mut told).await.unwrap();
        let steps = steps(&told);
        assert!(steps.len() > 30, "{}", steps.len());
        assert!(steps.iter().all(|step| step["ok"] == true), "{steps:?}");
        let at = |name: &str| {
            let step = steps.iter().find(|step| step["step"] == name).unwrap();
            step["elapsed_ms"].as_f64().unwrap()
        };
        assert!(0.0 < at("recorded") && at("recorded") <= at("fenced"), "{steps:?}");
        assert!(at("fenced") <= at("complete"), "{steps:?}");
        assert!(0.0 < at("introspecting") && 0.0 < at("following"), "{steps:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stranger_who_is_let_in_ends_the_story() {
        let mut stage = Stage::build(None).await.unwrap();
        stage.researcher = stage.summarizer.clone();
        let mut told = Vec::new();
        let mut timeline = Timeline::new(&mut told, Look::Json);
        let error = Story::new(&stage, &mut timeline).tell().await.unwrap_err();
        stage.strike().await;
        assert!(matches!(error, StoryError::Step { step: "stranger", .. }), "{error}");
        let last = steps(&told).pop().unwrap();
        assert_eq!((&last["step"], &last["ok"]), (&"stranger".into(), &false.into()));
    }
}
