//! The command line: one file a sub-command.
//!
//! What a command answers goes to stdout, what is said about it to stderr. Exit codes: 0 done, 1 failed or inactive, 2 the command line
//! itself is wrong, 3 it is done and recorded, and not enforced so far as `--wait-for` says.

mod arguments;
mod cert;
mod client;
mod config;
mod connection;
mod credential;
mod demo;
mod dev;
mod diagnosis;
mod dpop_key;
mod failure;
mod following;
mod fresh_key;
mod grant;
mod leaked;
mod lease;
mod quarantine;
mod revoke;
mod run;
mod serve;
mod show;
mod signals;
mod socket_file;
mod status;
mod store;
mod task;
mod token;
mod verify;
mod waiting;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::{self, LogFormat};
use connection::Connection;
use failure::Failure;
use task::TaskCommand;

/// A just-in-time credential broker: a credential lives exactly as long as its task.
#[derive(Debug, Parser)]
#[command(name = "leasehold", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Client(Box<ClientCommand>),
    /// Check a configuration file
    #[command(subcommand)]
    Config(config::Config),
    /// Run a broker
    Serve(serve::Serve),
    /// Run a sidecar that tells servers beside it whom to let in
    Verify(Box<verify::Verify>),
    /// Make a store, or say that it was put back from a backup
    #[command(subcommand)]
    Store(store::Store),
    /// Run a broker to play with, in a world of its own
    Dev(dev::Dev),
    /// Tell the whole story in one process
    Demo(demo::Demo),
    #[command(hide = true, name = run::BOUND)]
    Bound(run::Bound),
}

/// What is asked of a running broker.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Begin, change and end tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Get access tokens, and ask whether a credential is active
    #[command(subcommand)]
    Token(token::Token),
    /// Get X.509 certificates
    #[command(subcommand)]
    Cert(cert::Cert),
    /// Look at leases, and give them back
    #[command(subcommand)]
    Lease(lease::Lease),
    /// Kill one lease, or a task and all below it
    Revoke(revoke::Revoke),
    /// Kill every credential of a scope, and block issuing for it
    Quarantine(quarantine::Quarantine),
    /// Show the broker, its store, and the brokers and verifiers that share it; for operators
    Status(status::Status),
}

impl Cli {
    /// What the command line asks for. If nothing, it is said why, and never with a token that somebody put there.
    ///
    /// # Errors
    /// The exit code, where there is nothing to run: 2, or 0 where help was asked for.
    pub fn of_arguments() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            let is_shown = |argument: std::ffi::OsString| {
                argument.to_str().is_some_and(|text| text.split('=').any(arguments::is_token))
            };
            if error.use_stderr() && std::env::args_os().any(is_shown) {
                eprintln!("error: {}", arguments::TOKEN_ITSELF);
            } else {
                // There is nobody left to tell.
                let _ = error.print();
            }
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        })
    }

    /// Does what the command line says; the exit code of the process.
    pub async fn run(self) -> ExitCode {
        let output = self.connection.output();
        match self.command.run(self.connection).await {
            Ok(code) => code,
            Err(failure) => {
                failure.print(output);
                failure.exit_code()
            }
        }
    }
}

impl Command {
    async fn run(self, connection: Connection) -> Result<ExitCode, Failure> {
        let output = connection.output();
        match self {
            Self::Client(command) => {
                telemetry::init(LogFormat::Human, "warn")?;
                return command.run(connection).await;
            }
            Self::Config(command) => command.run()?.print(output)?,
            Self::Serve(command) => command.run().await?,
            Self::Verify(command) => command.run(&connection).await?,
            Self::Store(command) => {
                telemetry::init(LogFormat::Human, "warn")?;
                command.run().await?.print(output)?;
            }
            Self::Dev(command) => command.run().await?,
            Self::Demo(command) => {
                telemetry::init(LogFormat::Human, "error")?;
                command.run(output).await?;
            }
            Self::Bound(command) => return Ok(command.run()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl ClientCommand {
    async fn run(self, connection: Connection) -> Result<ExitCode, Failure> {
        let output = connection.output();
        let shown = match self {
            Self::Task(TaskCommand::Run(command)) => return Ok(command.run(connection).await),
            Self::Task(TaskCommand::Join(command)) => return Ok(command.run(connection).await),
            Self::Task(TaskCommand::Watch(command)) => return command.run(connection).await,
            Self::Task(TaskCommand::Call(command)) => {
                command.run(&connection.open().await?).await?
            }
            // It asks nobody.
            Self::Token(token::Token::Proof(proof)) => proof.run()?,
            Self::Token(command) => command.run(&connection.open().await?).await?,
            Self::Cert(command) => command.run(&connection.open().await?).await?,
            Self::Lease(command) => command.run(&connection.open().await?).await?,
            Self::Revoke(command) => command.run(&connection).await?,
            Self::Quarantine(command) => command.run(&connection.open().await?).await?,
            Self::Status(command) => command.run(&connection.open().await?).await?,
        };
        shown.print(output)?;
        Ok(ExitCode::from(shown.exit))
    }
}

#[cfg(test)]
mod tests;
