//! Tasks, for a person and for a program.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Shown, embedded_json, fields, grant, harmless, seconds, span, table, time, word};
use crate::proto::v1;

const STATE: &str = "TASK_STATE_";

/// One task.
pub(in crate::cli) fn task(task: &v1::Task) -> Shown {
    Shown::new(json!({ "task": json_of(task) }), text_of(task))
}

/// What a task has become, in one line for a person.
pub(in crate::cli) fn change(task: &v1::Task) -> Shown {
    let after = |sign: &str, text: &str| match text {
        "" => String::new(),
        text => format!("{sign}{}", harmless(text)),
    };
    let text = format!(
        "{}  {}, epoch {}{}{}",
        time(task.update_time).unwrap_or_default(),
        state(task),
        task.epoch,
        after(", step ", &task.step),
        after(": ", &task.reason),
    );
    Shown::new(json!({ "task": json_of(task) }), text)
}

/// A page of tasks.
pub(in crate::cli) fn tasks(tasks: &[v1::Task], next_page_token: &str) -> Shown {
    let json = json!({
        "tasks": tasks.iter().map(json_of).collect::<Vec<_>>(), "next_page_token": next_page_token,
    });
    let mut rows = vec![["TASK", "STATE", "EPOCH", "AGENT", "TIER", "DEADLINE"].map(str::to_owned)];
    rows.extend(tasks.iter().map(|task| {
        let deadline = time(task.deadline).unwrap_or_default();
        let (state, epoch) = (word(task.state().as_str_name(), STATE), task.epoch.to_string());
        [task.task_id.clone(), state, epoch, task.agent.clone(), task.tier.clone(), deadline]
    }));
    let mut shown = Shown::new(json, table(&rows));
    if !next_page_token.is_empty() {
        shown.aside = format!("there are more: `--page-token {next_page_token}`");
    }
    shown
}

fn json_of(task: &v1::Task) -> Value {
    json!({
        "task_id": task.task_id,
        "root_task_id": task.root_task_id,
        "parent_task_id": task.parent_task_id,
        "state": task.state().as_str_name(),
        "cause_task_id": task.cause_task_id,
        "epoch": task.epoch,
        "branch": task.branch,
        "branch_floor": task.branch_floor,
        "orchestrator": task.orchestrator,
        "agent": task.agent,
        "agent_class": task.agent_class,
        "purpose": task.purpose,
        "owner": task.owner,
        "labels": task.labels,
        "authorization_details": embedded_json(&task.authorization_details),
        "tier": task.tier,
        "freshness": seconds(task.freshness),
        "step": task.step,
        "checkpoint": STANDARD.encode(&task.checkpoint),
        "begin_time": time(task.begin_time),
        "update_time": time(task.update_time),
        "deadline": time(task.deadline),
        "end_time": time(task.end_time),
        "heartbeat_interval": seconds(task.heartbeat_interval),
        "instances": task.instances,
        "depth": task.depth,
        "live_children": task.live_children,
        "reason": task.reason,
        "suspended_by_operator": task.suspended_by_operator,
    })
}

fn text_of(task: &v1::Task) -> String {
    let mut labels: Vec<_> =
        task.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.sort();
    let children =
        if task.live_children == 0 { String::new() } else { task.live_children.to_string() };
    let checkpoint = match task.checkpoint.len() {
        0 => String::new(),
        bytes => format!("{bytes} bytes"),
    };
    fields(&[
        ("task", task.task_id.clone()),
        ("parent", task.parent_task_id.clone()),
        ("state", state(task)),
        ("reason", task.reason.clone()),
        ("epoch", format!("{}, branch {}", task.epoch, task.branch)),
        ("step", task.step.clone()),
        ("checkpoint", checkpoint),
        ("agent", format!("{} (class {})", task.agent, task.agent_class)),
        ("orchestrator", task.orchestrator.clone()),
        ("purpose", task.purpose.clone()),
        ("owner", task.owner.clone()),
        ("labels", labels.join(", ")),
        ("grant", grant(&task.authorization_details)),
        ("tier", format!("{}, freshness {}", task.tier, span(task.freshness))),
        ("children", children),
        ("heartbeat", span(task.heartbeat_interval)),
        ("begun", time(task.begin_time).unwrap_or_default()),
        ("deadline", time(task.deadline).unwrap_or_default()),
        ("ended", time(task.end_time).unwrap_or_default()),
    ])
}

fn state(task: &v1::Task) -> String {
    let word = word(task.state().as_str_name(), STATE);
    match (task.cause_task_id.as_str(), task.suspended_by_operator) {
        ("", false) => word,
        ("", true) => format!("{word}, by an operator"),
        (cause, _) => format!("{word}, because of {cause}"),
    }
}
