//! What a stream is sent, in which order, and when it is closed.

use super::*;
use crate::domain::id::{LeaseId, PartitionCount};
use crate::domain::lattice::Kill;
use crate::feed::testing::stamp;

const P: Partition = Partition(0);

fn kept(n: usize) -> Kept {
    let lease = LeaseId::new(P, u128::try_from(n).unwrap());
    Kept { kill: Kill::Lease(lease), until: stamp(1_000) }
}

fn kills(from: usize, count: usize) -> Vec<Kept> {
    (from..from + count).map(kept).collect()
}

fn at(seconds: u64) -> Origin {
    Origin { incarnation: stamp(1), stamp: stamp(seconds) }
}

fn memories(count: usize) -> BTreeMap<Partition, Memory> {
    let mut memory = Memory::default();
    for kept in kills(0, count) {
        memory.merge(kept);
    }
    [(P, memory)].into()
}

fn answer(sequence: u64) -> Answer {
    Answer { sequence, age: Span::ZERO, positions: [(P, at(9))].into(), store_time: stamp(9) }
}

/// A hub with one stream, of a verifier that joined when partition 0 was applied up to second 5.
fn joined() -> (Hub, StreamId) {
    let (mut hub, one) = (Hub::default(), PartitionCount::new(1).unwrap());
    let applied = [(P, at(5))].into();
    let wake = Arc::default();
    let id = hub.open(InstanceId::new(1), one.all(), &applied, wake);
    (hub, id)
}

fn drained(hub: &mut Hub, id: StreamId, memories: &BTreeMap<Partition, Memory>) -> Vec<Message> {
    let next = || match hub.next(id, memories) {
        Next::Message(message) => Some(message),
        Next::Nothing => None,
        Next::Overflowed | Next::Elsewhere => panic!("it is closed"),
    };
    std::iter::from_fn(next).collect()
}

fn told(messages: &[Message]) -> Vec<(usize, Option<Origin>)> {
    let told = |message: &Message| match message {
        Message::Revocations(batch) => (batch.kills.len(), batch.position),
        Message::Freshness(answer) => (0, answer.positions.get(&P).copied()),
    };
    messages.iter().map(told).collect()
}

#[test]
fn a_stream_begins_with_the_whole_set_and_its_position_comes_with_the_last_of_it() {
    let (mut hub, id) = joined();
    let memories = memories(BATCH_MOST + 3);
    let messages = drained(&mut hub, id, &memories);
    assert_eq!(told(&messages), [(BATCH_MOST, None), (3, Some(at(5)))]);
}

#[test]
fn what_comes_while_the_set_is_told_is_told_after_it() {
    let (mut hub, id) = joined();
    let mut memories = memories(BATCH_MOST + 3);
    assert!(matches!(hub.next(id, &memories), Next::Message(_)));
    // One that the walk is past: only the queue has it.
    let early = Kept { kill: Kill::Floor(stamp(1)), until: stamp(1_000) };
    memories.get_mut(&P).unwrap().merge(early);
    hub.publish(P, &[early], Some(at(6)));
    let messages = drained(&mut hub, id, &memories);
    assert_eq!(told(&messages), [(3, Some(at(5))), (1, Some(at(6)))]);
}

#[test]
fn rule_06_an_answer_comes_behind_the_set_and_every_event_before_it() {
    let (mut hub, id) = joined();
    let memories = memories(3);
    hub.publish(P, &kills(10, 2), Some(at(6)));
    hub.answer(id, answer(1));
    hub.publish(P, &kills(20, 4), Some(at(7)));
    let messages = drained(&mut hub, id, &memories);
    let expected = [(3, Some(at(5))), (2, Some(at(6))), (0, Some(at(9))), (4, Some(at(7)))];
    assert_eq!(told(&messages), expected);
}

#[test]
fn only_the_last_part_of_what_belongs_together_has_the_position() {
    let (mut hub, id) = joined();
    hub.publish(P, &kills(0, BATCH_MOST + 1), Some(at(6)));
    hub.publish(P, &[], Some(at(7)));
    hub.publish(P, &[], None);
    let messages = drained(&mut hub, id, &memories(0));
    let expected = [(0, Some(at(5))), (BATCH_MOST, None), (1, Some(at(6))), (0, Some(at(7)))];
    assert_eq!(told(&messages), expected);
}

#[test]
fn class_15_a_stream_that_does_not_keep_up_is_closed_and_holds_nothing() {
    let (mut hub, id) = joined();
    let half = kills(0, QUEUE_MOST / 2);
    assert_eq!(hub.publish(P, &half, Some(at(6))), 0);
    assert_eq!(hub.publish(P, &half, Some(at(7))), 1);
    assert_eq!(hub.publish(P, &half, Some(at(8))), 0, "it is closed once");
    assert!(!hub.answer(id, answer(1)));
    assert_eq!(hub.next(id, &memories(1)), Next::Overflowed);
    assert!(hub.streams.get(&id).unwrap().queue.is_empty());
}

fn sequences(messages: &[Message]) -> Vec<Option<u64>> {
    let sequence = |message: &Message| match message {
        Message::Revocations(_) => None,
        Message::Freshness(answer) => Some(answer.sequence),
    };
    messages.iter().map(sequence).collect()
}

#[test]
fn class_15_of_answers_that_nobody_takes_the_first_few_and_the_last_are_kept() {
    let (mut hub, id) = joined();
    let no_set = memories(0);
    assert_eq!(drained(&mut hub, id, &no_set).len(), 1);
    let asked = u64::try_from(QUEUE_MOST).unwrap();
    assert!(!(1..=asked).any(|n| hub.answer(id, answer(n))), "few are no burden");
    assert_eq!(hub.streams.get(&id).unwrap().queue.len(), ANSWERS_MOST);
    hub.publish(P, &kills(0, 1), Some(at(6)));
    for n in asked + 1..=asked + 9 {
        hub.answer(id, answer(n));
    }
    let told = sequences(&drained(&mut hub, id, &no_set));
    let [before, after] =
        [0, asked].map(|n| [1, 2, 3, if n == 0 { asked } else { 9 }].map(|i| Some(n + i)));
    assert_eq!(told, [&before[..], &[None], &after[..]].concat(), "and none overtakes an event");
    assert_eq!(hub.streams.get(&id).unwrap().queued, 0);
}

#[test]
fn class_15_who_only_asks_and_never_listens_is_closed_by_what_happens_meanwhile() {
    let (mut hub, id) = joined();
    let closed = (1_u64..)
        .take(QUEUE_MOST)
        .find(|n| hub.publish(P, &kills(0, 1), None) > 0 || hub.answer(id, answer(*n)));
    assert!(closed.is_some());
    assert_eq!(hub.next(id, &memories(1)), Next::Overflowed);
}

#[test]
fn class_15_the_set_does_not_count_as_behind() {
    let (mut hub, id) = joined();
    let memories = memories(QUEUE_MOST + BATCH_MOST);
    assert_eq!(hub.publish(P, &kills(0, QUEUE_MOST / 2), Some(at(6))), 0);
    let total: usize = told(&drained(&mut hub, id, &memories)).iter().map(|(n, _)| n).sum();
    assert_eq!(total, QUEUE_MOST + BATCH_MOST + QUEUE_MOST / 2);
}

#[test]
fn what_was_taken_makes_room() {
    let (mut hub, id) = joined();
    let memories = memories(0);
    for n in 0..8 {
        assert_eq!(hub.publish(P, &kills(0, QUEUE_MOST / 2), Some(at(6 + n))), 0);
        drained(&mut hub, id, &memories);
    }
}

#[test]
fn whoever_waits_for_a_stream_is_woken_by_what_comes_and_by_its_end() {
    use futures_util::FutureExt as _;
    let (mut hub, one) = (Hub::default(), PartitionCount::new(1).unwrap());
    let wake = Arc::<Notify>::default();
    let id = hub.open(InstanceId::new(1), one.all(), &Positions::new(), wake.clone());
    let is_woken = || wake.notified().now_or_never().is_some();
    hub.publish(P, &kills(0, 1), None);
    assert!(is_woken() && !is_woken());
    hub.answer(id, answer(1));
    assert!(is_woken());
    hub.publish(P, &kills(0, QUEUE_MOST), None);
    assert!(is_woken());
}
