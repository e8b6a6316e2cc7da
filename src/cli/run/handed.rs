//! What the command is handed: a folder that only its owner can read, files that are replaced whole, and the names under
//! which it finds them. All of it is gone when this is dropped.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf, absolute};

use tempfile::TempDir;

use super::keeper::Minted;
use crate::cli::failure::Failure;
use crate::cli::fresh_key::{KeyFiles, replace};

/// Names in the command's environment.
pub(super) const TASK: &str = "LEASEHOLD_TASK";
pub(super) const EPOCH: &str = "LEASEHOLD_EPOCH";
pub(super) const AUDIENCE: &str = "LEASEHOLD_AUDIENCE";
pub(super) const TOKEN_FILE: &str = "LEASEHOLD_TASK_TOKEN_FILE";
pub(super) const SOCKET: &str = "LEASEHOLD_TASK_SOCKET";
pub(super) const CERT: &str = "LEASEHOLD_TASK_CERT";
pub(super) const KEY: &str = "LEASEHOLD_TASK_KEY";

/// Where files lie that live as long as the command: in memory, where the system has such a folder.
const RUNTIME_FOLDER: &str = "XDG_RUNTIME_DIR";

/// The files of one token.
#[derive(Clone, Debug)]
pub(super) struct TokenFiles {
    /// The token.
    pub(super) token: Option<PathBuf>,
    /// The certificate that it is bound to, and its key.
    pub(super) keys: Option<KeyFiles>,
}

impl TokenFiles {
    /// Each file whole, the token last: whoever reads it finds the rest.
    pub(super) fn write(&self, minted: &Minted) -> Result<(), Failure> {
        if let (Some(files), Some((chain, key))) = (&self.keys, &minted.pair) {
            files.write(key, chain)?;
        }
        match &self.token {
            Some(file) => replace(file, 0o600, minted.token.expose()),
            None => Ok(()),
        }
    }

    /// The token is dead: better none than that.
    pub(super) fn remove(&self) {
        if let Some(file) = &self.token {
            let _ = fs::remove_file(file);
        }
    }
}

/// A private folder, and files elsewhere that go with it.
#[derive(Debug)]
pub(super) struct Handed {
    folder: TempDir,
    elsewhere: Vec<PathBuf>,
    /// What is added to the command's environment.
    pub(super) environment: Vec<(String, OsString)>,
}

impl Handed {
    /// Makes the folder.
    pub(super) fn new() -> Result<Self, Failure> {
        let runtime = env::var_os(RUNTIME_FOLDER).map(PathBuf::from).filter(|dir| dir.is_dir());
        let above = runtime.unwrap_or_else(env::temp_dir);
        let folder = tempfile::Builder::new()
            .prefix("leasehold-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&above)
            .map_err(|source| Failure::Write { path: above, source })?;
        Ok(Self { folder, elsewhere: Vec::new(), environment: Vec::new() })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The command finds a value under this name.
    pub(super) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The command finds a file under this name, wherever it works; the file is gone at the end.
    pub(super) fn place(&mut self, name: &str, file: &Path) -> Result<(), Failure> {
        let whole = whole(file)?;
        self.set(name, whole.clone());
        self.elsewhere.push(whole);
        Ok(())
    }

    /// The command finds a file under this name that is not ours to remove.
    pub(super) fn point(&mut self, name: &str, file: &Path) -> Result<(), Failure> {
        self.set(name, whole(file)?);
        Ok(())
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        for file in &self.elsewhere {
            let _ = fs::remove_file(file);
        }
    }
}

fn whole(file: &Path) -> Result<PathBuf, Failure> {
    absolute(file).map_err(|source| Failure::Write { path: file.to_owned(), source })
}
