//! `leasehold demo`: the whole story in one process.

use std::io::{self, IsTerminal as _};

use clap::Args;

use super::failure::Failure;
use super::show::Output;
use crate::demo::{self, Look, Options};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Tell it for a program: one JSON object a step
    #[arg(long)]
    json: bool,
    /// Keep tasks and leases on this Redis server instead of in a folder; an empty one is made ready
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

impl Demo {
    /// Tells the story on stdout. The first step that is not what it should be is the failure.
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let out = io::stdout();
        let look = match (self.json, output) {
            (true, _) | (_, Output::Json) => Look::Json,
            (false, Output::Human) => Look::Human { colour: out.is_terminal() },
        };
        Ok(demo::run(&Options { redis_url: self.store, look }, out).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::*;
    use crate::demo::{DemoError, Mishap, StoryError};

    #[test]
    fn a_step_that_is_not_what_it_should_be_ends_the_process_with_a_failure() {
        let mishap = Mishap::Failed("x".to_owned());
        let failure = Failure::from(DemoError::from(StoryError::Step { step: "begin", mishap }));
        assert_eq!(failure.exit_code(), ExitCode::FAILURE);
        assert_eq!(failure.to_string(), "step `begin`: x");
    }
}
