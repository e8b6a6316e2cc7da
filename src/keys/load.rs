//! Loading the keyring, and making what is missing in it: of several brokers one makes it, and all use the same.

use super::condemned::{self, Condemned};
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

/// Reads the keyring; makes it, or what it lacks by now, where nobody has. Called at start, at least once an hour after that, since
/// a successor of a key is published for an hour before it signs, and at once when a key of ours was quarantined.
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
    let (mut held, condemned, now) = read(store).await?;
    for _ in 0..ATTEMPTS {
        let keyring = match &held {
            Some((sealed, _)) => Keyring::read(&kek.open(Purpose::Keyring, sealed)?)?,
            None => Keyring::empty(),
        };
        let version = held.as_ref().map(|(_, version)| *version);
        let Some(completed) = keyring.completed(own_authority, &condemned, now, entropy)? else {
            let nonces = kek.nonces().map_err(|_| SealedError::Closed)?;
            let version = version.unwrap_or_default();
            let authorities = keyring.intermediates.iter().filter_map(|ca| ca.key_id().ok());
            let authorities = authorities.filter(|id| condemned.holds(id));
            let since = condemned::since(store, authorities).await?;
            let (condemned, settings) = ((&condemned, &since), settings.clone());
            return Keys::assemble(&keyring, condemned, (version, nonces), settings, now);
        };
        let sealed = kek.seal(Purpose::Keyring, &completed.to_plain()?, entropy)?;
        held = commit(store, sealed, version).await?;
    }
    Err(KeysError::Contended)
}

/// What is held, what was quarantined, and the store's present.
async fn read(store: &dyn Store) -> Result<(Held, Condemned, Stamp), KeysError> {
    let query = Query::new(Partition::ZERO, vec![RecordKey::Keyring], Entries::Blocks);
    let snapshot = store.read(query).await?;
    let held = match snapshot.records.into_iter().next().flatten() {
        None => None,
        Some(Record::Keyring(sealed, version)) => Some((sealed, version)),
        Some(_) => return Err(KeysError::Contended),
    };
    Ok((held, Condemned::of(snapshot.blocks), snapshot.meta.now))
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
