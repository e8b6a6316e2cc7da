//! The documents: what they link to is there, and the tests that they name are in the tree.

use std::fs;
use std::path::{Path, PathBuf};

use super::classes::{backticked, functions};
use super::source::Source;

/// Where documents are looked for. What is generated or installed below is not ours.
const FOLDERS: [&str; 6] = [".", "docs", "docs/how-to", "docs/reference", "tests", "clients"];
/// A name of so many words is a test's, or nothing that a document puts in backticks.
const WORDS: usize = 4;

/// A document, by where it lies, and its text.
pub type Document = (PathBuf, String);

/// All documents of the tree.
pub fn read() -> Vec<Document> {
    let files = FOLDERS.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let paths = files.map(|entry| entry.unwrap().path());
    let packages = ["clients/python/README.md", "clients/typescript/README.md"].map(PathBuf::from);
    let markdown = paths.chain(packages).filter(|path| path.extension().is_some_and(|e| e == "md"));
    markdown.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// Links to files that are not there, as `is_there` sees it.
pub fn broken_links(
    documents: &[Document],
    is_there: impl Fn(&Path) -> bool + Copy,
) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in documents {
        let folder = path.parent().unwrap_or(Path::new("."));
        let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            if !is_there(&folder.join(file)) {
                found.push(format!("{}: there is no `{link}`", path.display()));
            }
        }
    }
    found
}

/// Tests that a document names in its tables and that the tree does not have.
pub fn unknown_tests((path, text): &Document, sources: &[Source]) -> Vec<String> {
    let tests: Vec<_> = sources.iter().flat_map(functions).collect();
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let is_test = |name: &&str| {
        name.split('_').count() >= WORDS
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let named = rows.flat_map(backticked).filter(is_test);
    let unknown = named.filter(|name| !tests.iter().any(|test| test == name));
    unknown.map(|name| format!("{}: there is no test `{name}`", path.display())).collect()
}
