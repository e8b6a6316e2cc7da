//! Names of tasks and leases, and the partition that each name carries (FORMATS.md, Ids, partitions, keys).
//!
//! An id is parsed once, at the edge. Whatever has one of these types may become part of a store key.

use std::fmt;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// What each byte stands for in it; [`NO_DIGIT`]: nothing.
const DIGITS: [u8; 256] = digits();
const NO_DIGIT: u8 = u8::MAX;
/// 128 bits in base 32, five bits a character, two leading zero bits.
const RANDOM_CHARS: usize = 26;

/// One of N parts of the store: whatever must be committed together lies in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u8);

impl Partition {
    /// Where operations on scopes, the keyring and the brokers' registry lie.
    pub const ZERO: Self = Self(0);

    /// The partition of a root task: SHA-256 of caller and request id, each behind its length, mod `count`.
    pub fn of_root(caller: &str, request_id: &str, count: PartitionCount) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [caller, request_id] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            context.update(&length.to_be_bytes());
            context.update(part.as_bytes());
        }
        Self::of_hash(context.finish().as_ref(), count)
    }

    /// Where what is named by a hash lies, whoever asks: its first 8 bytes, big-endian, mod `count`.
    pub fn of_hash(hash: &[u8], count: PartitionCount) -> Self {
        let head = hash.iter().take(8).fold(0u64, |n, byte| (n << 8) | u64::from(*byte));
        Self(u8::try_from(head % u64::from(count.0)).unwrap_or(0))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

/// How many partitions a store has: a power of two, 1 to 256, fixed when the store is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionCount(u16);

impl PartitionCount {
    /// What `leasehold store init` takes if told nothing.
    pub const DEFAULT: Self = Self(16);

    /// `None` unless a power of two from 1 to 256.
    pub fn new(count: u16) -> Option<Self> {
        (count.is_power_of_two() && count <= 256).then_some(Self(count))
    }

    /// The number itself.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Every partition, in order.
    pub fn all(self) -> impl Iterator<Item = Partition> {
        (0..self.0).filter_map(|p| u8::try_from(p).ok()).map(Partition)
    }

    /// Whether a store of this many partitions has this one.
    pub fn contains(self, partition: Partition) -> bool {
        u16::from(partition.0) < self.0
    }
}

/// Why a text is not an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// It does not begin as this kind of id does.
    #[error("an id of this kind begins with `{0}`")]
    Prefix(&'static str),
    /// It is not 32 characters long.
    #[error("an id has 32 characters, like `{0}00` and 26 more")]
    Length(&'static str),
    /// The partition is not two lower-case hex digits.
    #[error("the two characters after `{0}` are lower-case hex digits")]
    Partition(&'static str),
    /// A character is outside lower-case Crockford base 32, or a leading bit is set.
    #[error("the last 26 characters of an id are lower-case Crockford base 32 of 128 bits")]
    Random,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name { partition: Partition, random: u128 }

        impl $name {
            /// A new name in a partition, of 128 bits that the caller drew at random.
            pub fn new(partition: Partition, random: u128) -> Self {
                Self { partition, random }
            }

            /// The partition in which the thing lies.
            pub fn partition(self) -> Partition {
                self.partition
            }

            /// Its 128 bits, whose order is that of the texts of one partition.
            pub fn random(self) -> u128 {
                self.random
            }

            /// Reads the one spelling of an id.
            ///
            /// # Errors
            /// [`IdError`] says which part of the text is wrong.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                let (partition, random) = parse(text, $prefix)?;
                Ok(Self { partition, random })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write(f, $prefix, self.partition, self.random)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids! {
    /// The name of a task.
    TaskId = "tsk_";
    /// The name of a lease. A name, never a capability.
    LeaseId = "lse_";
}

impl LeaseId {
    /// The name of the lease that a request asks for: the first 128 bits of the hash of caller and request id. Whoever asks
    /// again asks for the same one.
    pub fn of_request(partition: Partition, hash: &[u8; 32]) -> Self {
        let random = hash.first_chunk().map_or(0, |bits| u128::from_be_bytes(*bits));
        Self::new(partition, random)
    }
}

#[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "at compile time")]
const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0u8;
    while digit < 32 {
        digits[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
}

fn parse(text: &str, prefix: &'static str) -> Result<(Partition, u128), IdError> {
    let rest = text.strip_prefix(prefix).ok_or(IdError::Prefix(prefix))?;
    if rest.len() != 2 + RANDOM_CHARS {
        return Err(IdError::Length(prefix));
    }
    let (hex, base32) = rest.split_at_checked(2).ok_or(IdError::Partition(prefix))?;
    if !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(IdError::Partition(prefix));
    }
    let partition = u8::from_str_radix(hex, 16).map_err(|_| IdError::Partition(prefix))?;
    let mut random = 0u128;
    for (position, byte) in base32.bytes().enumerate() {
        let digit = DIGITS.get(usize::from(byte)).copied().unwrap_or(NO_DIGIT);
        if digit == NO_DIGIT || position == 0 && digit > 7 {
            return Err(IdError::Random);
        }
        random = (random << 5) | u128::from(digit);
    }
    Ok((Partition(partition), random))
}

fn write(
    f: &mut fmt::Formatter<'_>,
    prefix: &str,
    partition: Partition,
    random: u128,
) -> fmt::Result {
    let mut letters = [b'0'; RANDOM_CHARS];
    for (position, letter) in letters.iter_mut().rev().enumerate() {
        let digit = usize::try_from((random >> (5 * position)) & 31).unwrap_or(0);
        *letter = ALPHABET.get(digit).copied().unwrap_or(b'0');
    }
    // In one piece: ids are written many times in every call.
    write!(f, "{prefix}{partition}{}", str::from_utf8(&letters).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_has_exactly_one_spelling() {
        let id = TaskId::new(Partition(0x0a), 1);
        assert_eq!(id.to_string(), "tsk_0a00000000000000000000000001");
        let all = LeaseId::new(Partition(255), u128::MAX).to_string();
        assert_eq!(all, "lse_ff7zzzzzzzzzzzzzzzzzzzzzzzzz");
        for (text, error) in [
            ("lse_0a00000000000000000000000001", IdError::Prefix("tsk_")),
            ("tsk_0A00000000000000000000000001", IdError::Partition("tsk_")),
            ("tsk_+a00000000000000000000000001", IdError::Partition("tsk_")),
            ("tsk_0a0000000000000000000000000", IdError::Length("tsk_")),
            ("tsk_0a000000000000000000000000011", IdError::Length("tsk_")),
            ("tsk_0a80000000000000000000000001", IdError::Random),
            ("tsk_0a0000000000000000000000000L", IdError::Random),
            ("tsk_0a0000000000000000000000000i", IdError::Random),
            ("tsk_0a00000000}:set000000000*\r\n1", IdError::Random),
        ] {
            assert_eq!(TaskId::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn partition_counts_are_powers_of_two_up_to_256() {
        assert!(PartitionCount::new(0).is_none());
        assert!(PartitionCount::new(3).is_none());
        assert!(PartitionCount::new(512).is_none());
        let most = PartitionCount::new(256).unwrap();
        assert_eq!(most.all().count(), 256);
        assert!(!PartitionCount::DEFAULT.contains(Partition(16)));
    }

    #[test]
    fn class_12_caller_and_request_id_cannot_be_shifted_into_one_another() {
        let count = PartitionCount::new(256).unwrap();
        let one = Partition::of_root("ab", "c", count);
        let other = Partition::of_root("a", "bc", count);
        assert_ne!(one, other, "lengths stand before the parts");
    }

    proptest! {
        #[test]
        fn every_id_survives_its_own_text(partition: u8, random: u128) {
            let id = LeaseId::new(Partition(partition), random);
            prop_assert_eq!(LeaseId::parse(&id.to_string()), Ok(id));
        }

        #[test]
        fn parsing_is_total_and_what_parses_prints_the_same(text in "[a-z_0-9A-Z{}:*é]{0,40}") {
            if let Ok(id) = TaskId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
