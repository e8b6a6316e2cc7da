//! Names of keys: `{lh:<p>}:` and what FORMATS.md lists. Only parsed ids, hashes and numbers become part of one.

use std::fmt::{Display, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::Entry;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::store::RecordKey;
use crate::store::codec_lease::TermsName;

/// A key with a hash: `{lh:00}:r:` and 43 characters. None is longer.
const LONGEST: usize = 53;

/// The keys of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys(pub(super) Partition);

impl Keys {
    /// The record of the partition: a hash of decimal texts.
    pub(super) fn meta(self) -> String {
        self.key("meta")
    }

    /// The lattice: a hash, entry by entry.
    pub(super) fn set(self) -> String {
        self.key("set")
    }

    /// The stream of events.
    pub(super) fn events(self) -> String {
        self.key("e")
    }

    /// The registry of brokers: a hash, instance by instance; in partition 0.
    pub(super) fn brokers(self) -> String {
        self.key("brokers")
    }

    /// The names of the blocks in the set: a hash, each by itself.
    pub(super) fn blocks(self) -> String {
        self.key("blocks")
    }

    /// Task ids, by when they are due.
    pub(super) fn due(self) -> String {
        self.key("due")
    }

    /// Task ids, in the order of their texts.
    pub(super) fn tasks(self) -> String {
        self.key("tasks")
    }

    /// Certificates that revocation lists tell of, by their stamps.
    pub(super) fn certificates(self) -> String {
        self.key("certs")
    }

    /// The stamps of those certificates, by when they expire, in seconds.
    pub(super) fn certificate_ends(self) -> String {
        self.key("certs-due")
    }

    /// Leases of a task, in the order in which they were issued: the bits of the id, and when it is over, in milliseconds.
    pub(super) fn leases(self, task: TaskId) -> String {
        self.key(format_args!("ls:{task}"))
    }

    /// Those that the version before issued: their ids, by when they are over, in milliseconds. None is added.
    pub(super) fn named_leases(self, task: TaskId) -> String {
        self.key(format_args!("tl:{task}"))
    }

    /// First issue for task, principal and audience.
    pub(super) fn ceiling(self, hash: &[u8; 32]) -> String {
        self.hashed('c', hash)
    }

    /// The task to which a public key belongs.
    pub(super) fn claim(self, hash: &[u8; 32]) -> String {
        self.hashed('k', hash)
    }

    /// A proof that was shown.
    pub(super) fn shown_proof(self, id: &[u8; 32]) -> String {
        self.hashed('j', id)
    }

    /// What leases share, by the name that they have for it.
    pub(super) fn terms(self, name: &TermsName) -> String {
        self.key(format_args!("w:{:032x}", u128::from_be_bytes(*name)))
    }

    /// A record.
    pub(super) fn record(self, key: &RecordKey) -> String {
        match key {
            RecordKey::Task(task) => self.key(format_args!("t:{task}")),
            RecordKey::Lease(lease) => self.key(format_args!("l:{lease}")),
            RecordKey::Keyring => self.key("keyring"),
            RecordKey::RevocationList => self.key("crl"),
            RecordKey::Answer(hash) => self.hashed('r', hash),
        }
    }

    fn hashed(self, kind: char, hash: &[u8; 32]) -> String {
        self.key(format_args!("{kind}:{}", URL_SAFE_NO_PAD.encode(hash)))
    }

    fn key(self, name: impl Display) -> String {
        let mut key = String::with_capacity(LONGEST);
        // Writing to a text does not fail.
        let _ = write!(key, "{{lh:{}}}:{name}", self.0);
        key
    }
}

/// The name of an entry in the set.
pub(super) fn entry(entry: &Entry) -> String {
    match entry {
        Entry::Fence(task, _) => fence(*task),
        Entry::Watermark(scope, _) => watermark(scope.reach()),
        Entry::Block(scope, _) => block(scope.reach()),
        Entry::Lease(id) => lease(*id),
        Entry::End(incarnation, _) => end(*incarnation),
    }
}

/// The name of a task's fence.
pub(super) fn fence(task: TaskId) -> String {
    format!("f:{task}")
}

/// The name of a scope's watermark.
pub(super) fn watermark(reach: Reach) -> String {
    format!("w:{:032x}", u128::from_be_bytes(reach.0))
}

/// The name of a scope's block.
pub(super) fn block(reach: Reach) -> String {
    format!("b:{:032x}", u128::from_be_bytes(reach.0))
}

/// The name of a lease's end.
pub(super) fn lease(id: LeaseId) -> String {
    format!("l:{id}")
}

fn end(incarnation: Stamp) -> String {
    format!("i:{incarnation}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::scope::Scope;

    #[test]
    fn keys_are_as_the_formats_say() {
        let keys = Keys(Partition(10));
        let task = TaskId::new(Partition(10), 7);
        assert_eq!(keys.meta(), "{lh:0a}:meta");
        let key = keys.record(&RecordKey::Task(task));
        assert_eq!(key, "{lh:0a}:t:tsk_0a00000000000000000000000007");
        let key = keys.record(&RecordKey::Answer([0xff; 32]));
        assert_eq!(key, format!("{{lh:0a}}:r:{}8", "_".repeat(42)));
        assert_eq!(block(Reach([0x0a; 16])), format!("b:{}", "0a".repeat(16)));
    }

    proptest! {
        #[test]
        fn class_24_nothing_that_a_caller_says_changes_the_shape_of_a_key(
            text in "[a-z:{}*\\r\\n\\[\\]?]{0,40}", partition: u8, random: u128, hash: [u8; 32],
        ) {
            prop_assert!(TaskId::parse(&text).is_err() && LeaseId::parse(&text).is_err());
            let keys = Keys(Partition(partition));
            let (task, id) = (TaskId::new(keys.0, random), LeaseId::new(keys.0, random));
            let mut names = vec![
                keys.leases(task), keys.named_leases(task), keys.ceiling(&hash), keys.claim(&hash), keys.record(&RecordKey::Answer(hash)),
                keys.record(&RecordKey::Task(task)), keys.record(&RecordKey::Lease(id)),
            ];
            if let Ok(scope) = Scope::parse(&format!("principal:oidc:x:{text}")) {
                names.push(format!("{}{}", keys.key(""), watermark(scope.reach())));
            }
            let prefix = format!("{{lh:{}}}:", keys.0);
            for name in names {
                let rest = name.strip_prefix(&prefix).unwrap();
                prop_assert!(rest.bytes().all(|b| b.is_ascii_alphanumeric() || b":_-".contains(&b)), "{}", name);
            }
        }
    }
}
