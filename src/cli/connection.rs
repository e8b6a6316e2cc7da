//! The connection to a broker: where it is, whom to trust, who we are.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

use super::client::{Bearer, Client};
use super::diagnosis::{self, Caller, Diagnosis};
use super::failure::Failure;
use super::show::Output;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// With TLS and HTTP/2 on it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection that died without a word is noticed so soon while somebody waits for what comes over it.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a broker.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// The broker's gRPC address
    #[arg(
        long,
        env = "LEASEHOLD_BROKER",
        global = true,
        hide_env_values = true,
        default_value = "https://127.0.0.1:7700",
        value_name = "URL"
    )]
    broker: String,
    /// The CA that issued the broker's certificate, in PEM
    #[arg(long, env = "LEASEHOLD_CA", global = true, hide_env_values = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your X.509-SVID with its chain, in PEM, leaf first
    #[arg(
        long,
        env = "LEASEHOLD_CERT",
        global = true,
        hide_env_values = true,
        value_name = "FILE"
    )]
    cert: Option<PathBuf>,
    /// Its private key, in PEM
    #[arg(long, env = "LEASEHOLD_KEY", global = true, hide_env_values = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Your OIDC token, instead of a certificate
    #[arg(
        long,
        env = "LEASEHOLD_TOKEN_FILE",
        global = true,
        hide_env_values = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
    /// How the answer is printed
    #[arg(
        long,
        env = "LEASEHOLD_OUTPUT",
        global = true,
        hide_env_values = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    output: Output,
}

impl Connection {
    /// How the answer is printed.
    pub(super) fn output(&self) -> Output {
        self.output
    }

    /// The same broker, called by somebody else.
    pub(super) fn called_by(
        &self,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
        token_file: Option<PathBuf>,
    ) -> Self {
        Self { cert, key, token_file, ..self.clone() }
    }

    /// The files with the caller's certificate and its key, if it shows one.
    pub(super) fn certificate(&self) -> Option<(&Path, &Path)> {
        Some((self.cert.as_deref()?, self.key.as_deref()?))
    }

    /// The broker, and the files with authority, certificate and key, for whoever connects by itself and often.
    pub(super) fn verifier(&self) -> Result<(&str, [PathBuf; 3]), Failure> {
        // Whoever starts it is told of a file that is no good; later only the log would tell.
        self.endpoint()?;
        match (&self.ca, &self.cert, &self.key, &self.token_file) {
            (Some(ca), Some(cert), Some(key), None) => {
                Ok((&self.broker, [ca.clone(), cert.clone(), key.clone()]))
            }
            _ => Err(Failure::Usage(
                "a sidecar proves itself by a certificate: give `--cert` and `--key` (or LEASEHOLD_CERT and LEASEHOLD_KEY), and no token"
                    .to_owned(),
            )),
        }
    }

    /// Connects, with the identity that the files hold now; the first failure is told in terms of the options.
    pub(super) async fn open(&self) -> Result<Client, Failure> {
        let bearer = self.bearer()?;
        let endpoint = self.endpoint()?;
        let broker = self.broker.clone();
        // The endpoint's own limit is one of TCP: a broker that is stopped takes connections all the same.
        let connected = timeout(ANSWER_TIMEOUT, endpoint.connect()).await;
        let connected = connected.map_err(|_| {
            Failure::Connection(Diagnosis {
                problem: format!("`{broker}` takes connections and does not answer"),
                remedy: "it may be stopped or have too much to do: look at it, or name another one by `--broker` (or LEASEHOLD_BROKER)".to_owned(),
            })
        })?;
        let channel = connected.map_err(|error| {
            Failure::Connection(diagnosis::of(&error, &broker).unwrap_or_else(|| Diagnosis {
                problem: format!("`{broker}` cannot be reached: {}", innermost(&error)),
                remedy: "check `--broker` (or LEASEHOLD_BROKER)".to_owned(),
            }))
        })?;
        let is_live = self.output == Output::Human && std::io::stderr().is_terminal();
        let caller = match (&self.cert, &self.token_file) {
            (Some(_), _) => Caller::Certificate,
            (None, Some(_)) => Caller::Token,
            (None, None) => Caller::Nobody,
        };
        Ok(Client { channel, bearer, broker, caller, is_live })
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let bad = |problem: &str| {
            Failure::Usage(format!(
                "`--broker {}` (or LEASEHOLD_BROKER) {problem}; write it like `https://127.0.0.1:7700`",
                self.broker
            ))
        };
        if !self.broker.starts_with("https://") {
            return Err(bad("is not an `https` address, and a broker answers over TLS only"));
        }
        let endpoint = Endpoint::from_shared(self.broker.clone()).map_err(|_| bad("is no URL"))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        endpoint.tls_config(self.tls()?).map_err(|error| {
            Failure::Usage(format!(
                "`--ca`, `--cert` and `--key` cannot be used: {}; each is a file in PEM, and the key is the certificate's",
                innermost(&error)
            ))
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let ca_pem = self.ca_pem()?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem.as_slice()));
        match (&self.cert, &self.key) {
            (None, None) => Ok(tls),
            (Some(cert), Some(key)) => {
                let cert = read(cert, "`--cert` (or LEASEHOLD_CERT)")?;
                let key = read(key, "`--key` (or LEASEHOLD_KEY)")?;
                Ok(tls.identity(Identity::from_pem(cert.as_slice(), key.as_slice())))
            }
            (Some(_), None) => Err(Failure::Usage("`--cert` is without its `--key`".to_owned())),
            (None, Some(_)) => Err(Failure::Usage("`--key` is without its `--cert`".to_owned())),
        }
    }

    /// Whom to trust, in PEM.
    pub(super) fn ca_pem(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let Some(ca) = &self.ca else {
            return Err(Failure::Usage(
                "say whom to trust: `--ca` (or LEASEHOLD_CA) names the PEM of the CA that issued the broker's certificate"
                    .to_owned(),
            ));
        };
        let ca_pem = read(ca, "`--ca` (or LEASEHOLD_CA)")?;
        if !ca_pem.starts_with(b"-----BEGIN CERTIFICATE-----")
            && !contains(&ca_pem, b"\n-----BEGIN CERTIFICATE-----")
        {
            return Err(Failure::Usage(format!(
                "`--ca {}` holds no certificate in PEM",
                ca.display()
            )));
        }
        Ok(ca_pem)
    }

    fn bearer(&self) -> Result<Bearer, Failure> {
        let Some(file) = &self.token_file else {
            return Ok(Bearer(None));
        };
        if self.cert.is_some() {
            return Err(Failure::Usage(
                "`--cert` and `--token-file` are two identities, and a broker refuses both together; give one"
                    .to_owned(),
            ));
        }
        let token = read(file, "`--token-file` (or LEASEHOLD_TOKEN_FILE)")?;
        let value = std::str::from_utf8(token.trim_ascii()).ok().filter(|token| !token.is_empty());
        let value = value.map(|token| Zeroizing::new(format!("Bearer {token}")));
        let value = value.and_then(|value| MetadataValue::try_from(value.as_str()).ok());
        let mut value = value.ok_or_else(|| {
            Failure::Usage(format!("`--token-file {}` holds no token", file.display()))
        })?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

fn read(path: &PathBuf, option: &'static str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |source| Failure::Read { option, path: path.clone(), source };
    let bytes = fs::read(path).map_err(failed)?;
    Ok(Zeroizing::new(bytes))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
