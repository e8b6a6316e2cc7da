//! Every mistake that a configuration can hold, and what is said about it.

mod endpoints;
mod mistakes;
mod urls;
mod webhooks;

use std::path::Path;

use super::*;
use crate::domain::platform::Platform;
use crate::domain::time::Span;
use crate::spiffe::endpoint::WorkloadEndpoint;
use crate::spiffe::id::SpiffeId;

/// Sound, and as short as can be. Line numbers of the tests count from its first line.
const SOUND: &str = r#"trust_domain = "own.example"
base_url = "https://own.example"
store = { kind = "embedded", path = "data" }
tls = { cert_file = "Cargo.toml", key_file = "Cargo.toml" }
keys = { encryption_key_env = "KEY" }
[listen]
grpc = "127.0.0.1:7700"
[tiers.standard]
ttl = "5m"
ceiling = "1h"
[[trust.spiffe]]
trust_domain = "prod.example"
bundle = { file = "Cargo.toml" }
[[trust.oidc]]
name = "k8s"
issuer = "https://k8s.example"
audience = "leasehold"
[[roles]]
role = "agent"
class = "finance"
owner = "payments"
tiers = ["standard"]
match = "spiffe://prod.example/agents/*"
[[roles]]
role = "operator"
issuer = "k8s"
subject = "admin"
"#;

fn check(text: &str) -> Result<Config, ConfigErrors> {
    parse(Path::new("x.toml"), text)
}

/// What is said if `from`, which stands in the sound file once, were `to`.
#[track_caller]
fn errors(from: &str, to: &str) -> String {
    assert_eq!(SOUND.matches(from).count(), 1, "`{from}` stands once in the sound file");
    match check(&SOUND.replace(from, to)) {
        Ok(_) => panic!("`{to}` was taken"),
        Err(errors) => errors.to_string(),
    }
}

#[track_caller]
fn warnings(from: &str, to: &str) -> String {
    assert_eq!(SOUND.matches(from).count(), 1, "`{from}` stands once in the sound file");
    let config = check(&SOUND.replace(from, to)).unwrap_or_else(|errors| panic!("{errors}"));
    let lines: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn a_sound_file_is_taken_without_a_word_and_with_the_defaults() {
    let config = check(SOUND).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.listen, Listen::default());
    assert_eq!(config.trust.oidc[0].max_lifetime, Span::from_seconds(3_600));
    assert_eq!(config.trust.jwt_svid.max_lifetime, Span::from_seconds(3_600));
    assert_eq!(config.trust.jwt_svid.audience, config.base_url);
    assert_eq!(config.tiers[0].min_ttl_seconds, 10);
    assert_eq!(config.tiers[0].freshness, Span::from_seconds(5));
}

#[test]
fn class_15_one_address_may_hold_a_quarter_of_all_connections_unless_told_otherwise() {
    let limits = |text: &str| {
        let limits = format!("[limits]\n{text}\n[listen]");
        check(&SOUND.replace("[listen]", &limits)).unwrap().limits
    };
    assert_eq!(limits("connections = 1000").connections_per_address, 250);
    assert_eq!(limits("connections = 1").connections_per_address, 1);
    let told = limits("connections = 1000\nconnections_per_address = 1000");
    assert_eq!(told.connections_per_address, 1_000);
    let wrong = errors("[listen]", "[limits]\nconnections_per_address = 0\n[listen]");
    assert!(wrong.contains("`limits.connections_per_address` is 0"), "{wrong}");
}

#[test]
fn bundle_and_own_certificate_may_come_from_a_workload_api() {
    let endpoint = WorkloadEndpoint::parse("unix:///run/agent.sock").unwrap();
    let bundle = |text: &str| {
        let config = check(&SOUND.replace("{ file = \"Cargo.toml\" }", text)).unwrap();
        config.trust.spiffe[0].bundle.clone()
    };
    let from = |max_age| trust::BundleSource::WorkloadApi { endpoint: endpoint.clone(), max_age };
    let hour = trust::DEFAULT_BUNDLE_AGE;
    assert_eq!(bundle("{ workload_api = \"unix:///run/agent.sock\" }"), from(hour));
    let text = "{ workload_api = \"unix:///run/agent.sock\", max_age = \"5m\" }";
    assert_eq!(bundle(text), from(Span::from_seconds(300)));
    let tls = |more: &str| {
        let tls = format!("tls = {{ workload_api = \"unix:///run/agent.sock\"{more} }}");
        let files = "tls = { cert_file = \"Cargo.toml\", key_file = \"Cargo.toml\" }";
        check(&SOUND.replace(files, &tls)).unwrap().tls
    };
    let from = |spiffe_id| CertificateSource::WorkloadApi { endpoint: endpoint.clone(), spiffe_id };
    assert_eq!(tls(""), from(None));
    let broker = SpiffeId::parse("spiffe://prod.example/broker").unwrap();
    assert_eq!(tls(", spiffe_id = \"spiffe://prod.example/broker\""), from(Some(broker)));
}

#[test]
fn the_annotated_example_is_complete_and_taken() {
    let text = include_str!("../../config/leasehold.toml");
    let file = Path::new("config/leasehold.toml");
    let config = parse(file, text).unwrap_or_else(|errors| panic!("{errors}"));
    for warning in &config.warnings {
        assert!(warning.text.contains("which is not there"), "{warning}");
    }
    assert_eq!(config.limits, Limits::default(), "the example shows the defaults");
    assert_eq!(
        config.feed,
        super::feed::Feed { name: Some("broker-1".into()), ..Default::default() }
    );
    assert_eq!(config.log, Log::default());
    assert_eq!(config.listen, Listen::default());
    assert_eq!(config.trust.oidc[0].max_lifetime, trust::DEFAULT_MAX_LIFETIME);
    assert_eq!(config.roles.len(), 10);
    assert_eq!(config.trust.oidc.len(), Platform::ALL.len(), "every preset has its example");
    let path = Path::new("config/data").to_owned();
    assert_eq!(config.store, StoreConfig::Embedded { path }, "relative to the file");
    let redis = text.lines().skip_while(|line| *line != "# [store]");
    let redis: Vec<_> = redis.map_while(|line| line.strip_prefix("# ")).collect();
    let in_line = "store = { kind = \"embedded\", path = \"data\" }";
    let text = text.replace(in_line, "").replace("# [listen]", "[listen]");
    let text = text.replace("[listen]", &format!("{}\n[listen]", redis.join("\n")));
    let config = parse(file, &text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(matches!(config.store, StoreConfig::Redis(_)));
}

#[test]
fn all_mistakes_are_named_at_once_in_the_order_of_their_lines() {
    let text = SOUND
        .replace("own.example\"\nbase", "Own.example\"\nbase")
        .replace("\"127.0.0.1:7700\"", "7700")
        .replace("[\"standard\"]", "[\"standart\"]");
    assert_eq!(
        check(&text).unwrap_err().to_string(),
        "x.toml:1: `trust_domain` is `Own.example`; a trust domain has 1 to 255 characters of `a-z`, `0-9`, `.`, \
         `-` and `_`, without scheme or port\n\
         x.toml:7: `listen.grpc` is an integer; write text in quotes\n\
         x.toml:22: `roles[0].tiers[0]` is `standart`, which is no tier of this file; did you mean `standard`?"
    );
}

#[test]
fn a_mistake_in_a_tier_or_in_trust_makes_no_second_one_of_the_roles() {
    assert_eq!(errors("\"5m\"", "\"5\"").lines().count(), 1);
    assert_eq!(errors("https://k8s.example", "http://k8s.example").lines().count(), 1);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = load(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
    assert!(errors.starts_with("/nowhere/x.toml: cannot be read: "), "{errors}");
}

#[test]
fn each_mistake_is_named_by_file_line_field_and_remedy() {
    for (from, to, expected) in mistakes::MISTAKES.iter().chain(urls::MISTAKES) {
        assert_eq!(errors(from, to), *expected, "`{to}`");
    }
}

#[test]
fn class_12_each_mistake_in_a_bundle_endpoint_is_named_with_its_remedy() {
    for (to, expected) in endpoints::MISTAKES {
        assert_eq!(errors(r#"bundle = { file = "Cargo.toml" }"#, to), *expected, "`{to}`");
    }
}

#[test]
fn each_doubtful_thing_is_warned_of() {
    for (from, to, expected) in mistakes::DOUBTS {
        assert_eq!(warnings(from, to), *expected, "`{to}`");
    }
}

#[test]
fn an_entry_of_a_preset_that_names_nobody_for_good_is_told_what_to_add() {
    let tenant = "https://sts.windows.net/63122682-bd96-47fd-97ab-95a76ce699a6/";
    for (preset, claims, added) in mistakes::LASTING {
        let text = SOUND
            .replace("https://k8s.example", tenant)
            .replace(
                "[[roles]]\nrole = \"agent\"",
                &format!("preset = \"{preset}\"\n[[roles]]\nrole = \"agent\""),
            )
            .replace("subject = \"admin\"", &format!("claims = {{ {claims} }}"));
        let config = check(&text).unwrap_or_else(|errors| panic!("{errors}"));
        let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
        let expected = format!(
            "x.toml:25: `roles[1]` names its workload by what can be given to another; add {added} to `claims`"
        );
        let expected = if added.is_empty() { vec![] } else { vec![expected] };
        assert_eq!(warnings, expected, "{preset}: {claims}");
    }
}
