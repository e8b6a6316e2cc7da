//! How answers look.

use prost_types::{Duration, Timestamp};
use serde_json::json;

use crate::proto::v1;

use super::*;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn a_task() -> v1::Task {
    v1::Task {
        task_id: "tsk_0a00000000000000000000000001".to_owned(),
        root_task_id: "tsk_0a00000000000000000000000001".to_owned(),
        state: v1::TaskState::Suspended.into(),
        epoch: 3,
        branch: 2,
        branch_floor: 2,
        orchestrator: "ci".to_owned(),
        agent: "class:finance".to_owned(),
        agent_class: "finance".to_owned(),
        purpose: "close\u{1b}[2J the books".to_owned(),
        owner: "payments".to_owned(),
        labels: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
        authorization_details:
            r#"[{"type":"resource_access","audience":"https://l.example","actions":["read","write"]}]"#.to_owned(),
        tier: "critical".to_owned(),
        freshness: Some(Duration { seconds: 0, nanos: 500_000_000 }),
        checkpoint: b"page 3".to_vec(),
        begin_time: at(1_790_000_000),
        deadline: at(1_790_003_600),
        instances: 1,
        reason: "look first".to_owned(),
        suspended_by_operator: true,
        ..Default::default()
    }
}

#[test]
fn what_the_broker_warns_of_stands_beside_the_answer_before_anything_else() {
    let shown = || Shown { aside: "fenced".to_owned(), ..Shown::new(json!({}), "done".to_owned()) };
    assert_eq!(shown().warning("").aside, "fenced");
    assert_eq!(shown().warning("misspelt?\u{7}").aside, "warning: misspelt?\\u{7}\nfenced");
    let alone = Shown::new(json!({}), "done".to_owned()).warning("misspelt?");
    assert_eq!((alone.aside.as_str(), alone.text.as_str()), ("warning: misspelt?", "done"));
}

#[test]
fn a_task_for_a_person_shows_what_is_there_and_no_control_character() {
    assert_eq!(
        task(&a_task()).text,
        "task          tsk_0a00000000000000000000000001\n\
         state         suspended, by an operator\n\
         reason        look first\n\
         epoch         3, branch 2\n\
         checkpoint    6 bytes\n\
         agent         class:finance (class finance)\n\
         orchestrator  ci\n\
         purpose       close\\u{1b}[2J the books\n\
         owner         payments\n\
         labels        a=1, b=2\n\
         grant         https://l.example: read, write\n\
         tier          critical, freshness 500ms\n\
         begun         2026-09-21T14:13:20Z\n\
         deadline      2026-09-21T15:13:20Z"
    );
}

#[test]
fn a_task_for_a_program_has_every_field_of_the_contract() {
    let shown = task(&a_task()).json;
    let task = shown["task"].as_object().unwrap();
    assert_eq!(task["state"], "TASK_STATE_SUSPENDED");
    assert_eq!(task["epoch"], 3);
    assert_eq!(task["freshness"], "0.500s");
    assert_eq!(task["deadline"], "2026-09-21T15:13:20Z");
    assert_eq!(task["end_time"], Value::Null);
    assert_eq!(task["checkpoint"], "cGFnZSAz");
    assert_eq!(task["authorization_details"][0]["actions"], json!(["read", "write"]));
    let contract = include_str!("../../../proto/leasehold/v1/types.proto");
    let message = contract.split("message Task {").nth(1).unwrap().split("\n}").next().unwrap();
    let fields = message.lines().filter(|line| line.trim_end().ends_with(';'));
    let names =
        fields.map(|line| line.split(" = ").next().unwrap().split(' ').next_back().unwrap());
    let names: Vec<_> = names.collect();
    assert_eq!(names.len(), 29, "{names:?}");
    for name in names {
        assert!(task.contains_key(name), "`{name}`");
    }
}

fn issued() -> Issued {
    let lease = v1::Lease {
        lease_id: "lse_0a00000000000000000000000001".to_owned(),
        kind: v1::CredentialKind::AccessToken.into(),
        state: v1::LeaseState::Active.into(),
        ..Default::default()
    };
    let credential = v1::Credential { access_token: "e.y.J".to_owned(), ..Default::default() };
    Issued {
        lease: Some(lease),
        credential: Some(credential),
        expire_time: at(1_790_000_300),
        ttl_clamp: v1::TtlClamp::CallerCredential,
        step: "s-3".to_owned(),
        checkpoint: Vec::new(),
        files: None,
    }
}

#[test]
fn a_token_stands_alone_on_stdout_and_what_is_said_of_it_beside() {
    let shown = credential(&issued()).unwrap();
    assert_eq!(shown.text, "e.y.J");
    assert_eq!(
        shown.aside,
        "lease    lse_0a00000000000000000000000001\n\
         expires  2026-09-21T14:18:20Z, by the caller credential limit\n\
         step     s-3"
    );
    assert_eq!(shown.json["credential"]["access_token"], "e.y.J");
    assert_eq!(shown.json["ttl_clamp"], "TTL_CLAMP_CALLER_CREDENTIAL");
}

#[test]
fn class_17_an_answer_with_a_token_does_not_show_it_to_a_debugger() {
    let shown = credential(&issued()).unwrap();
    assert!(!format!("{shown:?}").contains("e.y.J"));
}

#[test]
fn an_answer_without_its_lease_is_an_error_and_not_an_empty_success() {
    let without = Issued { lease: None, ..issued() };
    assert!(matches!(credential(&without), Err(Failure::Answer("lease"))));
    let without = Issued { credential: None, ..issued() };
    assert!(matches!(credential(&without), Err(Failure::Answer("credential"))));
}

#[test]
fn a_list_has_aligned_columns_and_says_that_there_is_more() {
    let shown = tasks(&[a_task()], "next");
    assert_eq!(
        shown.text,
        "TASK                              STATE      EPOCH  AGENT          TIER      DEADLINE\n\
         tsk_0a00000000000000000000000001  suspended  3      class:finance  critical  2026-09-21T15:13:20Z"
    );
    assert_eq!(shown.aside, "there are more: `--page-token next`");
    assert_eq!(shown.json["next_page_token"], "next");
}

fn a_status() -> v1::GetStatusResponse {
    let verifier = |name: &str, connected| v1::VerifierStatus {
        instance: "0b".repeat(16),
        name: name.to_owned(),
        connected,
        view_time: at(1_790_000_000),
        fresh_until: at(1_790_000_030),
        partitions_behind: 0,
    };
    let new = v1::VerifierStatus { view_time: None, fresh_until: None, ..verifier("new", true) };
    let verifiers =
        vec![verifier("api\u{1b}[2J", true), v1::VerifierStatus { partitions_behind: 2, ..new }];
    v1::GetStatusResponse {
        version: "0.1.0".to_owned(),
        trust_domain: "leasehold.example".to_owned(),
        store: "redis".to_owned(),
        partitions: vec![
            v1::PartitionStatus { open: true, ..Default::default() },
            v1::PartitionStatus { partition: 10, stamp: 7, ..Default::default() },
        ],
        start_time: at(1_790_000_000),
        quarantined_scopes: vec!["class:finance".to_owned()],
        brokers: vec![v1::BrokerStatus {
            instance: "0a".repeat(16),
            name: "b-1".to_owned(),
            address: "10.0.0.1:7700".to_owned(),
            beat_age: Some(Duration { seconds: 0, nanos: 250_000_000 }),
            verifiers,
        }],
        verifiers_not_listed: 3,
        instance: "0a".repeat(16),
    }
}

#[test]
fn a_status_says_who_follows_revocations_and_how_far() {
    assert_eq!(
        status(&a_status()).text,
        "version       0.1.0\n\
         trust domain  leasehold.example\n\
         store         redis, 2 partitions, closed: 0a\n\
         started       2026-09-21T14:13:20Z\n\
         quarantined   class:finance\n\
         \n\
         BROKER  ADDRESS        LAST BEAT   INSTANCE\n\
         b-1     10.0.0.1:7700  0.250s ago  0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a (this one)\n\
         \n\
         VERIFIER      BROKER  CONNECTED  FRESH UNTIL           APPLIED               INSTANCE\n\
         api\\u{1b}[2J  b-1     yes        2026-09-21T14:13:50Z  everything            0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\n\
         new           b-1     yes        never yet             all but 2 partitions  0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\n\
         \n\
         and 3 verifiers more"
    );
    let json = status(&a_status()).json;
    assert_eq!(
        json["partitions"][1],
        json!({
            "partition": 10, "open": false, "incarnation": "0", "stamp": "7", "floor": "0",
        })
    );
    assert_eq!(json["brokers"][0]["beat_age"], "0.250s");
    assert_eq!(json["brokers"][0]["verifiers"][1]["fresh_until"], Value::Null);
    let alone = v1::GetStatusResponse::default();
    assert!(status(&alone).text.ends_with("no verifier follows revocations"));
}

#[test]
fn pem_breaks_lines_where_others_do() {
    let text = pem("CERTIFICATE", &[vec![0; 49]]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "-----BEGIN CERTIFICATE-----");
    assert_eq!(lines[1].len(), 64);
    assert_eq!(lines[2], "AA==");
    assert_eq!(lines[3], "-----END CERTIFICATE-----");
}
