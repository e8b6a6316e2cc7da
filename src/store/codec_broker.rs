//! Records of the registry of brokers to bytes and back, as strictly as the other records.

use std::collections::BTreeMap;

use prost::Message;

use crate::domain::feed::{BrokerRecord, InstanceId, VerifierRecord};
use crate::domain::id::Partition;
use crate::domain::path::Origin;
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
    }
}

fn verifier(record: wire::Verifier) -> Result<VerifierRecord, StoreError> {
    let undrained = positions(&record.undrained)?;
    if !record.drains && !undrained.is_empty() {
        return Err(corrupt("a verifier that does not drain, and where it has not"));
    }
    Ok(VerifierRecord {
        instance: instance(&record.instance)?,
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
        let fields =
            (instances(), "\\PC{0,24}", stamps(), maps(), option::of(maps()), any::<bool>());
        fields.prop_map(|(instance, name, viewed_at, behind, undrained, connected)| {
            VerifierRecord { instance, name, viewed_at, behind, undrained, connected }
        })
    }

    fn brokers() -> impl Strategy<Value = BrokerRecord> {
        let names = ("\\PC{0,24}", "\\PC{0,24}");
        let fields =
            (instances(), names, stamps(), any::<u64>(), maps(), maps(), vec(verifiers(), 0..4));
        fields.prop_map(
            |(instance, (name, address), incarnation, beat, applied, acked, verifiers)| {
                BrokerRecord {
                    instance,
                    name,
                    address,
                    incarnation,
                    beat,
                    applied,
                    acked,
                    verifiers,
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
        wire::Broker { version: VERSION, instance, verifiers: vec![verifier], ..Default::default() }
    }

    #[test]
    fn what_makes_no_sense_is_corrupt() {
        type Damage = fn(&mut wire::Broker);
        let damages: [Damage; 9] = [
            |record| record.version = VERSION + 1,
            |record| record.instance.clear(),
            |record| record.instance.make_ascii_uppercase(),
            |record| record.incarnation = 1 << 53,
            |record| record.acked = vec![wire::Position { stamp: 1 << 53, ..Default::default() }],
            |record| record.applied = vec![wire::Position { partition: 256, ..Default::default() }],
            |record| record.applied = vec![wire::Position::default(); 2],
            |record| record.verifiers[0].instance.push('0'),
            |record| record.verifiers[0].undrained = vec![wire::Position::default()],
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
