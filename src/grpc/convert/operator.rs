//! What operators send and see.

use super::fields;
use crate::broker::{Settings, Status};
use crate::domain::feed::{BrokerRecord, VerifierRecord};
use crate::domain::refusal::Refusal;
use crate::domain::scope::Scope;
use crate::domain::task::OnSilence;
use crate::domain::tier::{ProofRequirement, Tier};
use crate::domain::time::{Span, Stamp};
use crate::proto::v1;

/// So many brokers, and so many verifiers of all of them, are listed: it stays a message of a size that everybody takes.
const LISTED_MOST: usize = 1_000;

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
    let Status { partitions, started, quarantined_scopes, brokers, instance, delta_max } = status;
    let partitions = partitions.into_iter().map(|(partition, meta)| v1::PartitionStatus {
        partition: partition.0.into(),
        open: meta.open,
        incarnation: meta.incarnation.micros(),
        stamp: meta.stamp.micros(),
        floor: meta.floor.micros(),
    });
    let (brokers, not_listed) = listed(brokers, delta_max);
    v1::GetStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trust_domain: settings.trust_domain.clone(),
        store: settings.store_kind.to_owned(),
        partitions: partitions.collect(),
        start_time: Some(fields::timestamp(started)),
        quarantined_scopes,
        brokers,
        verifiers_not_listed: not_listed,
        instance: instance.to_string(),
    }
}

/// The first of the brokers with the first of all their verifiers, and how many of these are left out.
fn listed(brokers: Vec<(BrokerRecord, Span)>, delta_max: Span) -> (Vec<v1::BrokerStatus>, u32) {
    let all: usize = brokers.iter().map(|(record, _)| record.verifiers.len()).sum();
    let mut room = LISTED_MOST;
    let brokers = brokers.into_iter().take(LISTED_MOST).map(|(record, beat_age)| {
        let of_it = record.verifiers.len().min(room);
        room -= of_it;
        let verifiers = record.verifiers.into_iter().take(of_it);
        v1::BrokerStatus {
            instance: record.instance.to_string(),
            name: record.name,
            address: record.address,
            beat_age: Some(fields::duration(beat_age)),
            verifiers: verifiers.map(|verifier| self::verifier(verifier, delta_max)).collect(),
        }
    });
    let brokers: Vec<_> = brokers.collect();
    let not_listed = all.saturating_sub(LISTED_MOST - room);
    (brokers, u32::try_from(not_listed).unwrap_or(u32::MAX))
}

fn verifier(verifier: VerifierRecord, delta_max: Span) -> v1::VerifierStatus {
    let viewed = Some(verifier.viewed_at).filter(|at| *at > Stamp::ZERO);
    v1::VerifierStatus {
        instance: verifier.instance.to_string(),
        name: verifier.name,
        connected: verifier.connected,
        view_time: viewed.map(fields::timestamp),
        fresh_until: viewed.map(|at| fields::timestamp(at.plus(delta_max))),
        partitions_behind: u32::try_from(verifier.behind.len()).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::feed::InstanceId;

    fn broker(instance: u128, verifiers: usize) -> (BrokerRecord, Span) {
        let verifier = |n: usize| VerifierRecord {
            instance: InstanceId::new(u128::try_from(n).unwrap()),
            owner: Default::default(),
            name: format!("v{n}"),
            viewed_at: Stamp::ZERO,
            behind: BTreeMap::new(),
            undrained: None,
            connected: true,
        };
        let record = BrokerRecord {
            instance: InstanceId::new(instance),
            name: "b".to_owned(),
            address: String::new(),
            incarnation: Stamp::ZERO,
            beat: 1,
            applied: BTreeMap::new(),
            acked: BTreeMap::new(),
            webhooks: Default::default(),
            verifiers: (0..verifiers).map(verifier).collect(),
        };
        (record, Span::from_seconds(1))
    }

    #[test]
    fn class_15_more_verifiers_than_a_message_may_hold_are_counted_and_not_listed() {
        let brokers = vec![broker(1, LISTED_MOST - 1), broker(2, 3), broker(3, 0)];
        let (listed, not_listed) = listed(brokers, Span::from_seconds(30));
        let lengths: Vec<_> = listed.iter().map(|broker| broker.verifiers.len()).collect();
        assert_eq!((lengths, not_listed), (vec![LISTED_MOST - 1, 1, 0], 2));
        let crowd = (0..1_200).map(|n| broker(n, 1)).collect();
        let (listed, not_listed) = super::listed(crowd, Span::from_seconds(30));
        assert_eq!((listed.len(), not_listed), (LISTED_MOST, 200));
    }

    #[test]
    fn a_verifier_is_fresh_from_its_view_on_and_without_one_never() {
        let (mut record, _) = broker(1, 1);
        let mut seen = record.verifiers.remove(0);
        let none = verifier(seen.clone(), Span::from_seconds(30));
        assert_eq!((none.view_time, none.fresh_until), (None, None));
        seen.viewed_at = Stamp::from_seconds(100);
        let fresh = verifier(seen, Span::from_seconds(30));
        assert_eq!(fresh.fresh_until.unwrap().seconds, 130);
    }
}
