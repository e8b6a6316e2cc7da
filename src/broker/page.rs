//! Pages of a list: bounded by count as the caller asks, and by bytes as a gRPC client takes them.

use crate::broker::{LeaseView, TaskView};
use crate::domain::refusal::Refusal;

const DEFAULT_ITEMS: usize = 100;
const MAX_ITEMS: usize = 1_000;
/// A page takes no more items when it holds so much: with the largest item on top it stays far below the 4 MiB that gRPC
/// clients accept by default.
const FULL_BYTES: usize = 1024 * 1024;
/// What an item takes besides its texts: ids, times, counters, and the numbers of the fields.
const FIXED_BYTES: usize = 512;

/// The room that is left on a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    /// An empty page of `page_size` items at most; 0 stands for 100.
    ///
    /// # Errors
    /// [`Refusal::RequestInvalid`] unless it is 0 to 1,000.
    pub(super) fn new(page_size: i32) -> Result<Self, Refusal> {
        let items = match usize::try_from(page_size) {
            Ok(0) => DEFAULT_ITEMS,
            Ok(size) if size <= MAX_ITEMS => size,
            _ => return Err(Refusal::invalid("page_size", format!("0 to {MAX_ITEMS}"))),
        };
        Ok(Self { items, bytes: FULL_BYTES })
    }

    /// How many items there is still room for, as far as their number goes.
    pub(super) fn items(self) -> usize {
        self.items
    }

    /// Takes the room of one item, which may be more than there was.
    pub(super) fn take(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn is_full(self) -> bool {
        self.items == 0 || self.bytes == 0
    }
}

/// About how many bytes a task takes in an answer, never less.
pub(super) fn task_bytes(view: &TaskView) -> usize {
    let task = &view.task;
    let labels = task.labels.iter().map(|(key, value)| key.len() + value.len() + 16);
    [
        FIXED_BYTES,
        task.agent.to_string().len(),
        task.purpose.len(),
        task.owner.len(),
        labels.sum(),
        task.grant.to_json().len(),
        task.step.len(),
        task.checkpoint.len(),
        task.reason.len(),
    ]
    .into_iter()
    .sum()
}

/// About how many bytes a lease takes in an answer, never less.
pub(super) fn lease_bytes(view: &LeaseView) -> usize {
    let draft = &view.lease.draft;
    [
        FIXED_BYTES,
        draft.holder.as_str().len(),
        draft.instance.len(),
        draft.audience.len(),
        draft.grant.to_json().len(),
    ]
    .into_iter()
    .sum()
}

/// A page token that this broker never gave.
pub(super) fn bad_token() -> Refusal {
    Refusal::invalid("page_token", "not a token of an earlier answer; begin with an empty one")
}
