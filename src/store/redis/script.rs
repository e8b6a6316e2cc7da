//! The Lua scripts, and calls of them.

use redis::{Cmd, Script, Value};

use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::StoreError;
use crate::store::codec::corrupt;

const COMMON: &str = include_str!("common.lua");
const INCARNATION: &str = include_str!("incarnation.lua");
/// Refused as a whole, before its first line, when the server's memory is full.
const ORDINARY: &str = "#!lua\n";
/// Runs even then: endings go first when there is not enough for all.
const ENDING: &str = "#!lua flags=allow-oom\n";
const READING: &str = "#!lua flags=no-writes\n";

/// Every script that this program runs; no other text is ever sent.
pub(super) struct Scripts {
    pub(super) commit: Script,
    pub(super) ending: Script,
    pub(super) read: Script,
    pub(super) ask: Script,
    pub(super) leases: Script,
    pub(super) prune: Script,
    pub(super) make: Script,
    pub(super) recover: Script,
    pub(super) rights: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |parts: &[&str]| Script::new(&parts.concat());
        let commit = include_str!("commit.lua");
        Self {
            commit: script(&[ORDINARY, COMMON, commit]),
            ending: script(&[ENDING, COMMON, commit]),
            read: script(&[READING, COMMON, include_str!("read.lua")]),
            ask: script(&[READING, COMMON, include_str!("ask.lua")]),
            leases: script(&[READING, COMMON, include_str!("leases.lua")]),
            prune: script(&[ENDING, COMMON, include_str!("prune.lua")]),
            make: script(&[ORDINARY, COMMON, INCARNATION, include_str!("make.lua")]),
            recover: script(&[ENDING, COMMON, INCARNATION, include_str!("recover.lua")]),
            rights: script(&[READING, COMMON, include_str!("rights.lua")]),
        }
    }
}

/// The keys and arguments of one call.
#[derive(Debug, Default)]
pub(super) struct Call {
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn on(keys: impl Into<Vec<String>>) -> Self {
        Self { keys: keys.into(), arguments: Vec::new() }
    }

    /// Declares keys that the script knows by their place.
    pub(super) fn declare(&mut self, keys: impl IntoIterator<Item = String>) {
        self.keys.extend(keys);
    }

    /// Declares a key and passes its number, from 1.
    pub(super) fn key(&mut self, key: String) -> &mut Self {
        self.keys.push(key);
        self.arg(self.keys.len().to_string())
    }

    pub(super) fn arg(&mut self, argument: impl Into<Vec<u8>>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.arg(number.to_string())
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) -> &mut Self {
        self.number(stamp.micros())
    }

    /// A stamp, or nothing.
    pub(super) fn maybe(&mut self, stamp: Option<Stamp>) -> &mut Self {
        self.arg(stamp.map(|stamp| stamp.to_string()).unwrap_or_default())
    }

    /// How many items follow.
    pub(super) fn length(&mut self, length: usize) -> &mut Self {
        self.arg(length.to_string())
    }

    /// A list, behind its length.
    pub(super) fn list(&mut self, items: Vec<String>) -> &mut Self {
        self.length(items.len());
        self.arguments.extend(items.into_iter().map(String::into_bytes));
        self
    }

    pub(super) fn command(&self, script: &Script) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(script.get_hash()).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}

/// What a script returned: a word that says what it is, then its parts in order.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// The parts of a reply, and the word in front of them.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`] and [`StoreError::Closed`], which every script may answer.
    pub(super) fn parse(value: Value, partition: Partition) -> Result<(String, Self), StoreError> {
        let mut reply = Self::of(value)?;
        match reply.text()?.as_str() {
            "lost" => Err(StoreError::NotInitialised),
            "closed" => Err(StoreError::Closed(partition)),
            word => Ok((word.to_owned(), reply)),
        }
    }

    /// The items of an array.
    pub(super) fn of(value: Value) -> Result<Self, StoreError> {
        Ok(Self(array(value)?.into_iter()))
    }

    pub(super) fn next(&mut self) -> Result<Value, StoreError> {
        self.0.next().ok_or_else(|| unexpected("a shorter reply"))
    }

    pub(super) fn text(&mut self) -> Result<String, StoreError> {
        self.next().and_then(text)
    }

    pub(super) fn number(&mut self) -> Result<u64, StoreError> {
        self.text()?.parse().map_err(|_| unexpected("no number"))
    }

    pub(super) fn stamp(&mut self) -> Result<Stamp, StoreError> {
        Stamp::from_micros(self.number()?).ok_or_else(|| unexpected("a stamp of 2^53 or more"))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.next().and_then(bytes)
    }

    /// Values where there are some.
    pub(super) fn values(&mut self) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let one = |value| match value {
            Value::Nil => Ok(None),
            value => bytes(value).map(Some),
        };
        array(self.next()?)?.into_iter().map(one).collect()
    }
}

pub(super) fn array(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(unexpected("no array")),
    }
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        _ => Err(unexpected("no bytes")),
    }
}

pub(super) fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?).map_err(|_| unexpected("no text"))
}

pub(super) fn unexpected(what: &str) -> StoreError {
    corrupt(format!("a script answered with {what}"))
}
