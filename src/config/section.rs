//! One table of the file: every key is asked for by name, and what nobody asked for is a mistake.

use toml::de::{DeTable, DeValue};

use super::document::{Document, Field};

/// A table while it is read.
pub(super) struct Section<'d> {
    document: &'d Document<'d>,
    path: String,
    offset: usize,
    entries: &'d DeTable<'d>,
    known: Vec<&'static str>,
    is_open: bool,
}

impl<'d> Section<'d> {
    /// The file itself.
    pub(super) fn root(document: &'d Document<'d>, entries: &'d DeTable<'d>) -> Self {
        Self {
            document,
            path: String::new(),
            offset: 0,
            entries,
            known: Vec::new(),
            is_open: false,
        }
    }

    /// A field that is a table.
    pub(super) fn of(field: &Field<'d>) -> Option<Self> {
        let DeValue::Table(entries) = field.value.get_ref() else {
            return field.wrong_kind("a table");
        };
        let (document, path, offset) = (field.document, field.path.clone(), field.offset());
        Some(Self { document, path, offset, entries, known: Vec::new(), is_open: false })
    }

    /// A key that may be left out: `Some(None)` if it is, `None` if it is wrong.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Field<'d>) -> Option<T>,
    ) -> Option<Option<T>> {
        self.known.push(key);
        match self.field(key) {
            None => Some(None),
            Some(field) => read(&field).map(Some),
        }
    }

    /// A key that stands for `default` if it is left out.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Field<'d>) -> Option<T>,
    ) -> Option<T> {
        self.optional(key, read).map(|value| value.unwrap_or(default))
    }

    /// A key that must be there; `example` is what to write otherwise.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Field<'d>) -> Option<T>,
    ) -> Option<T> {
        let value = self.optional(key, read)?;
        if value.is_none() {
            let path = self.path_of(key);
            self.document.refuse(self.offset, &path, format!("is missing; write `{example}`"));
        }
        value
    }

    /// What the rest would mean is not known, so nothing in it is a mistake.
    pub(super) fn ignore_rest(&mut self) {
        self.is_open = true;
    }

    /// Every entry of a table whose keys are names that the operator chose.
    pub(super) fn entries(&self) -> Vec<Field<'d>> {
        self.entries.keys().filter_map(|key| self.field(key.get_ref())).collect()
    }

    /// The end of the table: whatever else stands in it is a mistake.
    pub(super) fn finish(self) {
        for key in self.entries.keys().filter(|_| !self.is_open) {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let advice = match nearest(name, self.known.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", list(self.known.iter().copied())),
            };
            let path = self.path_of(name);
            self.document.refuse(key.span().start, &path, format!("is not a field; {advice}"));
        }
    }

    /// Notes a mistake in the table as a whole, or in one of its keys.
    pub(super) fn refuse<T>(&self, key: &str, text: impl Into<String>) -> Option<T> {
        let (offset, path) = self.place(key);
        self.document.refuse(offset, &path, text);
        None
    }

    /// Notes something that is allowed, and probably not meant.
    pub(super) fn warn(&self, key: &str, text: impl Into<String>) {
        let (offset, path) = self.place(key);
        self.document.warn(offset, &path, text);
    }

    fn place(&self, key: &str) -> (usize, String) {
        match self.field(key) {
            Some(field) => (field.offset(), field.path),
            None => (self.offset, self.path.clone()),
        }
    }

    /// The value of a key.
    pub(super) fn field(&self, key: &str) -> Option<Field<'d>> {
        let value = self.entries.get(key)?;
        Some(Field { document: self.document, path: self.path_of(key), value })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The one of `known` that was probably meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let scored = known.into_iter().map(|k| (strsim::damerau_levenshtein(word, k), k));
    scored.filter(|(distance, k)| *distance <= 1 + k.len() / 4).min().map(|(_, k)| k)
}

/// `a`, `b`, `c`.
pub(super) fn list<'k>(words: impl IntoIterator<Item = &'k str>) -> String {
    let quoted: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}
