//! The event that begins an incarnation, the same in every store.

use crate::broker::seams::Entropy;
use crate::domain::event::{Event, EventKind};
use crate::domain::lattice::Entry;
use crate::store::StoreError;

/// The cause where an operator says so.
pub(super) const RESTORED: &str = "the store was put back from a backup";

/// What is announced when a partition opens in a new incarnation.
///
/// # Errors
/// [`StoreError::Unavailable`] without randomness.
pub(super) fn begun(
    entropy: &dyn Entropy,
    entries: Vec<Entry>,
    cause: &str,
) -> Result<Event, StoreError> {
    let mut tag = [0; 8];
    entropy.fill(&mut tag).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    let event = Event::of_broker(u64::from_be_bytes(tag), EventKind::IncarnationBegun, cause);
    Ok(Event { entries, ..event })
}
