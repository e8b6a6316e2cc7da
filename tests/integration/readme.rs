//! The README's commands work, in its order, in one folder, and so do those of the page on the sidecar: a tour that rots is worse
//! than none.
//!
//! The word behind a block's `sh` says what becomes of it: nothing, it succeeds; `refused`, its last command fails;
//! `background`, it runs on until the end and says when it is ready; `build`, it is left out, since it makes what is
//! tested here; `elsewhere`, it is left out, since it needs what not everybody has. A block of `text` is what the block before it
//! prints, and nothing else. A command with `# inactive` behind it says so and exits with 1.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::programs;

/// What servers say when they are ready.
const READY: [&str; 3] = ["Ctrl-C stops it", "answering at", "Ready to accept connections"];
/// The ports that a reader would use; a test takes free ones.
const PORTS: [&str; 4] = ["7700", "7701", "8443", "6379"];

#[test]
fn the_readmes_commands_do_what_it_says() {
    programs::must_be_here(&["bash", "awk", "curl", "openssl", "redis-server"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let of = |kind: &str| blocks.iter().filter(|(what, _)| what == kind).count();
    assert!(of("") > 10 && of("refused") > 1 && of("background") > 2, "the README was not read");
    assert!(of("text") > 1, "what commands print was not read");
    let (out, err) = ran(&blocks);
    // `# inactive` and `# active` behind a command are claims too.
    let claimed = readme.lines().filter(|line| line.contains("# inactive")).count();
    assert_eq!(out.lines().filter(|line| *line == "inactive").count(), claimed, "{out}");
    assert!(err.contains("NOT_FOUND") && err.contains("TASK_ENDED"), "{err}");
}

#[test]
fn the_commands_of_the_page_on_the_sidecar_do_what_it_says() {
    programs::must_be_here(&["bash", "awk", "base64", "curl", "openssl"]);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/resource-server-sidecar.md");
    let blocks = blocks(&fs::read_to_string(page).unwrap());
    let of = |kind: &str| blocks.iter().filter(|(what, _)| what == kind).count();
    assert!((of("background"), of("text")) == (2, 3) && of("") > 4, "the page was not read");
    ran(&blocks);
}

/// Runs the blocks in a folder of their own: what they say on stdout and stderr.
fn ran(blocks: &[(String, String)]) -> (String, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    symlink(root.join("config"), dir.path().join("config")).unwrap();
    let ran = Command::new("bash")
        .args(["-c", &script(blocks)])
        .current_dir(dir.path())
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    (out, err)
}

/// Each fenced block of commands and of what they print: `text`, or the word behind its `sh`; and what is in it.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let kind = match kind.strip_prefix("sh") {
            Some(word) => word,
            None if kind == "text" => kind,
            None => continue,
        };
        let lines =
            text.iter().map(|line| match Some(line).filter(|line| line.contains("# inactive")) {
                Some(line) => {
                    format!("{} || [[ $? == 1 ]]", line.split_once('#').unwrap().0.trim_end())
                }
                None => (*line).to_owned(),
            });
        blocks.push((kind.trim().to_owned(), lines.collect::<Vec<_>>().join("\n")));
    }
    blocks
}

fn script(blocks: &[(String, String)]) -> String {
    let mut script = String::from(
        "set -euo pipefail\nservers=\ntrap 'kill $servers; wait $servers || true' EXIT\n",
    );
    let mut next = blocks.iter().map(|(kind, text)| (kind.as_str(), text)).skip(1);
    for (kind, text) in blocks {
        let shown = next.next().filter(|(kind, _)| *kind == "text").map(|(_, shown)| shown);
        assert!(shown.is_none() || kind.is_empty(), "what should print `{}`?", shown.unwrap());
        match (kind.as_str(), shown) {
            ("", None) => writeln!(script, "{text}"),
            ("", Some(shown)) => writeln!(
                script,
                "{{\n{text}\n}} > printed\n\
                 [[ $(<printed) == '{shown}' ]] || {{ echo 'it prints:'; cat printed; exit 1; }} >&2"
            ),
            ("refused", _) => {
                writeln!(script, "if {text}\nthen echo 'not refused' >&2; exit 1; fi")
            }
            ("background", _) => writeln!(
                script,
                "exec {{server}}< <(exec {text} 2>&1)\nservers+=\" $!\"\n\
                 until read -r line <&$server || exit 1; [[ $line =~ {} ]]; do echo \"$line\"; done",
                READY.join("|").replace(' ', "\\ ")
            ),
            ("build" | "elsewhere" | "text", _) => Ok(()),
            (other, _) => panic!("```{other}: what should become of such a block?"),
        }
        .unwrap();
    }
    with_free_ports(script)
}

/// Ports that nobody has now. Between here and the servers' own `bind` somebody could take one; the test fails then.
fn with_free_ports(script: String) -> String {
    let sockets = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port().to_string());
    let [grpc, http, documents, _] = &ports;
    let servers = [
        ("leasehold dev --dir play", format!("--grpc 127.0.0.1:{grpc} --http 127.0.0.1:{http}")),
        (
            "resource_server --dir play",
            format!(
                "--broker https://localhost:{grpc} --issuer https://localhost:{http} --listen 127.0.0.1:{documents}"
            ),
        ),
    ];
    let script = PORTS.iter().zip(&ports).fold(script, |text, (well_known, free)| {
        text.replace(&format!(":{well_known}"), &format!(":{free}"))
            .replace(&format!("--port {well_known}"), &format!("--port {free}"))
    });
    servers.iter().fold(script, |text, (command, with)| {
        text.replacen(command, &format!("{command} {with}"), 1)
    })
}

/// The program, and the examples: those that `cargo test` makes where it is not told which tests to make.
fn path() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_leasehold")).parent().unwrap();
    let examples = program.join("examples");
    assert!(
        examples.join("resource_server").exists(),
        "the README starts an example: `cargo build --all-features --examples` makes it"
    );
    let others = std::env::var("PATH").unwrap();
    format!("{}:{}:{others}", program.display(), examples.display())
}
