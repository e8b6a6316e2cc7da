//! `leasehold dev`: a broker to play with, and everything that it takes to call it.

use std::env;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Map;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::arguments;
use super::failure::Failure;
use super::signals::until_stopped;
use crate::app::{self, AppError, Sockets};
use crate::broker::seams::{Clock as _, SystemClock, SystemEntropy};
use crate::config::{self, Config};
use crate::domain::time::Span;
use crate::playground::{self, AUDIENCE, Plan, Playground, PlaygroundStore, Workload};
use crate::telemetry::{self, LogFormat};

/// Last segment of the agents' SPIFFE IDs.
const INSTANCE: &str = "1";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Dev {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Args)]
struct Start {
    /// Folder of the playground, made or used again; default: one that is removed at the end
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Where a new playground's broker answers gRPC; default: 127.0.0.1:7700
    #[arg(long, value_name = "ADDRESS")]
    grpc: Option<SocketAddr>,
    /// Where a new playground's broker answers HTTP; default: 127.0.0.1:7701
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Mint an identity token of the playground's OIDC issuer; stdout is the token alone
    Token(IdToken),
}

#[derive(Debug, Args)]
struct IdToken {
    /// Folder of the playground
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Who it is for: `alice` drives tasks, `reporter` does them
    #[arg(long)]
    subject: String,
    /// A further claim, `name=value`; again for each
    #[arg(long = "claim", value_name = "CLAIM", value_parser = arguments::label)]
    claims: Vec<(String, String)>,
    /// How long it is valid
    #[arg(long, value_parser = arguments::span, default_value = "10m")]
    ttl: Span,
}

impl Dev {
    /// Runs the broker until it is told to stop, or mints a token.
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self.command {
            Some(Command::Token(token)) => token.mint(),
            None => self.start.run().await,
        }
    }
}

impl Start {
    async fn run(self) -> Result<(), Failure> {
        let (playground, config, sockets, _removed_at_the_end) = self.prepare().await?;
        telemetry::init(LogFormat::Human, &config.log.filter)?;
        app::make_store_if_missing(&config, Some(playground::DELTA_MAX)).await?;
        let broker = app::start(config.clone(), sockets).await?;
        writeln!(io::stdout(), "{}", told(&playground, &config)).map_err(Failure::Print)?;
        until_stopped().await.map_err(Failure::Signals)?;
        broker.stop().await;
        Ok(())
    }

    async fn prepare(self) -> Result<(Playground, Config, Sockets, Option<TempDir>), Failure> {
        let (dir, temporary) = match self.dir {
            Some(dir) => (dir, None),
            None => {
                let made = tempfile::Builder::new().prefix("leasehold-dev-").tempdir();
                let made = made.map_err(Failure::Folder)?;
                (made.path().to_owned(), Some(made))
            }
        };
        if let Some(playground) = Playground::find(&dir)? {
            if self.grpc.is_some() || self.http.is_some() {
                return Err(Failure::Usage(format!(
                    "`{}` is a playground with addresses of its own; leave out `--grpc` and `--http`",
                    dir.display()
                )));
            }
            let config = config::load(&playground.config_file())?;
            let sockets = Sockets::bind(&config).await?;
            return Ok((playground, config, sockets, temporary));
        }
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Bound first: port 0 becomes a real one, which the configuration then names.
        let (grpc, grpc_socket) = bind(self.grpc.unwrap_or(local(7700))).await?;
        let (http, http_socket) = bind(self.http.unwrap_or(local(7701))).await?;
        let sockets = Sockets { grpc: grpc_socket, http: http_socket, metrics: None };
        let plan =
            Plan { grpc, http, store: PlaygroundStore::Embedded, instance: INSTANCE.to_owned() };
        let now = SystemClock::default().now();
        let playground = Playground::make(&dir, &plan, now, &SystemEntropy)?;
        let config = config::load(&playground.config_file())?;
        Ok((playground, config, sockets, temporary))
    }
}

impl IdToken {
    fn mint(self) -> Result<(), Failure> {
        let playground = Playground::find(&self.dir)?.ok_or_else(|| {
            let dir = self.dir.display();
            Failure::Usage(format!(
                "there is no playground in `{dir}`; name its folder with `--dir`"
            ))
        })?;
        let claims = self.claims.into_iter().map(|(name, value)| (name, value.into()));
        let now = SystemClock::default().now();
        let token =
            playground.issuer()?.token(&self.subject, Map::from_iter(claims), self.ttl, now);
        let token = token.map_err(|fault| Failure::Usage(fault.to_string()))?;
        writeln!(io::stdout(), "{}", token.expose_text()).map_err(Failure::Print)
    }
}

async fn bind(address: SocketAddr) -> Result<(SocketAddr, TcpListener), AppError> {
    let bound = async {
        let socket = TcpListener::bind(address).await?;
        Ok((socket.local_addr()?, socket))
    };
    bound.await.map_err(|fault| AppError::Socket(address.to_string(), fault))
}

/// What there is, and what to do with it.
fn told(playground: &Playground, config: &Config) -> String {
    let (dir, grpc, http) = (playground.dir().display(), config.listen.grpc, &config.base_url);
    let id = |workload: Workload| workload.spiffe_id(INSTANCE);
    let who = |workload: Workload, what: &str| {
        format!("    {:<13} {:<42} {what}", workload.name(), id(workload))
    };
    let workloads = [
        who(Workload::Orchestrator, "begins and drives tasks"),
        who(Workload::Summarizer, "an agent"),
        who(Workload::Researcher, "another agent"),
        who(Workload::Documents, "an API that accepts credentials"),
        who(Workload::Operator, "holds the kill switch"),
    ]
    .join("\n");
    let summarizer = id(Workload::Summarizer);
    let program = env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    let program = program.unwrap_or_default();
    let program = program.display();
    format!(
        r#"
  A Leasehold playground, in {dir}

    gRPC          https://{grpc}
    HTTPS         {http}
    leasehold.toml, root.pem, data/            configuration, root certificate, tasks and leases

  Who lives in it, each with <name>.pem and <name>.key:

{workloads}
    alice         by OIDC                                    another orchestrator
    reporter      by OIDC                                    another agent

  Paste into another terminal:

    cd {dir}
    export PATH={program}:$PATH LEASEHOLD_BROKER=https://{grpc} LEASEHOLD_CA=root.pem
    as() {{ who=$1; shift; leasehold --cert $who.pem --key $who.key "$@"; }}

    # a task begins, and its agent gets a token and a certificate
    as orchestrator task begin --agent {summarizer} --tier standard \
      --grant {AUDIENCE}=read --duration 30m | tee task
    TASK=$(awk '$1 == "task" {{ print $2 }}' task)
    as summarizer token issue --task $TASK --audience {AUDIENCE} > token
    as summarizer cert issue --task $TASK --audience {AUDIENCE} --cert-out task.pem --key-out task.key

    # the API asks whether they are good; the task ends; it asks again
    as documents token introspect token
    as documents token introspect --certificate task.pem
    as orchestrator task complete $TASK
    as documents token introspect token
    as summarizer token issue --task $TASK --audience {AUDIENCE}

    # the same for those who have no certificate and prove themselves by OIDC
    leasehold dev token --subject alice > alice.token
    leasehold task begin --token-file alice.token --agent oidc:dev:reporter --tier standard \
      --grant {AUDIENCE}=read --duration 5m

  Running; Ctrl-C stops it.
"#
    )
}
