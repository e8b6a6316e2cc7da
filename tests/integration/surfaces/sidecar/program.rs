//! `leasehold verify` as a program: its sockets, and how it ends.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use leasehold::testing::ca::TestAuthority;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use super::{PATIENCE, Socket};

/// The files of a verifier, and a folder for its socket.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let root = TestAuthority::root("root");
        let own = root.svid_for_localhost("spiffe://prod.example/api/ledger");
        let files =
            [("ca.pem", root.pem()), ("own.pem", own.chain_pem()), ("own.key", own.key_pem())];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self { folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("verify.sock")
    }

    /// The command, for a broker that is not there.
    fn command(&self, listen: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command.args(["--broker", "https://127.0.0.1:1", "--ca", "ca.pem"]);
        command.args(["--cert", "own.pem", "--key", "own.key"]);
        command.args(["verify", "--audience", "https://ledger.example", "--listen", listen]);
        command
    }

    async fn start(&self, more: &[&str]) -> Running {
        let mut child = self.command("unix:verify.sock").args(more).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let until = async {
            let mut line = String::new();
            while !line.contains("answering at unix:verify.sock") {
                line.clear();
                assert_ne!(said.read_line(&mut line).await.unwrap(), 0, "it ended");
            }
        };
        tokio::time::timeout(PATIENCE, until).await.unwrap();
        Running { child, said }
    }

    /// What it says when it does not start.
    async fn refused(&self, listen: &str, more: &[&str]) -> String {
        let running = self.command(listen).args(more).output();
        let output = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
        assert_ne!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).unwrap()
    }
}

struct Running {
    child: Child,
    said: BufReader<ChildStderr>,
}

impl Running {
    async fn stop(mut self) -> String {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).await.unwrap();
        assert!(ended.success(), "{said}");
        said
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

#[tokio::test]
async fn class_19_a_socket_is_its_owner_s_unless_it_is_said_who_else_may_ask_and_goes_with_it() {
    let place = Place::new();
    for (more, mode) in [(&[][..], 0o600), (&["--socket-mode", "0660"][..], 0o660)] {
        let running = place.start(more).await;
        let found = fs::metadata(place.socket()).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode);
        let socket = Socket(place.socket());
        assert_eq!(socket.get("/healthz").await.0, 200);
        let (status, said) = socket.get("/readyz").await;
        assert_eq!((status, said.as_str()), (503, "not ready: no broker has told its keys yet\n"));
        let (status, said) = socket
            .verify(&serde_json::json!({
                "authorization": "Bearer a.b.c", "actions": []
            }))
            .await;
        assert_eq!((status, said["reason"].as_str()), (503, Some("DEPENDENCY_UNAVAILABLE")));
        running.stop().await;
        assert!(!place.socket().exists());
    }
}

#[tokio::test]
async fn a_socket_of_a_dead_process_is_replaced_and_one_of_a_living_process_is_not() {
    let place = Place::new();
    drop(UnixListener::bind(place.socket()).unwrap());
    assert!(is_socket(&place.socket()), "nobody answers, and the file is there");
    let running = place.start(&[]).await;
    let said = place.refused("unix:verify.sock", &[]).await;
    assert!(said.contains("another process answers at `verify.sock`"), "{said}");
    assert_eq!(Socket(place.socket()).get("/healthz").await.0, 200, "it is left alone");
    fs::remove_file(place.socket()).unwrap();
    fs::write(place.socket(), "precious").unwrap();
    running.stop().await;
    assert_eq!(fs::read(place.socket()).unwrap(), b"precious", "that is not its own any more");
    let said = place.refused("unix:verify.sock", &[]).await;
    assert!(said.contains("is there, and no socket"), "{said}");
    assert_eq!(fs::read(place.socket()).unwrap(), b"precious");
}

#[tokio::test]
async fn class_19_addresses_that_other_machines_reach_must_be_asked_for() {
    let place = Place::new();
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7702"] {
        let said = place.refused(listen, &[]).await;
        assert!(said.contains("`--danger-listen-beyond-this-machine`"), "{said}");
    }
    let running = place.start(&["--listen", "127.0.0.1:0"]).await;
    running.stop().await;
    let more = ["--listen", "0.0.0.0:0", "--danger-listen-beyond-this-machine"];
    let said = place.start(&more).await.stop().await;
    assert!(said.contains("from other machines too"), "{said}");
}

#[tokio::test]
async fn whoever_starts_it_wrongly_is_told_what_to_do() {
    let place = Place::new();
    fs::write(place.folder.path().join("short"), "short").unwrap();
    for (more, expected) in [
        (&["--token-file", "own.key"][..], "a sidecar proves itself by a certificate"),
        (
            &["--other-broker", "http://b.example"],
            "`http://b.example` is not the address of a broker",
        ),
        (&["--public-url", "https://b.example/path"], "without a path"),
        (&["--socket-mode", "1777"], "write it like `0600`"),
        (&["--longest-request", "0s"], "give more than nothing"),
        (&["--dpop-nonce-secret", "short"], "fewer than 32 bytes"),
        (&["--key", "ca.pem"], "`--ca`, `--cert` and `--key` cannot be used"),
    ] {
        let said = place.refused("unix:verify.sock", more).await;
        assert!(said.contains(expected), "{said}");
        assert!(!place.socket().exists());
    }
    for listen in ["verify.sock", "unix:", "localhost:80"] {
        assert!(place.refused(listen, &[]).await.contains("unix:"), "{listen}");
    }
    for listen in [format!("unix:/tmp/{}", "s".repeat(103)), format!("unix:/{}/s", "s".repeat(94))]
    {
        let said = place.refused(&listen, &[]).await;
        assert!(said.contains("more than 107 bytes") && said.contains("shorter name"), "{said}");
    }
}
