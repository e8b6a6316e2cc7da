//! The table of `tests/README.md`: what goes wrong for others, and the tests and guards that keep it from going wrong here.

use std::collections::BTreeSet;

use super::source::Source;

/// The classes without which nothing goes out.
const REQUIRED: [u32; 18] = [1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 22, 26];

/// Where table and tree differ: a row without tests or guards, a name that is not in the tree, a class without a row.
pub fn differences(readme: &str, sources: &[Source]) -> Vec<String> {
    let tests: BTreeSet<_> = sources.iter().flat_map(functions).collect();
    let mut found = Vec::new();
    let mut rows = BTreeSet::new();
    for (class, cells) in readme.lines().filter_map(row) {
        if !rows.insert(class) {
            found.push(format!("class {class} has two rows"));
        }
        let [_, _, named, guards] = cells.as_slice() else {
            found.push(format!("class {class}: the row has not four cells"));
            continue;
        };
        let prefix = format!("class_{class:02}_");
        let wrong = |name: &&str| !name.starts_with(&prefix) || !tests.contains(*name);
        found.extend(
            backticked(named)
                .into_iter()
                .filter(wrong)
                .map(|name| format!("class {class}: there is no test `{name}` of it")),
        );
        found.extend(backticked(guards).into_iter().filter(|guard| !is_there(guard, sources)).map(
            |guard| format!("class {class}: there is no guard `{guard}`, `file.rs::function`"),
        ));
        if backticked(named).is_empty() || backticked(guards).is_empty() {
            found.push(format!("class {class}: the row names no test, or no guard"));
        }
    }
    let of_tests = tests.iter().filter_map(|name| number(name.strip_prefix("class_")?));
    let expected: BTreeSet<_> = of_tests.chain(REQUIRED).collect();
    found.extend(expected.difference(&rows).map(|class| format!("class {class} has no row")));
    found
}

/// The number and the cells of a row that begins with a number.
fn row(line: &str) -> Option<(u32, Vec<&str>)> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    Some((number(cells.first()?)?, cells))
}

fn number(text: &str) -> Option<u32> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..digits].parse().ok()
}

pub fn backticked(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Names of functions, those in macros too; not what strings and comments say.
pub fn functions(source: &Source) -> Vec<String> {
    let words = super::words(&source.text.parse().unwrap_or_default());
    let names = words.windows(2).filter(|pair| pair[0] == "fn").map(|pair| pair[1].clone());
    names.collect()
}

/// `domain/clamp.rs::clamp`, below `src`.
fn is_there(guard: &str, sources: &[Source]) -> bool {
    let Some((file, function)) = guard.split_once("::") else { return false };
    let mut files = sources.iter().filter(|source| source.file == format!("src/{file}"));
    files.any(|source| functions(source).iter().any(|name| name == function))
}
