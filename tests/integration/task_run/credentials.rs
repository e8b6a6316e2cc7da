//! What the command is handed, and how it stays alive.

use std::collections::BTreeSet;
use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::play::{AUDIENCE, Play, SUMMARIZER, Started, signal, wait_for};

/// Tells where things are, and waits until it is let go.
const WAIT: &str =
    "echo $LEASEHOLD_TASK_SOCKET > socket; echo $LEASEHOLD_TASK_TOKEN_FILE > token-file;
    echo $LEASEHOLD_TASK > task; until [ -e go ]; do sleep 0.05; done";

fn let_go(play: &Play, run: Started) {
    fs::write(play.file("go"), "").unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(0), "{said}");
}

fn claims(token: &str) -> Value {
    let parts: Vec<_> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "a torn token: `{token}`");
    assert!(parts[2].len() == 86, "a torn signature");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap()
}

#[test]
fn file_and_socket_have_a_new_token_before_the_old_one_expires_and_never_half_of_one() {
    let play = Play::start();
    let run = Started::new(play.run(&["--ttl", "10s"], WAIT));
    play.read("task");
    let (file, socket) = (play.read("token-file"), play.read("socket"));
    let mut seen = BTreeSet::new();
    wait_for("three tokens", || {
        let token = fs::read_to_string(&file).expect("the file is always there");
        claims(&token);
        if seen.insert(token.clone()) {
            assert!(play.is_active(&token), "it was replaced too late");
            let (status, answer) = play.get(&socket, "/");
            assert_eq!((status, answer["access_token"].as_str()), (200, Some(token.as_str())));
        }
        (seen.len() == 3).then_some(())
    });
    let leases: BTreeSet<_> =
        seen.iter().map(|token| claims(token)["leasehold"]["lease"].to_string()).collect();
    // On a busy machine one renewal may come too late, and a new lease is as good.
    assert!(leases.len() < seen.len(), "renewed, not issued anew each time");
    let_go(&play, run);
}

#[test]
fn what_a_run_around_it_was_handed_is_not_handed_on() {
    let play = Play::start();
    let script = "echo ${LEASEHOLD_TASK_SOCKET-none} ${LEASEHOLD_TASK_TOKEN_FILE-none} > seen";
    let mut run = play.run(&["--token-env", "TOKEN"], script);
    run.env("LEASEHOLD_TASK_SOCKET", "outer").env("LEASEHOLD_TASK_TOKEN_FILE", "outer");
    assert!(run.output().unwrap().status.success());
    assert_eq!(play.read("seen"), "none none");
}

#[test]
fn the_socket_chooses_among_audiences_and_says_what_there_is() {
    let play = Play::start();
    let (one, two) = (format!("{AUDIENCE}=read"), "https://other.example=write".to_owned());
    let run = Started::new(play.run(&["--grant", &one, "--grant", &two], WAIT));
    play.read("task");
    let socket = play.read("socket");
    assert_eq!(
        fs::read_to_string(play.file("token-file")).unwrap().trim(),
        "",
        "there is no one token"
    );
    for audience in [AUDIENCE, "https://other.example"] {
        let (status, answer) = play.get(&socket, &format!("/?audience={audience}"));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["audience"], audience);
        assert_eq!(claims(answer["access_token"].as_str().unwrap())["aud"], audience);
    }
    for target in ["/", "/?audience=https://nowhere.example"] {
        let (status, answer) = play.get(&socket, target);
        assert_eq!((status, &answer["error"]), (400, &"invalid_target".into()));
        assert!(answer["error_description"].as_str().unwrap().contains("`https://other.example`"));
    }
    let_go(&play, run);
}

#[test]
fn a_change_of_the_task_brings_a_new_token_at_once() {
    let play = Play::start();
    let run = Started::new(play.run(&["--heartbeat", "4s"], WAIT));
    let (task, socket) = (play.read("task"), play.read("socket"));
    play.ask(
        "orchestrator",
        &["task", "advance", &task, "--expected-epoch", "1", "--step", "next"],
    );
    let answer = wait_for("epoch 2", || {
        let (status, answer) = play.get(&socket, "/");
        (status == 200 && answer["epoch"] == 2).then_some(answer)
    });
    assert!(play.is_active(answer["access_token"].as_str().unwrap()));
    let_go(&play, run);
}

#[test]
fn a_change_that_leaves_nothing_for_an_audience_takes_its_token_away() {
    let play = Play::start();
    let run = Started::new(play.run(&["--heartbeat", "4s"], WAIT));
    let (task, socket, file) = (play.read("task"), play.read("socket"), play.read("token-file"));
    let advance = ["task", "advance", &task, "--expected-epoch", "1", "--step", "next"];
    play.ask("orchestrator", &[&advance[..], &["--grant", "https://other.example=read"]].concat());
    wait_for("503", || (play.get(&socket, "/").0 == 503).then_some(()));
    assert!(fs::metadata(&file).is_err(), "a dead token is taken away");
    let_go(&play, run);
}

#[test]
fn while_the_task_is_suspended_there_is_no_token_and_then_there_is_one_again() {
    let play = Play::start();
    let run = Started::new(play.run(&["--heartbeat", "4s"], WAIT));
    let (task, socket, file) = (play.read("task"), play.read("socket"), play.read("token-file"));
    play.ask("operator", &["task", "suspend", &task]);
    let answer = wait_for("503", || {
        let (status, answer) = play.get(&socket, "/");
        (status == 503).then_some(answer)
    });
    assert_eq!(answer["error"], "temporarily_unavailable");
    assert!(fs::metadata(&file).is_err(), "a dead token is taken away");
    play.ask("operator", &["task", "resume", &task, "--expected-epoch", "2"]);
    wait_for("200", || (play.get(&socket, "/").0 == 200).then_some(()));
    assert!(play.is_active(&fs::read_to_string(&file).unwrap()));
    let_go(&play, run);
}

#[test]
fn a_token_that_expires_while_the_broker_is_away_is_taken_away() {
    let mut play = Play::start();
    let _run = Started::new(play.run(&["--ttl", "10s"], WAIT));
    let (socket, file) = (play.read("socket"), play.read("token-file"));
    assert_eq!(play.get(&socket, "/").0, 200);
    play.stop();
    wait_for("the file's end", || fs::metadata(&file).is_err().then_some(()));
    let (status, answer) = play.get(&socket, "/");
    assert_eq!((status, &answer["error"]), (503, &"temporarily_unavailable".into()));
    assert_eq!(answer["access_token"], Value::Null);
}

/// Whoever suspended it decides when it goes on.
#[test]
fn what_its_orchestrator_has_suspended_waits_for_its_orchestrator() {
    let play = Play::start();
    let run = Started::new(play.run(&["--heartbeat", "1s"], WAIT));
    let (task, socket) = (play.read("task"), play.read("socket"));
    play.ask("orchestrator", &["task", "suspend", &task]);
    wait_for("503", || (play.get(&socket, "/").0 == 503).then_some(()));
    // Until silence has suspended another one the run has looked at its own again and again.
    let grant = format!("{AUDIENCE}=read");
    let other = ["--tier", "standard", "--grant", &grant, "--duration", "5m", "--heartbeat", "1s"];
    let other = [&["task", "begin", "--agent", SUMMARIZER][..], &other].concat();
    let other = play.ask("orchestrator", &other)["task"]["task_id"].take();
    let state = |id: &str| play.ask("orchestrator", &["task", "get", id])["task"]["state"].take();
    let other = other.as_str().unwrap();
    play.until(other, "TASK_STATE_SUSPENDED");
    assert_eq!(state(&task), "TASK_STATE_SUSPENDED");
    play.ask("orchestrator", &["task", "resume", &task, "--expected-epoch", "2"]);
    wait_for("200", || (play.get(&socket, "/").0 == 200).then_some(()));
    let_go(&play, run);
}

#[test]
fn what_silence_has_suspended_is_resumed_when_the_run_is_back() {
    let play = Play::start();
    let run = Started::new(play.run(&["--heartbeat", "1s"], WAIT));
    let task = play.read("task");
    signal("STOP", run.0.id());
    play.until(&task, "TASK_STATE_SUSPENDED");
    signal("CONT", run.0.id());
    play.until(&task, "TASK_STATE_ACTIVE");
    let file = play.read("token-file");
    let token = wait_for("a token", || {
        fs::read_to_string(&file).ok().filter(|token| claims(token)["leasehold"]["path"][0][1] == 2)
    });
    assert!(play.is_active(&token));
    let_go(&play, run);
}

#[test]
fn a_token_in_the_environment_is_all_there_is_and_no_identity_of_others_is_beside_it() {
    let play = Play::start();
    let script = "printf %s \"$TOKEN\" > token; env > env; leasehold token introspect token \
        --cert play/documents.pem --key play/documents.key > inside";
    let ran = play.ran(&["--token-env", "TOKEN", "--output", "json"], script);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert!(play.read("inside").starts_with("active until "));
    let token = play.read("token");
    assert!(!said.contains(&token), "no secret is said");
    assert!(said.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{said}");
    let env = play.read("env");
    for name in [
        "LEASEHOLD_CERT=",
        "LEASEHOLD_KEY=",
        "LEASEHOLD_TASK_SOCKET=",
        "LEASEHOLD_TASK_TOKEN_FILE=",
    ] {
        assert!(!env.lines().any(|line| line.starts_with(name)), "{name}");
    }
    for name in ["LEASEHOLD_TASK=tsk_", "LEASEHOLD_EPOCH=1", "LEASEHOLD_AUDIENCE=https://documents"]
    {
        assert!(env.lines().any(|line| line.starts_with(name)), "{name}");
    }
}

#[test]
fn files_of_the_users_choice_are_written_and_taken_away_and_a_socket_takes_nobodys_place() {
    let play = Play::start();
    let options = [
        "--token-out",
        "my-token",
        "--socket",
        "my-socket",
        "--cert-out",
        "my.pem",
        "--key-out",
        "my.key",
    ];
    let ran =
        play.ran(&options, "stat -c '%a %n' my-token my-socket my.key > modes; cp my.pem seen.pem");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{said}");
    assert_eq!(play.read("modes"), "600 my-token\n600 my-socket\n600 my.key");
    assert!(play.read("seen.pem").starts_with("-----BEGIN CERTIFICATE-----"));
    for file in ["my-token", "my-socket", "my.pem", "my.key"] {
        assert!(!play.file(file).exists(), "{file}");
    }
    fs::write(play.file("my-socket"), "somebody's").unwrap();
    let refused = play.ran(&options, "echo > started");
    assert_eq!(refused.status.code(), Some(125));
    assert_eq!(play.read("my-socket"), "somebody's");
    assert!(!play.file("started").exists());
}

#[test]
fn agents_without_a_certificate_get_a_key_that_is_made_for_them() {
    let play = Play::start();
    for who in ["alice", "reporter"] {
        let token = play.anonymous(&["dev", "token", "--dir", "play", "--subject", who]).output();
        fs::write(play.file(&format!("{who}.jwt")), token.unwrap().stdout).unwrap();
    }
    let mut run =
        play.anonymous(&["task", "run", "--agent", "oidc:dev:reporter", "--tier", "standard"]);
    run.args([
        "--grant",
        &format!("{AUDIENCE}=read"),
        "--duration",
        "5m",
        "--token-file",
        "alice.jwt",
    ]);
    run.args(["--agent-token-file", "reporter.jwt", "--", "sh", "-c"]);
    let script = "cat $LEASEHOLD_TASK_CERT > cert; cat $LEASEHOLD_TASK_KEY > key; cat $LEASEHOLD_TASK_TOKEN_FILE > token; \
        leasehold token introspect token --cert play/documents.pem --key play/documents.key > inside";
    let ran = run.arg(script).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(play.read("inside").starts_with("active until "));
    assert!(play.read("cert").starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(play.read("key").starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(claims(&play.read("token"))["cnf"]["x5t#S256"].is_string());
}

#[test]
fn places_for_one_token_are_refused_where_there_are_several() {
    let play = Play::start();
    let (one, other) = (format!("{AUDIENCE}=read"), "https://other.example=write");
    for option in [&["--token-env", "TOKEN"][..], &["--token-out", "token"]] {
        let options = [option, &["--grant", &one, "--grant", other]].concat();
        let ran = play.ran(&options, "echo > started");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(125), "{said}");
        assert!(said.contains("`--audience`"), "{said}");
    }
    assert!(!play.file("started").exists());
}
