//! `leasehold demo` as a program: its exit code is what a pipeline goes by.

use std::path::Path;
use std::process::{Command, Output};

use leasehold::testing::redis::{PASSWORD, RedisServer};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_leasehold");
    Command::new(program).arg("demo").args(arguments).output().unwrap()
}

fn must_be_whole(told: &Output) {
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}\n{}", String::from_utf8_lossy(&told.stderr));
    let steps: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(steps.len() > 30, "{text}");
    assert!(steps.iter().all(|step| step["ok"] == true), "{text}");
}

#[test]
fn the_story_on_the_embedded_store_ends_well() {
    must_be_whole(&demo(&["--json"]));
}

#[test]
fn the_story_on_an_empty_redis_server_ends_well_and_so_it_does_again() {
    let server = RedisServer::durable();
    // The demo has no password to show: as on a server that was just installed.
    server.command(&["ACL", "SETUSER", "default", "on", "nopass"]);
    let url = format!("redis://127.0.0.1:{}", server.port());
    must_be_whole(&demo(&["--json", "--store", &url]));
    must_be_whole(&demo(&["--output", "json", "--store", &url]));
}

#[test]
fn the_story_on_a_server_behind_tls_and_a_password_ends_well() {
    let server = RedisServer::with_tls();
    let settings = server.settings();
    let (ca, url) = (settings.ca_file.clone().unwrap(), settings.url.replace("//", "//leasehold@"));
    let arguments = ["demo", "--json", "--store", &url, "--store-ca", ca.to_str().unwrap()];
    let told = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(arguments)
        .args(["--store-password-env", "STORE_PASSWORD"])
        .env("STORE_PASSWORD", PASSWORD)
        .output();
    must_be_whole(&told.unwrap());
    let password = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        file
    };
    let with = |file: &Path| {
        demo(&[&arguments[1..], &["--store-password-file", file.to_str().unwrap()]].concat())
    };
    must_be_whole(&with(password(PASSWORD).path()));
    let refused = with(password("wrong").path());
    assert_eq!(refused.status.code(), Some(1));
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("the Redis server refuses the user name or the password"), "{error}");
    let nobody = settings.url.as_str();
    let refused = demo(&["--store", nobody, "--store-ca", ca.to_str().unwrap()]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(error.contains("answers nobody without a password"), "{error}");
}

#[test]
fn a_story_that_cannot_be_told_fails() {
    // Port 1 of this machine: nobody listens.
    let told = demo(&["--json", "--store", "redis://127.0.0.1:1"]);
    assert_eq!(told.status.code(), Some(1));
    assert!(told.stdout.is_empty(), "{told:?}");
    let error = String::from_utf8_lossy(&told.stderr);
    assert!(error.contains("the demo cannot begin"), "{error}");
}
