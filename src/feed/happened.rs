//! What was committed, for whoever in the process waits for it.

use std::sync::Arc;

use crate::domain::id::Partition;
use crate::store::Recorded;

/// Something happened in a partition.
#[derive(Clone, Debug)]
pub enum Happened {
    /// This was committed.
    Event(Partition, Arc<Recorded>),
    /// Something was that this broker did not read as events: look at the records.
    Gap(Partition),
}
