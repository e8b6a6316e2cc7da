//! Files and a folder that nobody but their owner reads.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::PlaygroundError;

/// Makes the folder, and those above it that are missing. An existing one must be empty.
pub(super) fn make_dir(dir: &Path) -> Result<(), PlaygroundError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(at(dir))?;
    match dir.read_dir().map_err(at(dir))?.next() {
        None => Ok(()),
        Some(_) => Err(PlaygroundError::Occupied(dir.to_owned())),
    }
}

/// Writes a new file.
pub(super) fn write(path: &Path, contents: &[u8]) -> Result<(), PlaygroundError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(contents)).map_err(at(path))
}

/// Says which file it was.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> PlaygroundError {
    move |fault| PlaygroundError::File { path: path.to_owned(), fault }
}
