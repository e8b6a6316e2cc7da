//! The examples that no other test starts do what their documentation says, beside a playground.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use super::task_run::play::{AUDIENCE, Play, SUMMARIZER, Started};

/// The example over gRPC, for as long as this is not dropped.
struct Documents {
    address: String,
    _server: Started,
    _open: BufReader<ChildStdout>,
}

impl Documents {
    fn start(play: &Play) -> Self {
        let mut serve = Command::new(example("grpc_resource_server"));
        serve.args(["serve", "--broker", &play.broker, "--listen", "127.0.0.1:0"]);
        serve.current_dir(&play.dir).stdout(Stdio::piped());
        let mut server = Started::new(serve);
        let mut open = BufReader::new(server.0.stdout.take().unwrap());
        let mut line = String::new();
        open.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("answering at ").expect("it does not start");
        Self { address: address.to_owned(), _server: server, _open: open }
    }

    /// Asks with what is in a file, as one of the workloads: the document, or why not.
    fn ask(&self, play: &Play, who: &str, token: Option<&str>) -> Result<String, String> {
        let mut ask = Command::new(example("grpc_resource_server"));
        ask.args(["ask", "--as", who, "--server", &self.address]).current_dir(&play.dir);
        ask.args(token.iter().flat_map(|file| ["--token", file]));
        let output = ask.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// Examples are made where `cargo test` is not told which tests to make.
fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_leasehold"));
    let path = program.with_file_name("examples").join(name);
    assert!(path.exists(), "`cargo build --all-features --examples` makes `{name}`");
    path
}

/// A task that may do one thing, and a file with a token of it.
fn issue(play: &Play, action: &str) -> String {
    let grant = format!("{AUDIENCE}={action}");
    let line = ["task", "begin", "--agent", SUMMARIZER, "--tier", "standard", "--duration", "5m"];
    let begun = play.ask("orchestrator", &[&line[..], &["--grant", &grant]].concat());
    let task = begun["task"]["task_id"].as_str().unwrap().to_owned();
    let line = ["token", "issue", "--task", &task, "--audience", AUDIENCE];
    let issued = play.program("summarizer", &line).output().unwrap();
    assert!(issued.status.success(), "{issued:?}");
    fs::write(play.file(action), issued.stdout).unwrap();
    task
}

#[track_caller]
fn must_be_refused(asked: Result<String, String>, code: &str, what: &str) {
    let said = asked.expect_err("it is let in");
    assert!(said.starts_with(&format!("error: {code}: ")) && said.contains(what), "{said}");
}

#[test]
fn class_09_the_grpc_server_lets_in_who_may_read_until_the_task_is_over() {
    let play = Play::start();
    let server = Documents::start(&play);
    let task = issue(&play, "read");
    issue(&play, "annotate");
    must_be_refused(
        server.ask(&play, "summarizer", None),
        "Unauthenticated",
        "show an access token",
    );
    let asked = server.ask(&play, "researcher", Some("read"));
    must_be_refused(asked, "Unauthenticated", "bound to another client certificate");
    let asked = server.ask(&play, "summarizer", Some("annotate"));
    must_be_refused(asked, "PermissionDenied", "the grant does not have the action `read`");
    let read = server.ask(&play, "summarizer", Some("read")).unwrap();
    assert!(read.contains("Read on lease lse_"), "{read}");
    play.ask("orchestrator", &["task", "complete", &task]);
    let asked = server.ask(&play, "summarizer", Some("read"));
    must_be_refused(asked, "Unauthenticated", "the task or an ancestor changed or ended");
}
