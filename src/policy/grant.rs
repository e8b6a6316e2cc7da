//! The built-in engine: the task's own grant is the policy.

use async_trait::async_trait;

use super::{Action, Policy, PolicyError, Question, Verdict};
use crate::domain::refusal::Refusal;

/// Allows what the task's grant allows, and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct GrantPolicy;

#[async_trait]
impl Policy for GrantPolicy {
    async fn ask(&self, question: &Question<'_>) -> Result<Verdict, PolicyError> {
        Ok(match question.action {
            // Who may begin what is a matter of roles and tiers; a child's bounds are its parent's, held by the domain.
            Action::Begin | Action::Advance | Action::Delegate => Verdict::Allow,
            Action::Issue | Action::Renew => within_grant(question),
        })
    }

    fn version(&self) -> String {
        "grant/1".to_owned()
    }
}

fn within_grant(question: &Question<'_>) -> Verdict {
    let grant = &question.task.grant;
    let (asked, audience) = (question.asked, question.audience);
    if !audience.is_empty() {
        if grant.for_audience(audience).is_none() {
            return Verdict::Deny(Refusal::TargetNotAllowed(audience.to_owned()));
        }
        if let Some(other) = asked.entries().iter().find(|entry| entry.audience() != audience) {
            return Verdict::Deny(Refusal::PolicyDenied(format!(
                "a credential for `{audience}` cannot speak of `{}`; ask for one each",
                other.audience()
            )));
        }
    }
    match asked.first_wider(grant) {
        None => Verdict::Allow,
        Some(entry) => Verdict::Deny(Refusal::PolicyDenied(format!(
            "more is asked for `{}` than the task's grant allows",
            entry.audience()
        ))),
    }
}
