//! The command line as a whole: what it takes, and what it says of itself.

use std::path::Path;
use std::{env, fs};

use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

const TASK: &str = "tsk_0a00000000000000000000000001";
const LEASE: &str = "lse_0a00000000000000000000000001";

fn parse(line: &str) -> Result<Cli, clap::Error> {
    let line = line.replace("TASK", TASK).replace("LEASE", LEASE);
    Cli::try_parse_from(["leasehold"].into_iter().chain(line.split_whitespace()))
}

#[test]
fn clap_finds_no_contradiction_in_the_options() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_design_names_is_taken() {
    for line in [
        "task begin --agent class:finance --tier standard --grant a=read --duration 1h",
        "task begin --agent class:finance --tier standard --grant a=read --grant b=write;class=pii;max-ttl=60s \
         --deadline 2026-11-22T15:00:00Z --purpose p --owner o --label a=b --label c= --heartbeat 10s --step s \
         --checkpoint c --instances 2 --request-id 7d444840-9dc0-11d1-b245-5ffdce74fad2",
        "task delegate --parent TASK --expected-epoch 1 --agent spiffe://td/a --grant a=read",
        "task advance TASK --expected-epoch 2 --step s --keep-children",
        "task suspend TASK --reason r",
        "task resume TASK --expected-epoch 3",
        "task complete TASK",
        "task fail TASK",
        "task cancel TASK",
        "task heartbeat TASK",
        "task run --agent class:a --tier t --grant a=read --duration 1h -- cmd --duration 2h",
        "task run --agent class:a --tier t --grant a=read --duration 1h --agent-cert c --agent-key k --audience a --proof key \
         --ttl 60s --token-env TOKEN --token-out t --socket s --cert-out c --key-out k --grace 5s --heartbeat 5s -- cmd",
        "task run --agent class:a --tier t --grant a=read --duration 1h --agent-token-file t --proof bearer -- cmd",
        "task join TASK --audience a --audience b -- cmd",
        "task get TASK --output json",
        "task list --state active --page-size 10",
        "--broker https://b:7700 --ca ca.pem task list",
        "token issue --task TASK --audience a --ttl 60s",
        "token issue --task TASK --audience a --bearer",
        "token issue --task TASK --audience a --cert-out c --key-out k",
        "token renew LEASE",
        "token introspect",
        "token introspect cert.pem --certificate",
        "cert issue --task TASK --cert-out c --key-out k",
        "cert renew LEASE --cert-out c --key-out k",
        "lease get LEASE",
        "lease list --task TASK",
        "lease release LEASE",
        "revoke lease LEASE --reason leaked",
        "revoke task TASK",
        "quarantine class:finance --reason r",
        "quarantine lift class:finance",
        "quarantine lift all --broker https://b:7700",
        "status --output json",
        "config check config/leasehold.toml",
        "serve",
        "serve --config config/leasehold.toml",
        "store init --config config/leasehold.toml --partitions 64 --delta-max 10s",
        "store restored",
        "dev",
        "dev --dir play --grpc 127.0.0.1:0 --http [::1]:0",
        "dev token --subject alice --dir play --claim team=docs --ttl 1h",
        "demo",
        "demo --json --store redis://127.0.0.1:6379",
    ] {
        if let Err(error) = parse(line) {
            panic!("`{line}`: {error}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_wrong_use() {
    use ErrorKind::*;
    for (line, kind) in [
        ("", DisplayHelpOnMissingArgumentOrSubcommand),
        ("tasks", InvalidSubcommand),
        ("task begin --agent a --tier t --grant a=read", MissingRequiredArgument),
        (
            "task begin --agent a --tier t --duration 1h --deadline 2026-11-22T15:00:00Z",
            ArgumentConflict,
        ),
        ("task begin --agent a --tier t --duration 0s", ValueValidation),
        ("task begin --agent a --tier t --duration 1h --grant a=*", ValueValidation),
        (
            "task begin --agent a --tier t --duration 1h --grant a=r --authorization-details []",
            ValueValidation,
        ),
        ("task begin --agent a --tier t --duration 1h --request-id 1", ValueValidation),
        ("task delegate --parent TASK --agent a --grant a=read", MissingRequiredArgument),
        ("task advance TASK", MissingRequiredArgument),
        ("task run --agent a --tier t --grant a=read --duration 1h", MissingRequiredArgument),
        ("task run --agent a --tier t --grant a=read --duration 1h cmd", UnknownArgument),
        (
            "task run --agent a --tier t --duration 1h --agent-cert c -- cmd",
            MissingRequiredArgument,
        ),
        ("task run --agent a --tier t --duration 1h --token-env A=B -- cmd", ValueValidation),
        ("task join LEASE -- cmd", ValueValidation),
        ("task get LEASE", ValueValidation),
        ("task list --state ACTIVE", InvalidValue),
        ("task list --page-size 1001", ValueValidation),
        ("token issue --task TASK", MissingRequiredArgument),
        ("token issue --task TASK --audience a --cert-out c", MissingRequiredArgument),
        (
            "token issue --task TASK --audience a --bearer --cert-out c --key-out k",
            ArgumentConflict,
        ),
        ("token renew TASK", ValueValidation),
        ("cert issue --task TASK --cert-out c", MissingRequiredArgument),
        ("revoke TASK", InvalidSubcommand),
        ("quarantine", MissingRequiredArgument),
        ("quarantine finance", ValueValidation),
        ("quarantine lift", MissingRequiredArgument),
        ("quarantine class:a lift class:b", ArgumentConflict),
        ("token introspect --output yaml", InvalidValue),
        ("store init --partitions 12", ValueValidation),
        ("store init --delta-max 301s", ValueValidation),
        ("dev --grpc localhost", ValueValidation),
        ("dev token", MissingRequiredArgument),
        ("dev --dir play token --subject alice", ArgumentConflict),
    ] {
        let error = parse(line).map(|_| panic!("`{line}` was taken")).unwrap_err();
        assert_eq!(error.kind(), kind, "`{line}`: {error}");
    }
}

#[test]
fn help_texts_are_those_in_the_golden_file() {
    let mut text = String::new();
    let mut root = Cli::command().term_width(100);
    root.build();
    help(&mut root, &mut text);
    let golden = Path::new("tests/golden/help.txt");
    if env::var_os("LEASEHOLD_UPDATE_GOLDEN").is_some() {
        fs::write(golden, &text).unwrap();
    }
    let golden = fs::read_to_string(golden).unwrap_or_default();
    assert!(text == golden, "run with LEASEHOLD_UPDATE_GOLDEN=1, and read the difference");
}

fn help(command: &mut clap::Command, text: &mut String) {
    let shown = command.render_help().to_string();
    // The same for every command: once is enough.
    let shown =
        if text.is_empty() { &shown } else { shown.split("\nConnection:\n").next().unwrap() };
    let after = command.get_after_help().map(|after| format!("\n{after}\n")).unwrap_or_default();
    text.push_str(&format!(
        "$ {} --help
{shown}{after}
",
        command.get_bin_name().unwrap_or("leasehold")
    ));
    for sub in
        command.get_subcommands_mut().filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
    {
        help(sub, text);
    }
}

#[tokio::test]
async fn config_check_fails_with_the_mistakes_and_succeeds_with_the_example() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    fs::write(&file, "trust_domain = 7").unwrap();
    let check = |file: &Path| {
        let line = ["leasehold", "config", "check", file.to_str().unwrap()];
        match Cli::try_parse_from(line).unwrap().command {
            Command::Config(command) => command.run(),
            _ => panic!("`config` is another command"),
        }
    };
    let failure = check(&file).unwrap_err();
    assert!(failure.text().contains("x.toml:1: `trust_domain` is an integer"), "{failure}");
    assert_eq!(failure.json()["problems"][0]["field"], "trust_domain");
    let shown = check(Path::new("config/leasehold.toml")).unwrap();
    assert_eq!(shown.text, "config/leasehold.toml: no mistakes; tiers: 2, roles: 10");
    assert_eq!(shown.json["ok"], true);
}
