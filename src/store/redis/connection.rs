//! Connections to one Redis server: how to reach it, who we are to it, and what its errors mean to us.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionAddr, ErrorKind,
    IntoConnectionInfo, RedisError, Script, ServerErrorKind, TlsCertificates, Value,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use super::script::Call;
use crate::domain::secret::Secret;
use crate::domain::time::Span;
use crate::store::StoreError;

/// How to reach the server, and who we are to it.
pub struct Settings {
    /// `rediss://host:port`, or `redis://host:port` without TLS; without user and password.
    pub url: String,
    /// PEM of the roots that the server's certificate must lead to; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM of our certificate's chain, leaf first, and of its private key.
    pub client_files: Option<(PathBuf, PathBuf)>,
    /// The ACL user; `None`: `default`.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<Secret>,
    /// How long a connection, or one answer, may take.
    pub response_timeout: Span,
}

impl Settings {
    /// A server without TLS and without a password.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_file: None,
            client_files: None,
            username: None,
            password: None,
            response_timeout: Span::from_seconds(2),
        }
    }

    pub(super) fn client(&self) -> Result<Client, StoreError> {
        let info = self.url.as_str().into_connection_info().map_err(|_| {
            misconfigured("`url` is no address of a Redis server; write `rediss://host:port`")
        })?;
        let redis = info.redis_settings();
        if redis.username().or(redis.password()).is_some() {
            return Err(misconfigured("`url` holds a user or password; give them by themselves"));
        }
        let mut redis = redis.clone().set_skip_set_lib_name();
        if let Some(username) = &self.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password.expose_text());
        }
        let info = info.set_redis_settings(redis);
        let is_tls = match info.addr() {
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(misconfigured("`url` turns the check of certificates off"));
            }
            ConnectionAddr::TcpTls { .. } => true,
            _ => false,
        };
        match (is_tls, self.ca_file.is_some() || self.client_files.is_some()) {
            (true, _) => Client::build_with_tls(info, self.certificates()?).map_err(|error| {
                misconfigured(format!("the certificates cannot be used: {}", error.category()))
            }),
            (false, false) => Client::open(info).map_err(failed),
            (false, true) => Err(misconfigured(
                "`url` is without TLS, and certificates are given; write `rediss://`",
            )),
        }
    }

    fn certificates(&self) -> Result<TlsCertificates, StoreError> {
        let client_tls = match &self.client_files {
            None => None,
            Some((chain, key)) => {
                Some(ClientTlsConfig { client_cert: file(chain)?, client_key: file(key)? })
            }
        };
        let root_cert = self.ca_file.as_deref().map(file).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

fn file(path: &Path) -> Result<Vec<u8>, StoreError> {
    std::fs::read(path)
        .map_err(|error| misconfigured(format!("`{}` cannot be read: {error}", path.display())))
}

/// A connection that many requests share. It is made anew after it broke.
///
/// Of each connection a server takes some 20 KB before it syncs, which are eight commits: so many an ending waits for, in a flood.
pub(super) struct Connection {
    client: Client,
    config: AsyncConnectionConfig,
    /// Where its answers are heard, whoever makes it.
    runtime: Handle,
    current: Mutex<Current>,
    attempts: AtomicU64,
}

#[derive(Default)]
struct Current {
    generation: u64,
    connection: Option<MultiplexedConnection>,
}

impl Connection {
    /// On the threads of a runtime. Nothing is sent yet.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`]
    pub(super) fn new(settings: &Settings, runtime: Handle) -> Result<Self, StoreError> {
        let timeout: Duration = settings.response_timeout.to_std();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        Ok(Self {
            client: settings.client()?,
            config,
            runtime,
            current: Mutex::default(),
            attempts: AtomicU64::new(0),
        })
    }

    /// Runs a script, in one round trip if the server knows it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Misconfigured`]
    pub(super) async fn run(&self, script: &Script, call: &Call) -> Result<Value, StoreError> {
        let command = call.command(script);
        let (generation, mut connection) = self.get().await?;
        let mut result = command.query_async(&mut connection).await;
        // A server that restarted, or whose scripts were flushed, ran nothing of it.
        let unknown =
            |error: &RedisError| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript);
        if result.as_ref().is_err_and(unknown) {
            result = match script.load_async(&mut connection).await {
                Ok(_) => command.query_async(&mut connection).await,
                Err(error) => Err(error),
            };
        }
        self.look_at(generation, result).await
    }

    /// Sends one command.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::Misconfigured`]
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, StoreError> {
        let (generation, mut connection) = self.get().await?;
        let result = command.query_async(&mut connection).await;
        self.look_at(generation, result).await
    }

    /// The connection; whoever waits while none can be made fails together with the attempt.
    async fn get(&self) -> Result<(u64, MultiplexedConnection), StoreError> {
        let seen = self.attempts.load(Ordering::Acquire);
        let mut current = self.current.lock().await;
        if let Some(connection) = &current.connection {
            return Ok((current.generation, connection.clone()));
        }
        if self.attempts.load(Ordering::Acquire) != seen {
            return Err(StoreError::Unavailable("no connection can be made".to_owned()));
        }
        let made = self.make().await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        let connection = made?;
        current.connection = Some(connection.clone());
        current.generation = current.generation.wrapping_add(1);
        Ok((current.generation, connection))
    }

    // INVARIANT (lanes keep apart): a connection is driven by the runtime that it is made on, and that is its lane's own.
    async fn make(&self) -> Result<MultiplexedConnection, StoreError> {
        let (client, config) = (self.client.clone(), self.config.clone());
        let making = self.runtime.spawn(async move {
            client.get_multiplexed_async_connection_with_config(&config).await
        });
        let made = AbortOnDropHandle::new(making).await;
        made.map_err(|_| StoreError::Unavailable("no connection was made".to_owned()))?
            .map_err(failed)
    }

    async fn look_at(
        &self,
        generation: u64,
        result: Result<Value, RedisError>,
    ) -> Result<Value, StoreError> {
        let Err(error) = result else { return result.map_err(failed) };
        // After a time-out too: a server that is cut off says nothing for many minutes.
        if error.is_unrecoverable_error() || error.is_io_error() {
            let mut current = self.current.lock().await;
            if current.generation == generation {
                current.connection = None;
            }
        }
        Err(failed(error))
    }
}

/// What an error of the client means. Its own text is used only where the server wrote it in answer to a fixed command, or the
/// operating system did: neither knows a password.
fn failed(error: RedisError) -> StoreError {
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::AuthenticationFailed => misconfigured(
            "the Redis server refuses the user name or the password: look at the store's `username`, and at the secret in its `password_file` or `password_env`",
        ),
        ErrorKind::Server(ServerErrorKind::NoPerm) => misconfigured(format!(
            "the Redis user may not do what Leasehold needs, as `config/redis.acl` lists it: {detail}"
        )),
        // A command of many words is not even read before that.
        _ if error.code() == Some("NOAUTH") || detail.contains("unauthenticated") => misconfigured(
            "the Redis server answers nobody without a password: give the store a `username`, and a `password_file` or `password_env`",
        ),
        ErrorKind::Io => StoreError::Unavailable(error.to_string()),
        _ => {
            let code = error.code().unwrap_or_else(|| error.category());
            StoreError::Unavailable(format!("{code} {detail}").trim().to_owned())
        }
    }
}

pub(super) fn misconfigured(problem: impl Into<String>) -> StoreError {
    StoreError::Misconfigured(problem.into())
}
