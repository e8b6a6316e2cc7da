//! Loading the keyring, and making what is missing in it: of several brokers one makes it, and all use the same.

use super::keyring::Keyring;
use super::sealed::{Purpose, SealedError};
use super::{AuthoritySource, KeyEncryptionKey, Keys, KeysError, Settings};
use crate::broker::seams::Entropy;
use crate::domain::id::Partition;
use crate::domain::time::Stamp;
use crate::store::{Commit, Entries, Guard, Lane, Outcome, Query, Record, RecordKey, Store, Write};

/// How often another broker may be faster before we give up.
const ATTEMPTS: usize = 8;

/// The sealed keyring and its version.
type Held = Option<(Vec<u8>, Stamp)>;

/// Reads the keyring; makes it, or what it lacks by now, where nobody has. Called at start, and at least once an hour after
/// that: a successor of a key is published for an hour before it signs.
///
/// What is due is judged by the store's clock, which all brokers share: one whose own is wrong can neither retire the others'
/// keys nor make one that is of no use to them.
///
/// # Errors
/// [`KeysError`] says what is missing or wrong.
pub async fn load_or_make(
    store: &dyn Store,
    kek: &KeyEncryptionKey,
    settings: &Settings,
    entropy: &dyn Entropy,
) -> Result<Keys, KeysError> {
    let own_authority = match settings.authority {
        AuthoritySource::Made => Some(&settings.trust_domain),
        AuthoritySource::Files(_) => None,
    };
    let (mut held, now) = read(store).await?;
    for _ in 0..ATTEMPTS {
        let keyring = match &held {
            Some((sealed, _)) => Keyring::read(&kek.open(Purpose::Keyring, sealed)?)?,
            None => Keyring::empty(),
        };
        let version = held.as_ref().map(|(_, version)| *version);
        let Some(completed) = keyring.completed(own_authority, now, entropy)? else {
            let nonces = kek.nonces().map_err(|_| SealedError::Closed)?;
            let version = version.unwrap_or_default();
            return Keys::assemble(&keyring, (version, nonces), settings.clone(), now);
        };
        let sealed = kek.seal(Purpose::Keyring, &completed.to_plain()?, entropy)?;
        held = commit(store, sealed, version).await?;
    }
    Err(KeysError::Contended)
}

/// What is held, and the store's present.
async fn read(store: &dyn Store) -> Result<(Held, Stamp), KeysError> {
    let query = Query::new(Partition::ZERO, vec![RecordKey::Keyring], Entries::None);
    let snapshot = store.read(query).await?;
    match snapshot.records.into_iter().next().flatten() {
        None => Ok((None, snapshot.meta.now)),
        Some(Record::Keyring(sealed, version)) => Ok((Some((sealed, version)), snapshot.meta.now)),
        Some(_) => Err(KeysError::Contended),
    }
}

/// Writes the keyring if it is still in the version that we read; what stands there afterwards, ours or another's.
async fn commit(
    store: &dyn Store,
    sealed: Vec<u8>,
    version: Option<Stamp>,
) -> Result<Held, KeysError> {
    let mut commit = Commit::new(Partition::ZERO, Lane::Ordinary);
    commit.guards = vec![Guard { key: RecordKey::Keyring, version }];
    commit.writes = vec![Write::Keyring(sealed.clone())];
    match store.commit(commit).await? {
        Outcome::Done(receipt) => Ok(Some((sealed, receipt.origin.stamp))),
        Outcome::Stale(records) => {
            let theirs = records.into_iter().find_map(|(_, record)| match record {
                Some(Record::Keyring(sealed, version)) => Some((sealed, version)),
                _ => None,
            });
            Ok(theirs)
        }
        Outcome::Replayed(_) | Outcome::Denied(_) => Err(KeysError::Contended),
    }
}
