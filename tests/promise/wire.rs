//! The feed's messages as the surface writes them (`src/grpc/convert/feed.rs`, which is behind it).

use std::collections::BTreeMap;

use leasehold::domain::feed::InstanceId;
use leasehold::domain::id::{Partition, PartitionCount};
use leasehold::domain::lattice::Kill;
use leasehold::domain::path::Origin;
use leasehold::domain::time::{INFINITY, Span, Stamp};
use leasehold::feed::hub::{Message, Positions};
use leasehold::feed::memory::Kept;
use leasehold::proto::v1;
use leasehold::proto::v1::revocation_entry::Entry;
use leasehold::proto::v1::watch_revocations_response::Message as Response;

use super::clock::RHO_PPM;

fn duration(span: Span) -> prost_types::Duration {
    let nanos = (span.micros() % 1_000_000 * 1_000) as i32;
    prost_types::Duration { seconds: span.seconds() as i64, nanos }
}

pub fn subscribed(
    instance: InstanceId,
    partitions: PartitionCount,
    delta_max: Span,
    cadence: Span,
) -> v1::WatchRevocationsResponse {
    v1::WatchRevocationsResponse {
        message: Some(Response::Subscribed(v1::Subscribed {
            broker_instance: instance.to_string(),
            broker_name: String::new(),
            partitions: u32::from(partitions.get()),
            delta_max: Some(duration(delta_max)),
            drift_ppm: RHO_PPM,
            keep_alive_interval: Some(duration(cadence)),
        })),
    }
}

pub fn message(message: &Message) -> v1::WatchRevocationsResponse {
    let message = match message {
        Message::Revocations(batch) => Response::Revocations(v1::Revocations {
            partition: u32::from(batch.partition.0),
            entries: batch.kills.iter().map(entry).collect(),
            position: batch.position.map(|at| position(batch.partition, at)),
        }),
        Message::Freshness(answer) => Response::Freshness(v1::Freshness {
            sequence: answer.sequence,
            age: Some(duration(answer.age)),
            positions: answer.positions.iter().map(|(p, at)| position(*p, *at)).collect(),
            store_time: answer.store_time.micros(),
        }),
    };
    v1::WatchRevocationsResponse { message: Some(message) }
}

pub fn positions(told: &[v1::FeedPosition]) -> Positions {
    let position = |told: &v1::FeedPosition| {
        let stamp = |micros| Stamp::from_micros(micros).unwrap();
        let at = Origin { incarnation: stamp(told.incarnation), stamp: stamp(told.stamp) };
        (Partition(u8::try_from(told.partition).unwrap()), at)
    };
    told.iter().map(position).collect::<BTreeMap<_, _>>()
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
    let keep_until = if kept.until == INFINITY { 0 } else { kept.until.micros().max(1) };
    v1::RevocationEntry { entry: Some(entry), keep_until }
}
