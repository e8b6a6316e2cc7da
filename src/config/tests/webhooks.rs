//! `[[webhooks]]`: what is taken, and each mistake in it.

use super::*;
use crate::config::secret_source::SecretSource;
use crate::domain::event::EventKind;
use crate::domain::webhook::{EVENTS, stops_work};

const SHORT: &str = r#"name = "stop-work"
url = "https://worker.example/events"
audience = "https://worker.example"
"#;

/// The sound file with an orchestrator, and webhooks behind it.
fn with(webhooks: &str) -> Result<Config, ConfigErrors> {
    let role = "[[roles]]\nrole = \"orchestrator\"\nname = \"ci\"\nmatch = \"spiffe://prod.example/ci/*\"\n";
    check(&format!("{SOUND}{role}{webhooks}"))
}

#[track_caller]
fn wrong(line: &str) -> String {
    let errors = with(&format!("[[webhooks]]\n{SHORT}{line}")).unwrap_err().to_string();
    let at = "x.toml:36: `webhooks[0].";
    errors.strip_prefix(at).unwrap_or_else(|| panic!("{errors}")).to_owned()
}

#[test]
fn a_webhook_is_for_what_stops_work_unless_it_says_otherwise() {
    let config = with(&format!("[[webhooks]]\n{SHORT}")).unwrap();
    assert_eq!(config.warnings, []);
    let [webhook] = &config.webhooks[..] else { panic!() };
    assert_eq!(webhook.interest.kinds, stops_work());
    assert!(!webhook.interest.depends_on_task());
    assert_eq!(webhook.timeout, Span::from_seconds(5));
    assert_eq!(webhook.give_up_after, Span::from_seconds(3_600));
    assert_eq!((&webhook.bearer, webhook.danger_loopback), (&None, false));
}

#[test]
fn everything_that_a_webhook_can_say_is_taken() {
    let events: Vec<_> = EVENTS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let more = format!(
        "events = [{}]\norchestrators = [\"ci\"]\nclasses = [\"finance\"]\ntiers = [\"standard\"]\n\
         ca_file = \"Cargo.toml\"\nbearer_env = \"TOKEN\"\ntimeout = \"100ms\"\ngive_up_after = \"1d\"\n",
        events.join(", ")
    );
    let config = with(&format!("[[webhooks]]\n{SHORT}{more}")).unwrap();
    let webhook = &config.webhooks[0];
    assert_eq!(webhook.interest.kinds.len(), EVENTS.len());
    assert!(webhook.interest.kinds.contains(&EventKind::CredentialIssued));
    assert!(webhook.interest.depends_on_task());
    assert_eq!(webhook.bearer, Some(SecretSource::Env("TOKEN".to_owned())));
    assert_eq!(webhook.timeout, Span::from_millis(100));
    assert_eq!(webhook.give_up_after, Span::from_seconds(86_400));
}

#[test]
fn a_receiver_of_this_machine_is_dangerous_and_is_said_to_be() {
    let webhook = SHORT.replace("https://worker.example/", "http://127.0.0.1:8080/");
    let errors = with(&format!("[[webhooks]]\n{webhook}")).unwrap_err().to_string();
    assert_eq!(
        errors,
        "x.toml:34: `webhooks[0].url` is `http://127.0.0.1:8080/events`; write `https://` and a host, \
         without user, query and fragment"
    );
    let config = with(&format!("[[webhooks]]\n{webhook}danger_loopback = true\n")).unwrap();
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].text.contains("without TLS"), "{}", config.warnings[0]);
    for elsewhere in ["http://worker.example/", "http://10.0.0.1:8080/", "http://127.0.0.1.x:1/"] {
        let webhook = SHORT.replace("https://worker.example/", elsewhere);
        assert!(with(&format!("[[webhooks]]\n{webhook}danger_loopback = true\n")).is_err());
    }
}

#[test]
fn each_mistake_in_a_webhook_is_named_with_its_remedy() {
    for (line, expected) in [
        ("events = []", "events` is empty; name at least one"),
        (
            "orchestrators = [\"cd\"]",
            "orchestrators[0]` is `cd`, which is no orchestrator of this file; did you mean `ci`?",
        ),
        (
            "classes = [\"x\"]",
            "classes[0]` is `x`, which is no agent class of this file; there are `finance`",
        ),
        (
            "tiers = [\"x\"]",
            "tiers[0]` is `x`, which is no tier of this file; there are `standard`",
        ),
        ("timeout = \"31s\"", "timeout` is `31s`; give `100ms` to `30s`"),
        ("give_up_after = \"2d\"", "give_up_after` is `2d`; give `1s` to `1d`"),
        (
            "secret = \"hunter2\"",
            "secret` is not a field; known here: `danger_loopback`, `name`, `url`, `audience`, `events`, \
          `orchestrators`, `classes`, `tiers`, `ca_file`, `bearer_file`, `bearer_env`, `timeout`, `give_up_after`",
        ),
    ] {
        assert_eq!(wrong(line), expected, "{line}");
    }
    let unknown = wrong("events = [\"task-end\"]");
    assert!(
        unknown.starts_with("events[0]` is `task-end`; write one of `task-begun`, "),
        "{unknown}"
    );
    let url = SHORT.replace("worker.example/events", "me:hunter2@worker.example/events");
    assert!(with(&format!("[[webhooks]]\n{url}")).is_err());
}

#[test]
fn names_are_each_one_webhook_s_and_there_are_not_too_many() {
    let twice = format!("[[webhooks]]\n{SHORT}").repeat(2);
    let errors = with(&twice).unwrap_err().to_string();
    assert!(
        errors.contains("`webhooks[1]` has the `name` of an earlier one, `stop-work`"),
        "{errors}"
    );
    let many = |count: usize| {
        let one = |n| format!("[[webhooks]]\n{}", SHORT.replace("stop-work", &format!("w{n}")));
        with(&(0..count).map(one).collect::<String>())
    };
    assert_eq!(many(16).unwrap().webhooks.len(), 16);
    let errors = many(17).unwrap_err().to_string();
    assert!(errors.contains("`webhooks[16]` is one too many; write at most 16"), "{errors}");
}
