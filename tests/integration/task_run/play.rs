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
/// How often a fact is looked for, and how many times: a minute, which a busy machine may need.
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
        let mut dev = Command::new(PROGRAM)
            .args(["dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir", "play"])
            .current_dir(&dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut open = BufReader::new(dev.stdout.take().unwrap());
        let lines = open.by_ref().lines().map(Result::unwrap);
        let said: Vec<_> = lines.take_while(|line| !line.contains("Ctrl-C stops it")).collect();
        let broker = said.iter().find_map(|line| line.trim().strip_prefix("gRPC ")).unwrap();
        let broker = broker.trim().to_owned();
        Self { dev, dir, broker, _open: open }
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
        let answer = self.ask("documents", &["token", "introspect", "asked-token"]);
        answer["active"].as_bool().unwrap()
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

impl Drop for Play {
    fn drop(&mut self) {
        let _ = self.dev.kill();
        let _ = self.dev.wait();
    }
}

/// Waits for a fact.
pub fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    for _ in 0..MOST_LOOKS {
        if let Some(found) = fact() {
            return found;
        }
        std::thread::sleep(BETWEEN);
    }
    panic!("`{what}` did not come about");
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

    /// Exit code, and what it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut told = self.0.stderr.take().unwrap();
        let (sender, said) = mpsc::channel();
        // Read beside: whoever does not end keeps it open, and so does whatever it leaves behind.
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = told.read_to_string(&mut text);
            sender.send(text)
        });
        let status = wait_for("the end of the run", || self.0.try_wait().unwrap());
        let said = wait_for("the end of what it says", || said.try_recv().ok());
        (status.code(), said)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
