//! A Redis server of the test's own: on a free port of 127.0.0.1, in a folder that goes away with it.
//!
//! Leasehold's user has exactly the rights of `config/redis.acl`; a second user, `test`, may do everything.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::domain::secret::Secret;
use crate::domain::time::Span;
use crate::store::redis::Settings;
use crate::testing::ca::TestAuthority;

const ACL: &str = include_str!("../../config/redis.acl");
/// Password of both users.
pub const PASSWORD: &str = "correct-horse-battery-staple";
const ATTEMPTS: u32 = 20;
/// Many servers of many tests sync to one disk at once.
const PATIENCE: Span = Span::from_seconds(20);

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct RedisServer {
    folder: PathBuf,
    port: u16,
    fsync: &'static str,
    tls: bool,
    process: Option<Child>,
}

impl RedisServer {
    /// One that answers a write only once it is on disk.
    pub fn durable() -> Self {
        Self::start("always", false)
    }

    /// One that may lose what it answered in the last second.
    pub fn lossy() -> Self {
        Self::start("everysec", false)
    }

    /// A durable one that speaks TLS only, with a certificate of its own authority.
    pub fn with_tls() -> Self {
        Self::start("always", true)
    }

    fn start(fsync: &'static str, tls: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "leasehold-redis-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let mut server = Self { folder, port: 0, fsync, tls, process: None };
        server.write("users.acl", &acl());
        if tls {
            let authority = TestAuthority::root("redis");
            let issued = authority.server();
            server.write("ca.pem", &authority.pem());
            server.write("chain.pem", &issued.chain_pem());
            server.write("key.pem", &issued.key_pem());
        }
        // The port is free until somebody else takes it.
        let started = (0..ATTEMPTS).any(|_| {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            server.run()
        });
        assert!(started, "no `redis-server`: `make test` installs it");
        server
    }

    /// Ends the server as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the server again, on its data and its port; ends it first if it runs.
    pub fn restart(&mut self) {
        self.kill();
        assert!((0..ATTEMPTS).any(|_| self.run()), "the port was taken");
    }

    /// From the next start on it has this `appendfsync`.
    pub fn set_fsync(&mut self, fsync: &'static str) {
        self.fsync = fsync;
    }

    /// Starts the server again without anything that it wrote since `copy` was made by [`Self::copy_data`].
    pub fn restart_from(&mut self, copy: &Path) {
        self.kill();
        fs::remove_dir_all(self.folder.join("appendonlydir")).unwrap();
        copy_folder(copy, &self.folder.join("appendonlydir"));
        self.restart();
    }

    /// A copy of what the server has on disk, as a backup or a disk that lost the last second.
    pub fn copy_data(&self) -> PathBuf {
        let copy = self.folder.join("copy");
        copy_folder(&self.folder.join("appendonlydir"), &copy);
        copy
    }

    /// How Leasehold reaches it.
    pub fn settings(&self) -> Settings {
        let scheme = if self.tls { "rediss" } else { "redis" };
        Settings {
            ca_file: self.tls.then(|| self.folder.join("ca.pem")),
            username: Some("leasehold".to_owned()),
            password: Some(Secret::from(PASSWORD.to_owned())),
            response_timeout: PATIENCE,
            ..Settings::new(format!("{scheme}://127.0.0.1:{}", self.port))
        }
    }

    /// Runs a command as the user `test`; its answer must not be an error.
    pub fn command(&self, words: &[&str]) -> redis::Value {
        self.command_as("test", words).unwrap()
    }

    /// Runs a command as Leasehold's user.
    ///
    /// # Errors
    /// The server's own.
    pub fn command_as_leasehold(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        self.command_as("leasehold", words)
    }

    fn command_as(&self, user: &str, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let url = format!("redis://{user}:{PASSWORD}@127.0.0.1:{}", self.port);
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }

    /// Every key, with what it holds.
    pub fn everything(&self) -> BTreeMap<String, redis::Value> {
        let keys: Vec<String> = redis::from_redis_value(self.command(&["KEYS", "*"])).unwrap();
        let dump = |key: String| {
            let held = self.command(&["DUMP", &key]);
            (key, held)
        };
        keys.into_iter().map(dump).collect()
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Whether it came up.
    fn run(&mut self) -> bool {
        let port = self.port.to_string();
        let ports = if self.tls {
            vec!["--port", "0", "--tls-port", &port, "--tls-cert-file", "chain.pem"]
        } else {
            vec!["--port", &port]
        };
        let tls = [
            "--tls-key-file",
            "key.pem",
            "--tls-ca-cert-file",
            "ca.pem",
            "--tls-auth-clients",
            "no",
        ];
        let mut command = Command::new("redis-server");
        command.current_dir(&self.folder).args(["--bind", "127.0.0.1", "--save", ""]).args(ports);
        command.args([
            "--appendonly",
            "yes",
            "--appendfsync",
            self.fsync,
            "--aclfile",
            "users.acl",
        ]);
        command.args(if self.tls { &tls[..] } else { &[] });
        let Ok(mut process) = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() else {
            return false;
        };
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let is_up = log.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept"));
        if !is_up {
            process.wait().unwrap();
            return false;
        }
        self.process = Some(process);
        // The rest of the log is read, so that the server never waits for a reader.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        true
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        // A test that failed already says so better than a folder that stays behind.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn acl() -> String {
    let leasehold =
        ACL.replace("user leasehold on resetpass", &format!("user leasehold on >{PASSWORD}"));
    assert_ne!(leasehold, ACL);
    format!("{leasehold}user test on >{PASSWORD} ~* &* +@all\n")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
