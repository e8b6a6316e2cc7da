//! Who is on the feed, and how far.

use std::fmt;

use ring::digest::{SHA256, digest};

use crate::domain::path::Origin;
use crate::domain::time::INFINITY;

/// One run of a broker's or a verifier's process: 128 random bits, made at its start and never used again.
// INVARIANT (fencing, rule 5): what an earlier run acknowledged says nothing of the one that took its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u128);

impl InstanceId {
    /// An id of these random bits.
    pub const fn new(random: u128) -> Self {
        Self(random)
    }

    /// Reads 32 lower-case hex digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose a verifier is: the first 16 bytes of the SHA-256 of its principal's text. All zero where a broker of an earlier version
/// wrote the record, which did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub [u8; 16]);

impl Owner {
    /// The principal with this text.
    pub fn of(principal: &str) -> Self {
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(digest(&SHA256, principal.as_bytes()).as_ref()) {
            *to = *from;
        }
        Self(first)
    }
}

/// One run of one principal's verifier.
// INVARIANT (one instance, one verifier): whoever says at another broker that it has the instance of somebody else is another.
pub type Run = (InstanceId, Owner);

/// Which store: no other has the same, nor has one that was emptied and made anew. Not zero, and less than 2^53 − 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(u64);

impl StoreId {
    /// The id with this number; `None` if it is the number of none.
    pub fn from_number(number: u64) -> Option<Self> {
        (1..INFINITY.micros()).contains(&number).then_some(Self(number))
    }

    /// An id of the first 53 of these random bits.
    pub fn drawn(random: [u8; 8]) -> Self {
        Self((u64::from_be_bytes(random) >> 11).clamp(1, INFINITY.micros() - 1))
    }

    /// Its number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:014x}", self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a reader stands in a partition's events: at one that it has read, known again by its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPosition {
    /// Incarnation and stamp of the event.
    pub at: Origin,
    /// Its 64 random bits: another event with the same stamp is one of another history.
    pub tag: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_read_as_it_is_written_and_in_no_other_way() {
        let id = InstanceId::new(0x0123_4567_89ab_cdef);
        assert_eq!(InstanceId::parse(&id.to_string()), Some(id));
        for text in ["", "0", &"G".repeat(32), &"A".repeat(32), &format!("+{}", "1".repeat(31))] {
            assert_eq!(InstanceId::parse(text), None, "{text}");
        }
    }
}
