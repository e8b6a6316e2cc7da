//! The keys of rows. Each begins with its partition and a letter, so that rows of a kind lie together, in order.
//!
//! ```text
//!  p m                    state of the partition     p k                    keyring
//!  p t task               task                       p r hash               stored answer
//!  p d due task           index: when a task is due  p c hash               first issue (ceiling)
//!  p l lease              lease                      p p hash               claimed key
//!  p a task lease         index: leases of a task    p s kind name          entry of the lattice
//!  p e stamp              event                      p x until key          index: when a row is over
//!  p j hash               shown proof                p v stamp              certificate that lists tell of
//!  p g instance           broker in the registry     p b                    number of the newest revocation list
//!  p w name               terms of leases            p i task lease         `a` as the version before wrote it
//! ```
//!
//! Times are eight bytes, big-endian; ids texts, but under `a` their 16 bytes of random bits, in the same order. The first byte of a key is a partition; two keys have no second byte: the
//! constants, and the first incarnation.

use crate::domain::feed::InstanceId;
use crate::domain::id::{LeaseId, Partition, TaskId};
use crate::domain::lattice::Entry;
use crate::domain::scope::Reach;
use crate::domain::time::Stamp;
use crate::store::RecordKey;
use crate::store::codec_lease::TermsName;

/// A key of a row.
pub(super) type Key = Vec<u8>;

/// Where the store's constants lie.
pub(super) const CONSTANTS: [u8; 1] = *b"n";

/// Where the first incarnation of partition 0 lies.
pub(super) const FIRST: [u8; 1] = *b"o";

/// Where no row lies: what is dropped there drops nothing.
pub(super) const NO_ROW: [u8; 1] = [u8::MAX];

/// Above every key that begins with a prefix, which has a letter in it: whatever bytes follow it.
pub(super) fn end_of(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

fn key(partition: Partition, letter: u8, rest: &[&[u8]]) -> Key {
    let mut key = vec![partition.0, letter];
    rest.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub(super) fn state(partition: Partition) -> Key {
    key(partition, b'm', &[])
}

pub(super) fn record(partition: Partition, record: &RecordKey) -> Key {
    match record {
        RecordKey::Task(task) => key(partition, b't', &[task.to_string().as_bytes()]),
        RecordKey::Lease(lease) => key(partition, b'l', &[lease.to_string().as_bytes()]),
        RecordKey::Keyring => key(partition, b'k', &[]),
        RecordKey::RevocationList => key(partition, b'b', &[]),
        RecordKey::Answer(hash) => key(partition, b'r', &[hash]),
    }
}

pub(super) fn tasks(partition: Partition) -> Key {
    key(partition, b't', &[])
}

/// Whether the key is that of a task's record.
pub(super) fn is_task(key: &[u8]) -> bool {
    key.get(1) == Some(&b't')
}

/// The lease whose record's key it is; `None` if it is another kind of key.
pub(super) fn lease(key: &[u8]) -> Option<LeaseId> {
    let id = key.get(1..)?.strip_prefix(b"l")?;
    LeaseId::parse(str::from_utf8(id).ok()?).ok()
}

pub(super) fn ceiling(partition: Partition, hash: &[u8; 32]) -> Key {
    key(partition, b'c', &[hash])
}

pub(super) fn claim(partition: Partition, hash: &[u8; 32]) -> Key {
    key(partition, b'p', &[hash])
}

/// What leases share, by the name that they have for it.
pub(super) fn terms(partition: Partition, name: &TermsName) -> Key {
    key(partition, b'w', &[name])
}

pub(super) fn shown_proof(partition: Partition, id: &[u8; 32]) -> Key {
    key(partition, b'j', &[id])
}

/// All that is due; a time and a task id follow.
pub(super) fn dues(partition: Partition) -> Key {
    key(partition, b'd', &[])
}

pub(super) fn due(partition: Partition, due: Stamp, task: TaskId) -> Key {
    key(partition, b'd', &[&time(due), task.to_string().as_bytes()])
}

/// All leases of a task; the bits of a lease's id follow.
pub(super) fn leases(partition: Partition, task: TaskId) -> Key {
    key(partition, b'a', &[&task.random().to_be_bytes()])
}

pub(super) fn lease_of(partition: Partition, task: TaskId, lease: LeaseId) -> Key {
    key(partition, b'a', &[&task.random().to_be_bytes(), &lease.random().to_be_bytes()])
}

/// Those that the version before issued; a lease id follows. They are read and dropped, and none is added.
pub(super) fn named_leases(partition: Partition, task: TaskId) -> Key {
    key(partition, b'i', &[task.to_string().as_bytes()])
}

pub(super) fn named_lease_of(partition: Partition, task: TaskId, lease: LeaseId) -> Key {
    key(partition, b'i', &[task.to_string().as_bytes(), lease.to_string().as_bytes()])
}

pub(super) fn entries(partition: Partition) -> Key {
    key(partition, b's', &[])
}

/// All ends of incarnations.
pub(super) fn ends(partition: Partition) -> Key {
    key(partition, b's', &[b"e"])
}

/// All blocks.
pub(super) fn blocks(partition: Partition) -> Key {
    key(partition, b's', &[b"b"])
}

pub(super) fn fence(partition: Partition, task: TaskId) -> Key {
    key(partition, b's', &[b"f", task.to_string().as_bytes()])
}

pub(super) fn watermark(partition: Partition, reach: &Reach) -> Key {
    key(partition, b's', &[b"w", &reach.0])
}

pub(super) fn block(partition: Partition, reach: &Reach) -> Key {
    key(partition, b's', &[b"b", &reach.0])
}

pub(super) fn ended_lease(partition: Partition, lease: LeaseId) -> Key {
    key(partition, b's', &[b"l", lease.to_string().as_bytes()])
}

pub(super) fn entry(partition: Partition, entry: &Entry) -> Key {
    match entry {
        Entry::Fence(task, _) => fence(partition, *task),
        Entry::Watermark(scope, _) => watermark(partition, &scope.reach()),
        Entry::Block(scope, _) => block(partition, &scope.reach()),
        Entry::Lease(lease) => ended_lease(partition, *lease),
        Entry::End(incarnation, _) => key(partition, b's', &[b"e", &time(*incarnation)]),
    }
}

/// All events; a stamp follows.
pub(super) fn events(partition: Partition) -> Key {
    key(partition, b'e', &[])
}

pub(super) fn event(partition: Partition, stamp: Stamp) -> Key {
    key(partition, b'e', &[&time(stamp)])
}

/// All certificates that revocation lists tell of; a stamp follows.
pub(super) fn certificates(partition: Partition) -> Key {
    key(partition, b'v', &[])
}

pub(super) fn certificate(partition: Partition, stamp: Stamp) -> Key {
    key(partition, b'v', &[&time(stamp)])
}

/// The registry of brokers, in partition 0; instances follow.
pub(super) fn brokers() -> Key {
    key(Partition::ZERO, b'g', &[])
}

pub(super) fn broker(instance: InstanceId) -> Key {
    key(Partition::ZERO, b'g', &[instance.to_string().as_bytes()])
}

/// All that will be over; a time and a key follow.
pub(super) fn expiries(partition: Partition) -> Key {
    key(partition, b'x', &[])
}

pub(super) fn expiry(partition: Partition, until: Stamp, of: &[u8]) -> Key {
    key(partition, b'x', &[&time(until), of])
}

/// The time and the rest of a key of an index that is ordered by time.
pub(super) fn time_and_rest(key: &[u8]) -> Option<(Stamp, &[u8])> {
    let (time, rest) = key.get(2..)?.split_first_chunk()?;
    Some((Stamp::from_micros(u64::from_be_bytes(*time))?, rest))
}

fn time(stamp: Stamp) -> [u8; 8] {
    stamp.micros().to_be_bytes()
}
