//! `leasehold config`: is the file what a broker takes?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::Failure;
use super::show::Shown;
use crate::config;
use crate::config::problem::Problem;

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Name every mistake by file, line and field, and what is doubtful
    Check(Check),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file
    #[arg(default_value = "leasehold.toml")]
    file: PathBuf,
}

impl Config {
    /// Reads the file.
    pub(super) fn run(self) -> Result<Shown, Failure> {
        let Self::Check(Check { file }) = self;
        let config = config::load(&file)?;
        let warnings: Vec<_> = config.warnings.iter().map(problem).collect();
        let aside: Vec<_> = config.warnings.iter().map(|w| format!("warning: {w}")).collect();
        let (tiers, roles) = (config.tiers.len(), config.roles.len());
        let text = format!("{}: no mistakes; tiers: {tiers}, roles: {roles}", file.display());
        let json = json!({ "ok": true, "errors": [], "warnings": warnings });
        Ok(Shown { aside: aside.join("\n"), ..Shown::new(json, text) })
    }
}

/// One mistake or warning for a program.
pub(super) fn problem(problem: &Problem) -> Value {
    json!({
        "file": problem.file.display().to_string(), "line": problem.line, "field": problem.field, "text": problem.text,
    })
}
