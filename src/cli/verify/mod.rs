//! `leasehold verify`: a sidecar that tells servers beside it whom to let in, until it is told to stop.

mod listen;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;

use self::listen::{Address, Opened};
use super::arguments;
use super::connection::Connection;
use super::failure::Failure;
use super::signals;
use crate::domain::secret::Secret;
use crate::domain::time::Span;
use crate::jose::dpop::{HttpsUri, NonceKey};
use crate::sidecar::{Options, Sidecar};
use crate::telemetry::{self, LogFormat, metrics};
use crate::verifier::{Identity, Settings, Verifier, WhenStale};

/// The shortest secret that nonces are made with, in bytes.
const MIN_SECRET_BYTES: usize = 32;

/// Run a sidecar: it follows revocations, and tells servers beside it whom to let in.
///
/// It proves itself to the brokers with `--cert` and `--key`, whose principal needs the role `verifier`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Where to answer: `unix:` and a path, or an address and a port; again for each
    #[arg(long, value_name = "WHERE", default_value = "unix:/run/leasehold/verify.sock")]
    listen: Vec<Address>,
    /// Who may open the socket's file, in octal
    #[arg(long, value_name = "MODE", default_value = "0600", value_parser = mode)]
    socket_mode: u32,
    /// Also at addresses that other machines reach: anybody who does may ask
    #[arg(long)]
    danger_listen_beyond_this_machine: bool,
    /// The `aud` that tokens must have
    #[arg(long, value_name = "URL")]
    audience: String,
    /// Another broker of the same store; again for each
    #[arg(long, value_name = "URL")]
    other_broker: Vec<String>,
    /// The only `iss` to take; if it is not given, what the brokers say that they are
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// What operators call this verifier; if it is not given, its principal
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// What happens while what is known of revocations is older than a credential allows
    #[arg(long, value_enum, default_value_t)]
    when_stale: Stale,
    /// How callers name the server, for DPoP: `https`, host and port; again for each
    #[arg(long, value_name = "URL", value_parser = origin)]
    public_url: Vec<HttpsUri>,
    /// DPoP proofs must have a nonce, made with this secret of 32 bytes or more; servers of one name share it
    #[arg(long, value_name = "FILE")]
    dpop_nonce_secret: Option<PathBuf>,
    /// Also take tokens that are bound to nothing
    #[arg(long)]
    allow_unbound: bool,
    /// No request that was let in without a held call runs longer than this
    #[arg(long, value_name = "TIME", value_parser = arguments::span, default_value = "60s")]
    longest_request: Span,
    /// Let the server behind Envoy see token and proof
    #[arg(long)]
    pass_credentials: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// What is logged, as in RUST_LOG
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log_filter: String,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Stale {
    /// It is refused
    #[default]
    Refuse,
    /// A broker is asked
    Introspect,
}

impl Verify {
    /// Answers until Ctrl-C or SIGTERM, then lets running requests end.
    pub(super) async fn run(self, connection: &Connection) -> Result<(), Failure> {
        let settings = self.settings(connection)?;
        telemetry::init(self.log_format, &self.log_filter)?;
        let numbers = metrics::install().map_err(|error| Failure::Usage(error.to_string()))?;
        let told = signals::stop().map_err(Failure::Signals)?;
        raise_descriptors();
        let Opened { doors, files } =
            listen::open(&self.listen, self.socket_mode, self.danger_listen_beyond_this_machine)
                .await?;
        let verifier =
            Verifier::start(settings).map_err(|error| Failure::Usage(error.to_string()))?;
        let options = Options {
            longest_request: arguments::standard(self.longest_request),
            passes_credentials: self.pass_credentials,
            ..Options::default()
        };
        let stop = CancellationToken::new();
        let serving = Sidecar::new(verifier, options, numbers).serve(doors, stop.clone());
        let stopping = async {
            told.await;
            tracing::info!("stopping: running requests may end");
            // First, so that nobody finds the way to a socket that is not answered any more.
            drop(files);
            stop.cancel();
        };
        tokio::join!(serving, stopping);
        Ok(())
    }

    fn settings(&self, connection: &Connection) -> Result<Settings, Failure> {
        let (broker, [ca_file, cert_file, key_file]) = connection.verifier()?;
        let brokers = [broker.to_owned()].into_iter().chain(self.other_broker.iter().cloned());
        let identity = Identity { ca_file, cert_file, key_file };
        let mut settings = Settings::new(brokers, identity, &self.audience);
        settings.name.clone_from(&self.name);
        settings.issuer.clone_from(&self.issuer);
        settings.when_stale = match self.when_stale {
            Stale::Refuse => WhenStale::Refuse,
            Stale::Introspect => WhenStale::Introspect,
        };
        settings.rules.takes_unbound = self.allow_unbound;
        settings.rules.targets.clone_from(&self.public_url);
        settings.rules.nonces = self.nonces()?;
        Ok(settings)
    }

    fn nonces(&self) -> Result<Option<NonceKey>, Failure> {
        let Some(path) = &self.dpop_nonce_secret else { return Ok(None) };
        let option = "`--dpop-nonce-secret`";
        let read = |source| Failure::Read { option, path: path.clone(), source };
        let secret = Secret::new(std::fs::read(path).map_err(read)?);
        if secret.expose().len() < MIN_SECRET_BYTES {
            return Err(Failure::Usage(format!(
                "`--dpop-nonce-secret {}` has fewer than {MIN_SECRET_BYTES} bytes; make it with `openssl rand -out FILE 32`",
                path.display()
            )));
        }
        let key = NonceKey::derive(&secret);
        key.map(Some).map_err(|_| Failure::Key("of nonces for DPoP".to_owned()))
    }
}

/// As many descriptors as the system lets us have: each connection takes one.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        // What cannot be raised stays as it is, and fewer connections are accepted at once.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
}

fn origin(text: &str) -> Result<HttpsUri, String> {
    let uri = HttpsUri::parse(text).map_err(|error| format!("it {error}"))?;
    if !uri.is_origin() {
        return Err("write it without a path, like `https://documents.example`".to_owned());
    }
    Ok(uri)
}

/// Of owner, group and others, to read and write.
fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("write it like `0600` or `0660`".to_owned()),
    }
}
