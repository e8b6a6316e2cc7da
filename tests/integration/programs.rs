//! Programs that a test starts.

use std::env;
use std::path::Path;

/// Fails with the name of what is missing, before anything is tried without it.
#[track_caller]
pub fn must_be_here(programs: &[&str]) {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_here = |name: &&&str| env::split_paths(&path).any(|folder| is_program(&folder, name));
    let missing: Vec<_> = programs.iter().filter(|name| !is_here(name)).collect();
    assert!(missing.is_empty(), "this test starts {missing:?}: install them; `make test` does");
}

fn is_program(folder: &Path, name: &str) -> bool {
    folder.join(name).is_file()
}

#[test]
#[should_panic(expected = r#"this test starts ["no-such-program"]: install them"#)]
fn a_missing_program_is_named() {
    must_be_here(&["bash", "no-such-program"]);
}
