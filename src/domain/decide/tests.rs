//! The state machine of DESIGN.md section 2: each arrow, and each arrow that is not there.

use std::sync::Arc;

use super::*;
use crate::domain::id::{Partition, TaskId};
use crate::domain::line::Standing;
use crate::domain::principal::Principal;
use crate::domain::task::OnSilence;
use crate::domain::time::Span;
use crate::testing::scenario;

const FLOOR: Stamp = Stamp::ZERO;

fn at(second: u64) -> Stamp {
    Stamp::from_seconds(second)
}

fn run(line: &Line, command: Command) -> Result<Change, Refusal> {
    match decide(line, command, FLOOR, at(1_500))? {
        Decision::Change(change) => Ok(*change),
        Decision::Already => panic!("nothing changed"),
    }
}

/// The line after a change, as if it had been committed at `second`.
fn after(line: &Line, change: Change, second: u64) -> Line {
    let mut task = change.task;
    task.version = at(second);
    task.begun = task.begun.or(Some(at(second)));
    task.commanded = task.commanded.or(Some(at(second)));
    Line::shared(line.ancestors().to_vec(), Arc::new(task)).unwrap()
}

fn advance(expected_epoch: u64) -> Advance {
    Advance {
        expected_epoch,
        grant: None,
        step: None,
        checkpoint: None,
        agent: None,
        keep_children: false,
    }
}

fn complete() -> Command {
    Command::End { state: State::Completed, reason: String::new() }
}

fn suspend_by(by_operator: bool) -> Command {
    Command::Suspend { reason: "wait".into(), by_operator }
}

/// A child below the root, and the root with the child counted.
fn family() -> (Line, Line) {
    let root = scenario::root();
    let mut child = scenario::task("spiffe://td/agents/b");
    child.id = TaskId::new(Partition(1), 2);
    let change = delegate(&root, child, 1, (8, 64), (FLOOR, at(1_100))).unwrap();
    let root = Line::new(vec![], change.parent.unwrap()).unwrap();
    let child = Line::new(vec![root.own().clone()], change.task).unwrap();
    (root, child)
}

/// The child's line below the root as it is now.
fn below(root: &Line, child: &Line) -> Line {
    Line::new(vec![root.own().clone()], child.own().clone()).unwrap()
}

fn state(line: &Line) -> State {
    line.standing(FLOOR, at(1_500)).state
}

#[test]
fn advance_raises_the_epoch_and_fences_the_earlier_one() {
    let line = scenario::root();
    let change = run(&line, Command::Advance(advance(1))).unwrap();
    assert_eq!((change.task.epoch.get(), change.task.branch.get()), (2, 2));
    assert_eq!(change.task.branch_floor, change.task.branch);
    assert_eq!(change.entries, vec![fence_of(&change.task)]);
}

#[test]
fn of_two_racing_advances_one_is_stale() {
    let line = scenario::root();
    let first = run(&line, Command::Advance(advance(1))).unwrap();
    let line = after(&line, first, 1_200);
    let second = run(&line, Command::Advance(advance(1)));
    assert_eq!(second, Err(Refusal::EpochStale { expected: 1, current: 2 }));
}

#[test]
fn class_05_advance_ends_the_children_unless_they_are_kept() {
    let (root, child) = family();
    let kept = Advance { keep_children: true, ..advance(1) };
    let kept = after(&root, run(&root, Command::Advance(kept)).unwrap(), 1_200);
    assert_eq!(state(&below(&kept, &child)), State::Active);
    let ended = after(&root, run(&root, Command::Advance(advance(1))).unwrap(), 1_200);
    let standing = below(&ended, &child).standing(FLOOR, at(1_500));
    assert_eq!(standing, Standing { state: State::Cancelled, cause: Some(root.own().id) });
    assert_eq!(ended.own().live_children, 0);
}

#[test]
fn children_are_never_kept_through_a_change_of_grant_or_agent() {
    let line = scenario::root();
    let grant = Advance { keep_children: true, grant: Some(scenario::grant()), ..advance(1) };
    let agent = Agent::parse("spiffe://td/agents/b").unwrap();
    let class = line.own().class.clone();
    let agent = Advance { keep_children: true, agent: Some((agent, class)), ..advance(1) };
    for change in [grant, agent] {
        let refusal = run(&line, Command::Advance(change)).unwrap_err();
        assert_eq!(refusal.reason(), "REQUEST_INVALID");
    }
}

#[test]
fn class_21_a_child_is_never_advanced_beyond_its_parent() {
    let (_, child) = family();
    let wider = Grant::parse(
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["delete"]}]"#,
    );
    let wider = Advance { grant: Some(wider.unwrap()), ..advance(1) };
    let refusal = run(&child, Command::Advance(wider)).unwrap_err();
    assert_eq!(refusal.reason(), "GRANT_WIDENS");
}

#[test]
fn handing_over_lets_another_instance_in() {
    let pin = |instance: &str| Pin {
        principal: Principal::parse("spiffe://td/agents/a").unwrap(),
        instance: instance.into(),
    };
    let mut task = scenario::task("spiffe://td/agents/a");
    task = super::pin(&task, pin("one")).unwrap().unwrap();
    assert_eq!(super::pin(&task, pin("one")), Ok(None));
    assert_eq!(super::pin(&task, pin("two")), Err(Refusal::InstanceMismatch));
    let agent = (task.agent.clone(), task.class.clone());
    let line = Line::new(vec![], task).unwrap();
    let handed = Advance { agent: Some(agent), ..advance(1) };
    let change = run(&line, Command::Advance(handed)).unwrap();
    assert!(super::pin(&change.task, pin("two")).unwrap().is_some());
}

#[test]
fn suspend_kills_what_was_issued_below_but_ends_no_child() {
    let (root, child) = family();
    let change = run(&root, suspend_by(false)).unwrap();
    assert_eq!(change.task.epoch.get(), 2);
    assert_eq!(change.task.branch.get(), 2);
    assert_eq!(change.task.branch_floor.get(), 1);
    let root = after(&root, change, 1_200);
    let standing = below(&root, &child).standing(FLOOR, at(1_500));
    assert_eq!(standing, Standing { state: State::Suspended, cause: Some(root.own().id) });
    let resume = Command::Resume { expected_epoch: 2, by_operator: false };
    let change = run(&root, resume).unwrap();
    assert!(change.entries.is_empty(), "resume takes nothing back");
    let root = after(&root, change, 1_300);
    assert_eq!(state(&below(&root, &child)), State::Active);
    assert_ne!(child.path(), below(&root, &child).path(), "old credentials stay dead");
}

#[test]
fn what_an_operator_suspended_an_operator_resumes() {
    let line = scenario::root();
    let line = after(&line, run(&line, suspend_by(true)).unwrap(), 1_200);
    let by_orchestrator = Command::Resume { expected_epoch: 2, by_operator: false };
    assert_eq!(run(&line, by_orchestrator).unwrap_err().reason(), "TASK_SUSPENDED");
    let by_operator = Command::Resume { expected_epoch: 2, by_operator: true };
    assert_eq!(run(&line, by_operator).unwrap().task.state, State::Active);
}

#[test]
fn an_operator_takes_over_a_suspension() {
    let line = scenario::root();
    let line = after(&line, run(&line, suspend_by(false)).unwrap(), 1_200);
    let change = run(&line, suspend_by(true)).unwrap();
    assert!(change.task.suspended_by_operator);
    let again = decide(&after(&line, change, 1_300), suspend_by(false), FLOOR, at(1_500));
    assert_eq!(again, Ok(Decision::Already));
}

#[test]
fn from_suspended_a_task_can_end_not_advance() {
    let line = scenario::root();
    let line = after(&line, run(&line, suspend_by(false)).unwrap(), 1_200);
    let refusal = run(&line, Command::Advance(advance(2))).unwrap_err();
    assert_eq!(refusal.reason(), "TASK_SUSPENDED");
    assert_eq!(run(&line, Command::Heartbeat).unwrap_err().reason(), "TASK_SUSPENDED");
    assert_eq!(run(&line, complete()).unwrap().task.state, State::Completed);
}

#[test]
fn an_ended_task_stays_as_it_ended() {
    let line = scenario::root();
    let change = run(&line, complete()).unwrap();
    assert_eq!(change.entries, vec![Entry::Fence(line.own().id, Fence::ended())]);
    let line = after(&line, change, 1_200);
    assert_eq!(decide(&line, complete(), FLOOR, at(1_500)), Ok(Decision::Already));
    let fail = Command::End { state: State::Failed, reason: String::new() };
    for command in [
        fail,
        suspend_by(true),
        Command::Advance(advance(1)),
        Command::Resume { expected_epoch: 1, by_operator: true },
        Command::Heartbeat,
    ] {
        assert_eq!(run(&line, command), Err(Refusal::TaskEnded(State::Completed)));
    }
}

#[test]
fn class_05_ending_the_parent_ends_the_children_without_visiting_them() {
    let (root, child) = family();
    let root = after(&root, run(&root, complete()).unwrap(), 1_200);
    let child = below(&root, &child);
    assert_eq!(state(&child), State::Cancelled);
    assert_eq!(run(&child, complete()), Err(Refusal::TaskEnded(State::Cancelled)));
    let cancel = Command::End { state: State::Cancelled, reason: "not wanted".into() };
    let change = run(&child, cancel.clone()).unwrap();
    assert_eq!(
        (change.task.state, change.task.reason.as_str()),
        (State::Cancelled, ANCESTOR_ENDED)
    );
    let child = below(&root, &after(&child, change, 1_300));
    assert_eq!(decide(&child, cancel, FLOOR, at(1_500)), Ok(Decision::Already));
}

#[test]
fn class_05_a_parent_that_failed_by_silence_ends_its_children_before_the_sweeper_has_been_there() {
    let (root, child) = family();
    let (on_silence, silence_at) = (OnSilence::Fail, Some(at(1_500)));
    let silent = Task { on_silence, silence_at, ..root.own().clone() };
    let child = below(&Line::new(vec![], silent).unwrap(), &child);
    assert_eq!(child.standing(FLOOR, at(1_499)).state, State::Active);
    let ended = Standing { state: State::Cancelled, cause: Some(root.own().id) };
    assert_eq!(child.standing(FLOOR, at(1_500)), ended);
}

/// Whatever becomes of its record, no verifier takes anything of it or from below it again.
#[test]
fn class_06_every_way_of_ending_fences_the_task_for_good() {
    let states = [State::Completed, State::Failed, State::Cancelled, State::Revoked];
    let by_command = states.map(|state| Command::End { state, reason: String::new() });
    let (root, _) = family();
    let by_time = decide(&root, Command::Sweep, FLOOR, at(2_000));
    let by_command = by_command.map(|command| decide(&root, command, FLOOR, at(1_500)));
    for ending in by_command.into_iter().chain([by_time]) {
        let Ok(Decision::Change(change)) = ending else { panic!("it does not end") };
        assert!(change.task.state.is_ended());
        assert_eq!(change.entries, [Entry::Fence(root.own().id, Fence::ended())]);
    }
}

#[test]
fn a_child_that_ends_is_no_longer_counted() {
    let (root, child) = family();
    assert_eq!(root.own().live_children, 1);
    let change = run(&child, complete()).unwrap();
    assert_eq!(change.parent.unwrap().live_children, 0);
}

#[test]
fn class_21_a_child_fits_into_its_parent_in_every_way() {
    let root = scenario::root();
    let mut child = scenario::task("spiffe://td/agents/b");
    child.id = TaskId::new(Partition(1), 2);
    child.deadline = at(9_999);
    child.freshness = Span::from_seconds(30);
    child.orchestrator = Name::parse("other").unwrap();
    let change = delegate(&root, child.clone(), 1, (8, 64), (FLOOR, at(1_100))).unwrap();
    assert_eq!(change.task.deadline, root.own().deadline);
    assert_eq!(change.task.freshness, root.own().freshness);
    assert_eq!(change.task.orchestrator, root.own().orchestrator);
    let times = (FLOOR, at(1_100));
    let deep = delegate(&root, child.clone(), 1, (0, 64), times).unwrap_err();
    assert_eq!(deep.reason(), "REQUEST_INVALID");
    let wide = delegate(&root, child.clone(), 1, (8, 0), times).unwrap_err();
    assert_eq!(wide.reason(), "REQUEST_INVALID");
    let stale = delegate(&root, child.clone(), 2, (8, 64), times).unwrap_err();
    assert_eq!(stale.reason(), "EPOCH_STALE");
    child.grant = Grant::parse(
        r#"[{"type":"resource_access","audience":"https://other.example","actions":["read"]}]"#,
    )
    .unwrap();
    let wider = delegate(&root, child, 1, (8, 64), times).unwrap_err();
    assert_eq!(wider.reason(), "GRANT_WIDENS");
}

#[test]
fn an_overdue_deadline_counts_before_the_sweeper_came() {
    let line = scenario::root();
    let late = decide(&line, Command::Advance(advance(1)), FLOOR, at(2_000));
    assert_eq!(late, Err(Refusal::TaskEnded(State::Expired)));
    let Ok(Decision::Change(swept)) = decide(&line, Command::Sweep, FLOOR, at(2_000)) else {
        panic!("the sweeper does nothing")
    };
    assert_eq!(swept.task.state, State::Expired);
    let early = decide(&line, Command::Sweep, FLOOR, Stamp::saturating_from_micros(1_999_999_999));
    assert_eq!(early, Ok(Decision::Already));
}

#[test]
fn three_missed_heartbeats_do_what_the_tier_says() {
    for (on_silence, state) in
        [(OnSilence::Suspend, State::Suspended), (OnSilence::Fail, State::Failed)]
    {
        let mut task = scenario::task("spiffe://td/agents/a");
        task.on_silence = on_silence;
        task.heartbeat = Some(Span::from_seconds(10));
        let line = Line::new(vec![], task).unwrap();
        let beat = run(&line, Command::Heartbeat).unwrap();
        assert_eq!(beat.task.silence_at, Some(at(1_530)));
        let line = after(&line, beat, 1_500);
        assert_eq!(line.standing(FLOOR, at(1_529)).state, State::Active);
        assert_eq!(line.standing(FLOOR, at(1_530)).state, state);
        let Ok(Decision::Change(swept)) = decide(&line, Command::Sweep, FLOOR, at(1_530)) else {
            panic!("the sweeper does nothing")
        };
        assert_eq!(swept.task.state, state);
        assert!(!swept.entries.is_empty(), "what was issued dies");
    }
}

#[test]
fn below_a_suspended_task_heartbeats_go_on_unless_the_task_itself_is_suspended() {
    let (root, child) = family();
    let mut task = child.own().clone();
    task.heartbeat = Some(Span::from_seconds(10));
    let child = Line::new(vec![root.own().clone()], task).unwrap();
    let root = after(&root, run(&root, suspend_by(true)).unwrap(), 1_200);
    let beat = run(&below(&root, &child), Command::Heartbeat).unwrap();
    assert_eq!((beat.task.state, beat.task.silence_at), (State::Active, Some(at(1_530))));
    // It must not take back what suspended the task itself: a command, or a loss that its orchestrator has to judge.
    let suspended = after(&child, run(&child, suspend_by(false)).unwrap(), 1_300);
    let refused = run(&below(&root, &suspended), Command::Heartbeat);
    assert_eq!(refused.unwrap_err().reason(), "TASK_SUSPENDED");
    let lost = after(&child, run(&child, Command::Heartbeat).unwrap(), 1_250);
    let lost = decide(&below(&root, &lost), Command::Heartbeat, at(1_300), at(1_500));
    assert_eq!(lost.unwrap_err().reason(), "TASK_SUSPENDED");
    let ended = after(&root, run(&root, complete()).unwrap(), 1_300);
    let refused = run(&below(&ended, &child), Command::Heartbeat);
    assert_eq!(refused, Err(Refusal::TaskEnded(State::Cancelled)));
}

#[test]
fn class_07_a_task_last_commanded_before_the_floor_waits_for_its_orchestrator() {
    let line = scenario::root();
    let floor = at(1_200);
    assert_eq!(line.standing(floor, at(1_500)).state, State::Suspended);
    let stale = Command::Resume { expected_epoch: 2, by_operator: false };
    assert!(decide(&line, stale, floor, at(1_500)).is_err());
    let resume = Command::Resume { expected_epoch: 1, by_operator: false };
    let Ok(Decision::Change(change)) = decide(&line, resume, floor, at(1_500)) else {
        panic!("not resumed")
    };
    let line = after(&line, *change, 1_500);
    assert_eq!(line.standing(floor, at(1_500)).state, State::Active);
}
