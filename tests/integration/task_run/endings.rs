//! What ends the task, what ends the command, and what is left of them.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::play::{AUDIENCE, Play, SUMMARIZER, Started, is_alive, signal, wait_for};
use crate::programs;

const NAME_TASK: &str = "echo $LEASEHOLD_TASK > task;";

#[test]
fn success_completes_the_task_and_kills_what_the_command_was_handed() {
    let play = Play::start();
    let script = format!(
        "{NAME_TASK} dirname $LEASEHOLD_TASK_TOKEN_FILE > folder; cp $LEASEHOLD_TASK_TOKEN_FILE token;
         leasehold token introspect token --cert play/documents.pem --key play/documents.key > inside;
         stat -c %a $LEASEHOLD_TASK_TOKEN_FILE $LEASEHOLD_TASK_SOCKET . > modes; cd $(cat folder); stat -c %a . >> $OLDPWD/modes"
    );
    let ran = play.ran(&[], &script);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(play.read("inside").starts_with("active until "));
    let modes = play.read("modes");
    let modes: Vec<_> = modes.lines().collect();
    assert_eq!([modes[0], modes[1], modes[3]], ["600", "600", "700"]);
    let task = play.task();
    assert_eq!(task["state"], "TASK_STATE_COMPLETED");
    assert_eq!(task["reason"], "exit status 0");
    assert!(!play.is_active(&play.read("token")));
    assert!(!std::path::Path::new(&play.read("folder")).exists());
    assert!(ran.stdout.is_empty(), "stdout is the command's");
}

#[test]
fn failure_fails_the_task_and_the_exit_status_is_the_commands() {
    let play = Play::start();
    let ran = play.ran(&[], &format!("{NAME_TASK} exit 7"));
    assert_eq!(ran.status.code(), Some(7));
    let task = play.task();
    assert_eq!(
        (&task["state"], &task["reason"]),
        (&"TASK_STATE_FAILED".into(), &"exit status 7".into())
    );
}

#[test]
fn a_command_that_a_signal_ends_fails_the_task_and_is_told_as_a_shell_does() {
    let play = Play::start();
    let ran = play.ran(&[], &format!("{NAME_TASK} kill -KILL $$"));
    assert_eq!((ran.status.code(), ran.status.signal()), (Some(137), None));
    let task = play.task();
    assert_eq!(
        (&task["state"], &task["reason"]),
        (&"TASK_STATE_FAILED".into(), &"signal 9".into())
    );
}

#[test]
fn a_command_that_is_not_there_fails_the_task() {
    let play = Play::start();
    let mut run = play.program("orchestrator", &["task", "run", "--agent", SUMMARIZER]);
    run.args(["--tier", "standard", "--grant", &format!("{AUDIENCE}=read"), "--duration", "5m"]);
    run.args(["--agent-cert", "play/summarizer.pem", "--agent-key", "play/summarizer.key"]);
    let ran = run.args(["--", "no-such-program"]).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(127), "{said}");
    assert!(said.contains("`no-such-program` cannot be run"), "{said}");
    let tasks = play.ask("orchestrator", &["task", "list"]);
    assert_eq!(tasks["tasks"][0]["state"], "TASK_STATE_FAILED");
}

#[test]
fn where_the_task_is_refused_or_no_credential_is_issued_nothing_is_started() {
    let play = Play::start();
    let refused = play.ran(&["--tier", "no-such-tier"], "echo > started");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("no-such-tier"), "{said}");
    // The researcher is not the agent of the task.
    let mut stranger = play.program("orchestrator", &["task", "run", "--agent", SUMMARIZER]);
    stranger.args([
        "--tier",
        "standard",
        "--grant",
        &format!("{AUDIENCE}=read"),
        "--duration",
        "5m",
    ]);
    stranger.args(["--agent-cert", "play/researcher.pem", "--agent-key", "play/researcher.key"]);
    let stranger = stranger.args(["--", "sh", "-c", "echo > started"]).output().unwrap();
    let said = String::from_utf8_lossy(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(125), "{said}");
    assert!(!play.file("started").exists());
    let tasks = play.ask("orchestrator", &["task", "list"]);
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(tasks["tasks"][0]["state"], "TASK_STATE_FAILED");
    assert!(tasks["tasks"][0]["reason"].as_str().unwrap().contains("was not started"));
}

#[test]
fn signals_reach_the_command_and_what_it_makes_of_them_counts() {
    programs::must_be_here(&["kill"]);
    for name in ["INT", "TERM", "HUP", "USR1"] {
        let play = Play::start();
        let script = format!("trap 'exit 5' {name}; {NAME_TASK} sleep 1000 & wait");
        let run = Started::new(play.run(&[], &script));
        play.read("task");
        signal(name, run.0.id());
        let (code, said) = run.end();
        assert_eq!(code, Some(5), "{name}: {said}");
        assert_eq!(play.task()["reason"], "exit status 5");
    }
}

#[test]
fn nothing_that_the_command_started_outlives_it() {
    programs::must_be_here(&["setsid"]);
    let play = Play::start();
    // One in another session, and one whose parent has gone before.
    let script = format!(
        "{NAME_TASK} setsid sh -c 'echo $$ > one; exec sleep 1000' &
         (sleep 1000 & echo $! > two)
         until [ -s one ]; do sleep 0.05; done"
    );
    let ran = play.ran(&[], &script);
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!is_alive(&play.read("one")));
    assert!(!is_alive(&play.read("two")));
}

#[test]
fn where_the_task_ends_elsewhere_the_command_is_stopped_and_its_credentials_are_gone() {
    let play = Play::start();
    let script = format!(
        "trap 'ls $(cat folder) > left 2>&1; echo yes > told; exit 0' TERM
         dirname $LEASEHOLD_TASK_TOKEN_FILE > folder; cp $LEASEHOLD_TASK_TOKEN_FILE token; {NAME_TASK} sleep 1000 & wait"
    );
    // It looks at its task itself later than this test would wait.
    let run = Started::new(play.run(&["--heartbeat", "5m"], &script));
    let task = play.read("task");
    play.ask("operator", &["revoke", "task", &task, "--reason", "leaked"]);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("it is revoked: leaked"), "{said}");
    assert_eq!(play.read("told"), "yes");
    assert!(play.read("left").contains("No such file"), "taken back before the command is told");
    assert!(!play.is_active(&play.read("token")));
    assert_eq!(play.task()["state"], "TASK_STATE_REVOKED");
}

#[test]
fn a_command_that_does_not_stop_when_it_is_told_to_is_killed() {
    let play = Play::start();
    let script = format!("trap '' TERM; echo $$ > pid; {NAME_TASK} while :; do sleep 1; done");
    let run = Started::new(play.run(&["--heartbeat", "1s", "--grace", "500ms"], &script));
    let task = play.read("task");
    play.ask("orchestrator", &["task", "cancel", &task]);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert!(!is_alive(&play.read("pid")));
}

#[test]
fn a_command_that_was_halted_hears_that_it_is_to_stop() {
    let play = Play::start();
    let script = format!(
        "trap 'echo yes > told; exit 0' TERM; echo $$ > pid; {NAME_TASK} sleep 1000 & wait"
    );
    let run = Started::new(play.run(&["--heartbeat", "1s"], &script));
    let task = play.read("task");
    signal("STOP", play.read("pid").parse().unwrap());
    play.ask("orchestrator", &["task", "cancel", &task]);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert!(play.file("told").exists(), "it was killed without a word");
}

#[test]
fn whoever_kills_the_run_kills_the_command_and_silence_kills_the_credentials() {
    let play = Play::start();
    let script =
        format!("echo $$ > pid; cp $LEASEHOLD_TASK_TOKEN_FILE token; {NAME_TASK} exec sleep 1000");
    let mut run = Started::new(play.run(&["--heartbeat", "1s", "--tier", "critical"], &script));
    play.read("task");
    let token = play.read("token");
    assert!(play.is_active(&token));
    run.0.kill().unwrap();
    run.0.wait().unwrap();
    let pid = play.read("pid");
    wait_for("the command's end", || (!is_alive(&pid)).then_some(()));
    play.until(&play.read("task"), "TASK_STATE_FAILED");
    assert!(!play.is_active(&token));
}

#[test]
fn a_quarantine_stops_the_command_and_fails_the_task() {
    let play = Play::start();
    let run = Started::new(play.run(&["--ttl", "10s"], &format!("{NAME_TASK} sleep 1000 & wait")));
    play.read("task");
    play.ask("operator", &["quarantine", &format!("principal:{SUMMARIZER}")]);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert_eq!(play.task()["state"], "TASK_STATE_FAILED");
}

#[test]
fn the_deadline_stops_the_command_without_asking_the_broker() {
    let mut play = Play::start();
    let mut run = play.program("orchestrator", &["task", "run", "--agent", SUMMARIZER]);
    run.args(["--tier", "standard", "--grant", &format!("{AUDIENCE}=read"), "--duration", "15s"]);
    run.args(["--agent-cert", "play/summarizer.pem", "--agent-key", "play/summarizer.key"]);
    run.args(["--", "sh", "-c", &format!("{NAME_TASK} exec sleep 1000")]);
    let run = Started::new(run);
    play.read("task");
    play.stop();
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("its deadline has passed"), "{said}");
}

#[test]
fn success_that_the_broker_cannot_be_told_of_is_told_apart() {
    let mut play = Play::start();
    let script = format!("{NAME_TASK} until [ -e go ]; do sleep 0.05; done");
    let run = Started::new(play.run(&[], &script));
    play.read("task");
    play.stop();
    std::fs::write(play.file("go"), "").unwrap();
    let (code, said) = run.end();
    assert_eq!(code, Some(123), "{said}");
    assert!(said.contains("could not be recorded"), "{said}");
}

#[test]
fn a_task_that_is_joined_outlives_the_command_and_its_lease_does_not() {
    let play = Play::start();
    let id = begun(&play);
    let script = format!("{NAME_TASK} cp $LEASEHOLD_TASK_TOKEN_FILE token; exit 3");
    let mut join = play.program("summarizer", &["task", "join", &id, "--", "sh", "-c", &script]);
    assert_eq!(join.status().unwrap().code(), Some(3));
    assert_eq!(play.task()["state"], "TASK_STATE_ACTIVE");
    assert!(!play.is_active(&play.read("token")));
    let leases = play.ask("orchestrator", &["lease", "list", "--task", &id]);
    assert_eq!(leases["leases"].as_array().map(Vec::len), Some(1));
}

/// A task for the summarizer that somebody else drives.
fn begun(play: &Play) -> String {
    let grant = format!("{AUDIENCE}=read");
    let begin = ["task", "begin", "--agent", SUMMARIZER, "--tier", "standard", "--grant", &grant];
    let task = play.ask("orchestrator", &[&begin[..], &["--duration", "5m"]].concat());
    task["task"]["task_id"].as_str().unwrap().to_owned()
}

#[test]
fn where_nothing_is_started_under_a_joined_task_its_lease_is_given_back() {
    let play = Play::start();
    let id = begun(&play);
    std::fs::write(play.file("taken"), "").unwrap();
    for (options, command) in [(&[][..], "no-such-command"), (&["--socket", "taken"], "true")] {
        let mut line = vec!["task", "join", &id];
        line.extend(options);
        let ran = play.program("summarizer", &line).args(["--", command]).output().unwrap();
        assert_ne!(ran.status.code(), Some(0), "{command}");
    }
    let leases = play.ask("orchestrator", &["lease", "list", "--task", &id]);
    let states: Vec<_> =
        leases["leases"].as_array().unwrap().iter().map(|lease| &lease["state"]).collect();
    assert_eq!(states, ["LEASE_STATE_REVOKED", "LEASE_STATE_REVOKED"], "given back");
}

#[test]
fn a_task_that_is_handed_to_somebody_else_is_not_known_any_more_and_the_command_is_stopped() {
    let play = Play::start();
    let id = begun(&play);
    let script = format!("{NAME_TASK} while :; do sleep 0.05; done");
    let line = ["task", "join", &id, "--", "sh", "-c", &script];
    let run = Started::new(play.program("summarizer", &line));
    play.read("task");
    let other = "spiffe://dev.example/agents/researcher/1";
    let hand_over = ["task", "advance", &id, "--expected-epoch", "1", "--agent", other];
    play.ask("orchestrator", &hand_over);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("not known any more, or not ours"), "{said}");
    assert_eq!(play.task()["state"], "TASK_STATE_ACTIVE");
}

#[test]
fn a_command_that_is_not_to_outlive_a_change_is_stopped_by_it_and_the_task_goes_on() {
    let play = Play::start();
    let script = format!(
        "trap 'echo yes > told; exit 0' TERM; {NAME_TASK} until [ -e go ]; do sleep 0.05; done"
    );
    let run = Started::new(play.run(&["--heartbeat", "5m", "--stop-when-advanced"], &script));
    let task = play.read("task");
    // No change: what is suspended goes on as it was.
    play.ask("orchestrator", &["task", "suspend", &task]);
    play.ask("orchestrator", &["task", "resume", &task, "--expected-epoch", "2"]);
    play.ask("orchestrator", &["task", "advance", &task, "--expected-epoch", "2", "--step", "b"]);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    assert!(said.contains("it changed, and is in epoch 3"), "{said}");
    assert_eq!(play.read("told"), "yes");
    let task = play.task();
    assert_eq!((&task["state"], &task["epoch"]), (&"TASK_STATE_ACTIVE".into(), &3.into()));
}

#[test]
fn under_a_joined_task_too_and_what_was_issued_is_given_back() {
    let play = Play::start();
    let id = begun(&play);
    let script = format!("{NAME_TASK} until [ -e go ]; do sleep 0.05; done");
    let line = ["task", "join", &id, "--stop-when-advanced", "--", "sh", "-c", &script];
    let run = Started::new(play.program("summarizer", &line));
    play.read("task");
    play.ask("orchestrator", &["task", "advance", &id, "--expected-epoch", "1", "--step", "b"]);
    let (code, said) = run.end();
    assert_eq!(code, Some(124), "{said}");
    let leases = play.ask("orchestrator", &["lease", "list", "--task", &id]);
    let leases = leases["leases"].as_array().unwrap();
    assert!(!leases.is_empty());
    assert!(leases.iter().all(|lease| lease["state"] != "LEASE_STATE_ACTIVE"), "{leases:?}");
    assert_eq!(play.task()["state"], "TASK_STATE_ACTIVE");
}

#[test]
fn the_hidden_command_starts_nothing_for_a_parent_that_is_gone() {
    let ran = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bound-command", "--parent", "1999999999", "--", "echo", "started"])
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(125));
    assert!(ran.stdout.is_empty());
}
