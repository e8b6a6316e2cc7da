//! GitHub Actions: the token of a workflow job, at github.com and on servers of one's own.
//!
//! ```text
//!  iss sub aud exp iat nbf jti
//!  repository_id repository_owner_id job_workflow_ref event_name run_id run_attempt     required, all of them texts
//!  check_run_id ref environment actor_id sha workflow_ref runner_environment …          as far as they are there
//! ```
//!
//! `sub` is not read: a repository can choose its shape, and since 2026 new ones have ids in it
//! (`repo:octo-org-1234/octo-repo-5678:ref:refs/heads/main`), so the principal of a repository that is renamed or opts in is
//! another from then on. Role entries name `repository_id` (kept when it is renamed), `repository_owner_id` (changed when it
//! is given away) and `job_workflow_ref` (the workflow file and its ref). `event_name` tells `pull_request` from
//! `pull_request_target`, which runs with the base's rights on a stranger's request. Run and attempt are the instance;
//! with `check_run_id`, the job, they are the natural name of a task.

use super::{Attested, PlatformError, number, texts};
use crate::jose::{ClaimError, Claims};

/// What role entries may rest on. A text may be empty: `base_ref` and `head_ref` are, but for pull requests.
const TEXTS: [&str; 21] = [
    "actor",
    "actor_id",
    "base_ref",
    "check_run_id",
    "enterprise",
    "enterprise_id",
    "environment",
    "head_ref",
    "job_workflow_sha",
    "ref",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_owner",
    "repository_visibility",
    "run_number",
    "runner_environment",
    "sha",
    "workflow",
    "workflow_ref",
    "workflow_sha",
];

pub(super) fn read(claims: &Claims) -> Result<Attested, PlatformError> {
    for name in ["repository_id", "repository_owner_id"] {
        number(claims, name)?;
    }
    for name in ["job_workflow_ref", "event_name"] {
        claims.text(name)?;
    }
    for name in TEXTS {
        if claims.get(name).is_some_and(|value| !value.is_string()) {
            return Err(ClaimError::WrongType(name).into());
        }
    }
    let (run, attempt) = (number(claims, "run_id")?, number(claims, "run_attempt")?);
    Ok(Attested { instance: Some(format!("run:{run}/{attempt}")), claims: texts(claims) })
}
