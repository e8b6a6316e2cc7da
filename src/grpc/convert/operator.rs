//! What operators send and see.

use super::fields;
use crate::broker::{Settings, Status};
use crate::domain::refusal::Refusal;
use crate::domain::scope::Scope;
use crate::domain::task::OnSilence;
use crate::domain::tier::{ProofRequirement, Tier};
use crate::domain::time::Span;
use crate::proto::v1;

pub(in crate::grpc) fn scope(text: &str) -> Result<Scope, Refusal> {
    Scope::parse(text).map_err(|error| Refusal::invalid("scope", error.to_string()))
}

pub(in crate::grpc) fn tier(tier: Tier) -> v1::Tier {
    let seconds = |seconds| Some(fields::duration(Span::from_seconds(seconds)));
    v1::Tier {
        name: tier.name.to_string(),
        ttl: seconds(tier.ttl_seconds),
        ceiling: seconds(tier.ceiling_seconds),
        min_ttl: seconds(tier.min_ttl_seconds),
        freshness: Some(fields::duration(tier.freshness)),
        proof: match tier.proof {
            ProofRequirement::Required => v1::ProofRequirement::Required,
            ProofRequirement::Optional => v1::ProofRequirement::Optional,
        }
        .into(),
        on_silence: match tier.on_silence {
            OnSilence::Suspend => v1::OnSilence::Suspend,
            OnSilence::Fail => v1::OnSilence::Fail,
        }
        .into(),
    }
}

pub(in crate::grpc) fn status(status: Status, settings: &Settings) -> v1::GetStatusResponse {
    let partitions = status.partitions.into_iter().map(|(partition, meta)| v1::PartitionStatus {
        partition: partition.0.into(),
        open: meta.open,
        incarnation: meta.incarnation.micros(),
        stamp: meta.stamp.micros(),
        floor: meta.floor.micros(),
    });
    v1::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trust_domain: settings.trust_domain.clone(),
        store: settings.store_kind.to_owned(),
        partitions: partitions.collect(),
        start_time: Some(fields::timestamp(status.started)),
        quarantined_scopes: status.quarantined_scopes,
    }
}
