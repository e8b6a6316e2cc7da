//! Tasks, principals and grants that tests begin with.

use std::collections::BTreeMap;

use crate::domain::grant::Grant;
use crate::domain::id::{Partition, TaskId};
use crate::domain::line::Line;
use crate::domain::path::Counter;
use crate::domain::principal::Name;
use crate::domain::task::{Agent, OnSilence, State, Task};
use crate::domain::time::{Span, Stamp};

/// A grant of reading and writing at `https://ledger.example`.
pub fn grant() -> Grant {
    let json = r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read","write"]}]"#;
    Grant::parse(json).unwrap()
}

/// An active root task for an agent, begun at second 1,000, with a deadline at second 2,000.
pub fn task(agent: &str) -> Task {
    let name = |text| Name::parse(text).unwrap();
    let begun = Stamp::from_seconds(1_000);
    Task {
        id: TaskId::new(Partition(1), 1),
        version: begun,
        lineage: vec![],
        orchestrator: name("ci"),
        agent: Agent::parse(agent).unwrap(),
        class: name("finance"),
        purpose: "close the books".into(),
        owner: "payments".into(),
        labels: BTreeMap::new(),
        grant: grant(),
        tier: name("standard"),
        freshness: Span::from_seconds(5),
        step: "s-1".into(),
        checkpoint: vec![],
        deadline: Stamp::from_seconds(2_000),
        heartbeat: None,
        silence_at: None,
        on_silence: OnSilence::Suspend,
        instances: 1,
        pins: vec![],
        state: State::Active,
        epoch: Counter::FIRST,
        branch: Counter::FIRST,
        branch_floor: Counter::FIRST,
        live_children: 0,
        reason: String::new(),
        suspended_by_operator: false,
        begun: Some(begun),
        commanded: Some(begun),
        delegated_by: None,
        answer_key: [0; 32],
    }
}

/// A root alone.
pub fn root() -> Line {
    Line::new(vec![], task("spiffe://td/agents/a")).unwrap()
}
