//! What `task run` and `task join` take, and how it fits together.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use tokio::net::UnixListener;

use super::handed::{self, Handed, TokenFiles};
use super::keeper::Keeper;
use super::{exits, socket};
use crate::cli::arguments;
use crate::cli::connection::Connection;
use crate::cli::failure::Failure;
use crate::cli::fresh_key::{KeyFiles, OptionalKeyFiles};
use crate::cli::task::Begin;
use crate::domain::time::Span;
use crate::proto::v1;

#[derive(Debug, Args)]
#[command(after_help = format!("{}\n{}", exits::RUN_HELP, exits::HELP))]
pub(in crate::cli) struct Run {
    #[command(flatten)]
    pub(super) begin: Begin,
    #[command(flatten)]
    pub(super) agent: Agent,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
#[command(after_help = exits::HELP)]
pub(in crate::cli) struct Join {
    /// The task; you are its agent
    #[arg(value_parser = arguments::task_id)]
    pub(super) task: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Who asks for the credentials, where that is not who begins the task.
#[derive(Debug, Args)]
pub(super) struct Agent {
    /// The agent's X.509-SVID with its chain, in PEM; default: you are the agent too
    #[arg(
        long,
        env = "LEASEHOLD_AGENT_CERT",
        hide_env_values = true,
        value_name = "FILE",
        requires = "agent_key",
        help_heading = "Agent"
    )]
    agent_cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(
        long,
        env = "LEASEHOLD_AGENT_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "agent_cert",
        help_heading = "Agent"
    )]
    agent_key: Option<PathBuf>,
    /// The agent's OIDC token, instead of a certificate
    #[arg(
        long,
        env = "LEASEHOLD_AGENT_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE",
        conflicts_with = "agent_cert",
        help_heading = "Agent"
    )]
    agent_token_file: Option<PathBuf>,
}

/// What the command is handed, and the command.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The one resource that a token is for; again for each; default: all that the task's grant names
    #[arg(long = "audience", value_name = "AUDIENCE", help_heading = "Credentials")]
    audiences: Vec<String>,
    /// What tokens are bound to; default: the agent's certificate, or a new key if it calls with a token
    #[arg(long, value_enum, help_heading = "Credentials")]
    proof: Option<Proof>,
    /// How long each token shall live at most, like `60s`; default: as the tier says
    #[arg(long, value_parser = arguments::span, help_heading = "Credentials")]
    ttl: Option<Span>,
    /// Put the token into this environment variable. It is not renewed there: it must outlast the command
    #[arg(long, value_name = "NAME", value_parser = variable, help_heading = "Credentials")]
    token_env: Option<String>,
    /// Keep the token in this file
    #[arg(long, value_name = "FILE", help_heading = "Credentials")]
    token_out: Option<PathBuf>,
    /// Answer with the token at this Unix socket
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(socket::fit), help_heading = "Credentials")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    files: OptionalKeyFiles,
    /// How long the command has after SIGTERM, where the task ends before it
    #[arg(long, value_parser = arguments::span, default_value = "10s")]
    pub(super) grace: Span,
    /// Stop the command when the task is advanced; else it goes on, with new credentials
    #[arg(long)]
    pub(super) stop_when_advanced: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    pub(super) command: Vec<OsString>,
}

/// What tokens are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Proof {
    /// The certificate that the agent calls with
    Certificate,
    /// A key that is made for the command, with a certificate for it
    Key,
    /// Nothing; only where the tier allows it
    Bearer,
}

/// What is asked for, each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    proof: Proof,
    pub(super) ttl: Option<Span>,
}

impl Terms {
    /// Whether a key must be made.
    pub(super) fn needs_key(self) -> bool {
        self.proof == Proof::Key
    }

    /// Whether the token is bound to nothing.
    pub(super) fn is_bearer(self) -> bool {
        self.proof == Proof::Bearer
    }
}

impl Agent {
    /// The agent's connection.
    pub(super) fn caller(&self, orchestrator: &Connection) -> Connection {
        if self.agent_cert.is_none() && self.agent_token_file.is_none() {
            return orchestrator.clone();
        }
        let (cert, key) = (self.agent_cert.clone(), self.agent_key.clone());
        orchestrator.called_by(cert, key, self.agent_token_file.clone())
    }
}

impl Common {
    /// The audiences that were named, or all that there are.
    pub(super) fn audiences(&self, all: &[String]) -> Vec<String> {
        if self.audiences.is_empty() { all.to_vec() } else { self.audiences.clone() }
    }

    /// What to ask for.
    pub(super) fn terms(&self, agent: &Connection) -> Result<Terms, Failure> {
        let proof = match (self.proof, self.files.is_given()) {
            (None | Some(Proof::Key), true) => Proof::Key,
            (Some(_), true) => {
                return Err(Failure::Usage(
                    "`--cert-out` and `--key-out` are for a new key; leave out `--proof`, or write `--proof key`"
                        .to_owned(),
                ));
            }
            (Some(proof), false) => proof,
            (None, false) if agent.certificate().is_some() => Proof::Certificate,
            (None, false) => Proof::Key,
        };
        Ok(Terms { proof, ttl: self.ttl })
    }

    /// One place holds one token; the socket holds any number.
    pub(super) fn must_suit(&self, audiences: usize) -> Result<(), Failure> {
        let places = [
            ("--token-env", self.token_env.is_some()),
            ("--token-out", self.token_out.is_some()),
            ("--cert-out", self.files.is_given()),
        ];
        let single = places.iter().find(|(_, given)| *given);
        match (audiences, single) {
            (0, _) => Err(Failure::Usage(
                "the task's grant names no audience; name one with `--audience`".to_owned(),
            )),
            (2.., Some((option, _))) => Err(Failure::Usage(format!(
                "the task's grant names {audiences} audiences, and `{option}` is for one; say which with `--audience`, \
                 or use `--socket`"
            ))),
            _ => Ok(()),
        }
    }

    /// Puts the tokens where the command finds them.
    pub(super) fn hand_over(
        &self,
        handed: &mut Handed,
        keepers: &mut [Keeper],
        agent: &Connection,
        task: &v1::Task,
    ) -> Result<Option<UnixListener>, Failure> {
        let audiences: Vec<_> = keepers.iter().map(Keeper::audience).collect();
        handed.set(handed::AUDIENCE, audiences.join(" "));
        handed.set(handed::TASK, &task.task_id);
        handed.set(handed::EPOCH, task.epoch.to_string());
        let by_default =
            self.token_env.is_none() && self.token_out.is_none() && self.socket.is_none();
        let is_renewed = by_default || self.token_out.is_some() || self.socket.is_some();
        if let [only] = keepers {
            self.hand_over_one(handed, only, agent, by_default)?;
        }
        for keeper in keepers.iter_mut().filter(|_| !is_renewed) {
            keeper.renew_nothing();
        }
        let in_folder = || handed.folder().join("socket");
        let Some(path) = self.socket.clone().or_else(|| by_default.then(in_folder)) else {
            return Ok(None);
        };
        let listener = socket::bind(&path)?;
        handed.place(handed::SOCKET, &path)?;
        Ok(Some(listener))
    }

    fn hand_over_one(
        &self,
        handed: &mut Handed,
        keeper: &mut Keeper,
        agent: &Connection,
        by_default: bool,
    ) -> Result<(), Failure> {
        let terms = self.terms(agent)?;
        let keys = match self.files.clone().given() {
            Some(files) => Some(files),
            None => terms.needs_key().then(|| KeyFiles::within(handed.folder())),
        };
        match (&keys, agent.certificate()) {
            (Some(files), _) => {
                handed.place(handed::CERT, files.cert())?;
                handed.place(handed::KEY, files.key())?;
            }
            (None, Some((cert, key))) if !terms.is_bearer() => {
                handed.point(handed::CERT, cert)?;
                handed.point(handed::KEY, key)?;
            }
            _ => {}
        }
        let in_folder = || handed.folder().join("token");
        let token = self.token_out.clone().or_else(|| by_default.then(in_folder));
        if let Some(file) = &token {
            handed.place(handed::TOKEN_FILE, file)?;
        }
        keeper.write_to(TokenFiles { token, keys })?;
        if let Some(name) = &self.token_env {
            handed.set(name, keeper.token());
        }
        Ok(())
    }
}

/// The name of an environment variable.
fn variable(text: &str) -> Result<String, String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if first && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Ok(text.to_owned());
    }
    Err("write the name of a variable, like `LEASEHOLD_TOKEN`".to_owned())
}
