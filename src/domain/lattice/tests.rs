//! The lattice as a lattice, and what each entry kills.

use proptest::prelude::*;

use super::*;
use crate::domain::id::Partition;
use crate::domain::path::Hop;
use crate::domain::principal::Name;

fn task(n: u128) -> TaskId {
    TaskId::new(Partition(0), n)
}

fn lease(n: u128) -> LeaseId {
    LeaseId::new(Partition(0), n)
}

fn stamp(micros: u64) -> Stamp {
    Stamp::saturating_from_micros(micros)
}

fn scope(n: u8) -> Scope {
    Scope::Class(Name::parse(&format!("c{n}")).unwrap())
}

fn hop(n: u128, counter: u64) -> Hop {
    Hop { task: task(n), counter: Counter::new(counter) }
}

/// A lattice of incarnation 10 that lives, with these entries.
fn known(entries: &[Entry]) -> Lattice {
    let mut lattice = Lattice::default();
    lattice.merge(&Entry::End(stamp(10), INFINITY));
    entries.iter().for_each(|entry| lattice.merge(entry));
    lattice
}

fn fence(n: u128, epoch: u64, branch: u64) -> Entry {
    Entry::Fence(task(n), Fence { epoch: Counter::new(epoch), branch: Counter::new(branch) })
}

/// A credential of task 2 in epoch 3, below task 1 at branch 5, committed at stamp 50 of incarnation 10.
fn judge(lattice: &Lattice) -> Result<(), Dead> {
    let path = Path::new(vec![hop(1, 5)], hop(2, 3));
    let reach = [scope(1).reach(), scope(2).reach()];
    let origin = Origin { incarnation: stamp(10), stamp: stamp(50) };
    lattice.judge(&Facts { path: &path, lease: lease(9), origin, reach: &reach })
}

#[test]
fn a_credential_that_nothing_hits_is_alive() {
    assert_eq!(judge(&known(&[])), Ok(()));
    let near = [fence(2, 3, 99), fence(1, 99, 5), fence(3, 99, 99), Entry::Lease(lease(8))];
    assert_eq!(judge(&known(&near)), Ok(()));
}

#[test]
fn a_credential_of_an_earlier_epoch_is_dead() {
    assert_eq!(judge(&known(&[fence(2, 4, 1)])), Err(Dead::Fenced));
}

#[test]
fn class_05_a_credential_below_an_earlier_branch_of_any_ancestor_is_dead() {
    assert_eq!(judge(&known(&[fence(1, 1, 6)])), Err(Dead::Fenced));
    assert_eq!(judge(&known(&[Entry::Fence(task(1), Fence::ended())])), Err(Dead::Fenced));
}

#[test]
fn a_watermark_kills_up_to_its_origin_and_no_further() {
    let mark = |micros| {
        Entry::Watermark(scope(2), Origin { incarnation: stamp(10), stamp: stamp(micros) })
    };
    assert_eq!(judge(&known(&[mark(49)])), Ok(()));
    assert_eq!(judge(&known(&[mark(50)])), Err(Dead::Quarantined));
    let later = Origin { incarnation: stamp(11), stamp: stamp(12) };
    assert_eq!(judge(&known(&[Entry::Watermark(scope(2), later)])), Err(Dead::Quarantined));
}

/// Whoever has the key writes the origin.
#[test]
fn class_06_the_watermark_of_a_signing_key_kills_whatever_origin_is_claimed() {
    let (key, made) =
        (Scope::Key("k1".to_owned()), Origin { incarnation: stamp(10), stamp: stamp(20) });
    let path = Path::new(vec![], hop(1, 1));
    let judge = |lattice: &Lattice, reach: &Scope, at: u64| {
        let origin = Origin { incarnation: stamp(10), stamp: stamp(at) };
        let reach = [reach.reach()];
        lattice.judge(&Facts { path: &path, lease: lease(9), origin, reach: &reach })
    };
    let lattice = known(&[Entry::Watermark(key.clone(), made)]);
    for at in [11, 20, 21, 1_000, INFINITY.micros() - 1] {
        assert_eq!(judge(&lattice, &key, at), Err(Dead::Quarantined), "{at}");
        assert_eq!(judge(&lattice, &Scope::Key("k2".to_owned()), at), Ok(()), "another key");
    }
    // Verifiers are told the same, and never to forget it.
    let told = Entry::Watermark(key.clone(), made).kill().unwrap();
    assert_eq!(told, Kill::Watermark(key.reach(), Origin::INFINITY));
    assert!(told.lasts() && !Entry::Watermark(scope(1), made).kill().unwrap().lasts());
    assert_eq!(lattice.kills().filter(Kill::lasts).count(), 2, "the incarnation lives, too");
}

#[test]
fn a_block_alone_kills_no_credential() {
    let lattice = known(&[Entry::Block(scope(1), 1)]);
    assert_eq!(judge(&lattice), Ok(()));
    assert!(lattice.blocks(&[scope(1).reach()]));
    assert!(!known(&[Entry::Block(scope(1), 2)]).blocks(&[scope(1).reach()]));
}

#[test]
fn a_released_or_revoked_lease_is_dead() {
    assert_eq!(judge(&known(&[Entry::Lease(lease(9))])), Err(Dead::LeaseOver));
}

#[test]
fn class_07_an_incarnation_that_is_not_listed_is_dead() {
    assert_eq!(judge(&Lattice::default()), Err(Dead::IncarnationUnknown));
    assert_eq!(judge(&known(&[Entry::End(stamp(10), stamp(49))])), Err(Dead::Lost));
    assert_eq!(judge(&known(&[Entry::End(stamp(10), stamp(50))])), Ok(()));
    let mut fenced = known(&[]);
    fenced.raise_floor(stamp(11));
    assert_eq!(judge(&fenced), Err(Dead::Lost));
}

fn entry() -> impl Strategy<Value = Entry> {
    let origin =
        (9u64..12, 40u64..60).prop_map(|(i, s)| Origin { incarnation: stamp(i), stamp: stamp(s) });
    prop_oneof![
        (1u128..4, 1u64..8, 1u64..8).prop_map(|(t, e, b)| fence(t, e, b)),
        (0u8..4, origin).prop_map(|(s, o)| Entry::Watermark(scope(s), o)),
        (0u8..4, 0u64..6).prop_map(|(s, n)| Entry::Block(scope(s), n)),
        (7u128..11).prop_map(|l| Entry::Lease(lease(l))),
        (9u64..12, 40u64..60).prop_map(|(i, s)| Entry::End(stamp(i), stamp(s))),
    ]
}

proptest! {
    #[test]
    fn class_07_merging_is_commutative_idempotent_and_in_any_order_the_same(
        entries in proptest::collection::vec(entry(), 0..12), seed: u64,
    ) {
        let once = known(&entries);
        let mut shuffled = entries.clone();
        let count = shuffled.len();
        for i in 0..count {
            let other = usize::try_from(seed.rotate_left(u32::try_from(i).unwrap() * 5) % 97).unwrap();
            shuffled.swap(i, other % count);
        }
        // The other order comes last: were a later entry taken for a newer one, it would show.
        prop_assert_eq!(known(&[entries, shuffled].concat()), once);
    }

    #[test]
    fn no_entry_makes_a_dead_credential_alive(
        entries in proptest::collection::vec(entry(), 0..8), more in entry(),
    ) {
        let mut lattice = known(&entries);
        let dead = judge(&lattice).is_err();
        lattice.merge(&more);
        prop_assert!(!dead || judge(&lattice).is_err());
    }
}
