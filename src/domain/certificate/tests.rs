//! What a list says of a certificate.

use super::*;
use crate::domain::id::Partition;
use crate::domain::path::Hop;
use crate::domain::scope::Scope;
use crate::domain::time::INFINITY;

fn incarnation() -> Stamp {
    at(1_000)
}

fn task(number: u128) -> TaskId {
    TaskId::new(Partition::ZERO, number)
}

fn lease(number: u128) -> LeaseId {
    LeaseId::new(Partition::ZERO, number)
}

fn at(seconds: u64) -> Stamp {
    Stamp::from_seconds(seconds)
}

fn finance() -> Scope {
    Scope::parse("class:finance").unwrap()
}

/// Of task 2 in epoch 3, below task 1 in branch 5; committed at 2,000.
fn certificate() -> IssuedCertificate {
    let hop = |number, counter| Hop { task: task(number), counter: Counter::new(counter) };
    let draft = CertificateDraft {
        jti: [7; 16],
        lease: lease(1),
        path: Path::new(vec![hop(1, 5)], hop(2, 3)),
        reach: vec![finance().reach(), Scope::All.reach()],
        authority: "0a1b".to_owned(),
    };
    let origin = Origin { incarnation: incarnation(), stamp: at(2_000) };
    IssuedCertificate { draft, origin, expires_seconds: 9_999 }
}

fn fence(number: u128, epoch: u64, branch: u64) -> Entry {
    let (epoch, branch) = (Counter::new(epoch), Counter::new(branch));
    Entry::Fence(task(number), Fence { epoch, branch })
}

fn mark(scope: Scope, seconds: u64) -> Entry {
    Entry::Watermark(scope, Origin { incarnation: incarnation(), stamp: at(seconds) })
}

fn revocation(raised: &[(Entry, u64)]) -> Option<Revocation> {
    let mut lattice = Lattice::default();
    lattice.merge(&Entry::End(incarnation(), INFINITY));
    raised.iter().for_each(|(entry, _)| lattice.merge(entry));
    let raised = raised.iter().map(|(entry, seconds)| (entry.clone(), at(*seconds)));
    Deaths::of(lattice, raised.collect()).of_certificate(&certificate())
}

fn died(seconds: u64, reason: Reason) -> Option<Revocation> {
    Some(Revocation { at: at(seconds), reason: Some(reason) })
}

#[test]
fn class_16_a_certificate_that_nothing_hits_is_on_no_list() {
    assert_eq!(revocation(&[]), None);
    let ended = u64::MAX;
    let beside = [
        (fence(2, 3, ended), 2_100),
        (fence(1, ended, 5), 2_100),
        (fence(3, ended, ended), 2_100),
        (mark(finance(), 1_999), 2_100),
        (mark(Scope::parse("class:other").unwrap(), 3_000), 3_000),
        (Entry::Lease(lease(2)), 2_100),
        (Entry::Block(Scope::All, 1), 2_100),
    ];
    assert_eq!(revocation(&beside), None);
}

#[test]
fn class_16_every_cause_has_its_reason_and_the_time_of_its_commit() {
    use Reason::{CessationOfOperation, PrivilegeWithdrawn, Superseded};
    let ended = u64::MAX;
    for (entry, reason) in [
        (fence(2, ended, ended), CessationOfOperation),
        (fence(1, ended, ended), CessationOfOperation),
        (fence(2, 4, 1), Superseded),
        (fence(1, 1, 6), Superseded),
        (Entry::Lease(lease(1)), PrivilegeWithdrawn),
    ] {
        assert_eq!(revocation(&[(entry.clone(), 2_100)]), died(2_100, reason), "{entry:?}");
    }
    assert_eq!(revocation(&[(mark(finance(), 2_000), 2_000)]), died(2_000, PrivilegeWithdrawn));
    assert_eq!(revocation(&[(mark(Scope::All, 2_500), 2_500)]), died(2_500, PrivilegeWithdrawn));
}

#[test]
fn class_07_of_several_causes_the_earliest_counts_in_whatever_order_they_are_told() {
    let mut causes = vec![
        (fence(2, u64::MAX, 1), 2_300),
        (mark(finance(), 2_200), 2_200),
        (fence(1, 1, 6), 2_100),
    ];
    for _ in 0..causes.len() {
        assert_eq!(revocation(&causes), died(2_100, Reason::Superseded));
        causes.rotate_left(1);
    }
}

#[test]
fn class_07_a_fence_that_does_not_reach_a_certificate_is_no_cause() {
    let causes =
        [(fence(2, 3, 9), 1_500), (fence(1, 9, 5), 1_600), (mark(finance(), 2_200), 2_200)];
    assert_eq!(revocation(&causes), died(2_200, Reason::PrivilegeWithdrawn));
}

#[test]
fn class_07_a_certificate_whose_commit_was_lost_is_on_the_list_since_it_was_made() {
    let lost = Some(Revocation { at: at(2_000), reason: None });
    let judge = |lattice| Deaths::of(lattice, Vec::new()).of_certificate(&certificate());
    assert_eq!(judge(Lattice::default()), lost, "its incarnation is not known");
    let mut ended = Lattice::default();
    ended.merge(&Entry::End(incarnation(), at(1_999)));
    assert_eq!(judge(ended), lost);
    let mut fenced = Lattice::default();
    fenced.merge(&Entry::End(incarnation(), INFINITY));
    fenced.raise_floor(at(3_000));
    assert_eq!(judge(fenced), lost);
}

#[test]
fn a_certificate_of_fifteen_minutes_is_on_no_list_and_one_of_a_second_more_is() {
    assert!(!is_listed(1_000, 1_900));
    assert!(is_listed(1_000, 1_901));
    assert!(!is_listed(1_000, 900), "no life at all");
}
