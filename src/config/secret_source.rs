//! Where a secret comes from: a file or an environment variable, never the configuration itself.

use std::path::PathBuf;
use std::{env, fs};

use super::section::Section;
use super::value;
use crate::domain::secret::Secret;

/// A file or an environment variable that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The contents of this file, without the line end at its end.
    File(PathBuf),
    /// The value of this environment variable.
    Env(String),
}

/// A secret could not be had. Nothing of it is in the text.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error(
        "the secret in `{}` cannot be read: {source}; put it there, where the user that runs the broker may read it",
        path.display()
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The variable is not set, or not Unicode.
    #[error("the environment variable `{0}` is not set; set it to the secret")]
    Env(String),
    /// The secret is empty.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

impl SecretSource {
    /// The secret, read now.
    ///
    /// # Errors
    /// [`SecretError`] if there is none.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let mut bytes = match self {
            Self::File(path) => {
                fs::read(path).map_err(|source| SecretError::File { path: path.clone(), source })?
            }
            Self::Env(name) => {
                env::var(name).map_err(|_| SecretError::Env(name.clone()))?.into_bytes()
            }
        };
        if matches!(self, Self::File(_)) && bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.is_empty() {
            return Err(SecretError::Empty(self.place()));
        }
        Ok(Secret::new(bytes))
    }

    fn place(&self) -> String {
        match self {
            Self::File(path) => format!("`{}`", path.display()),
            Self::Env(name) => format!("the environment variable `{name}`"),
        }
    }
}

/// `<what>_file` or `<what>_env`, not both: `Some(None)` if neither.
pub(super) fn read(
    section: &mut Section<'_>,
    (file, env): (&'static str, &'static str),
) -> Option<Option<SecretSource>> {
    let in_file = section.optional(file, value::file);
    let in_env = section.optional(env, value::owned);
    match (in_file?, in_env?) {
        (Some(_), Some(_)) => {
            section.refuse(env, format!("stands beside `{file}`; keep one of them"))
        }
        (Some(path), None) => Some(Some(SecretSource::File(path))),
        (None, Some(name)) => Some(Some(SecretSource::Env(name))),
        (None, None) => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_not_there_is_an_error_that_names_its_place() {
        let unset = SecretSource::Env("LEASEHOLD_TEST_NEVER_SET".to_owned());
        assert!(unset.read().unwrap_err().to_string().contains("`LEASEHOLD_TEST_NEVER_SET`"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let file = SecretSource::File(path.clone());
        assert!(matches!(file.read(), Err(SecretError::File { .. })));
        fs::write(&path, "\n").unwrap();
        assert!(matches!(file.read(), Err(SecretError::Empty(_))));
        fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(file.read().unwrap().expose(), b"hunter2");
    }
}
