//! `leasehold task watch`: what it says of a task, and what it ends with.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::play::{AUDIENCE, Play, SUMMARIZER};

fn begin(play: &Play) -> String {
    let grant = format!("{AUDIENCE}=read");
    let line = ["task", "begin", "--agent", SUMMARIZER, "--tier", "standard", "--duration", "5m"];
    let begun = play.ask("orchestrator", &[&line[..], &["--grant", &grant]].concat());
    begun["task"]["task_id"].as_str().unwrap().to_owned()
}

/// A watch that runs, and what it says, a line at a time.
fn watch(play: &Play, task: &str) -> (Child, impl FnMut() -> Value + use<>) {
    let mut command = play.program("orchestrator", &["task", "watch", task, "--output", "json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let next = move || {
        let line = lines.next().expect("it said no more").unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["task"].take()
    };
    (child, next)
}

#[test]
fn each_change_is_a_line_and_the_end_is_the_exit_status() {
    let play = Play::start();
    let task = begin(&play);
    let (mut child, mut next) = watch(&play, &task);
    let first = next();
    assert_eq!((&first["state"], &first["epoch"]), (&"TASK_STATE_ACTIVE".into(), &1.into()));
    let advance = ["task", "advance", &task, "--expected-epoch", "1", "--step", "review"];
    play.ask("orchestrator", &advance);
    let advanced = next();
    assert_eq!((&advanced["step"], &advanced["epoch"]), (&"review".into(), &2.into()));
    play.ask("operator", &["task", "suspend", &task]);
    assert_eq!(next()["state"], "TASK_STATE_SUSPENDED");
    play.ask("orchestrator", &["task", "complete", &task, "--reason", "it is written"]);
    let ended = next();
    assert_eq!(ended["state"], "TASK_STATE_COMPLETED");
    assert_eq!(ended["reason"], "it is written");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_task_that_was_not_completed_ends_a_watch_otherwise_and_what_is_not_there_is_said_at_once() {
    let mut play = Play::start();
    let task = begin(&play);
    let (mut child, mut next) = watch(&play, &task);
    next();
    play.ask("orchestrator", &["task", "fail", &task, "--reason", "no quorum"]);
    assert_eq!(next()["state"], "TASK_STATE_FAILED");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let again = play.program("orchestrator", &["task", "watch", &task]).output().unwrap();
    assert_eq!(again.status.code(), Some(4));
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.trim_end().ends_with("failed, epoch 1: no quorum"), "{said}");
    let stranger = play.program("researcher", &["task", "watch", &task]).output().unwrap();
    assert_eq!(stranger.status.code(), Some(1), "who may not get it");
    play.stop();
    let nobody = play.program("orchestrator", &["task", "watch", &task]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "no broker was ever reached");
}

#[test]
fn a_watch_outlives_its_broker_and_says_what_was_missed() {
    let mut play = Play::start();
    let task = begin(&play);
    let (mut child, mut next) = watch(&play, &task);
    assert_eq!(next()["epoch"], 1);
    play.restart();
    play.ask("orchestrator", &["task", "advance", &task, "--expected-epoch", "1", "--step", "b"]);
    assert_eq!(next()["epoch"], 2);
    play.ask("orchestrator", &["task", "cancel", &task]);
    assert_eq!(next()["state"], "TASK_STATE_CANCELLED");
    assert_eq!(child.wait().unwrap().code(), Some(4));
}
