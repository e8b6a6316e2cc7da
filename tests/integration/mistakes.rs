//! What a person who begins is told when something is missing, wrong or in use: what happened, and what to do.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use leasehold::broker::seams::{Clock, Entropy, SystemClock, SystemEntropy};
use leasehold::store::Constants;
use leasehold::store::embedded::EmbeddedStore;
use leasehold::testing::ca::TestAuthority;
use leasehold::testing::redis::{PASSWORD, RedisServer};
use tempfile::TempDir;

const CONFIG: &str = r#"
trust_domain = "leasehold.example"
base_url = "https://localhost:7701"
store = { kind = "embedded", path = "data" }
listen = { grpc = "127.0.0.1:0", http = "127.0.0.1:0" }
tls = { cert_file = "server.pem", key_file = "server.key" }
keys = { encryption_key_file = "keyring.key" }
tiers = { standard = { ttl = "5m", ceiling = "1h" } }
[[trust.spiffe]]
trust_domain = "prod.example"
bundle = { file = "root.pem" }
[[roles]]
role = "operator"
match = "spiffe://prod.example/people/*"
"#;

/// A folder with all that a broker needs.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let root = TestAuthority::root("root");
        let server = root.server();
        folder.write("root.pem", &root.pem());
        folder.write("server.pem", &server.chain_pem());
        folder.write("server.key", &server.key_pem());
        folder.write("keyring.key", &"0123456789abcdef".repeat(4));
        folder.write("redis.password", PASSWORD);
        folder.write("leasehold.toml", CONFIG);
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// The configuration says `to` where it said `from`.
    fn change(&self, from: &str, to: &str) {
        assert!(CONFIG.contains(from), "the configuration does not say `{from}`");
        self.write("leasehold.toml", &CONFIG.replace(from, to));
    }

    fn on_redis(&self, port: u16, more: &str) {
        let store = format!(r#"{{ kind = "redis", url = "redis://127.0.0.1:{port}"{more} }}"#);
        self.change(r#"{ kind = "embedded", path = "data" }"#, &store);
    }

    /// What a command that fails here says.
    fn told(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
        let output = command.args(arguments).current_dir(self.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What `serve` says, which must hold all of this.
    #[track_caller]
    fn must_tell(&self, parts: &[&str]) {
        let told = self.told(&["serve"]);
        let told =
            told.lines().filter(|line| !line.contains(" INFO ")).collect::<Vec<_>>().join("\n");
        for part in parts {
            assert!(told.contains(part), "`{part}` is not told: {told}");
        }
    }
}

const ACCOUNT: &str = r#", username = "leasehold", password_file = "redis.password""#;

#[test]
fn a_configuration_that_is_not_there_is_named_with_where_to_begin() {
    let folder = Folder::new();
    fs::remove_file(folder.path().join("leasehold.toml")).unwrap();
    let remedies = ["`--config`", "`config/leasehold.toml`", "`leasehold dev`"];
    folder.must_tell(&[&["leasehold.toml: cannot be read: "], &remedies[..]].concat());
}

#[test]
fn a_store_folder_that_cannot_be_used_is_named_with_what_it_needs() {
    let folder = Folder::new();
    // A file where a folder has to be: nobody's rights help.
    folder.change(r#"path = "data""#, r#"path = "root.pem/data""#);
    let parts = ["root.pem/data` cannot be used: ", "read and write it", "`store.path`"];
    folder.must_tell(&parts);
    let folder = Folder::new();
    folder.write("data", "");
    folder.must_tell(&["`data` cannot be used: ", "`store.path`"]);
}

#[test]
fn a_store_that_another_broker_has_open_is_told_as_such() {
    let folder = Folder::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let (path, entropy) = (folder.path().join("data"), &SystemEntropy as &dyn Entropy);
    let opened = EmbeddedStore::create_or_open(&path, (clock, entropy), Constants::DEFAULT);
    let _open = opened.unwrap();
    folder.must_tell(&["another process has it open; stop that one first"]);
}

#[test]
fn a_port_that_is_in_use_is_named_with_what_may_have_it() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _held = TcpListener::bind(taken).unwrap();
    folder.change(r#"grpc = "127.0.0.1:0""#, &format!(r#"grpc = "{taken}""#));
    let named = format!("cannot listen on `{taken}`: ");
    folder.must_tell(&[&named, "another program has it, perhaps a broker", "change `listen`"]);
    folder.change(r#"grpc = "127.0.0.1:0""#, r#"grpc = "203.0.113.1:7700""#);
    folder.must_tell(&["cannot listen on `203.0.113.1:7700`: ", "an address of this machine"]);
}

#[test]
fn files_that_are_not_there_are_named_with_what_they_are_for() {
    for (file, parts) in [
        ("server.pem", &["server.pem`: ", "`tls` names the broker's certificate"][..]),
        ("server.key", &["server.key`: ", "`tls` names the broker's certificate"]),
        ("keyring.key", &["keyring.key` cannot be read: ", "put it there"]),
        ("root.pem", &["root.pem` of trust domain `prod.example`: ", "make it before `serve`"]),
    ] {
        let folder = Folder::new();
        fs::remove_file(folder.path().join(file)).unwrap();
        folder.must_tell(parts);
    }
}

#[test]
fn a_redis_server_that_is_not_there_is_named_by_every_command_that_needs_it() {
    let folder = Folder::new();
    // Port 1 of this machine: nobody listens.
    folder.on_redis(1, "");
    let parts = ["the Redis server at `redis://127.0.0.1:1` does not answer: ", "`store.url`"];
    for command in [&["serve"][..], &["store", "init"], &["store", "restored"]] {
        let told = folder.told(command);
        assert!(parts.iter().all(|part| told.contains(part)), "{told}");
    }
}

#[test]
fn a_redis_server_that_will_not_have_us_is_told_with_what_to_change() {
    let (folder, server) = (Folder::new(), RedisServer::durable());
    folder.on_redis(server.port(), "");
    folder.must_tell(&["answers nobody without a password", "`password_file`"]);
    folder.on_redis(server.port(), ACCOUNT);
    folder.must_tell(&["the store was never made", "`leasehold store init`"]);
    server.command(&["ACL", "SETUSER", "leasehold", "-xadd", "-hset"]);
    folder.must_tell(&["lacks the right to `hset`, `xadd`", "`config/redis.acl`"]);
    folder.write("redis.password", "wrong");
    folder.must_tell(&["refuses the user name or the password", "`username`", "`password_file`"]);
}

#[test]
fn a_broker_s_address_that_is_none_is_wrong_use_and_names_the_variable() {
    let folder = Folder::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    let command = command.args(["task", "list", "--ca", "root.pem"]).current_dir(folder.path());
    let output = command.env("LEASEHOLD_BROKER", "broker.example:7700").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    for part in ["`--broker broker.example:7700`", "LEASEHOLD_BROKER", "`https://127.0.0.1:7700`"] {
        assert!(told.contains(part), "{told}");
    }
}
