//! Claims about what revocation lists are made from.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use crate::domain::certificate::{
    CertificateDraft, IssuedCertificate, LONGEST_UNLISTED_SECONDS, is_listed,
};
use crate::domain::lattice::{Entry, Fence};
use crate::domain::path::{Counter, Origin};
use crate::domain::time::Stamp;
use crate::store::{Commit, Entries, Outcome, Receipt, Record, RecordKey, Write};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    P, at, begin, certificate, commit, draft, guard, issue, kill, lease_id, scope, task, task_id,
};

/// Issues a lease with a certificate of at most so many seconds.
fn certify(time: Stamp, number: u128, ttl: u64) -> Commit {
    let mut commit = issue(time, &draft(number, number), ttl);
    commit.writes.push(Write::Certificate(Box::new(certificate(number, number))));
    commit
}

fn issued(draft: CertificateDraft, receipt: Receipt) -> IssuedCertificate {
    let expires_seconds = receipt.credential.unwrap().expiry.expires_seconds;
    IssuedCertificate { draft, origin: receipt.origin, expires_seconds }
}

async fn all(f: &Fixture) -> Vec<IssuedCertificate> {
    f.upkeep.certificates(P, Stamp::ZERO, 100).await.unwrap()
}

pub async fn class_16_every_certificate_that_lists_tell_of_is_found_in_pages(f: &Fixture) {
    let mut expected = Vec::new();
    for (number, seconds) in [(3, 5), (1, 6), (2, 7), (5, 7), (4, 8)] {
        let receipt = f.done(certify(at(seconds), number, 3_000)).await;
        expected.push(issued(certificate(number, number), receipt));
    }
    assert_eq!(all(f).await, expected, "in the order of their commits");
    let (mut pages, mut after) = (Vec::new(), Stamp::ZERO);
    loop {
        let page = f.upkeep.certificates(P, after, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = last.origin.stamp;
        pages.extend(page);
    }
    assert_eq!(pages, expected);
    let elsewhere = f.upkeep.certificates(crate::domain::id::Partition(0), Stamp::ZERO, 9).await;
    assert!(elsewhere.unwrap().is_empty());
}

pub async fn class_16_a_certificate_is_kept_for_lists_only_if_it_outlives_fifteen_minutes(
    f: &Fixture,
) {
    f.done(certify(at(0), 1, LONGEST_UNLISTED_SECONDS)).await;
    // What the tier would give says nothing: the commit's own limits do.
    let mut clamped = certify(at(3_000), 2, 3_000);
    clamped.times.as_mut().unwrap().ceiling_key = [9; 32];
    let receipt = f.done(clamped).await;
    let life = receipt.credential.unwrap().expiry.expires_seconds - receipt.origin.stamp.seconds();
    assert_eq!(life, 600, "what is left until the ceiling");
    assert!(all(f).await.is_empty());
    let mut longer = certify(at(4_000), 3, LONGEST_UNLISTED_SECONDS + 1);
    longer.times.as_mut().unwrap().ceiling_key = [8; 32];
    let receipt = f.done(longer).await;
    assert!(is_listed(at(4_000).seconds(), receipt.credential.unwrap().expiry.expires_seconds));
    assert_eq!(all(f).await, [issued(certificate(3, 3), receipt)]);
}

pub async fn class_16_a_renewed_certificate_is_kept_beside_its_predecessor(f: &Fixture) {
    let first = f.done(certify(at(0), 1, 3_000)).await;
    let mut renewal = issue(at(60), &draft(1, 1), 3_000);
    renewal.writes.push(Write::Certificate(Box::new(certificate(2, 1))));
    let second = f.done(renewal).await;
    assert_eq!(all(f).await, [issued(certificate(1, 1), first), issued(certificate(2, 1), second)]);
}

pub async fn a_certificate_is_dropped_when_it_expires_and_not_before(f: &Fixture) {
    f.done(certify(at(0), 1, 1_000)).await;
    f.done(certify(at(1), 2, 2_000)).await;
    f.upkeep.prune(P, at(999)).await.unwrap();
    assert_eq!(all(f).await.len(), 2);
    f.upkeep.prune(P, at(1_000)).await.unwrap();
    let left: Vec<_> = all(f).await.into_iter().map(|issued| issued.draft).collect();
    assert_eq!(left, [certificate(2, 2)]);
    f.upkeep.prune(P, at(2_001)).await.unwrap();
    assert!(all(f).await.is_empty());
}

pub async fn a_commit_that_is_refused_keeps_no_certificate(f: &Fixture) {
    let stale = Commit {
        guards: vec![guard(RecordKey::Task(task_id(1)), Some(at(0)))],
        ..certify(at(0), 1, 3_000)
    };
    assert!(f.stale(stale).await.is_some());
    let mut short = certify(at(0), 1, 3_000);
    short.times.as_mut().unwrap().limits.minimum_seconds = 9_999;
    assert!(f.denied(short).await.is_some());
    assert!(all(f).await.is_empty());
}

pub async fn entries_tell_the_commit_that_made_or_last_raised_them(f: &Fixture) {
    let fence = |number: u128, epoch| {
        let (epoch, branch) = (Counter::new(epoch), Counter::new(1));
        Entry::Fence(task_id(number), Fence { epoch, branch })
    };
    let mark = |origin| Entry::Watermark(scope("class:finance"), origin);
    let block = Entry::Block(scope("class:finance"), 1);
    let other = Entry::Watermark(scope("class:other"), Origin::default());
    f.done(kill(at(1), vec![fence(1, 2), fence(2, 2), Entry::Lease(lease_id(1)), block])).await;
    let marked = f.done(kill(at(2), vec![mark(Origin::default()), other])).await.origin;
    let raised = f.done(kill(at(3), vec![fence(1, 3)])).await.origin;
    let entries = Entries::Raised {
        tasks: vec![task_id(1), task_id(7)],
        reach: vec![scope("class:finance").reach()],
        leases: vec![lease_id(1), lease_id(2)],
    };
    let snapshot = f.snapshot(Vec::new(), entries).await;
    let is_end = |entry: &Entry| matches!(entry, Entry::End(..));
    let mut found = snapshot.raised;
    found.retain(|(entry, _)| !is_end(entry));
    found.sort_by_key(|(_, stamp)| *stamp);
    let expected = [
        (Entry::Lease(lease_id(1)), at(1)),
        (mark(marked), marked.stamp),
        (fence(1, 3), raised.stamp),
    ];
    assert_eq!(found, expected);
    let mut lattice = f.snapshot(Vec::new(), Entries::None).await.lattice;
    expected.iter().for_each(|(entry, _)| lattice.merge(entry));
    assert_eq!((snapshot.lattice, snapshot.blocks), (lattice, Vec::new()));
}

pub async fn class_16_of_two_lists_made_from_one_exactly_one_is_the_next(f: &Fixture) {
    let next = |number, version| Commit {
        guards: vec![guard(RecordKey::RevocationList, version)],
        writes: vec![Write::RevocationList(number)],
        ..commit(at(0))
    };
    assert_eq!(f.record(RecordKey::RevocationList).await, None);
    let first = f.done(next(7, None)).await.origin.stamp;
    let newest = Record::RevocationList(7, first);
    assert_eq!(f.record(RecordKey::RevocationList).await, Some(newest.clone()));
    assert_eq!(newest.version(), first);
    let racing = [next(8, Some(first)), next(9, Some(first))].map(|commit| f.store.commit(commit));
    let racing = futures_util::future::join_all(racing).await;
    let done = racing.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Done(_)))).count();
    let stale = racing.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Stale(_)))).count();
    assert_eq!((done, stale), (1, 1), "{racing:?}");
    f.upkeep.prune(P, at(100_000_000)).await.unwrap();
    assert!(f.record(RecordKey::RevocationList).await.is_some(), "it has no end");
    f.done(begin(at(0), &task(1))).await;
}
