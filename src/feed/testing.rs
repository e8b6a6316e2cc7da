//! Pages and events for the unit tests of this module.

use crate::domain::event::{Event, EventKind};
use crate::domain::lattice::Entry;
use crate::domain::time::Stamp;
use crate::store::{Continuity, Meta, Page, Recorded};

pub(super) fn stamp(seconds: u64) -> Stamp {
    Stamp::from_seconds(seconds)
}

pub(super) fn meta(incarnation: u64, now: u64) -> Meta {
    Meta {
        incarnation: stamp(incarnation),
        open: true,
        stamp: stamp(now),
        now: stamp(now),
        max_expiry: stamp(1_000),
        floor: Stamp::ZERO,
    }
}

pub(super) fn page(meta: Meta, events: Continuity) -> Page {
    Page { meta, events, more: false, head: None }
}

pub(super) fn event(incarnation: u64, at: u64, entries: Vec<Entry>) -> Recorded {
    let event = Event { entries, ..Event::of_broker(at, EventKind::TaskEnded, "test") };
    Recorded { stamp: stamp(at), incarnation: stamp(incarnation), keep_until: stamp(1_000), event }
}
