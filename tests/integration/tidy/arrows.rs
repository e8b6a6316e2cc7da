//! The import table: which module may name which. DESIGN.md's "order inside the code" as data.

use std::collections::BTreeSet;

use super::source::{Path, Source};

/// A top-level module, and what it may name besides itself. A longer entry allows that one submodule.
const ARROWS: &[(&str, &[&str])] = &[
    // The rules, and the two formats that credentials come in: what a verifier is made of.
    ("domain", &[]),
    ("jose", &["domain"]),
    ("spiffe", &["domain", "jose"]), // a bundle is a JWK set
    ("proto", &[]),
    ("clock", &["domain"]),
    ("verifier", &["domain", "jose", "spiffe", "proto", "clock"]),
    // Contracts, with their implementations beside them.
    ("telemetry", &[]),
    ("workload_api", &["domain", "spiffe", "proto", "broker::seams"]),
    ("fetch", &["domain", "jose"]),
    (
        "identity",
        &["domain", "jose", "spiffe", "fetch", "workload_api", "broker::seams", "telemetry"],
    ),
    ("policy", &["domain", "identity"]),
    ("store", &["domain", "broker::seams", "telemetry"]),
    ("store::codec", &["domain", "proto"]),
    ("store::codec_event", &["domain", "proto"]),
    ("store::codec_certificate", &["domain", "proto"]),
    ("store::codec_broker", &["domain", "proto"]),
    ("store::codec_lease", &["domain", "proto"]),
    ("feed", &["domain", "store", "broker::seams", "telemetry"]),
    (
        "webhooks",
        &["domain", "jose", "fetch", "store", "feed", "keys", "broker::seams", "telemetry"],
    ),
    ("keys", &["domain", "jose", "spiffe", "store", "broker::seams", "telemetry"]),
    ("mint", &["domain", "jose", "spiffe", "identity", "policy", "store", "keys", "broker::seams"]),
    // The verbs, and the surfaces that offer them.
    (
        "broker",
        &[
            "domain",
            "jose",
            "spiffe",
            "identity",
            "policy",
            "store",
            "feed",
            "keys",
            "mint",
            "telemetry",
        ],
    ),
    ("broker::seams", &["domain", "clock"]),
    ("listen", &["domain", "spiffe", "identity", "workload_api", "broker::seams", "telemetry"]),
    (
        "grpc",
        &[
            "domain",
            "identity",
            "broker",
            "feed",
            "store::StoreError",
            "jose::base64url",
            "listen",
            "proto",
            "telemetry",
        ],
    ),
    (
        "http",
        &[
            "domain",
            "jose",
            "spiffe",
            "identity",
            "keys",
            "broker",
            "store::StoreError",
            "listen",
            "telemetry",
        ],
    ),
    ("config", &["domain", "jose::dpop", "spiffe", "telemetry"]),
    // The verifier, for those who do not link it.
    ("sidecar", &["domain", "jose", "proto", "verifier", "telemetry"]),
    // The program.
    ("app", EVERYTHING),
    ("playground", &["domain", "jose", "broker::seams"]),
    (
        "demo",
        &[
            "domain",
            "jose",
            "spiffe",
            "identity",
            "broker::seams",
            "listen",
            "proto",
            "config",
            "playground",
            "app",
            "verifier",
        ],
    ),
    (
        "cli",
        &["domain", "jose", "spiffe", "proto", "config", "telemetry", "app", "playground", "demo"],
    ),
    ("cli::leaked", &["domain", "jose", "spiffe", "proto", "broker::seams"]),
    ("cli::dpop_key", &["domain", "jose", "broker::seams"]),
    ("cli::run", &["domain", "proto", "broker::seams"]),
    ("cli::dev", &["domain", "config", "telemetry", "app", "playground", "broker::seams"]),
    ("cli::verify", &["domain", "jose", "config", "telemetry", "verifier", "sidecar"]),
    ("cli::store", &["domain", "config", "app", "store::Constants"]),
    ("main", &["cli", "telemetry"]),
    ("testing", EVERYTHING),
];

const EVERYTHING: &[&str] = &["*"];

/// Implementations named by technology: only their own siblings and the composition root know them.
const TECHNOLOGY: [&str; 9] = [
    "store::embedded",
    "store::redis",
    "policy::grant",
    "identity::x509_svid",
    "identity::agent_bundles",
    "identity::bundle_endpoint",
    "identity::jwt_svid",
    "identity::oidc",
    "identity::jwks_cache",
];

/// What a verifier library is made of: none of it may need a server.
const VERIFIER: [&str; 6] = ["domain", "jose", "spiffe", "proto", "clock", "verifier"];

/// What pure rules may use of other crates and of the standard library's doors to the world.
const PURE_CRATES: [&str; 6] = ["base64", "ring", "serde", "serde_json", "thiserror", "zeroize"];
const WORLD: [&str; 6] =
    ["std::env", "std::fs", "std::io", "std::net", "std::process", "std::thread"];

/// Each place in production code that names what its module may not.
pub fn violations(sources: &[Source], server_crates: &BTreeSet<String>) -> Vec<String> {
    let tests: BTreeSet<_> = sources.iter().flat_map(|source| &source.test_modules).collect();
    let is_test =
        |module: &[String]| (1..=module.len()).any(|n| tests.contains(&module[..n].to_vec()));
    let in_src = sources.iter().filter(|source| source.file.starts_with("src/"));
    let mut found = Vec::new();
    for source in in_src.filter(|source| !is_test(&source.module)) {
        if source.module.is_empty() {
            continue; // lib.rs declares everything
        }
        found.extend(wrong_arrows(source));
        found.extend(wrong_crates(source, server_crates));
    }
    found
}

fn wrong_arrows(source: &Source) -> Vec<String> {
    let own = source.module.join("::");
    let rows = ARROWS.iter().filter(|(module, _)| is_below(&own, module));
    let Some((row, allowed)) = rows.max_by_key(|(module, _)| module.len()) else {
        return vec![format!("{}: `{own}` has no row in the import table", source.file)];
    };
    let topic = row.split("::").next().unwrap_or_default();
    let is_allowed = |path: &str| {
        *allowed == EVERYTHING || is_below(path, topic) || allowed.iter().any(|a| is_below(path, a))
    };
    let mut found = Vec::new();
    for path in &source.paths {
        let name = path.segments.join("::");
        if !is_allowed(&name) {
            found.push(at(source, path, &format!("`{own}` names `{name}`")));
        }
        let technology = TECHNOLOGY.iter().find(|technology| is_below(&name, technology));
        if let Some(technology) = technology
            && !knows(source, technology)
        {
            found.push(at(
                source,
                path,
                &format!("`{own}` names `{technology}`, an implementation"),
            ));
        }
    }
    found
}

/// The composition root, the test kit, and siblings: not the contract itself.
fn knows(source: &Source, technology: &str) -> bool {
    let topic = technology.split("::").next().unwrap_or_default();
    match source.module.as_slice() {
        [app, ..] if app == "app" || app == "testing" => true,
        [first, _, ..] => first == topic,
        _ => false,
    }
}

fn wrong_crates(source: &Source, server_crates: &BTreeSet<String>) -> Vec<String> {
    let topic = source.module[0].as_str();
    let mut found = Vec::new();
    for path in &source.foreign {
        let krate = path.segments[0].as_str();
        if VERIFIER.contains(&topic) && server_crates.contains(krate) {
            found.push(at(
                source,
                path,
                &format!("`{topic}` needs `{krate}`, which only servers have"),
            ));
        }
        if topic == "domain" {
            let name = path.segments.join("::");
            let is_crate = krate.starts_with(|c: char| c.is_ascii_lowercase())
                && !["std", "core", "alloc"].contains(&krate);
            let is_io = WORLD.iter().any(|door| is_below(&name, door));
            if is_io || is_crate && !PURE_CRATES.contains(&krate) && !is_primitive(krate) {
                found.push(at(source, path, &format!("`domain` is pure, and names `{name}`")));
            }
        }
    }
    if topic == "domain" && source.is_async {
        found.push(format!("{}: `domain` is pure, and is async", source.file));
    }
    found
}

fn is_primitive(name: &str) -> bool {
    matches!(
        name,
        "bool"
            | "char"
            | "str"
            | "u8"
            | "u16"
            | "u32"
            | "u64"
            | "u128"
            | "usize"
            | "i8"
            | "i16"
            | "i32"
            | "i64"
            | "i128"
            | "isize"
            | "f32"
            | "f64"
    )
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn at(source: &Source, path: &Path, what: &str) -> String {
    format!("{}:{}: {what}", source.file, path.line)
}
