//! The README's commands work, in its order, in one folder: a tour that rots is worse than none.
//!
//! The word behind a block's `sh` says what becomes of it: nothing, it succeeds; `refused`, its last command fails;
//! `background`, it runs on until the end and says when it is ready; `build`, it is left out, since it makes what is
//! tested here.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::programs;

/// What servers say when they are ready.
const READY: [&str; 2] = ["Ctrl-C stops it", "Ready to accept connections"];
/// The ports that a reader would use; a test takes free ones.
const PORTS: [&str; 3] = ["7700", "7701", "6379"];

#[test]
fn the_readmes_commands_do_what_it_says() {
    programs::must_be_here(&["bash", "awk", "curl", "openssl", "redis-server"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let blocks = blocks(&readme);
    let of = |kind: &str| blocks.iter().filter(|(what, _)| what == kind).count();
    assert!(of("") > 10 && of("refused") > 1 && of("background") > 1, "the README was not read");
    let dir = tempfile::tempdir().unwrap();
    symlink(root.join("config"), dir.path().join("config")).unwrap();
    let ran = Command::new("bash")
        .args(["-c", &script(&blocks)])
        .current_dir(dir.path())
        .env("PATH", path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    // `# inactive` and `# active` behind a command are claims too.
    let claimed = readme.lines().filter(|line| line.contains("# inactive")).count();
    assert_eq!(out.lines().filter(|line| *line == "inactive").count(), claimed, "{out}");
    assert!(err.contains("NOT_FOUND") && err.contains("TASK_ENDED"), "{err}");
}

/// Each fenced block of `sh`: the word behind it, and its text.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```sh") else {
            assert!(!line.starts_with("```"), "`{line}`: a block of the README that no test reads");
            continue;
        };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((kind.trim().to_owned(), text.join("\n")));
    }
    blocks
}

fn script(blocks: &[(String, String)]) -> String {
    let mut script = String::from(
        "set -euo pipefail\nservers=\ntrap 'kill $servers; wait $servers || true' EXIT\n",
    );
    for (kind, text) in blocks {
        match kind.as_str() {
            "" => writeln!(script, "{text}"),
            "refused" => writeln!(script, "if {text}\nthen echo 'not refused' >&2; exit 1; fi"),
            "background" => writeln!(
                script,
                "exec {{server}}< <(exec {text} 2>&1)\nservers+=\" $!\"\n\
                 until read -r line <&$server || exit 1; [[ $line =~ {} ]]; do echo \"$line\"; done",
                READY.join("|").replace(' ', "\\ ")
            ),
            "build" => Ok(()),
            other => panic!("`sh {other}`: what should become of such a block?"),
        }
        .unwrap();
    }
    with_free_ports(script)
}

/// Ports that nobody has now. Between here and the servers' own `bind` somebody could take one; the test fails then.
fn with_free_ports(script: String) -> String {
    let sockets = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = sockets.each_ref().map(|socket| socket.local_addr().unwrap().port().to_string());
    let [grpc, http, _] = &ports;
    let dev = format!("leasehold dev --dir play --grpc 127.0.0.1:{grpc} --http 127.0.0.1:{http}");
    let script = PORTS.iter().zip(&ports).fold(script, |text, (well_known, free)| {
        text.replace(&format!(":{well_known}"), &format!(":{free}"))
            .replace(&format!("--port {well_known}"), &format!("--port {free}"))
    });
    script.replacen("leasehold dev --dir play", &dev, 1)
}

fn path() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_leasehold")).parent().unwrap();
    format!("{}:{}", program.display(), std::env::var("PATH").unwrap())
}
