//! A playground with its broker, and commands in it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_leasehold");
/// How long a fact may take to come about: a minute, which a busy machine may need.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often one is looked for that nobody tells, and how many times: as long.
const BETWEEN: Duration = Duration::from_millis(20);
const MOST_LOOKS: usize = 3_000;

pub const AUDIENCE: &str = "https://documents.dev.example";
pub const SUMMARIZER: &str = "spiffe://dev.example/agents/summarizer/1";

/// A playground whose broker runs until this is dropped.
pub struct Play {
    dev: Child,
    pub dir: TempDir,
    pub broker: String,
    /// Where the broker could say more.
    _open: BufReader<ChildStdout>,
}

impl Play {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (dev, broker, open) =
            broker(dir.path(), &["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        Self { dev, dir, broker, _open: open }
    }

    /// The broker is stopped, and is there again when this answers, at the same address.
    pub fn restart(&mut self) {
        self.stop();
        (self.dev, self.broker, self._open) = broker(self.dir.path(), &[]);
    }

    /// The broker is gone from now on.
    pub fn stop(&mut self) {
        self.dev.kill().unwrap();
        self.dev.wait().unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program as one of the workloads; its files are those of the playground's folder.
    pub fn program(&self, who: &str, line: &[&str]) -> Command {
        let mut command = self.anonymous(line);
        command.env("LEASEHOLD_CERT", self.file(&format!("play/{who}.pem")));
        command.env("LEASEHOLD_KEY", self.file(&format!("play/{who}.key")));
        command
    }

    pub fn anonymous(&self, line: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        let path = Path::new(PROGRAM).parent().unwrap().display();
        command
            .args(line)
            .current_dir(&self.dir)
            .env("PATH", format!("{path}:{}", std::env::var("PATH").unwrap()))
            .env("LEASEHOLD_BROKER", &self.broker)
            .env("LEASEHOLD_CA", self.file("play/root.pem"))
            .env("XDG_RUNTIME_DIR", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// What the program answers, which must not fail.
    pub fn ask(&self, who: &str, line: &[&str]) -> Value {
        let output = self.program(who, line).args(["--output", "json"]).output().unwrap();
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `task run` for the summarizer: further options, and a script.
    pub fn run(&self, options: &[&str], script: &str) -> Command {
        let mut command = self.program("orchestrator", &["task", "run", "--agent", SUMMARIZER]);
        command.args(["--duration", "5m", "--agent-cert", "play/summarizer.pem"]);
        command.args(["--agent-key", "play/summarizer.key"]).args(options);
        if !options.contains(&"--tier") {
            command.args(["--tier", "standard"]);
        }
        if !options.contains(&"--grant") {
            command.args(["--grant", &format!("{AUDIENCE}=read")]);
        }
        command.args(["--", "sh", "-c", script]);
        command
    }

    /// The same, to its end.
    pub fn ran(&self, options: &[&str], script: &str) -> Output {
        self.run(options, script).output().unwrap()
    }

    /// The task whose id the script wrote into `task`.
    pub fn task(&self) -> Value {
        let id = self.read("task");
        self.ask("orchestrator", &["task", "get", &id])["task"].take()
    }

    /// Waits until the task is in that state, as the broker tells it.
    pub fn until(&self, task: &str, state: &'static str) {
        let mut watch = self.program("orchestrator", &["task", "watch", task, "--output", "json"]);
        let mut watch = Started(watch.stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
        let is_there = told(state, move || {
            let mut states = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()));
            states.any(|told| told.unwrap()["task"]["state"] == state)
        });
        assert!(is_there, "the task ended before it was `{state}`");
    }

    /// What a file holds, once it holds something.
    pub fn read(&self, name: &str) -> String {
        wait_for(name, || {
            let text = fs::read_to_string(self.file(name)).ok()?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        })
    }

    /// Whether the API takes a token.
    pub fn is_active(&self, token: &str) -> bool {
        let file = self.file("asked-token");
        fs::write(&file, token).unwrap();
        let line = ["token", "introspect", "asked-token", "--output", "json"];
        let output = self.program("documents", &line).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let is_active = answer["active"].as_bool();
        let is_active =
            is_active.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(output.status.code(), Some(i32::from(!is_active)));
        is_active
    }

    /// What the socket answers: status and body.
    pub fn get(&self, socket: &str, target: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(socket).unwrap();
        let request =
            format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
        (status, serde_json::from_str(body).unwrap())
    }
}

/// A broker that answers, and its address.
fn broker(dir: &Path, options: &[&str]) -> (Child, String, BufReader<ChildStdout>) {
    let mut dev = Command::new(PROGRAM)
        .args(["dev", "--dir", "play"])
        .args(options)
        .current_dir(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut open = BufReader::new(dev.stdout.take().unwrap());
    let lines = open.by_ref().lines().map(Result::unwrap);
    let said: Vec<_> = lines.take_while(|line| !line.contains("Ctrl-C stops it")).collect();
    let broker = said.iter().find_map(|line| line.trim().strip_prefix("gRPC ")).unwrap();
    let broker = broker.trim().to_owned();
    (dev, broker, open)
}

impl Drop for Play {
    fn drop(&mut self) {
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

/// Looks for a fact that nobody tells: in a file, at a socket, of a process that is not ours.
pub fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    for _ in 0..MOST_LOOKS {
        if let Some(found) = fact() {
            return found;
        }
        std::thread::sleep(BETWEEN);
    }
    panic!("`{what}` did not come about");
}

/// What is told, once it is.
fn told<T: Send + 'static>(what: &str, tells: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, told) = mpsc::channel();
    // Beside, so that somebody who never tells it makes the test fail, and not hang.
    std::thread::spawn(move || sender.send(tells()));
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("`{what}` did not come about"))
}

/// Sends a signal by its name.
pub fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Whether a process is there, other than as a zombie.
pub fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| state != "Z" && state != "X")
}

/// A run that is killed where its test fails.
pub struct Started(pub Child);

impl Started {
    pub fn new(mut command: Command) -> Self {
        Self(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Exit code, and what it said. Whoever does not end has not said all, and neither has what it leaves behind.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().unwrap();
        let said = told("the end of the run", move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        (self.0.wait().unwrap().code(), said)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
