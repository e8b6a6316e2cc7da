//! What `task run` says while the command runs: transitions, on stderr, never a secret.

use serde_json::json;

use crate::cli::show::{Output, harmless};

/// Says what happens to one task.
#[derive(Clone, Debug)]
pub(super) struct Tell {
    output: Output,
    task_id: String,
}

impl Tell {
    /// About that task.
    pub(super) fn new(output: Output, task_id: &str) -> Self {
        Self { output, task_id: task_id.to_owned() }
    }

    /// One line: for a person as it is, for a program with the name of what happened.
    pub(super) fn say(&self, event: &'static str, text: &str) {
        match self.output {
            Output::Human => eprintln!("leasehold: {}", harmless(text)),
            Output::Json => {
                eprintln!("{}", json!({ "event": event, "task_id": self.task_id, "message": text }))
            }
        }
    }
}
