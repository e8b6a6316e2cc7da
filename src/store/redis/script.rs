//! The Lua scripts, and calls of them.

use redis::{Cmd, Script, Value};

use crate::domain::feed::StoreId;
use crate::domain::id::Partition;
use crate::domain::time::{INFINITY, Stamp};
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
    pub(super) constants: Script,
    pub(super) leases: Script,
    pub(super) prune: Script,
    pub(super) make: Script,
    pub(super) identify: Script,
    pub(super) recover: Script,
    pub(super) rights: Script,
    pub(super) page: Script,
    pub(super) beat: Script,
    pub(super) brokers: Script,
    pub(super) forget: Script,
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
            constants: script(&[READING, COMMON, include_str!("constants.lua")]),
            leases: script(&[READING, COMMON, include_str!("leases.lua")]),
            prune: script(&[ENDING, COMMON, include_str!("prune.lua")]),
            make: script(&[ORDINARY, COMMON, INCARNATION, include_str!("make.lua")]),
            identify: script(&[ENDING, COMMON, include_str!("identify.lua")]),
            recover: script(&[ENDING, COMMON, INCARNATION, include_str!("recover.lua")]),
            rights: script(&[READING, COMMON, include_str!("rights.lua")]),
            page: script(&[READING, COMMON, include_str!("page.lua")]),
            beat: script(&[ENDING, COMMON, include_str!("beat.lua")]),
            brokers: script(&[READING, COMMON, include_str!("brokers.lua")]),
            forget: script(&[ENDING, COMMON, include_str!("forget.lua")]),
        }
    }
}

/// What fits a commit that issues a credential.
const USUAL_ARGUMENTS: usize = 32;
const USUAL_BYTES: usize = 2_560;

/// The keys and arguments of one call: numbers, packed into one argument, and texts behind it.
#[derive(Debug, Default)]
pub(super) struct Call {
    keys: Vec<String>,
    numbers: Vec<u8>,
    texts: Vec<Vec<u8>>,
}

impl Call {
    pub(super) fn on(keys: impl Into<Vec<String>>) -> Self {
        Self { keys: keys.into(), ..Self::default() }
    }

    /// Of a script that compares which store it is before anything else. No store has zero.
    pub(super) fn on_store(store: Option<StoreId>, keys: impl Into<Vec<String>>) -> Self {
        let mut call = Self::on(keys);
        call.number(store.map_or(0, StoreId::number));
        call
    }

    /// Declares keys that the script knows by their place.
    pub(super) fn declare(&mut self, keys: impl IntoIterator<Item = String>) {
        self.keys.extend(keys);
    }

    /// Declares a key and passes its number, from 1.
    pub(super) fn key(&mut self, key: String) -> &mut Self {
        self.keys.push(key);
        self.length(self.keys.len())
    }

    /// Passes that there is no key.
    pub(super) fn no_key(&mut self) -> &mut Self {
        self.number(0)
    }

    pub(super) fn arg(&mut self, text: impl Into<Vec<u8>>) -> &mut Self {
        self.texts.push(text.into());
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.numbers.extend(number.to_le_bytes());
        self
    }

    pub(super) fn flag(&mut self, is_so: bool) -> &mut Self {
        self.number(is_so.into())
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) -> &mut Self {
        self.number(stamp.micros())
    }

    /// A stamp; one that there is not is infinite.
    pub(super) fn maybe(&mut self, stamp: Option<Stamp>) -> &mut Self {
        self.stamp(stamp.unwrap_or(INFINITY))
    }

    /// How many of something follow.
    pub(super) fn length(&mut self, length: usize) -> &mut Self {
        self.number(u64::try_from(length).unwrap_or(u64::MAX))
    }

    /// Texts whose number the script knows.
    pub(super) fn args(&mut self, texts: impl IntoIterator<Item = String>) -> &mut Self {
        self.texts.extend(texts.into_iter().map(String::into_bytes));
        self
    }

    /// Texts, and how many they are.
    pub(super) fn list(&mut self, texts: Vec<String>) -> &mut Self {
        self.length(texts.len()).args(texts)
    }

    pub(super) fn command(&self, script: &Script) -> Cmd {
        let mut command = Cmd::with_capacity(USUAL_ARGUMENTS, USUAL_BYTES);
        command.arg("EVALSHA").arg(script.get_hash()).arg(self.keys.len()).arg(&self.keys);
        command.arg(&self.numbers).arg(&self.texts);
        command
    }
}

/// What a script returned: a word that says what it is, then its parts in order.
pub(super) struct Reply(std::vec::IntoIter<Value>);

impl Reply {
    /// The parts of a reply, and the word in front of them.
    ///
    /// # Errors
    /// [`StoreError::NotInitialised`], [`StoreError::Closed`] and [`StoreError::OtherStore`], which every script may answer.
    pub(super) fn parse(value: Value, partition: Partition) -> Result<(String, Self), StoreError> {
        let mut reply = Self::of(value)?;
        match reply.text()?.as_str() {
            "lost" => Err(StoreError::NotInitialised),
            "closed" => Err(StoreError::Closed(partition)),
            "other" => Err(StoreError::OtherStore),
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

    /// Numbers in eight bytes each, and nothing else.
    pub(super) fn packed<const N: usize>(&mut self) -> Result<[u64; N], StoreError> {
        let bytes = self.bytes()?;
        let (numbers, rest) = bytes.as_chunks::<8>();
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
        if !rest.is_empty() {
            return Err(unexpected("half a number"));
        }
        numbers.try_into().map_err(|_| unexpected("another count of numbers"))
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
