//! Only an allow is an allow.

use async_trait::async_trait;

use super::*;
use crate::domain::principal::SpiffePattern;
use crate::domain::task::Agent;
use crate::policy::grant::GrantPolicy;
use crate::testing::scenario;

struct Broken;

#[async_trait]
impl Policy for Broken {
    async fn ask(&self, _: &Question<'_>) -> Result<Verdict, PolicyError> {
        Err(PolicyError("out of order".into()))
    }

    fn version(&self) -> String {
        "broken".into()
    }
}

async fn ask(policy: &dyn Policy, audience: &str, asked: &str) -> Result<Permit, Refusal> {
    let task = scenario::task("spiffe://td/agents/a");
    let principal = Principal::parse("spiffe://td/agents/a").unwrap();
    let asked = Grant::parse(asked).unwrap();
    let question = Question {
        action: Action::Issue,
        principal: &principal,
        instance: "i",
        task: &task,
        audience,
        asked: &asked,
        now: Stamp::from_seconds(1),
    };
    decide(policy, &question).await
}

const READ: &str =
    r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]}]"#;
const DELETE: &str =
    r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["delete"]}]"#;
const OTHER: &str =
    r#"[{"type":"resource_access","audience":"https://other.example","actions":["read"]}]"#;

#[tokio::test]
async fn class_20_an_engine_that_fails_says_no() {
    let refusal = ask(&Broken, "https://ledger.example", READ).await.unwrap_err();
    assert_eq!(refusal.reason(), "POLICY_DENIED");
}

#[tokio::test]
async fn class_20_the_built_in_engine_allows_what_the_grant_allows_and_nothing_else() {
    let ledger = "https://ledger.example";
    assert!(ask(&GrantPolicy, ledger, READ).await.is_ok());
    assert_eq!(ask(&GrantPolicy, ledger, DELETE).await.unwrap_err().reason(), "POLICY_DENIED");
    let elsewhere = ask(&GrantPolicy, "https://other.example", OTHER).await.unwrap_err();
    assert_eq!(elsewhere.reason(), "TARGET_NOT_ALLOWED");
    assert_eq!(ask(&GrantPolicy, ledger, OTHER).await.unwrap_err().reason(), "POLICY_DENIED");
    assert_eq!(ask(&GrantPolicy, "", OTHER).await.unwrap_err().reason(), "POLICY_DENIED");
}

#[tokio::test]
async fn a_permit_says_what_it_was_asked_for() {
    let permit = ask(&GrantPolicy, "https://ledger.example", READ).await.unwrap();
    assert_eq!(permit.grant(), &Grant::parse(READ).unwrap());
    assert_eq!(permit.audience(), "https://ledger.example");
    assert!(matches!(
        Agent::parse("spiffe://td/agents/*"),
        Some(Agent::Pattern(SpiffePattern::Below(_)))
    ));
}
