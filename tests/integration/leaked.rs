//! `leasehold revoke --token`: somebody found a credential. What is a living one of the broker's is dead afterwards, at the verifiers
//! too; of everything else it is said what it is and what to do; and nothing of it is ever shown.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leasehold::domain::lattice::Dead;
use leasehold::verifier::{Identity, Presented, Refused, Scheme, Settings, Verifier};
use serde_json::Value;

use crate::task_run::play::{AUDIENCE, Play, SUMMARIZER, wait_for};

/// No fact takes longer to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// A task for the summarizer.
fn begin(play: &Play) -> String {
    let grant = format!("{AUDIENCE}=read");
    let line = ["task", "begin", "--agent", SUMMARIZER, "--tier", "standard", "--duration", "5m"];
    let begun = play.ask("orchestrator", &[&line[..], &["--grant", &grant]].concat());
    begun["task"]["task_id"].as_str().unwrap().to_owned()
}

/// A token of that task, with further options.
fn issue(play: &Play, task: &str, options: &[&str]) -> String {
    let line = ["token", "issue", "--task", task, "--audience", AUDIENCE];
    let mut issue = play.program("summarizer", &[&line[..], options].concat());
    let issued = issue.output().unwrap();
    assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));
    String::from_utf8(issued.stdout).unwrap().trim().to_owned()
}

/// Whoever found it, who is nobody to the broker, pipes it in. What is said holds nothing of it.
fn found(play: &Play, what: &str) -> Output {
    found_by(play.anonymous(&["revoke", "--token", "-"]), what)
}

fn found_by(mut command: std::process::Command, what: &str) -> Output {
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut run = command.spawn().unwrap();
    run.stdin.take().unwrap().write_all(format!("{what}\n").as_bytes()).unwrap();
    let output = run.wait_with_output().unwrap();
    for part in what.split(['.', '\n']).filter(|part| part.len() > 20 && !part.contains(' ')) {
        for said in [&output.stdout, &output.stderr] {
            assert!(!String::from_utf8_lossy(said).contains(part), "it is shown");
        }
    }
    output
}

#[track_caller]
fn must_be_refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[track_caller]
fn must_be_over(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("lease is over"), "{output:?}");
}

/// The claims with another value.
fn changed(token: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut parts: Vec<_> = token.split('.').map(str::to_owned).collect();
    let mut claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&parts[1]).unwrap()).unwrap();
    change(&mut claims);
    parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
    parts.join(".")
}

#[test]
fn class_06_whoever_finds_a_token_ends_its_lease_without_being_anybody_and_it_is_not_shown() {
    let play = Play::start();
    let task = begin(&play);
    let (leaked, other) = (issue(&play, &task, &[]), issue(&play, &task, &[]));
    must_be_over(&found(&play, &leaked));
    assert!(!play.is_active(&leaked));
    assert!(play.is_active(&other), "other leases of the task go on");
    must_be_over(&found(&play, &leaked));
    // From a file, too.
    fs::write(play.file("leaked"), &other).unwrap();
    let output = play.anonymous(&["revoke", "--token", "leaked"]).output().unwrap();
    must_be_over(&output);
    assert!(!play.is_active(&other));
}

#[test]
fn class_06_a_token_bound_to_a_key_is_ended_by_who_has_not_the_key_and_one_of_an_ended_task_is_over()
 {
    let play = Play::start();
    let task = begin(&play);
    let bound = issue(&play, &task, &["--dpop-key", "dpop.pem"]);
    assert!(play.is_active(&bound));
    must_be_over(&found(&play, &bound));
    assert!(!play.is_active(&bound));
    let left = issue(&play, &task, &[]);
    play.ask("orchestrator", &["task", "complete", &task]);
    must_be_over(&found(&play, &left));
}

#[test]
fn what_is_no_living_token_of_the_broker_is_refused_and_it_is_said_what_it_is() {
    let play = Play::start();
    let token = issue(&play, &begin(&play), &[]);
    let (head, _) = token.rsplit_once('.').unwrap();
    let another_signature = format!("{head}.{}", "A".repeat(86));
    let not_ours = changed(&token, |claims| claims["iss"] = "https://idp.example".into());
    let altered = changed(&token, |claims| claims["exp"] = 1.into());
    let cut = &token[..token.len() - 4];
    for damaged in [another_signature.as_str(), &altered, cut] {
        let parts =
            ["no key of that broker signed it", "read the whole", "`leasehold revoke lease`"];
        must_be_refused(&found(&play, damaged), &parts);
    }
    let parts = ["`https://idp.example` issued it", "tell the one that issued it"];
    must_be_refused(&found(&play, &not_ours), &parts);
    for garbage in
        ["s.3kQ9vZ1xT7bR5nW2pL8mC4dF6gH0jK", "{\"access_token\":\"abcdefghijklmnopqrstuvwxyz\"}"]
    {
        must_be_refused(&found(&play, garbage), &["no token of a broker", "read the whole token"]);
    }
    must_be_refused(&found(&play, ""), &["`-` holds no token"]);
    assert!(play.is_active(&token), "nothing was ended");
}

#[test]
fn an_expired_token_is_said_to_be_expired_and_its_lease_to_be_an_operators() {
    let play = Play::start();
    let token = issue(&play, &begin(&play), &["--ttl", "10s"]);
    wait_for("its expiry", || (!play.is_active(&token)).then_some(()));
    must_be_refused(&found(&play, &token), &["has expired", "`leasehold revoke lease`"]);
}

#[test]
fn class_17_a_token_that_is_given_in_the_place_of_a_file_is_not_repeated() {
    let play = Play::start();
    let token = issue(&play, &begin(&play), &[]);
    let shown = format!("--token={token}");
    for line in [
        &["revoke", "--token", &token][..],
        &["revoke", &shown],
        &["revoke", "lease", &token],
        &["revoke", "lease", &token[..200]],
        &["token", "introspect", &token],
        &["token", "introspect", "token", &token],
        &["lease", "get", &format!("Bearer {token}")],
    ] {
        let output = play.program("documents", line).output().unwrap();
        must_be_refused(&output, &["looks like a token itself", "`leasehold revoke --token -`"]);
        let said = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&said).contains(&token[..20]), "{line:?}");
    }
    let mut line = play.anonymous(&["status", "--token-file", &token]);
    let said = String::from_utf8(line.output().unwrap().stderr).unwrap();
    assert!(said.contains("looks like a token itself") && !said.contains(&token[..20]), "{said}");
    let said = play.anonymous(&["lease", "get", "lse_x"]).output().unwrap().stderr;
    assert!(String::from_utf8_lossy(&said).contains("lse_x"), "what is no secret is repeated");
}

#[test]
fn what_whoever_finds_a_token_cannot_ask_for_is_refused_before_anything_is_ended() {
    let play = Play::start();
    let token = issue(&play, &begin(&play), &[]);
    for more in [["--wait-for", "drained"], ["--wait-timeout", "5s"], ["--reason", "leaked"]] {
        let line = [&["revoke", "--token", "-"], &more[..]].concat();
        let output = found_by(play.anonymous(&line), &token);
        must_be_refused(&output, &["nothing was ended", more[0], "`leasehold revoke lease`"]);
        assert!(play.is_active(&token));
    }
}

#[test]
fn introspection_takes_a_certificate_for_what_it_is_and_its_exit_code_tells() {
    let play = Play::start();
    let task = begin(&play);
    let files = ["--cert-out", "task.pem", "--key-out", "task.key"];
    let line = [&["cert", "issue", "--task", &task, "--audience", AUDIENCE][..], &files].concat();
    let issued = play.ask("summarizer", &line);
    let asked =
        || play.program("documents", &["token", "introspect", "task.pem"]).output().unwrap();
    let output = asked();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(output.stdout.starts_with(b"active until "), "{output:?}");
    let lease = issued["lease"]["lease_id"].as_str().unwrap();
    let shown = play.program("operator", &["lease", "get", lease]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("the certificate's own") && !shown.contains("bearer"), "{shown}");
    play.ask("orchestrator", &["task", "complete", &task]);
    let output = asked();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b"inactive\n"[..]));
    // A key goes nowhere, also if it is called a certificate.
    for more in [&[][..], &["--certificate"]] {
        let line = [&["token", "introspect", "task.key"], more].concat();
        let output = play.program("documents", &line).output().unwrap();
        must_be_refused(&output, &["`task.key` holds no certificate in PEM"]);
    }
}

#[test]
fn a_certificate_is_no_secret_so_it_takes_an_operator_to_end_its_lease() {
    let play = Play::start();
    let task = begin(&play);
    let line =
        ["cert", "issue", "--task", &task, "--cert-out", "task.pem", "--key-out", "task.key"];
    play.ask("summarizer", &line);
    let certificate = fs::read_to_string(play.file("task.pem")).unwrap();
    let asked = found_by(play.program("documents", &["revoke", "--token", "-"]), &certificate);
    must_be_refused(
        &asked,
        &["no right to end it", "an operator must run `leasehold revoke lease lse_"],
    );
    let asked = found_by(play.program("operator", &["revoke", "--token", "-"]), &certificate);
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    // Of two certificates one would be ended, and whoever found them would think that both were.
    let two = format!(
        "{certificate}{}",
        certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap()
    );
    let asked = found_by(play.program("operator", &["revoke", "--token", "-"]), &two);
    must_be_refused(&asked, &["holds 2 certificates", "one at a time"]);
    let asked = found_by(play.program("documents", &["token", "introspect"]), &two);
    must_be_refused(&asked, &["holds 2 certificates", "one at a time"]);
    let own = fs::read_to_string(play.file("play/summarizer.pem")).unwrap();
    must_be_refused(&found(&play, &own), &["no broker issued for a task"]);
    let key = fs::read_to_string(play.file("task.key")).unwrap();
    must_be_refused(&found(&play, &key), &["no certificate in PEM"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn class_06_a_verifier_refuses_what_was_found_as_soon_as_it_has_heard() {
    let play = Play::start();
    let token = issue(&play, &begin(&play), &[]);
    let identity = Identity {
        ca_file: play.file("play/root.pem"),
        cert_file: play.file("play/documents.pem"),
        key_file: play.file("play/documents.key"),
    };
    let settings = Settings::new([play.broker.clone()], identity, AUDIENCE);
    let verifier = Verifier::start(settings).unwrap();
    tokio::time::timeout(PATIENCE, verifier.ready()).await.unwrap();
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap())
            .unwrap();
    let bound = URL_SAFE_NO_PAD.decode(claims["cnf"]["x5t#S256"].as_str().unwrap()).unwrap();
    let shown = Presented {
        scheme: Scheme::Bearer,
        token: &token,
        certificate: Some(bound.try_into().unwrap()),
        proof: None,
        request: ("GET", "/"),
        actions: &["read"],
    };
    let admission = verifier.check(&shown).unwrap();
    must_be_over(&found(&play, &token));
    let told = tokio::time::timeout(PATIENCE, admission.revoked()).await.unwrap();
    assert_eq!(told, Dead::LeaseOver);
    assert_eq!(verifier.check(&shown).err(), Some(Refused::Dead(Dead::LeaseOver)));
}
