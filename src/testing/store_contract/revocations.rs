//! Claims about the revocation set.

#![allow(missing_docs, reason = "the name of a test is what it claims")]

use crate::domain::lattice::{Dead, Entry, Fence, Lattice};
use crate::domain::path::{Counter, Origin};
use crate::domain::scope::Reach;
use crate::domain::time::{INFINITY, Span, Stamp};
use crate::store::{Commit, Denial, Entries, Snapshot};
use crate::testing::store_contract::Fixture;
use crate::testing::store_contract::samples::{
    P, at, commit, draft, issue, kill, lease, lease_id, scope, task_id,
};

fn fence(task: u128, epoch: u64, branch: u64) -> Entry {
    let fence = Fence { epoch: Counter::new(epoch), branch: Counter::new(branch) };
    Entry::Fence(task_id(task), fence)
}

/// The set as it was, and these.
fn with(before: &Lattice, entries: &[Entry]) -> Lattice {
    let mut lattice = before.clone();
    entries.iter().for_each(|entry| lattice.merge(entry));
    lattice
}

impl Fixture {
    async fn set(&self) -> Lattice {
        self.snapshot(Vec::new(), Entries::All).await.lattice
    }
}

pub async fn class_07_entries_move_one_way_only(f: &Fixture) {
    let empty = f.set().await;
    f.done(kill(at(0), vec![fence(1, 2, 3)])).await;
    f.done(kill(at(1), vec![fence(1, 3, 2)])).await;
    assert_eq!(f.set().await, with(&empty, &[fence(1, 3, 3)]), "the larger of each counter");
    f.done(kill(at(2), vec![fence(1, 1, 1)])).await;
    assert_eq!(f.set().await, with(&empty, &[fence(1, 3, 3)]));
    f.done(kill(at(3), vec![fence(2, 2, 1), fence(2, 1, 2)])).await;
    assert_eq!(f.set().await, with(&empty, &[fence(1, 3, 3), fence(2, 2, 2)]), "in one commit too");
}

pub async fn class_06_the_fence_of_an_ended_task_is_final(f: &Fixture) {
    let receipt = f.done(issue(at(0), &draft(1, 1), 60)).await;
    let lease = lease(draft(1, 1), receipt);
    let reach = lease.full_reach();
    assert_eq!(f.set().await.judge(&lease.facts(&reach)), Ok(()));
    f.done(kill(at(1), vec![Entry::Fence(task_id(1), Fence::ended())])).await;
    f.done(kill(at(2), vec![fence(1, 1, 1)])).await;
    assert_eq!(f.set().await.judge(&lease.facts(&reach)), Err(Dead::Fenced));
}

pub async fn a_watermark_takes_the_origin_of_its_commit(f: &Fixture) {
    let empty = f.set().await;
    let forged = Origin { incarnation: INFINITY, stamp: INFINITY };
    let mark = |origin| Entry::Watermark(scope("all"), origin);
    let first = f.done(kill(at(0), vec![mark(forged)])).await.origin;
    assert_eq!(f.set().await, with(&empty, &[mark(first)]), "whatever the draft says");
    let second = f.done(kill(at(1), vec![mark(Origin::default())])).await.origin;
    assert_eq!(f.set().await, with(&empty, &[mark(second)]));
    assert!(second > first);
}

pub async fn blocks_count_upward(f: &Fixture) {
    let scope = scope("class:finance");
    for (count, stands) in [(0, 0), (1, 1), (1, 1), (4, 4), (3, 4), (5, 5)] {
        f.done(kill(at(0), vec![Entry::Block(scope.clone(), count)])).await;
        let snapshot = f.snapshot(Vec::new(), Entries::All).await;
        assert_eq!(snapshot.lattice.block_count(&scope), stands);
        assert_eq!(snapshot.blocks, [(scope.clone(), stands)]);
    }
}

pub async fn a_reader_gets_what_can_hit_it_and_nothing_else(f: &Fixture) {
    let empty = f.set().await;
    let (class, all) = (scope("class:finance"), scope("all"));
    let block = |scope: &crate::domain::scope::Scope| Entry::Block(scope.clone(), 1);
    let mark =
        |scope: &crate::domain::scope::Scope, origin| Entry::Watermark(scope.clone(), origin);
    let over = |number| Entry::Lease(lease_id(number));
    let zero = Origin::default();
    let origin = f
        .done(kill(
            at(0),
            vec![
                fence(1, 2, 2),
                fence(2, 2, 2),
                block(&class),
                block(&all),
                mark(&class, zero),
                mark(&all, zero),
                over(1),
                over(2),
            ],
        ))
        .await
        .origin;
    let hitting = |tasks: &[u128], reach: &[Reach], lease: Option<u128>| Entries::Hitting {
        tasks: tasks.iter().map(|number| task_id(*number)).collect(),
        reach: reach.to_vec(),
        lease: lease.map(lease_id),
    };
    let lattice = |snapshot: Snapshot| (snapshot.lattice, snapshot.blocks);
    let read = async |entries| lattice(f.snapshot(Vec::new(), entries).await);
    let expected = |entries: &[Entry]| (with(&empty, entries), Vec::new());
    assert_eq!(read(Entries::None).await, expected(&[]));
    assert_eq!(read(hitting(&[], &[], None)).await, expected(&[]));
    assert_eq!(read(hitting(&[1, 9], &[], None)).await, expected(&[fence(1, 2, 2)]));
    let of_class = [block(&class), mark(&class, origin)];
    assert_eq!(read(hitting(&[], &[class.reach()], None)).await, expected(&of_class));
    assert_eq!(read(hitting(&[], &[], Some(2))).await, expected(&[over(2)]));
    assert_eq!(read(hitting(&[], &[], Some(3))).await, expected(&[]));
}

pub async fn every_entry_and_the_blocks_come_with_the_whole_set(f: &Fixture) {
    let empty = f.set().await;
    let entries = vec![
        fence(1, 2, 2),
        Entry::Block(scope("tier:standard"), 1),
        Entry::Block(scope("principal:spiffe://prod.example/a"), 3),
        Entry::Block(scope("class:lifted"), 2),
        Entry::Lease(lease_id(1)),
    ];
    f.done(kill(at(0), entries.clone())).await;
    let snapshot = f.snapshot(Vec::new(), Entries::All).await;
    assert_eq!(snapshot.lattice, with(&empty, &entries));
    let block = |text, count| (scope(text), count);
    let blocks = [
        block("principal:spiffe://prod.example/a", 3),
        block("class:lifted", 2),
        block("tier:standard", 1),
    ];
    assert_eq!(snapshot.blocks, blocks);
    assert_eq!(snapshot.lattice.living(), Some(snapshot.meta.incarnation));
    let alone = f.snapshot(Vec::new(), Entries::Blocks).await;
    let are_blocks = |entry: &&Entry| matches!(entry, Entry::Block(..));
    let entries: Vec<_> = entries.iter().filter(are_blocks).cloned().collect();
    assert_eq!((alone.lattice, alone.blocks), (with(&empty, &entries), snapshot.blocks));
}

pub async fn as_many_scopes_as_anyone_blocks_are_read(f: &Fixture) {
    let blocks: Vec<_> = (0..9_000).map(|n| (scope(&format!("class:c{n}")), 1)).collect();
    for some in blocks.chunks(500) {
        let entries = some.iter().map(|(scope, count)| Entry::Block(scope.clone(), *count));
        f.done(kill(at(0), entries.collect())).await;
    }
    let snapshot = f.snapshot(Vec::new(), Entries::Blocks).await;
    assert_eq!(snapshot.blocks.len(), blocks.len());
    assert!(blocks.iter().all(|(scope, _)| snapshot.lattice.block_count(scope) == 1));
}

pub async fn class_07_an_entry_is_kept_until_the_last_credential_it_could_hit_is_over(f: &Fixture) {
    let empty = f.set().await;
    f.done(issue(at(0), &draft(1, 1), 300)).await;
    let entries = [
        fence(1, 2, 2),
        Entry::Watermark(scope("all"), Origin::default()),
        Entry::Lease(lease_id(1)),
    ];
    let origin = f.done(kill(at(1), entries.to_vec())).await.origin;
    let [fence, _, over] = entries;
    let made = with(&empty, &[fence, Entry::Watermark(scope("all"), origin), over]);
    let last_moment = at(300).minus(Span::from_micros(1));
    for time in [at(2), at(299), last_moment] {
        f.upkeep.prune(P, time).await.unwrap();
        assert_eq!(f.set().await, made, "{time}");
    }
    f.upkeep.prune(P, at(301)).await.unwrap();
    assert_eq!(f.set().await, empty);
}

pub async fn class_07_an_entry_that_is_made_again_is_kept_for_later_credentials_too(f: &Fixture) {
    let empty = f.set().await;
    f.done(issue(at(0), &draft(1, 1), 300)).await;
    f.done(kill(at(1), vec![fence(1, 2, 2), fence(2, 2, 2)])).await;
    f.done(issue(at(200), &draft(2, 2), 300)).await;
    f.done(kill(at(201), vec![fence(1, 1, 1)])).await;
    f.upkeep.prune(P, at(400)).await.unwrap();
    assert_eq!(f.set().await, with(&empty, &[fence(1, 2, 2)]));
    f.upkeep.prune(P, at(501)).await.unwrap();
    assert_eq!(f.set().await, empty);
}

pub async fn class_07_a_shorter_credential_does_not_shorten_what_is_kept(f: &Fixture) {
    let empty = f.set().await;
    f.done(issue(at(0), &draft(1, 1), 300)).await;
    f.done(issue(at(1), &draft(2, 1), 60)).await;
    f.done(kill(at(2), vec![fence(1, 2, 2)])).await;
    f.upkeep.prune(P, at(299)).await.unwrap();
    assert_eq!(f.set().await, with(&empty, &[fence(1, 2, 2)]));
}

pub async fn class_07_blocks_and_the_living_incarnation_are_never_dropped(f: &Fixture) {
    let empty = f.set().await;
    let blocks = [Entry::Block(scope("all"), 1), Entry::Block(scope("class:finance"), 2)];
    f.done(kill(at(0), blocks.to_vec())).await;
    f.upkeep.prune(P, at(1_000_000_000)).await.unwrap();
    let snapshot = f.snapshot(Vec::new(), Entries::All).await;
    assert_eq!(snapshot.lattice, with(&empty, &blocks));
    assert_eq!(snapshot.lattice.living(), Some(snapshot.meta.incarnation));
    assert!(f.done(commit(Stamp::ZERO)).await.origin.stamp > at(1_000_000_000));
}

/// Whoever has the key writes the origin and the expiry.
pub async fn class_06_the_watermark_of_a_signing_key_is_never_dropped_and_reaches_every_origin(
    f: &Fixture,
) {
    let empty = f.set().await;
    let key = scope("key:9f86d081");
    f.done(issue(at(0), &draft(1, 1), 300)).await;
    let mark = |origin| Entry::Watermark(key.clone(), origin);
    let made = f.done(kill(at(1), vec![mark(Origin::default())])).await.origin;
    let raised = async || {
        let reach = vec![key.reach()];
        let entries = Entries::Raised { tasks: vec![], reach, leases: vec![] };
        let raised = f.snapshot(Vec::new(), entries).await.raised;
        let is_mark = |(entry, _): &(Entry, Stamp)| matches!(entry, Entry::Watermark(..));
        raised.into_iter().filter(is_mark).collect::<Vec<_>>()
    };
    assert_eq!(raised().await, [(mark(made), made.stamp)], "when it was made is known");
    f.upkeep.prune(P, at(1_000_000_000)).await.unwrap();
    assert_eq!(f.set().await, with(&empty, &[mark(made)]));
    assert_eq!(f.set().await.watermark(&key), Some(Origin::INFINITY));
    let again = f.done(kill(Stamp::ZERO, vec![mark(Origin::default())])).await.origin;
    f.upkeep.prune(P, at(1_100_000_000)).await.unwrap();
    assert_eq!(raised().await, [(mark(again), again.stamp)]);
    let later = Origin { stamp: again.stamp.plus(Span::from_seconds(60)), ..again };
    let renewed = Commit { unmarked: Some((vec![key.reach()], later)), ..commit(Stamp::ZERO) };
    assert_eq!(f.denied(renewed).await, Some(Denial::Quarantined));
}
