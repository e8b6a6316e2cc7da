//! What is linked is what `deny.toml` allows: no second crypto provider, no duplicate without a reason, no other licence.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::{env, fs};

use serde_json::Value;
use toml::Table;

const VERIFIER_CRATES: &str = "tests/golden/verifier-crates.txt";

#[test]
fn no_banned_crate_is_locked_for_any_platform() {
    let locked = locked();
    for banned in entries("bans", "deny") {
        assert!(
            !locked.contains_key(&banned),
            "`{banned}` is in Cargo.lock; deny.toml says why not"
        );
    }
    assert!(locked.contains_key("ring"), "Cargo.lock was not read");
}

#[test]
fn the_image_is_built_by_the_compiler_that_the_tree_names() {
    let toolchain: Table = fs::read_to_string("rust-toolchain.toml").unwrap().parse().unwrap();
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    let recipe = fs::read_to_string("Containerfile").unwrap();
    assert!(recipe.contains(&format!("/rust:{channel}-alpine ")), "not by {channel}");
}

#[test]
fn no_crate_is_linked_twice_without_a_reason() {
    let skipped = entries("bans", "skip");
    let mut linked = BTreeMap::<String, BTreeSet<String>>::new();
    for package in packages() {
        linked.entry(string(&package, "name")).or_default().insert(string(&package, "version"));
    }
    let excused = |name: &str, version: &str| {
        skipped.iter().any(|skip| {
            let (skip_name, skip_version) = skip.split_once('@').unwrap();
            skip_name == name && version.starts_with(&format!("{skip_version}."))
        })
    };
    for (name, versions) in &linked {
        let unexcused = versions.iter().filter(|version| !excused(name, version)).count();
        assert!(
            unexcused <= 1,
            "`{name}` is linked as {versions:?}: make it one, or say why in deny.toml"
        );
    }
    for skip in &skipped {
        let name = skip.split_once('@').unwrap().0;
        let versions = linked.get(name).map_or(0, BTreeSet::len);
        assert!(
            versions > 1,
            "deny.toml still excuses `{skip}`, which is not linked twice any more"
        );
    }
}

#[test]
fn every_licence_is_one_that_deny_toml_allows() {
    let allowed = entries("licenses", "allow");
    for package in packages() {
        let name = string(&package, "name");
        let licence = string(&package, "license");
        assert!(permits(&licence, &allowed), "`{name}` is under `{licence}`");
    }
}

#[test]
fn licence_expression_is_not_allowed_by_half_of_a_conjunction() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned()];
    for refused in
        ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(GPL-3.0-only OR MIT) AND GPL-2.0-only", ""]
    {
        assert!(!permits(refused, &allowed), "`{refused}`");
    }
    for accepted in
        ["MIT", "MIT/GPL-3.0-only", "GPL-3.0-only OR MIT", "(GPL-3.0-only OR MIT) AND Apache-2.0"]
    {
        assert!(permits(accepted, &allowed), "`{accepted}`");
    }
}

/// What a resource server builds with the library, by name: nothing that listens, stores, mints, measures or configures. Each
/// name more is a choice for everybody who links it.
#[test]
fn the_verifier_library_links_exactly_the_crates_of_the_golden_file() {
    let tree = |depth: &str| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--offline", "--edges=normal", "--prefix=none", depth]);
        cargo.args(["--no-default-features", "--features=verifier"]);
        let output = cargo.arg("--target=x86_64-unknown-linux-gnu").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter_map(|line| line.split(' ').next().map(str::to_owned));
        names.filter(|name| name != env!("CARGO_PKG_NAME")).collect::<BTreeSet<_>>()
    };
    let direct = tree("--depth=1");
    let others: BTreeSet<_> = &tree("--depth=255") - &direct;
    assert!(direct.contains("tonic") && others.contains("hyper"), "`cargo tree` was not read");
    let lines = |names: BTreeSet<String>| names.into_iter().map(|n| n + "\n").collect::<String>();
    let linked = format!("# named in Cargo.toml\n{}# theirs\n{}", lines(direct), lines(others));
    if env::var_os("LEASEHOLD_UPDATE_GOLDEN").is_some() {
        fs::write(VERIFIER_CRATES, &linked).unwrap();
    }
    assert_eq!(
        fs::read_to_string(VERIFIER_CRATES).unwrap(),
        linked,
        "the verifier library links other crates than before: run with `LEASEHOLD_UPDATE_GOLDEN=1`, and say why"
    );
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let mut in_dependencies = false;
    let mut seen = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if in_dependencies && line.contains('=') && !line.starts_with('#') {
            seen += 1;
            assert!(line.contains(" # "), "no purpose beside `{line}` in Cargo.toml");
        }
    }
    assert!(seen > 30, "Cargo.toml was not read");
}

/// Every package of Cargo.lock, all platforms, by name.
fn locked() -> BTreeMap<String, Table> {
    let lock: Table = fs::read_to_string("Cargo.lock").unwrap().parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    packages
        .map(|p| (p["name"].as_str().unwrap().to_owned(), p.as_table().unwrap().clone()))
        .collect()
}

/// What is built for Linux with all features, dependencies of tests and of the build included.
fn packages() -> Vec<Value> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version=1", "--locked", "--offline", "--all-features"]);
    cargo.arg("--filter-platform=x86_64-unknown-linux-gnu");
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "`cargo metadata` named {} packages", packages.len());
    packages
}

/// The crates or licences in one list of deny.toml.
fn entries(section: &str, list: &str) -> Vec<String> {
    let deny: Table = fs::read_to_string("deny.toml").unwrap().parse().unwrap();
    let entries = deny[section][list].as_array().unwrap().iter();
    let text = |entry: &toml::Value| match entry.get("crate") {
        Some(name) => {
            assert!(entry.get("reason").is_some(), "no reason for {name} in deny.toml");
            name.as_str().unwrap().to_owned()
        }
        None => entry.as_str().unwrap().to_owned(),
    };
    entries.map(text).collect()
}

fn string(package: &Value, member: &str) -> String {
    package[member].as_str().unwrap_or_default().to_owned()
}

/// Whether an SPDX expression can be met with allowed licences alone; `/` is how older crates write OR.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let permitted = either(&mut words, allowed);
    permitted && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut permitted = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        permitted |= both(words, allowed);
    }
    permitted
}

fn both(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut permitted = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        permitted &= one(words, allowed);
    }
    permitted
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let permitted = either(words, allowed);
        return words.next_if_eq(&")").is_some() && permitted;
    }
    let mut licence = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}
