//! What a look at the task means for the command: pure.

use prost_types::Timestamp;

use crate::proto::v1;
use crate::proto::v1::TaskState;

/// What is known of the task from before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub(super) task_id: String,
    pub(super) epoch: u64,
    branch: u64,
    branch_floor: u64,
    agent: String,
    /// When its record had been written last.
    updated: Option<Timestamp>,
    /// Whether the command is not to go on in what an `advance` makes of the task.
    stops_when_advanced: bool,
    /// When silence acts, by the broker's clock, as far as it was told; `None` if nobody waits for our heartbeats.
    pub(super) silence: Option<Timestamp>,
}

/// What a look at the task means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Active,
    /// It waits. `by_silence`: because our heartbeats did not arrive, and for nothing else.
    Suspended { by_silence: bool },
    /// The command has nothing more to do.
    Over(Over),
}

/// Why a task is over for the command before the command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The task has ended, or is somebody else's now.
    Ended(String),
    /// The task goes on as another one than the command was started for.
    Advanced(String),
    /// A quarantine blocks its agent: the task lives on unless somebody ends it.
    Quarantined,
}

impl Known {
    /// What an answer says.
    pub(super) fn of(
        task: &v1::Task,
        silence: Option<Timestamp>,
        stops_when_advanced: bool,
    ) -> Self {
        Self {
            task_id: task.task_id.clone(),
            epoch: task.epoch,
            branch: task.branch,
            branch_floor: task.branch_floor,
            agent: task.agent.clone(),
            updated: task.update_time,
            stops_when_advanced,
            silence,
        }
    }

    /// Whether this is from before what is known: what looks and what watches are told need not arrive in order.
    pub(super) fn is_older(&self, task: &v1::Task) -> bool {
        matches!((&task.update_time, &self.updated), (Some(theirs), Some(ours)) if when(theirs) < when(ours))
    }

    /// This is known from now on.
    pub(super) fn follow(&mut self, task: &v1::Task) {
        (self.epoch, self.updated) = (task.epoch, task.update_time);
        (self.branch, self.branch_floor) = (task.branch, task.branch_floor);
    }

    /// What the task as it is now means.
    pub(super) fn judge(&self, task: &v1::Task) -> Verdict {
        match task.state() {
            TaskState::Active if task.agent != self.agent => {
                Verdict::Over(Over::Ended(format!("it was handed over to `{}`", task.agent)))
            }
            TaskState::Active | TaskState::Suspended
                if self.stops_when_advanced && self.has_advanced(task) =>
            {
                let why = format!("it changed, and is in epoch {}", task.epoch);
                Verdict::Over(Over::Advanced(why))
            }
            TaskState::Active => Verdict::Active,
            TaskState::Suspended => Verdict::Suspended { by_silence: self.fell_silent(task) },
            state => {
                let word = state.as_str_name().trim_start_matches("TASK_STATE_").to_lowercase();
                let why = if task.reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", task.reason)
                };
                Verdict::Over(Over::Ended(format!("it is {word}{why}")))
            }
        }
    }

    /// Epoch and branch are raised by one by a suspension. A change that keeps the children leaves the branch, another one raises
    /// the floor.
    fn has_advanced(&self, task: &v1::Task) -> bool {
        let epochs = task.epoch.saturating_sub(self.epoch);
        task.branch_floor != self.branch_floor || epochs > task.branch.saturating_sub(self.branch)
    }

    /// Silence suspends in one step from the epoch that we knew, and not before the time that the broker had named. What
    /// others suspended is theirs to resume.
    fn fell_silent(&self, task: &v1::Task) -> bool {
        let due = match (&self.silence, &task.update_time) {
            (Some(silence), Some(updated)) => when(updated) >= when(silence),
            _ => false,
        };
        let is_own = task.cause_task_id.is_empty() && !task.suspended_by_operator;
        due && is_own && Some(task.epoch) == self.epoch.checked_add(1)
    }
}

fn when(time: &Timestamp) -> (i64, i32) {
    (time.seconds, time.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 5 })
    }

    fn task(state: TaskState, epoch: u64) -> v1::Task {
        let agent = "spiffe://prod.example/a".to_owned();
        v1::Task { state: state.into(), epoch, agent, update_time: at(130), ..Default::default() }
    }

    fn known() -> Known {
        Known::of(&task(TaskState::Active, 3), at(130), false)
    }

    #[test]
    fn a_task_that_goes_on_in_another_epoch_is_active() {
        assert_eq!(known().judge(&task(TaskState::Active, 3)), Verdict::Active);
        assert_eq!(known().judge(&task(TaskState::Active, 9)), Verdict::Active);
    }

    #[test]
    fn every_end_is_over_and_says_why() {
        for state in [
            TaskState::Completed,
            TaskState::Failed,
            TaskState::Cancelled,
            TaskState::Expired,
            TaskState::Revoked,
            TaskState::Unspecified,
        ] {
            let ended = v1::Task { reason: "leaked".to_owned(), ..task(state, 3) };
            let Verdict::Over(Over::Ended(why)) = known().judge(&ended) else {
                panic!("{state:?} goes on");
            };
            assert!(why.ends_with(": leaked"), "{why}");
        }
        let revoked = known().judge(&task(TaskState::Revoked, 3));
        assert_eq!(revoked, Verdict::Over(Over::Ended("it is revoked".to_owned())));
    }

    #[test]
    fn a_task_of_another_agent_is_over() {
        let other = "spiffe://prod.example/b".to_owned();
        let given = v1::Task { agent: other, ..task(TaskState::Active, 4) };
        assert!(
            matches!(known().judge(&given), Verdict::Over(Over::Ended(why)) if why.contains("/b`"))
        );
    }

    #[test]
    fn a_change_stops_what_asked_for_it_and_a_suspension_is_none() {
        let begun = v1::Task { branch: 3, branch_floor: 2, ..task(TaskState::Active, 3) };
        let raised = |epoch, branch, branch_floor| v1::Task {
            branch,
            branch_floor,
            ..task(TaskState::Active, epoch)
        };
        let mut asks = Known::of(&begun, None, true);
        let stops = |asks: &Known, task: &v1::Task| {
            matches!(asks.judge(task), Verdict::Over(Over::Advanced(_)))
        };
        assert!(!stops(&asks, &begun));
        assert!(!stops(&asks, &raised(4, 4, 2)), "suspended and resumed");
        assert!(stops(&asks, &raised(4, 4, 4)), "changed");
        assert!(stops(&asks, &raised(4, 3, 2)), "changed, and its children go on");
        assert!(stops(&asks, &raised(5, 4, 2)), "one of each");
        let suspended = v1::Task { branch: 5, branch_floor: 4, ..task(TaskState::Suspended, 5) };
        assert!(stops(&asks, &suspended), "changed, and then suspended");
        asks.follow(&raised(4, 4, 2));
        assert!(!stops(&asks, &raised(4, 4, 2)));
        assert!(stops(&asks, &raised(5, 4, 2)));
        let goes_on = Known::of(&begun, None, false);
        assert_eq!(goes_on.judge(&raised(4, 4, 4)), Verdict::Active);
    }

    #[test]
    fn what_was_true_before_is_not_taken_for_news() {
        let written = |seconds| v1::Task { update_time: at(seconds), ..Default::default() };
        assert!(known().is_older(&written(129)));
        assert!(!known().is_older(&written(130)), "an ancestor's change is no write of its own");
        assert!(!known().is_older(&written(131)));
        let mut later = known();
        later.follow(&written(131));
        assert!(later.is_older(&written(130)));
    }

    #[test]
    fn only_what_our_own_silence_suspended_is_ours_to_resume() {
        let is_silence = |known: &Known, task: &v1::Task| {
            known.judge(task) == Verdict::Suspended { by_silence: true }
        };
        let silent = task(TaskState::Suspended, 4);
        assert!(is_silence(&known(), &silent));
        let before = v1::Task { update_time: at(129), ..silent.clone() };
        assert!(!is_silence(&known(), &before), "somebody did it before silence could");
        let operator = v1::Task { suspended_by_operator: true, ..silent.clone() };
        assert!(!is_silence(&known(), &operator));
        let ancestor = v1::Task { cause_task_id: "tsk_…".to_owned(), ..silent.clone() };
        assert!(!is_silence(&known(), &ancestor));
        let later = task(TaskState::Suspended, 5);
        assert!(!is_silence(&known(), &later), "it changed in between");
        let unheard = Known { silence: None, ..known() };
        assert!(!is_silence(&unheard, &silent), "nobody waits for us");
    }
}
