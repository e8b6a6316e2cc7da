//! Which of several brokers delivers the events of a partition.

use ring::digest::{Context, SHA256};

use crate::domain::feed::InstanceId;
use crate::domain::id::Partition;
use crate::domain::principal::Name;

/// The broker that delivers a partition's events to a webhook, of those that could: the one whose hash with it is highest
/// (rendezvous hashing, Thaler and Ravishankar 1998). Whoever sees the same brokers names the same one, and one that comes or
/// goes moves no partition but its own.
pub fn deliverer(
    webhook: &Name,
    partition: Partition,
    brokers: impl IntoIterator<Item = InstanceId>,
) -> Option<InstanceId> {
    let weight = |broker: &InstanceId| {
        let mut context = Context::new(&SHA256);
        for part in [webhook.as_str(), "/", &partition.to_string(), &broker.to_string()] {
            context.update(part.as_bytes());
        }
        (context.finish().as_ref().to_vec(), *broker)
    };
    brokers.into_iter().max_by_key(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::PartitionCount;

    fn shares(brokers: &[u128]) -> Vec<Option<InstanceId>> {
        let name = Name::parse("stop-work").unwrap();
        let brokers = || brokers.iter().map(|broker| InstanceId::new(*broker));
        let partitions = PartitionCount::new(256).unwrap();
        partitions.all().map(|partition| deliverer(&name, partition, brokers())).collect()
    }

    #[test]
    fn each_partition_has_one_deliverer_whoever_asks_and_each_broker_some() {
        let all = shares(&[1, 2, 3]);
        assert_eq!(all, shares(&[3, 1, 2]));
        for broker in [1, 2, 3] {
            let share = all.iter().filter(|of| **of == Some(InstanceId::new(broker))).count();
            assert!((50..=120).contains(&share), "{share}");
        }
        assert_eq!(shares(&[])[0], None);
    }

    #[test]
    fn a_broker_that_goes_leaves_only_its_own_partitions_to_others() {
        for (before, after) in shares(&[1, 2, 3]).into_iter().zip(shares(&[1, 3])) {
            assert!(before == after || before == Some(InstanceId::new(2)));
        }
    }
}
