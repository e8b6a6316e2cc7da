//! A configuration file while it is read: its lines, and the problems found so far.
//!
//! Reading goes on after a mistake, so that one run names all of them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{ConfigErrors, Problem};

/// The text of a file, and what was found wrong with it.
pub(super) struct Document<'i> {
    file: &'i Path,
    text: &'i str,
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl<'i> Document<'i> {
    pub(super) fn new(file: &'i Path, text: &'i str) -> Self {
        Self { file, text, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// The file's TOML; what is not TOML is noted.
    pub(super) fn parse(&self) -> Option<DeTable<'i>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            let what = error.message().lines().next().unwrap_or("cannot be read");
            self.refuse(offset, "", format!("is not TOML: {what}"));
        }
        errors.is_empty().then(|| table.into_inner())
    }

    /// Notes a mistake.
    pub(super) fn refuse(&self, offset: usize, field: &str, text: impl Into<String>) {
        self.errors.borrow_mut().push(self.problem(offset, field, text.into()));
    }

    /// Notes something that is allowed, and probably not meant.
    pub(super) fn warn(&self, offset: usize, field: &str, text: impl Into<String>) {
        self.warnings.borrow_mut().push(self.problem(offset, field, text.into()));
    }

    /// A path of the file, which is relative to the file's own folder.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.file.parent().map_or_else(|| PathBuf::from(text), |folder| folder.join(text))
    }

    /// The outcome: what was read, unless there was a mistake, and the warnings.
    pub(super) fn finish<T>(self, read: Option<T>) -> Result<(T, Vec<Problem>), ConfigErrors> {
        let errors = self.errors.into_inner();
        match read {
            Some(value) if errors.is_empty() => {
                let mut warnings = self.warnings.into_inner();
                warnings.sort_by_key(|warning| warning.line);
                Ok((value, warnings))
            }
            _ => Err(ConfigErrors::new(errors)),
        }
    }

    fn problem(&self, offset: usize, field: &str, text: String) -> Problem {
        let before = self.text.bytes().take(offset);
        let line = 1 + before.filter(|byte| *byte == b'\n').count();
        Problem { file: self.file.to_owned(), line: Some(line), field: field.to_owned(), text }
    }
}

/// One value of the file, and where it stands.
pub(super) struct Field<'d> {
    pub(super) document: &'d Document<'d>,
    pub(super) path: String,
    pub(super) value: &'d Spanned<DeValue<'d>>,
}

impl<'d> Field<'d> {
    /// Where the value begins.
    pub(super) fn offset(&self) -> usize {
        self.value.span().start
    }

    /// The element of a list; the value itself if it is none.
    pub(super) fn element(&self, n: usize) -> Self {
        let (path, element) = match self.value.get_ref() {
            DeValue::Array(array) => (format!("{}[{n}]", self.path), array.get(n)),
            _ => (self.path.clone(), None),
        };
        Self { document: self.document, path, value: element.unwrap_or(self.value) }
    }

    /// Notes something that is allowed, and probably not meant.
    pub(super) fn warn(&self, text: impl Into<String>) {
        self.document.warn(self.offset(), &self.path, text);
    }

    /// Notes a mistake in the value; nothing was read.
    pub(super) fn refuse<T>(&self, text: impl Into<String>) -> Option<T> {
        self.document.refuse(self.offset(), &self.path, text);
        None
    }

    /// The value is of another kind than it must be.
    pub(super) fn wrong_kind<T>(&self, wanted: &str) -> Option<T> {
        let kind = match self.value.get_ref() {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.refuse(format!("is {kind}; write {wanted}"))
    }
}
