//! The pages in `docs/reference` say what the code says: they are made from it, and a page that is out of date fails.
//! `LEASEHOLD_UPDATE_GOLDEN=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use clap::CommandFactory as _;
use leasehold::broker::error::BrokerError;
use leasehold::broker::seams::EntropyError;
use leasehold::cli::Cli;
use leasehold::domain::clamp::Clamp;
use leasehold::domain::id::Partition;
use leasehold::domain::refusal::Refusal;
use leasehold::domain::task::State;
use leasehold::http::Fault;
use leasehold::identity::authn::AuthnError;
use leasehold::proto::code_name;
use leasehold::store::StoreError;
use leasehold::telemetry::metrics;
use tonic::Status;
use tonic_types::StatusExt as _;

const FOLDER: &str = "docs/reference";

#[test]
fn the_pages_say_what_the_code_says() {
    let pages = [
        ("cli.md", cli()),
        ("configuration.md", configuration()),
        ("errors.md", errors()),
        ("metrics.md", metrics_page()),
    ];
    for (name, text) in pages {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(name);
        if env::var_os("LEASEHOLD_UPDATE_GOLDEN").is_some() {
            fs::write(&file, &text).unwrap();
        }
        let written = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == text,
            "{name}: run with LEASEHOLD_UPDATE_GOLDEN=1, and read the difference"
        );
    }
}

fn page(title: &str, about: &str) -> String {
    format!(
        "# {title}\n\n<!-- Made from the code by `tests/integration/reference.rs`; do not edit. -->\n\n{about}\n\n"
    )
}

fn cli() -> String {
    let mut text = page(
        "Command line",
        "Every command takes the options under `Connection` of the first one.",
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    commands(&mut root, &mut text);
    text
}

fn commands(command: &mut clap::Command, text: &mut String) {
    let help = command.render_help().to_string();
    let name = command.get_bin_name().unwrap_or("leasehold").to_owned();
    let (own, rest) = help.split_once("\nConnection:\n").unwrap_or((&help, ""));
    // The options of the connection are the same for each; what follows them is not.
    let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
    let shown = match (name.as_str(), after.trim()) {
        ("leasehold", _) => help.trim_end().to_owned(),
        (_, "") => own.trim_end().to_owned(),
        (_, after) => format!("{}\n\n{after}", own.trim_end()),
    };
    writeln!(text, "## `{name}`\n\n```text\n{shown}\n```\n").unwrap();
    let subs = command.get_subcommands_mut();
    for sub in subs.filter(|sub| sub.get_name() != "help" && !sub.is_hide_set()) {
        commands(sub, text);
    }
}

/// The annotated example has every field, and tests of `config` hold it.
fn configuration() -> String {
    let example = include_str!("../../config/leasehold.toml");
    let about = "One file, with every field that there is, its default or an example, and its bounds. \
                 `leasehold config check` names every mistake by file, line, field and remedy.";
    format!("{}```toml\n{}\n```\n", page("Configuration", about), example.trim_end())
}

fn errors() -> String {
    let mut text = page(
        "Errors",
        "Over gRPC every error carries a `google.rpc.ErrorInfo` of the domain `leasehold` with one of these reasons, which \
         never change their meaning. `RetryInfo` says when it is worth trying again, with the same `request_id`. \
         Over HTTP, at `/oauth2/introspect` and `/oauth2/revoke`, the same is a status with an OAuth `error` (RFC 6749 section \
         5.2), and `Retry-After` in seconds. Messages are for people and may change; what stands in `<>` depends on the request.",
    );
    text.push_str(
        "| reason | code | OAuth | again after | message |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut rows = BTreeMap::new();
    for fault in every_fault() {
        let (http, oauth) = fault.status_and_error();
        let status = match fault {
            Fault::Broker(error) => Status::from(error),
            Fault::Identity(error) => Status::from(error),
            Fault::Form(_) | Fault::NoRoom => continue, // gRPC says it otherwise
        };
        let details = status.get_error_details();
        let reason = details.error_info().unwrap().reason.clone();
        let retry = details.retry_info().and_then(|retry| retry.retry_delay);
        let retry = retry.map(|delay| format!("{} ms", delay.as_millis())).unwrap_or_default();
        let message =
            status.message().replace('|', "\\|").replace('<', "&lt;").replace('>', "&gt;");
        let (code, http) = (code_name(status.code()), http.as_u16());
        let row = format!("| `{reason}` | `{code}` | {http} `{oauth}` | {retry} | {message} |");
        rows.entry(reason).or_insert_with(Vec::new).push(row);
    }
    for row in rows.into_values().flatten() {
        writeln!(text, "{row}").unwrap();
    }
    text
}

/// One of each kind. A new kind of refusal does not compile here until it is listed.
fn every_fault() -> Vec<Fault> {
    let text = |text: &str| text.to_owned();
    let refusals = [
        Refusal::invalid("<field>", "<what is wrong>"),
        Refusal::AuthorizationDetailsInvalid(text("<what is wrong>")),
        Refusal::NotFound("<task or lease>"),
        Refusal::RoleMissing("<role>"),
        Refusal::PolicyDenied(text("<why>")),
        Refusal::TargetNotAllowed(text("<audience>")),
        Refusal::GrantWidens(text("<entry>")),
        Refusal::EpochStale { expected: 1, current: 2 },
        Refusal::TaskEnded(State::Completed),
        Refusal::TaskSuspended("<by whom it is resumed>"),
        Refusal::LeaseRevoked,
        Refusal::Quarantined,
        Refusal::InstanceMismatch,
        Refusal::TtlBelowMinimum { clamp: Clamp::Tier, seconds: 1, minimum: 10 },
        Refusal::CeilingReached,
        Refusal::RequestIdReused,
        Refusal::ProofInvalid(text("<why>")),
        Refusal::ProofReplayed,
        Refusal::ProofNonceRequired { nonce: text("<nonce>") },
    ];
    refusals.iter().for_each(listed);
    let broker = [
        BrokerError::RateLimited {
            what: "requests from this principal",
            limit: 50,
            retry_after_millis: 100,
        },
        BrokerError::Contended,
        BrokerError::SigningKeyQuarantined {
            what: "access tokens",
            key_id: text("<kid>"),
            retry_after_millis: Some(5_000),
        },
        BrokerError::Unregistered,
        BrokerError::Entropy(EntropyError),
        BrokerError::Mint(String::new()),
        StoreError::Closed(Partition::ZERO).into(),
        StoreError::Unavailable(String::new()).into(),
        StoreError::NotInitialised.into(),
    ];
    let errors = refusals.into_iter().map(BrokerError::from).chain(broker).map(Fault::from);
    errors.chain([Fault::from(AuthnError::Missing)]).collect()
}

fn listed(refusal: &Refusal) {
    match refusal {
        Refusal::RequestInvalid { .. }
        | Refusal::AuthorizationDetailsInvalid(_)
        | Refusal::NotFound(_)
        | Refusal::RoleMissing(_)
        | Refusal::PolicyDenied(_)
        | Refusal::TargetNotAllowed(_)
        | Refusal::GrantWidens(_)
        | Refusal::EpochStale { .. }
        | Refusal::TaskEnded(_)
        | Refusal::TaskSuspended(_)
        | Refusal::LeaseRevoked
        | Refusal::Quarantined
        | Refusal::InstanceMismatch
        | Refusal::TtlBelowMinimum { .. }
        | Refusal::CeilingReached
        | Refusal::RequestIdReused
        | Refusal::ProofInvalid(_)
        | Refusal::ProofReplayed
        | Refusal::ProofNonceRequired { .. } => {}
    }
}

fn metrics_page() -> String {
    let mut text = page(
        "Metrics",
        "At `/metrics`, in Prometheus' text format. No id and no principal is ever a label.",
    );
    text.push_str("| name | kind | meaning |\n| --- | --- | --- |\n");
    for (name, kind, meaning) in metrics::described() {
        writeln!(text, "| `{name}` | {kind} | {meaning} |").unwrap();
    }
    text
}
