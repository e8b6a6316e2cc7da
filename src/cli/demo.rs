//! `leasehold demo`: the whole story in one process.

use std::io::{self, IsTerminal as _};

use clap::Args;
use toml::Value;

use super::failure::Failure;
use super::show::Output;
use crate::config;
use crate::config::store::{RedisConfig, StoreConfig};
use crate::demo::{self, Look, Options};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Tell it for a program: one JSON object a step
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreArguments,
}

/// The fields of `store` in the configuration, as arguments.
#[derive(Debug, Default, Args)]
struct StoreArguments {
    /// Keep tasks and leases on this Redis server instead of in a folder: `rediss://user@host:6379`, or `redis://` on this
    /// machine; an empty one is made ready
    #[arg(id = "store", long = "store", value_name = "URL")]
    url: Option<String>,
    /// The file that holds the user's password
    #[arg(long = "store-password-file", value_name = "FILE", requires = "store")]
    password_file: Option<String>,
    /// The environment variable that holds the user's password
    #[arg(
        long = "store-password-env",
        value_name = "NAME",
        requires = "store",
        conflicts_with = "password_file"
    )]
    password_env: Option<String>,
    /// The roots that the server's certificate leads to, in PEM; default: those of the system
    #[arg(long = "store-ca", value_name = "FILE", requires = "store")]
    ca_file: Option<String>,
    /// Our certificate chain towards the server, in PEM
    #[arg(long = "store-cert", value_name = "FILE", requires_all = ["store", "key_file"])]
    cert_file: Option<String>,
    /// Its private key, in PEM
    #[arg(long = "store-key", value_name = "FILE", requires_all = ["store", "cert_file"])]
    key_file: Option<String>,
}

impl Demo {
    /// Tells the story on stdout. The first step that is not what it should be is the failure.
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        let out = io::stdout();
        let look = match (self.json, output) {
            (true, _) | (_, Output::Json) => Look::Json,
            (false, Output::Human) => Look::Human { colour: out.is_terminal() },
        };
        let redis = self.store.read()?;
        Ok(demo::run(&Options { redis, look }, out).await?)
    }
}

impl StoreArguments {
    /// The server that they name, if they name one.
    fn read(self) -> Result<Option<RedisConfig>, Failure> {
        let Some(url) = self.url else { return Ok(None) };
        let (url, user) = without_user(&url)?;
        if let Some(user) = &user
            && self.password_file.is_none()
            && self.password_env.is_none()
        {
            return Err(Failure::Usage(format!(
                "`--store` names the user `{user}`, whose password is missing; add `--store-password-file` or \
                 `--store-password-env`"
            )));
        }
        let fields = [
            ("kind", Some("redis".to_owned())),
            ("url", Some(url)),
            ("username", user),
            ("password_file", self.password_file),
            ("password_env", self.password_env),
            ("ca_file", self.ca_file),
            ("cert_file", self.cert_file),
            ("key_file", self.key_file),
        ];
        let given = fields.into_iter().filter_map(|(field, value)| Some((field, value?)));
        let lines = given.map(|(field, value)| format!("{field} = {}\n", Value::from(value)));
        match config::parse_store("--store", &lines.collect::<String>())? {
            StoreConfig::Redis(redis) => Ok(Some(redis)),
            StoreConfig::Embedded { .. } => Ok(None),
        }
    }
}

/// The URL without its user, and the user. A password there would be in every list of processes; it is not repeated.
fn without_user(url: &str) -> Result<(String, Option<String>), Failure> {
    let parts = url.split_once("://").and_then(|(scheme, rest)| {
        let (user, rest) = rest.rsplit_once('@')?;
        Some((format!("{scheme}://{rest}"), user.to_owned()))
    });
    match parts {
        None => Ok((url.to_owned(), None)),
        Some((_, user)) if user.is_empty() || user.contains([':', '/', '%']) => {
            let text = "`--store` holds more than a user in front of `@`; keep the password out of it, and add \
                        `--store-password-file` or `--store-password-env`";
            Err(Failure::Usage(text.to_owned()))
        }
        Some((url, user)) => Ok((url, Some(user))),
    }
}

#[cfg(test)]
mod tests {
    use std::process::ExitCode;

    use super::*;
    use crate::config::secret_source::SecretSource;
    use crate::demo::{DemoError, Mishap, StoryError};

    #[test]
    fn a_step_that_is_not_what_it_should_be_ends_the_process_with_a_failure() {
        let mishap = Mishap::Failed("x".to_owned());
        let failure = Failure::from(DemoError::from(StoryError::Step { step: "begin", mishap }));
        assert_eq!(failure.exit_code(), ExitCode::FAILURE);
        assert_eq!(failure.to_string(), "step `begin`: x");
    }

    fn at(url: &str) -> StoreArguments {
        StoreArguments { url: Some(url.to_owned()), ..Default::default() }
    }

    #[test]
    fn a_server_is_logged_in_to_as_the_configuration_would() {
        assert_eq!(StoreArguments::default().read().unwrap(), None);
        let plain = at("redis://127.0.0.1:6379").read().unwrap().unwrap();
        assert_eq!((plain.username, plain.password), (None, None));
        let arguments = StoreArguments {
            password_env: Some("PASSWORD".to_owned()),
            ca_file: Some("Cargo.toml".to_owned()),
            ..at("rediss://leasehold@redis.example:6379")
        };
        let redis = arguments.read().unwrap().unwrap();
        assert_eq!(redis.url, "rediss://redis.example:6379");
        assert_eq!(redis.username.as_deref(), Some("leasehold"));
        assert_eq!(redis.password, Some(SecretSource::Env("PASSWORD".to_owned())));
        assert_eq!(redis.ca_file, Some("Cargo.toml".into()));
    }

    #[test]
    fn class_17_password_in_the_url_is_refused_and_not_repeated() {
        for url in ["redis://u:hunter2@127.0.0.1", "redis://:hunter2@127.0.0.1", "rediss://@h"] {
            let refused = at(url).read().unwrap_err();
            assert_eq!(refused.exit_code(), ExitCode::from(2));
            assert!(refused.to_string().contains("`--store-password-file`"), "{refused}");
            assert!(!refused.to_string().contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn each_mistake_says_which_argument_and_what_to_do() {
        let ca_file = Some("Cargo.toml".to_owned());
        for (arguments, expected) in [
            (
                at("rediss://u@h"),
                "`--store` names the user `u`, whose password is missing; add `--store-password-file` or `--store-password-env`",
            ),
            (
                at("redis://redis.example"),
                "--store: `url` is without TLS to another machine; write `rediss://`",
            ),
            (
                at("localhost:6379"),
                "--store: `url` is no address of a Redis server; write `rediss://` and a host",
            ),
            (
                StoreArguments { ca_file, ..at("redis://127.0.0.1") },
                "--store: `url` is without TLS, and certificates are given; write `rediss://`",
            ),
        ] {
            assert_eq!(arguments.read().unwrap_err().to_string(), expected);
        }
    }
}
