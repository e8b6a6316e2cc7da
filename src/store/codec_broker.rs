//! Records of the registry of brokers to bytes and back, as strictly as the other records.

use std::collections::BTreeMap;

use prost::Message;
use prost::bytes::Bytes;

use crate::domain::feed::{
    BrokerRecord, InstanceId, Owner, ReadPosition, VerifierRecord, Webhooks,
};
use crate::domain::id::Partition;
use crate::domain::path::Origin;
use crate::domain::principal::Name;
use crate::proto::store as wire;
use crate::store::StoreError;
use crate::store::codec::{VERSION, corrupt, must_be_version, origin, stamp};

/// The bytes of a broker's record.
pub fn broker_bytes(record: &BrokerRecord) -> Vec<u8> {
    wire::Broker {
        version: VERSION,
        instance: record.instance.to_string(),
        name: record.name.clone(),
        address: record.address.clone(),
        incarnation: record.incarnation.micros(),
        beat: record.beat,
        applied: positions_to_wire(&record.applied),
        acked: positions_to_wire(&record.acked),
        verifiers: record.verifiers.iter().map(verifier_to_wire).collect(),
        webhooks: webhooks_to_wire(&record.webhooks),
    }
    .encode_to_vec()
}

/// A broker's record from its stored value.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub fn broker(value: &[u8]) -> Result<BrokerRecord, StoreError> {
    let record = wire::Broker::decode(value).map_err(corrupt)?;
    must_be_version(record.version)?;
    Ok(BrokerRecord {
        instance: instance(&record.instance)?,
        name: record.name,
        address: record.address,
        incarnation: stamp(record.incarnation)?,
        beat: record.beat,
        applied: positions(&record.applied)?,
        acked: positions(&record.acked)?,
        verifiers: record.verifiers.into_iter().map(verifier).collect::<Result<_, _>>()?,
        webhooks: webhooks(&record.webhooks)?,
    })
}

fn verifier_to_wire(record: &VerifierRecord) -> wire::Verifier {
    wire::Verifier {
        instance: record.instance.to_string(),
        name: record.name.clone(),
        viewed_at: record.viewed_at.micros(),
        behind: positions_to_wire(&record.behind),
        drains: record.undrained.is_some(),
        undrained: record.undrained.as_ref().map(positions_to_wire).unwrap_or_default(),
        connected: record.connected,
        owner: match record.owner {
            unsaid if unsaid == Owner::default() => Bytes::new(),
            Owner(hash) => Bytes::copy_from_slice(&hash),
        },
    }
}

fn verifier(record: wire::Verifier) -> Result<VerifierRecord, StoreError> {
    let undrained = positions(&record.undrained)?;
    if !record.drains && !undrained.is_empty() {
        return Err(corrupt("a verifier that does not drain, and where it has not"));
    }
    Ok(VerifierRecord {
        instance: instance(&record.instance)?,
        owner: match &record.owner[..] {
            [] => Owner::default(),
            hash => Owner(hash.try_into().map_err(corrupt)?),
        },
        name: record.name,
        viewed_at: stamp(record.viewed_at)?,
        behind: positions(&record.behind)?,
        undrained: record.drains.then_some(undrained),
        connected: record.connected,
    })
}

fn positions_to_wire(positions: &BTreeMap<Partition, Origin>) -> Vec<wire::Position> {
    let position = |(partition, at): (&Partition, &Origin)| wire::Position {
        partition: partition.0.into(),
        incarnation: at.incarnation.micros(),
        stamp: at.stamp.micros(),
    };
    positions.iter().map(position).collect()
}

fn positions(records: &[wire::Position]) -> Result<BTreeMap<Partition, Origin>, StoreError> {
    let mut positions = BTreeMap::new();
    for record in records {
        let partition = u8::try_from(record.partition).map_err(corrupt)?;
        let at = origin(record.incarnation, record.stamp)?;
        if positions.insert(Partition(partition), at).is_some() {
            return Err(corrupt("two positions in one partition"));
        }
    }
    Ok(positions)
}

fn webhooks_to_wire(webhooks: &Webhooks) -> Vec<wire::Webhook> {
    let position = |(partition, read): (&Partition, &ReadPosition)| wire::ReadPosition {
        partition: partition.0.into(),
        incarnation: read.at.incarnation.micros(),
        stamp: read.at.stamp.micros(),
        tag: read.tag,
    };
    let webhook = |(name, delivered): (&Name, &BTreeMap<Partition, ReadPosition>)| wire::Webhook {
        name: name.to_string(),
        delivered: delivered.iter().map(position).collect(),
    };
    webhooks.iter().map(webhook).collect()
}

fn webhooks(records: &[wire::Webhook]) -> Result<Webhooks, StoreError> {
    let mut webhooks = Webhooks::new();
    for record in records {
        let mut delivered = BTreeMap::new();
        for position in &record.delivered {
            let partition = Partition(u8::try_from(position.partition).map_err(corrupt)?);
            let at = origin(position.incarnation, position.stamp)?;
            if delivered.insert(partition, ReadPosition { at, tag: position.tag }).is_some() {
                return Err(corrupt("two positions in one partition"));
            }
        }
        if webhooks.insert(Name::parse(&record.name).map_err(corrupt)?, delivered).is_some() {
            return Err(corrupt("two webhooks of one name"));
        }
    }
    Ok(webhooks)
}

fn instance(text: &str) -> Result<InstanceId, StoreError> {
    InstanceId::parse(text).ok_or_else(|| corrupt("an instance that is not 32 hex digits"))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::time::Stamp;

    fn stamps() -> impl Strategy<Value = Stamp> {
        prop_oneof![0..4u64, 0..1u64 << 53].prop_map(Stamp::saturating_from_micros)
    }

    fn maps() -> impl Strategy<Value = BTreeMap<Partition, Origin>> {
        let origin =
            (stamps(), stamps()).prop_map(|(incarnation, stamp)| Origin { incarnation, stamp });
        btree_map(any::<u8>().prop_map(Partition), origin, 0..4)
    }

    fn instances() -> impl Strategy<Value = InstanceId> {
        any::<u128>().prop_map(InstanceId::new)
    }

    fn verifiers() -> impl Strategy<Value = VerifierRecord> {
        let owners = any::<[u8; 16]>().prop_map(Owner);
        let runs = (instances(), prop_oneof![Just(Owner::default()), owners]);
        let fields = (runs, "\\PC{0,24}", stamps(), maps(), option::of(maps()), any::<bool>());
        fields.prop_map(|((instance, owner), name, viewed_at, behind, undrained, connected)| {
            VerifierRecord { instance, owner, name, viewed_at, behind, undrained, connected }
        })
    }

    fn some_webhooks() -> impl Strategy<Value = Webhooks> {
        let at = (stamps(), stamps(), any::<u64>());
        let at = at.prop_map(|(incarnation, stamp, tag)| ReadPosition {
            at: Origin { incarnation, stamp },
            tag,
        });
        let name = "[a-z0-9-]{1,63}".prop_map(|name| Name::parse(&name).unwrap());
        btree_map(name, btree_map(any::<u8>().prop_map(Partition), at, 0..4), 0..3)
    }

    fn brokers() -> impl Strategy<Value = BrokerRecord> {
        let names = ("\\PC{0,24}", "\\PC{0,24}");
        let fields = (
            instances(),
            names,
            stamps(),
            any::<u64>(),
            maps(),
            maps(),
            vec(verifiers(), 0..4),
            some_webhooks(),
        );
        fields.prop_map(
            |(
                instance,
                (name, address),
                incarnation,
                beat,
                applied,
                acked,
                verifiers,
                webhooks,
            )| {
                BrokerRecord {
                    instance,
                    name,
                    address,
                    incarnation,
                    beat,
                    applied,
                    acked,
                    verifiers,
                    webhooks,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(record in brokers()) {
            prop_assert_eq!(broker(&broker_bytes(&record)).unwrap(), record);
        }

        #[test]
        fn bytes_that_are_no_record_do_no_harm(bytes in vec(any::<u8>(), 0..64)) {
            let _ = broker(&bytes);
        }
    }

    fn wire_record() -> wire::Broker {
        let instance = InstanceId::new(7).to_string();
        let verifier = wire::Verifier { instance: instance.clone(), ..Default::default() };
        let webhook = wire::Webhook { name: "a".into(), delivered: vec![Default::default()] };
        wire::Broker {
            version: VERSION,
            instance,
            verifiers: vec![verifier],
            webhooks: vec![webhook],
            ..Default::default()
        }
    }

    #[test]
    fn what_makes_no_sense_is_corrupt() {
        type Damage = fn(&mut wire::Broker);
        let damages: [Damage; 14] = [
            |record| record.version = VERSION + 1,
            |record| record.instance.clear(),
            |record| record.instance.make_ascii_uppercase(),
            |record| record.incarnation = 1 << 53,
            |record| record.acked = vec![wire::Position { stamp: 1 << 53, ..Default::default() }],
            |record| record.applied = vec![wire::Position { partition: 256, ..Default::default() }],
            |record| record.applied = vec![wire::Position::default(); 2],
            |record| record.verifiers[0].instance.push('0'),
            |record| record.verifiers[0].undrained = vec![wire::Position::default()],
            |record| record.webhooks[0].name = "A".into(),
            |record| record.webhooks.push(record.webhooks[0].clone()),
            |record| record.webhooks[0].delivered[0].partition = 256,
            |record| record.webhooks[0].delivered[0].stamp = 1 << 53,
            |record| record.webhooks[0].delivered = vec![wire::ReadPosition::default(); 2],
        ];
        assert!(broker(&wire_record().encode_to_vec()).is_ok());
        for (number, damage) in damages.into_iter().enumerate() {
            let mut record = wire_record();
            record.instance = InstanceId::new(0xab).to_string();
            damage(&mut record);
            let judged = broker(&record.encode_to_vec());
            assert!(matches!(judged, Err(StoreError::Corrupt(_))), "{number}: {judged:?}");
        }
    }
}
