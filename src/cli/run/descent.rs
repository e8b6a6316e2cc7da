//! The processes that the command started, wherever they went: children whose parent died become ours.

use std::fs;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};
use tokio::time::sleep;

/// How often the dead are counted, and how many times at most: two seconds.
const BETWEEN: Duration = Duration::from_millis(20);
const MOST_ROUNDS: usize = 100;

/// From now on whatever the command leaves without a parent is ours.
pub(super) fn adopt_orphans() -> std::io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Buries orphans that have ended, so that none stays as a zombie.
pub(super) fn bury(except: Pid) {
    for child in children().into_iter().filter(|child| *child != except) {
        let _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
}

/// Kills everything that descends from us, round by round: what a killed process leaves behind becomes ours. Whether nothing
/// is left.
pub(super) async fn leave_nothing() -> bool {
    for _ in 0..MOST_ROUNDS {
        let left = children();
        if left.is_empty() {
            return true;
        }
        for child in left {
            // A child's number is nobody else's until it is waited for, and only we do that.
            let _ = kill_process(child, Signal::KILL);
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        }
        sleep(BETWEEN).await;
    }
    false
}

/// Our children, the ended ones too.
fn children() -> Vec<Pid> {
    let us = getpid();
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
    let numbers = processes.filter_map(|entry| number(entry.ok()?));
    numbers.filter(|pid| parent_of(*pid) == Some(us)).filter_map(Pid::from_raw).collect()
}

/// The fourth field of `/proc/<pid>/stat`, behind a name that may hold anything, brackets too.
fn parent_of(pid: i32) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end..)?).ok()?;
    Pid::from_raw(rest.split_ascii_whitespace().nth(2)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_child_is_found_and_is_gone_once_it_was_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(children().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&pid));
    }

    #[test]
    fn a_process_that_is_not_there_has_no_parent() {
        assert_eq!(parent_of(i32::MAX), None);
    }
}
