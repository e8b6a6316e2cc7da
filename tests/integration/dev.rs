//! `leasehold dev`: what it prints can be pasted, and when it is told to stop it stops and leaves nothing behind.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::programs;

const PROGRAM: &str = env!("CARGO_BIN_EXE_leasehold");

/// A playground that answers on free ports, what it said, and where it could say more.
fn playground() -> (Child, Vec<String>, impl Sized) {
    let mut dev = Command::new(PROGRAM)
        .args(["dev", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(dev.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.by_ref().take_while(|line| !line.contains("Ctrl-C stops it")).collect();
    (dev, said, lines)
}

#[test]
fn what_dev_prints_can_be_pasted_and_ends_in_a_refusal() {
    programs::must_be_here(&["bash", "awk", "kill"]);
    let (mut dev, said, _open) = playground();
    let paste = said.iter().skip_while(|line| !line.contains("Paste into")).skip(1);
    let paste: Vec<_> = paste.map(String::as_str).collect();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut bash = Command::new("bash");
    let pasted = bash.args(["-c", &paste.join("\n")]).current_dir(&elsewhere).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&pasted.stdout), String::from_utf8_lossy(&pasted.stderr));
    assert!(pasted.status.success(), "{out}\n{err}");
    assert_eq!(out.matches("active until ").count(), 2, "{out}\n{err}");
    assert_eq!(out.lines().filter(|line| *line == "inactive").count(), 1, "{out}\n{err}");
    assert_eq!(err.matches("error: ").count(), 1, "{err}");
    assert!(err.contains("TASK_ENDED"), "{err}");
    assert!(out.contains("oidc:dev:reporter"), "{out}\n{err}");

    let folder = said.iter().find_map(|line| line.split("playground, in ").nth(1)).unwrap();
    assert!(Path::new(folder).join("root.pem").is_file());
    let http = said.iter().find_map(|line| line.trim().strip_prefix("HTTPS")).unwrap().trim();
    let files =
        ["--ca", "root.pem", "--cert", "operator.pem", "--key", "operator.key", "--broker", http];
    let asked = Command::new(PROGRAM).arg("status").args(files).current_dir(folder).output();
    let told = String::from_utf8_lossy(&asked.unwrap().stderr).into_owned();
    assert!(told.contains("answers HTTP 404 and no gRPC"), "{told}");
    assert!(told.contains("the one of `listen.grpc`"), "{told}");
    let pid = dev.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(dev.wait().unwrap().success());
    assert!(!Path::new(folder).exists(), "the folder is temporary");
}
