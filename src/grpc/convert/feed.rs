//! The messages of the feed.

use std::sync::Arc;

use super::fields;
use crate::domain::feed::{InstanceId, StoreId};
use crate::domain::id::Partition;
use crate::domain::lattice::Kill;
use crate::domain::path::Origin;
use crate::domain::refusal::Refusal;
use crate::domain::time::{INFINITY, Stamp};
use crate::feed::hub::{Batch, Message, Positions};
use crate::feed::memory::Kept;
use crate::feed::{Settings, Subscriber};
use crate::proto::v1;
use crate::proto::v1::revocation_entry::Entry;
use crate::proto::v1::watch_revocations_response::Message as Response;

/// No name of a verifier is longer.
const NAME_MOST_BYTES: usize = 253;

pub(crate) fn subscriber(
    subscribe: &v1::Subscribe,
    principal: &str,
) -> Result<Subscriber, Refusal> {
    let instance = InstanceId::parse(&subscribe.instance);
    let problem = "32 lower-case hex digits: 128 random bits, made at each start of the process";
    let instance = instance.ok_or_else(|| Refusal::invalid("subscribe.instance", problem))?;
    let name = &subscribe.name;
    if name.len() > NAME_MOST_BYTES || name.chars().any(char::is_control) {
        let problem = "at most 253 bytes on one line, or empty for the principal";
        return Err(Refusal::invalid("subscribe.name", problem));
    }
    let name = if name.is_empty() { principal } else { name };
    Ok(Subscriber {
        instance,
        name: name.to_owned(),
        principal: principal.to_owned(),
        drains: subscribe.drains,
    })
}

pub(crate) fn subscribed(settings: &Settings) -> v1::WatchRevocationsResponse {
    response(Response::Subscribed(v1::Subscribed {
        broker_instance: settings.identity.instance.to_string(),
        broker_name: settings.identity.name.clone(),
        partitions: u32::from(settings.partitions.get()),
        delta_max: Some(fields::duration(settings.terms.delta_max)),
        drift_ppm: settings.terms.drift.ppm(),
        keep_alive_interval: Some(fields::duration(settings.cadence)),
        store: settings.store.map_or(0, StoreId::number),
    }))
}

pub(crate) fn message(message: Message) -> v1::WatchRevocationsResponse {
    response(match message {
        Message::Revocations(batch) => Response::Revocations(revocations(&batch)),
        Message::Freshness(answer) => Response::Freshness(v1::Freshness {
            sequence: answer.sequence,
            age: Some(fields::duration(answer.age)),
            positions: answer.positions.iter().map(|(p, at)| position(*p, *at)).collect(),
            store_time: answer.store_time.micros(),
        }),
    })
}

/// What a verifier says that it applied.
pub(crate) fn positions(
    field: &'static str,
    told: &[v1::FeedPosition],
) -> Result<Positions, Refusal> {
    let position = |told: &v1::FeedPosition| {
        let stamp = |micros| {
            let problem = "stamps are below 2^53: send back what the broker sent";
            Stamp::from_micros(micros).ok_or_else(|| Refusal::invalid(field, problem))
        };
        let partition = u8::try_from(told.partition)
            .map_err(|_| Refusal::invalid(field, "there is no such partition"))?;
        let at = Origin { incarnation: stamp(told.incarnation)?, stamp: stamp(told.stamp)? };
        Ok((Partition(partition), at))
    };
    told.iter().map(position).collect()
}

fn response(message: Response) -> v1::WatchRevocationsResponse {
    v1::WatchRevocationsResponse { message: Some(message) }
}

fn revocations(batch: &Arc<Batch>) -> v1::Revocations {
    v1::Revocations {
        partition: u32::from(batch.partition.0),
        entries: batch.kills.iter().map(entry).collect(),
        position: batch.position.map(|at| position(batch.partition, at)),
    }
}

fn position(partition: Partition, at: Origin) -> v1::FeedPosition {
    v1::FeedPosition {
        partition: u32::from(partition.0),
        incarnation: at.incarnation.micros(),
        stamp: at.stamp.micros(),
    }
}

fn entry(kept: &Kept) -> v1::RevocationEntry {
    let entry = match kept.kill {
        Kill::Floor(floor) => Entry::Floor(floor.micros()),
        Kill::End(incarnation, last) => Entry::End(v1::IncarnationEnd {
            incarnation: incarnation.micros(),
            last_stamp: last.micros(),
        }),
        Kill::Watermark(reach, at) => Entry::Watermark(v1::ScopeWatermark {
            reach: reach.0.to_vec(),
            incarnation: at.incarnation.micros(),
            stamp: at.stamp.micros(),
        }),
        Kill::Fence(task, fence) => Entry::Fence(v1::TaskFence {
            task_id: task.to_string(),
            epoch: fence.epoch.get(),
            branch: fence.branch.get(),
        }),
        Kill::Lease(lease) => Entry::LeaseId(lease.to_string()),
    };
    // Where nothing was ever issued that it could hit, its time was over from the first; 0 would say the opposite.
    let keep_until = if kept.until == INFINITY { 0 } else { kept.until.micros().max(1) };
    v1::RevocationEntry { entry: Some(entry), keep_until }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_for_ever_says_so_and_all_else_says_how_long() {
        let kept = |until| entry(&Kept { kill: Kill::Floor(Stamp::from_seconds(1)), until });
        assert_eq!(kept(INFINITY).keep_until, 0);
        assert_eq!(kept(Stamp::from_seconds(2)).keep_until, 2_000_000);
        assert_eq!(kept(Stamp::ZERO).keep_until, 1);
    }

    #[test]
    fn positions_that_cannot_be_are_refused() {
        let told = |partition, stamp| v1::FeedPosition { partition, incarnation: 1, stamp };
        assert!(positions("x", &[told(255, 1)]).is_ok());
        for wrong in [told(256, 1), told(0, 1 << 53)] {
            assert!(positions("x", &[wrong]).is_err());
        }
    }
}
