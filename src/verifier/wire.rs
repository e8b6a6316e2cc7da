//! The one door from the feed's messages to what they say. What is not understood is refused whole: a revocation that a
//! verifier does not know is not one that there is not.

use crate::domain::feed::{Drift, StoreId};
use crate::domain::id::{LeaseId, Partition, PartitionCount, TaskId};
use crate::domain::lattice::{Fence, Revocation};
use crate::domain::path::{Counter, Origin};
use crate::domain::scope::Reach;
use crate::domain::time::{INFINITY, Span, Stamp};
use crate::proto::v1::revocation_entry::Entry;
use crate::proto::v1::{FeedPosition, Freshness, RevocationEntry, Subscribed};

/// A message of the feed is not one that this version understands. The connection is closed, and nothing more of it taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` of the feed is not understood; upgrade the verifier, or the broker")]
pub struct NotUnderstood(pub &'static str);

/// What the broker said when it took the subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How many partitions the store has.
    pub partitions: PartitionCount,
    /// No credential's Δ is larger.
    pub delta_max: Span,
    /// How often to send a keep-alive.
    pub interval: Span,
    /// Which store; `None`: the broker does not say.
    pub store: Option<StoreId>,
}

/// The bounds of FORMATS.md, Numbers.
const DELTA_MAX: [Span; 2] = [Span::from_seconds(1), Span::from_seconds(300)];
const MIN_INTERVAL: Span = Span::from_millis(100);

pub(super) fn terms(subscribed: &Subscribed) -> Result<Terms, NotUnderstood> {
    let count = u16::try_from(subscribed.partitions).ok().and_then(PartitionCount::new);
    let delta_max = span(subscribed.delta_max.as_ref(), "delta_max")?;
    let interval = span(subscribed.keep_alive_interval.as_ref(), "keep_alive_interval")?;
    let [least, most] = DELTA_MAX;
    if delta_max < least || delta_max > most {
        return Err(NotUnderstood("delta_max"));
    }
    Drift::from_ppm(subscribed.drift_ppm).ok_or(NotUnderstood("drift_ppm"))?;
    Ok(Terms {
        partitions: count.ok_or(NotUnderstood("partitions"))?,
        delta_max,
        interval: interval.clamp(MIN_INTERVAL, delta_max),
        store: match subscribed.store {
            0 => None,
            number => Some(StoreId::from_number(number).ok_or(NotUnderstood("store"))?),
        },
    })
}

/// One entry of a partition, and until when it can hit something; [`INFINITY`]: for ever.
pub(super) fn entry(
    entry: &RevocationEntry,
    partition: Partition,
) -> Result<(Revocation, Stamp), NotUnderstood> {
    let keep_until = match entry.keep_until {
        0 => INFINITY,
        micros => stamp(micros, "keep_until")?,
    };
    let revocation = match entry.entry.as_ref().ok_or(NotUnderstood("entry"))? {
        Entry::Fence(fence) => {
            let task = TaskId::parse(&fence.task_id).ok();
            let task = task.filter(|task| task.partition() == partition);
            let task = task.ok_or(NotUnderstood("task_id"))?;
            let epoch = counter(fence.epoch, "epoch")?;
            Revocation::Fence(task, Fence { epoch, branch: counter(fence.branch, "branch")? })
        }
        Entry::Watermark(mark) => {
            let reach = mark.reach.as_slice().try_into().map_err(|_| NotUnderstood("reach"))?;
            let origin = Origin {
                incarnation: stamp(mark.incarnation, "incarnation")?,
                stamp: stamp(mark.stamp, "stamp")?,
            };
            Revocation::Watermark(Reach(reach), origin)
        }
        Entry::LeaseId(lease) => {
            let lease = LeaseId::parse(lease).ok().filter(|lease| lease.partition() == partition);
            Revocation::Lease(lease.ok_or(NotUnderstood("lease_id"))?)
        }
        Entry::End(end) => Revocation::End(
            stamp(end.incarnation, "incarnation")?,
            stamp(end.last_stamp, "last_stamp")?,
        ),
        Entry::Floor(floor) => Revocation::Floor(stamp(*floor, "floor")?),
    };
    Ok((revocation, keep_until))
}

/// Where a verifier stands once it has what came before.
pub(super) fn position(position: &FeedPosition) -> Result<(Partition, Origin), NotUnderstood> {
    let origin = Origin {
        incarnation: stamp(position.incarnation, "incarnation")?,
        stamp: stamp(position.stamp, "stamp")?,
    };
    Ok((partition(position.partition)?, origin))
}

pub(super) fn partition(partition: u32) -> Result<Partition, NotUnderstood> {
    u8::try_from(partition).map(Partition).map_err(|_| NotUnderstood("partition"))
}

/// Age of the broker's view, and the store's time.
pub(super) fn freshness(freshness: &Freshness) -> Result<(Span, Stamp), NotUnderstood> {
    let age = span(freshness.age.as_ref(), "age")?;
    Ok((age, stamp(freshness.store_time, "store_time")?))
}

pub(super) fn feed_position((partition, at): (Partition, Origin)) -> FeedPosition {
    FeedPosition {
        partition: u32::from(partition.0),
        incarnation: at.incarnation.micros(),
        stamp: at.stamp.micros(),
    }
}

fn stamp(micros: u64, what: &'static str) -> Result<Stamp, NotUnderstood> {
    Stamp::from_micros(micros).ok_or(NotUnderstood(what))
}

fn counter(value: u64, what: &'static str) -> Result<Counter, NotUnderstood> {
    let is_one = (1..=INFINITY.micros()).contains(&value);
    if is_one { Ok(Counter::new(value)) } else { Err(NotUnderstood(what)) }
}

/// A length of time that is there and not negative; a part of a microsecond counts as a whole one.
fn span(
    duration: Option<&prost_types::Duration>,
    what: &'static str,
) -> Result<Span, NotUnderstood> {
    let duration = duration.ok_or(NotUnderstood(what))?;
    let seconds = u64::try_from(duration.seconds).map_err(|_| NotUnderstood(what))?;
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let micros = u64::from(nanos.ok_or(NotUnderstood(what))?.div_ceil(1_000));
    Ok(Span::from_micros(Span::from_seconds(seconds).micros().saturating_add(micros)))
}
