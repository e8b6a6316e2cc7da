//! The source tree keeps the rules of the house: arrows, sizes, headers, reasons. The checker is checked first, on made-up
//! sources, since a rule that cannot fail holds nothing.

mod arrows;
mod classes;
mod documents;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use toml::Table;

use source::Source;

const MAX_LINES: usize = 500;

#[test]
fn modules_name_only_what_the_import_table_allows() {
    none(&arrows::violations(&tree(), &server_crates()));
}

#[test]
fn no_file_is_longer_than_one_idea() {
    none(&tree().iter().flat_map(too_long).collect::<Vec<_>>());
}

#[test]
fn every_module_says_what_it_is_for() {
    none(&tree().iter().flat_map(headerless).collect::<Vec<_>>());
}

#[test]
fn features_choose_modules_in_lib_rs_and_nothing_else() {
    none(&tree().iter().flat_map(stray_features).collect::<Vec<_>>());
}

#[test]
fn every_lint_exception_and_ignored_test_has_a_reason() {
    none(&tree().iter().flat_map(unreasoned).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_do() {
    none(&tree().iter().flat_map(unfinished).collect::<Vec<_>>());
}

#[test]
fn every_class_of_vulnerability_has_the_tests_and_guards_that_the_table_names() {
    none(&classes::differences(&fs::read_to_string("tests/README.md").unwrap(), &tree()));
}

#[test]
fn documents_link_to_what_is_there() {
    let documents = documents::read();
    assert!(documents.len() > 10, "only {} documents", documents.len());
    none(&documents::broken_links(&documents, Path::exists));
}

#[test]
fn the_map_of_controls_names_tests_that_there_are() {
    let mut documents = documents::read();
    documents.retain(|(path, _)| path.ends_with("docs/controls.md"));
    assert_eq!(documents.len(), 1);
    none(&documents.iter().flat_map(|d| documents::unknown_tests(d, &tree())).collect::<Vec<_>>());
}

#[test]
fn a_document_that_is_wrong_is_seen() {
    let document = |text: &str| ("docs/a.md".into(), text.to_owned());
    let is_there = |path: &Path| path == Path::new("docs/b.md");
    let broken = |text| documents::broken_links(&[document(text)], is_there).len();
    assert_eq!(broken("[b](b.md) [b](b.md#part) [here](#part) [there](https://b.example/c)"), 0);
    assert_eq!(broken("[c](c.md) and [b](../b.md#part)"), 2);
    let tree = [Source::parse("src/a.rs", "fn nothing_is_ever_lost() {}")];
    let unknown = |text| documents::unknown_tests(&document(text), &tree).len();
    assert_eq!(unknown("| `nothing_is_ever_lost`, `make interop`, `on_silence` |"), 0);
    assert_eq!(unknown("| `nothing_is_ever_found`, `nothing_is_ever_lost` |"), 1);
}

#[test]
fn arrow_against_the_table_is_seen_however_it_is_written() {
    for (file, text) in [
        ("src/domain/task.rs", "use crate::store::Store;"),
        ("src/domain/task.rs", "fn f() { crate::store::commit() }"),
        ("src/domain/task.rs", "use super::super::store::Store;"),
        ("src/domain/mod.rs", "use super::*;"),
        ("src/jose/mod.rs", "fn f() { assert!(super::store::ok()) }"),
        ("src/broker/issue.rs", "use crate::{domain::id::TaskId, grpc::Status};"),
        ("src/broker/issue.rs", "use crate::store::redis::Client;"),
        ("src/broker/issue.rs", "use crate::store::{self, Store}; fn f() { store::redis::open() }"),
        ("src/broker/issue.rs", "use crate::store as s; fn f() { s::embedded::open() }"),
        ("src/store/mod.rs", "mod redis; pub use redis::Client;"),
        ("src/store/mod.rs", "pub mod redis; pub use self::redis::Client;"),
        ("src/store/redis/commit.rs", "use crate::proto::store::Task;"),
        ("src/identity/mod.rs", "use crate::broker::issue::Issue;"),
        ("src/grpc/task.rs", "use crate::store::Store;"),
        ("src/main.rs", "fn main() { leasehold::store::open() }"),
        ("src/unheard_of.rs", "use crate::domain::id::TaskId;"),
        ("src/domain/task.rs", "#[cfg(test)] mod tests {} use crate::store::Store;"),
        ("src/domain/task.rs", "use std::fs::File;"),
        ("src/domain/task.rs", "fn f() { tokio::spawn(x) }"),
        ("src/domain/task.rs", "async fn f() {}"),
        ("src/jose/mod.rs", "use moka::sync::Cache;"),
    ] {
        assert!(!wrong(&[(file, text)]).is_empty(), "`{text}` in {file}");
    }
}

#[test]
fn arrow_along_the_table_is_not_complained_of() {
    for (file, text) in [
        ("src/domain/task.rs", "use super::id::TaskId; use std::collections::BTreeMap;"),
        ("src/domain/task.rs", "//! crate::store::Store\nconst S: &str = \"crate::store::Store\";"),
        ("src/domain/task.rs", "#[cfg(test)] mod tests { use crate::testing::Clock; }"),
        ("src/domain/task.rs", "fn f() { u64::from(1u8); TaskId::parse(s); }"),
        ("src/broker/issue.rs", "use crate::store::{Commit, Store};"),
        ("src/identity/oidc.rs", "use super::jwks_cache::Cache; use crate::broker::seams::Clock;"),
        ("src/store/codec.rs", "use crate::proto::store as wire;"),
        ("src/app.rs", "use crate::store::redis::Client;"),
        ("src/app.rs", "use moka::sync::Cache;"),
    ] {
        assert_eq!(wrong(&[(file, text)]), [""; 0], "`{text}` in {file}");
    }
    let child = ("src/domain/task/tests.rs", "use crate::testing::Clock;");
    assert_eq!(wrong(&[("src/domain/task.rs", "#[cfg(test)]\nmod tests;"), child]), [""; 0]);
    assert_eq!(wrong(&[("src/domain/task.rs", "mod tests;"), child]).len(), 1);
}

#[test]
fn other_rules_are_seen_to_be_broken() {
    let rule = |rule: fn(&Source) -> Option<String>, file: &str, text: &str| {
        rule(&Source::parse(file, text)).is_some()
    };
    let file = "src/domain/id.rs";
    assert!(rule(too_long, file, &"\n".repeat(MAX_LINES + 1)));
    assert!(!rule(too_long, file, &"\n".repeat(MAX_LINES)));
    assert!(rule(headerless, file, "// a comment\n"));
    assert!(rule(headerless, file, "//!\n"));
    assert!(!rule(headerless, file, "//! Ids.\n"));
    assert!(rule(stray_features, file, "#[cfg(feature = \"server\")] mod x;"));
    assert!(rule(stray_features, file, "fn f() -> bool { cfg!(feature = \"server\") }"));
    assert!(rule(stray_features, "src/lib.rs", "#[cfg(feature = \"server\")] pub use x::Y;"));
    assert!(!rule(stray_features, "src/lib.rs", "#[cfg(feature = \"server\")] pub mod x;"));
    assert!(rule(unreasoned, file, "#[allow(dead_code)] fn f() {}"));
    assert!(rule(unreasoned, file, "#[cfg_attr(test, expect(dead_code))] fn f() {}"));
    assert!(!rule(unreasoned, file, "#[expect(dead_code, reason = \"…\")] fn f() {}"));
    assert!(rule(unreasoned, file, "#[test] #[ignore] fn f() {}"));
    assert!(rule(unreasoned, file, "#[test] #[ignore = \"slow\"] fn f() {}"));
    assert!(!rule(unreasoned, file, "#[test] #[ignore = \"soak: an hour\"] fn f() {}"));
    assert!(!rule(unreasoned, file, "#[test] #[ignore = \"vectors: whose\"] fn f() {}"));
    assert!(rule(unreasoned, file, "#[cfg(test)] mod t { #[test] #[ignore] fn f() {} }"));
    assert!(rule(unfinished, file, "fn f() { todo!() }"));
    assert!(!rule(unfinished, file, "fn f() { let todo = 1; }"));
}

#[test]
fn class_without_a_row_a_test_or_a_guard_is_complained_of() {
    let sources =
        [Source::parse("src/a.rs", "fn guard() {} fn class_27_x() {} fn class_02_y() {}")];
    let complaints = |row: &str| {
        let found = classes::differences(row, &sources);
        found.into_iter().filter(|text| text.contains("class 27")).collect::<Vec<_>>()
    };
    let sound = "| 27 name | here | `class_27_x` | `a.rs::guard` |";
    assert_eq!(complaints(sound), [""; 0]);
    for wrong in [
        "",
        "27 name | here | `class_27_x` | `a.rs::guard` |",
        "| 27 name | here | `class_27_x` |",
        "| 27 name | here | `class_27_z` | `a.rs::guard` |",
        "| 27 name | here | `class_02_y` | `a.rs::guard` |",
        "| 27 name | here | class_27_x | `a.rs::guard` |",
        "| 27 name | here | `class_27_x` | `a.rs::no_guard` |",
        "| 27 name | here | `class_27_x` | `b.rs::guard` |",
        "| 27 name | here | `class_27_x` | guard |",
        &format!("{sound}\n{sound}"),
    ] {
        assert_eq!(complaints(wrong).len(), 1, "{wrong}");
    }
    assert!(classes::differences("", &sources).contains(&"class 26 has no row".to_owned()));
}

fn too_long(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    (lines > MAX_LINES).then(|| format!("{}: {lines} lines, more than {MAX_LINES}", source.file))
}

fn headerless(source: &Source) -> Option<String> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//!").is_some_and(|header| !header.trim().is_empty());
    (!says).then(|| format!("{}: does not begin with `//!` and what it is for", source.file))
}

fn stray_features(source: &Source) -> Option<String> {
    if !source.file.starts_with("src/") {
        return None;
    }
    let chosen = |attribute: &&source::Attribute| {
        let text = attribute.tokens.to_string();
        text.starts_with("cfg") && words(&attribute.tokens).contains(&"feature".to_owned())
    };
    let fine = |attribute: &&source::Attribute| source.file == "src/lib.rs" && attribute.on_module;
    let attribute = source.attributes.iter().filter(chosen).find(|attribute| !fine(attribute));
    let called = source.macros.iter().find(|called| called.segments == ["cfg"]);
    let line = attribute.map(|a| a.line).or(called.map(|c| c.line))?;
    Some(format!(
        "{}:{line}: a feature chooses something else than a module in lib.rs",
        source.file
    ))
}

fn unreasoned(source: &Source) -> Option<String> {
    let unreasoned = |attribute: &&source::Attribute| {
        let words = words(&attribute.tokens);
        let has = |word: &str| words.iter().any(|w| w == word);
        let exempts = !has("doc") && (has("allow") || has("expect"));
        let ignores = words.first().is_some_and(|first| first == "ignore");
        let text = attribute.tokens.to_string();
        let excused = ["\"soak: ", "\"vectors: "].iter().any(|kind| text.contains(kind));
        exempts && !has("reason") || ignores && !excused
    };
    let line = source.attributes.iter().find(unreasoned)?.line;
    Some(format!(
        "{}:{line}: an exception without `reason = …`, `ignore = \"soak: …\"` or `\"vectors: …\"`",
        source.file
    ))
}

fn unfinished(source: &Source) -> Option<String> {
    let marks = ["todo", "unimplemented", "dbg"];
    let mark = source.macros.iter().find(|called| marks.contains(&called.segments[0].as_str()))?;
    Some(format!("{}:{}: `{}!`", source.file, mark.line, mark.segments[0]))
}

fn wrong(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<_> = files.iter().map(|(file, text)| Source::parse(file, text)).collect();
    arrows::violations(&sources, &server_crates())
}

#[track_caller]
fn none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

fn tree() -> Vec<Source> {
    let mut files = vec!["build.rs".to_owned()];
    for folder in ["src", "tests", "benches", "examples"] {
        collect(Path::new(folder), &mut files);
    }
    assert!(files.len() > 20, "the tree was not found");
    let read = |file: &String| Source::parse(file, &fs::read_to_string(file).unwrap());
    files.iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path.to_str().unwrap().to_owned());
        }
    }
}

/// Dependencies that are optional, as code names them: those of the feature `server`.
fn server_crates() -> BTreeSet<String> {
    let manifest: Table = fs::read_to_string("Cargo.toml").unwrap().parse().unwrap();
    let dependencies = manifest["dependencies"].as_table().unwrap().iter();
    let optional =
        |entry: &toml::Value| entry.get("optional").is_some_and(|o| o.as_bool() == Some(true));
    let verifier = manifest["features"]["verifier"].as_array().unwrap();
    let in_verifier = |name: &str| {
        verifier.iter().any(|feature| feature.as_str() == Some(&format!("dep:{name}")))
    };
    let server = dependencies.filter(|(name, entry)| optional(entry) && !in_verifier(name));
    server.map(|(name, _)| name.replace('-', "_")).collect()
}

fn words(tokens: &TokenStream) -> Vec<String> {
    let word = |token: TokenTree| match token {
        TokenTree::Ident(ident) => vec![ident.to_string()],
        TokenTree::Group(group) => words(&group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => Vec::new(),
    };
    tokens.clone().into_iter().flat_map(word).collect()
}
