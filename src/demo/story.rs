//! What happens, in order. What each step does is in [`super::acts`].

use std::io::Write;

use super::acts::{ACCEPTED, Acts, DEAD, Held, STOLEN};
use super::setup::Stage;
use super::side_by_side::Moment;
use super::timeline::{StoryError, Timeline};
use crate::playground::Workload;
use crate::proto::v1::{AdvanceTaskRequest, Task};

/// The story, on its stage.
pub(super) struct Story<'a, W> {
    acts: Acts<'a>,
    line: &'a mut Timeline<W>,
}

impl<'a, W: Write> Story<'a, W> {
    pub(super) fn new(stage: &'a Stage, line: &'a mut Timeline<W>) -> Self {
        Self { acts: Acts::new(stage), line }
    }

    /// Tells it to the end, or to the first step that is not what it should be.
    pub(super) async fn tell(mut self) -> Result<(), StoryError> {
        self.line.say("\n  Leasehold: a credential lives exactly as long as its task.\n")?;
        self.line.say(&format!("  {}", self.acts.scene()))?;
        let task = self.begins().await?;
        let held = self.gets_credentials(&task).await?;
        let held = self.changes(&task, held).await?;
        let child = self.hands_on(&task).await?;
        self.ends(&task, held, child).await?;
        self.kill_switch().await?;
        Ok(self.line.end()?)
    }

    async fn begins(&mut self) -> Result<Task, StoryError> {
        let Self { acts, line } = self;
        line.chapter("A task begins")?;
        let begun = acts.begin(&["read", "annotate"]);
        let task = line.step("begin", "ci begins a task for the summarizer", begun).await?;
        let refused = acts.refused_token(Workload::Researcher, &task.task_id, "NOT_FOUND");
        line.step("stranger", "another agent asks for its credentials: refused", refused).await?;
        Ok(task)
    }

    async fn gets_credentials(&mut self, task: &Task) -> Result<Held, StoryError> {
        let Self { acts, line } = self;
        line.chapter("The agent gets what the task needs, and no more")?;
        let issued = acts.token(Workload::Summarizer, &task.task_id);
        let token = line.step("issue_token", "the agent asks for a token", issued).await?;
        let issued = acts.certificate(Workload::Summarizer, &task.task_id);
        let certificate = line.step("issue_certificate", "and for a certificate", issued).await?;
        let answer = acts.call_with_token(Workload::Summarizer, &token, ACCEPTED);
        line.step("call_token", "the documents API accepts the token", answer).await?;
        let answer = acts.call_with_certificate(&certificate, ACCEPTED);
        line.step("call_certificate", "and the certificate", answer).await?;
        let answer = acts.call_with_token(Workload::Researcher, &token, STOLEN);
        line.step("stolen_token", "the token in another agent's hands: refused", answer).await?;
        Ok(Held { token, certificate })
    }

    async fn changes(&mut self, task: &Task, old: Held) -> Result<Held, StoryError> {
        let Self { acts, line } = self;
        line.chapter("The task changes")?;
        let advanced = acts.advance(AdvanceTaskRequest {
            task_id: task.task_id.clone(),
            expected_epoch: task.epoch,
            authorization_details: Some(Acts::grant(&["read"])),
            step: Some("review".to_owned()),
            ..AdvanceTaskRequest::default()
        });
        line.step("advance", "ci moves it on to reviewing: read only from here", advanced).await?;
        let answer = acts.call_with_token(Workload::Summarizer, &old.token, DEAD);
        line.step("old_token", "the token from before: refused", answer).await?;
        let answer = acts.call_with_certificate(&old.certificate, DEAD);
        line.step("old_certificate", "the certificate from before: refused", answer).await?;
        let issued = acts.token(Workload::Summarizer, &task.task_id);
        let token = line.step("reissue_token", "the agent asks again for a token", issued).await?;
        let issued = acts.certificate(Workload::Summarizer, &task.task_id);
        let certificate = line.step("reissue_certificate", "and a certificate", issued).await?;
        let answer = acts.call_with_token(Workload::Summarizer, &token, ACCEPTED);
        line.step("new_token", "the new token: accepted", answer).await?;
        let answer = acts.call_with_certificate(&certificate, ACCEPTED);
        line.step("new_certificate", "the new certificate: accepted", answer).await?;
        Ok(Held { token, certificate })
    }

    async fn hands_on(&mut self, task: &Task) -> Result<String, StoryError> {
        let Self { acts, line } = self;
        line.chapter("The agent hands a part of it to another agent")?;
        let wider = acts.refused_delegation(&task.task_id, &["read", "annotate"]);
        line.step("delegate_wider", "with more rights than it has itself: refused", wider).await?;
        let child = acts.delegate(&task.task_id, &["read"]);
        let child = line.step("delegate", "with the same: a task below its own", child).await?;
        let issued = acts.token(Workload::Researcher, &child.task_id);
        let token = line.step("child_token", "the researcher asks for a token", issued).await?;
        let answer = acts.call_with_token(Workload::Researcher, &token, ACCEPTED);
        line.step("call_child_token", "the documents API accepts it", answer).await?;
        Ok(token)
    }

    async fn ends(&mut self, task: &Task, held: Held, child: String) -> Result<(), StoryError> {
        let Self { acts, line } = self;
        line.chapter("The task is done")?;
        let ended = acts.complete_in_use(&task.task_id, &held.token);
        let ended = line.step("complete", "ci completes the task, in one write", ended).await?;
        for Moment { at, step, says, note } in ended {
            line.moment(step, says, at, &note)?;
        }
        let answer = acts.call_unasked(&held.token);
        line.step("unasked", "a server that goes by the keys alone: still 200", answer).await?;
        let answer = acts.call_with_certificate(&held.certificate, DEAD);
        line.step("dead_certificate", "its certificate: refused", answer).await?;
        let answer = acts.call_with_token(Workload::Researcher, &child, DEAD);
        line.step("dead_child", "the token of the task below: refused", answer).await?;
        let refused = acts.refused_token(Workload::Summarizer, &task.task_id, "TASK_ENDED");
        line.step("issue_after_end", "the agent asks once more: refused", refused).await
    }

    async fn kill_switch(&mut self) -> Result<(), StoryError> {
        let Self { acts, line } = self;
        line.chapter("An agent goes bad")?;
        let begun = acts.begin(&["read"]);
        let task = line.step("begin_again", "ci begins another task", begun).await?;
        let issued = acts.token(Workload::Summarizer, &task.task_id);
        let token = line.step("issue_again", "the agent asks for a token", issued).await?;
        let stopped = acts.quarantine();
        line.step("quarantine", "an operator quarantines the agent", stopped).await?;
        let answer = acts.call_with_token(Workload::Summarizer, &token, DEAD);
        line.step("quarantined_token", "its token: refused", answer).await?;
        let refused = acts.refused_token(Workload::Summarizer, &task.task_id, "QUARANTINED");
        line.step("issue_quarantined", "a new one: refused", refused).await?;
        let lifted = acts.lift();
        line.step("lift", "the operator lifts the quarantine", lifted).await?;
        let answer = acts.call_with_token(Workload::Summarizer, &token, DEAD);
        line.step("lifted_token", "what was killed stays dead", answer).await?;
        let issued = acts.token(Workload::Summarizer, &task.task_id);
        let token = line.step("issue_lifted", "a new token is given", issued).await?;
        let answer = acts.call_with_token(Workload::Summarizer, &token, ACCEPTED);
        line.step("call_lifted", "and accepted", answer).await?;
        let ended = acts.complete(&task.task_id);
        line.step("complete_again", "ci completes the task", ended).await?;
        Ok(())
    }
}
