//! One broker's feed, driven by hand.

use futures_util::FutureExt as _;

use super::*;
use crate::domain::feed::{Drift, VerifierRecord};
use crate::domain::id::{LeaseId, TaskId};
use crate::domain::lattice::{Fence, Lattice};
use crate::domain::principal::Name;
use crate::domain::scope::Scope;
use crate::feed::hub::Message;
use crate::feed::testing::{event, meta, page, stamp};
use crate::store::Continuity;

const P: Partition = Partition(0);
const ONE: InstanceId = InstanceId::new(1);
const DELTA_MAX: Span = Span::from_seconds(30);

fn at(seconds: u64) -> Present {
    let span = Span::from_seconds(seconds);
    Present { wall: stamp(1_000).plus(span), moment: Moment::new(span) }
}

fn position(seconds: u64) -> Origin {
    Origin { incarnation: stamp(1), stamp: stamp(seconds) }
}

fn up_to(seconds: u64) -> Positions {
    [(P, position(seconds))].into()
}

fn lease(n: u128) -> Entry {
    Entry::Lease(LeaseId::new(P, n))
}

fn core() -> Core {
    with_streams(2)
}

fn with_streams(streams_most: usize) -> Core {
    let identity =
        Identity { instance: InstanceId::new(9), name: "b".into(), address: String::new() };
    let terms = Terms { drift: Drift::DEFAULT, delta_max: DELTA_MAX };
    Core::new(identity, terms, PartitionCount::new(1).unwrap(), streams_most)
}

fn snapshot(entries: &[Entry], now: u64) -> Snapshot {
    let mut lattice = Lattice::default();
    entries.iter().for_each(|entry| lattice.merge(entry));
    Snapshot { meta: meta(1, now), records: vec![], lattice, blocks: vec![], raised: vec![] }
}

/// A broker that read one partition up to second 10, and registered at second 10 of its own clock.
fn registered() -> Core {
    let mut core = core();
    let head = Page {
        head: Some(crate::store::feed::position(&event(1, 5, vec![]))),
        ..page(meta(1, 10), Continuity::Broken)
    };
    assert!(core.page(P, head, at(9), at(9)).again);
    core.set(P, &snapshot(&[lease(1)], 10), at(9));
    let record = core.record(at(9)).unwrap();
    assert_eq!(record.beat, 1);
    core.confirmed(stamp(1), at(9), at(10));
    core
}

/// Reads that nothing, or something, happened since; sent at a second of the broker's clock.
fn read(core: &mut Core, sent: u64, now: u64, events: Vec<Recorded>) -> Step {
    core.page(P, page(meta(1, now), Continuity::Continued(events)), at(sent), at(sent))
}

fn verifier(instance: InstanceId, principal: &str) -> Subscriber {
    Subscriber { instance, name: "api".into(), principal: principal.into(), drains: false }
}

fn subscribed(core: &mut Core, now: u64) -> StreamId {
    core.subscribe(verifier(ONE, "a"), Arc::default(), at(now)).unwrap()
}

fn sent(core: &mut Core, stream: StreamId) -> Vec<Message> {
    let next = || match core.next(stream) {
        Next::Message(message) => Some(message),
        Next::Nothing | Next::Overflowed | Next::Elsewhere => None,
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn rule_01_a_view_is_as_old_as_the_sending_of_its_read() {
    let mut core = registered();
    let answer = page(meta(1, 20), Continuity::Continued(vec![]));
    core.confirmed(stamp(1), at(30), at(30));
    core.page(P, answer, at(20), at(25));
    assert_eq!(core.age(at(30)), Some(Span::from_seconds(10)));
}

#[test]
fn a_read_counts_only_while_the_partition_is_open_and_when_nothing_is_left() {
    for (open, more) in [(false, false), (true, true)] {
        let mut core = registered();
        let found = page(Meta { open, ..meta(1, 20) }, Continuity::Continued(vec![]));
        let step = core.page(P, Page { more, ..found }, at(20), at(20));
        assert!(!step.counted);
        assert_eq!(step.again, more);
        assert_eq!(core.age(at(20)), None);
        assert_eq!(core.record(at(20)).unwrap().applied, Positions::new());
    }
    let mut core = registered();
    assert!(read(&mut core, 20, 20, vec![]).counted);
    assert_eq!(core.record(at(20)).unwrap().applied, up_to(20));
}

#[test]
fn rule_02_what_was_read_before_the_registration_grants_nothing() {
    let mut core = registered();
    let stream = subscribed(&mut core, 10);
    assert_eq!(core.keep_alive(stream, 1, at(10)), Ok(None));
    read(&mut core, 9, 9, vec![]);
    assert_eq!(core.keep_alive(stream, 2, at(10)), Ok(None), "sent before it was confirmed");
    read(&mut core, 10, 10, vec![]);
    assert_eq!(core.keep_alive(stream, 3, at(10)), Ok(Some(Span::from_seconds(1))));
}

#[test]
fn a_broker_that_slept_unseen_by_its_monotonic_clock_answers_with_its_true_age_or_not_at_all() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 10);
    let woke = |wall: u64| Present { wall: at(wall).wall, ..at(10) };
    assert_eq!(core.keep_alive(stream, 1, woke(18)), Ok(Some(Span::from_seconds(9))));
    assert_eq!(core.keep_alive(stream, 2, woke(39)), Ok(None));
    // Its record may be gone: what it read before it wakes does not count.
    core.confirmed(stamp(1), woke(41), woke(41));
    assert_eq!(core.keep_alive(stream, 3, woke(41)), Ok(None));
    core.page(P, page(meta(1, 41), Continuity::Continued(vec![])), woke(41), woke(41));
    assert_eq!(core.keep_alive(stream, 4, woke(41)), Ok(Some(Span::ZERO)));
}

#[test]
fn a_wall_clock_that_steps_ahead_lets_nobody_be_waited_for_the_less() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    core.keep_alive(stream, 1, at(11)).unwrap();
    core.leave(stream, at(12));
    read(&mut core, 12, 12, vec![event(1, 12, vec![lease(2)])]);
    let stepped = Present { wall: at(3_600).wall, ..at(12) };
    assert!(core.acked(stepped).get(&P) < Some(&position(12)));
}

#[test]
fn rule_14_a_new_incarnation_of_partition_0_takes_the_registration_away() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    assert!(core.age(at(11)).is_some());
    core.page(P, page(meta(2, 20), Continuity::Broken), at(11), at(11));
    assert!(!core.is_registered());
    core.confirmed(stamp(1), at(11), at(12));
    assert!(!core.is_registered(), "a late answer of the earlier one registers nothing");
}

#[test]
fn rule_19_over_another_store_nothing_is_granted_and_every_stream_ends_until_the_first_one_is_back()
{
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let wake = Arc::<Notify>::default();
    let stream = core.subscribe(verifier(ONE, "a"), wake.clone(), at(10)).unwrap();
    assert!(core.age(at(10)).is_some());
    assert!(core.went_elsewhere());
    assert!(!core.went_elsewhere(), "that is said once");
    assert!(wake.notified().now_or_never().is_some());
    assert_eq!(core.next(stream), Next::Elsewhere);
    assert!(!core.is_registered());
    assert_eq!(core.keep_alive(stream, 1, at(10)), Ok(None));
    let other = core.subscribe(verifier(InstanceId::new(2), "a"), Arc::default(), at(10));
    assert_eq!(other, Err(Misuse::Elsewhere(Elsewhere)));
    read(&mut core, 11, 11, vec![]);
    assert_eq!(core.age(at(11)), None, "an answer from before");

    core.confirmed(stamp(1), at(12), at(12));
    assert_eq!(core.age(at(12)), None, "nothing was read since");
    read(&mut core, 12, 12, vec![]);
    core.subscribe(verifier(InstanceId::new(2), "a"), Arc::default(), at(12)).unwrap();
    assert!(matches!(core.next(stream), Next::Message(_)));
    assert_eq!(core.keep_alive(stream, 2, at(12)), Ok(Some(Span::ZERO)));
    assert!(core.went_elsewhere());
}

#[test]
fn a_subscriber_is_sent_the_set_then_what_is_read_and_then_the_answer() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    let step = read(&mut core, 12, 12, vec![event(1, 12, vec![lease(2)])]);
    assert!(step.kills && step.counted);
    core.keep_alive(stream, 7, at(13)).unwrap();
    let messages = sent(&mut core, stream);
    let [Message::Revocations(set), Message::Revocations(news), Message::Freshness(answer)] =
        messages.as_slice()
    else {
        panic!("{messages:?}")
    };
    // What came since may come twice; its position comes behind it.
    assert_eq!((set.kills.len(), set.position), (2, Some(position(10))));
    assert_eq!((news.kills.len(), news.position), (1, Some(position(12))));
    assert_eq!((answer.sequence, &answer.positions), (7, &up_to(12)));
    assert_eq!(answer.age, Span::from_seconds(4), "the beat's");
}

#[test]
fn what_the_broker_committed_itself_is_sent_at_once_and_acknowledged_when_it_was_read() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    sent(&mut core, stream);
    let fence = Entry::Fence(TaskId::new(P, 1), Fence::ended());
    core.recorded(position(12), P, std::slice::from_ref(&fence));
    let early = sent(&mut core, stream);
    let [Message::Revocations(batch)] = early.as_slice() else { panic!("{early:?}") };
    assert_eq!((batch.kills.len(), batch.position), (1, None));
    read(&mut core, 12, 12, vec![event(1, 12, vec![fence])]);
    let later = sent(&mut core, stream);
    let [Message::Revocations(batch)] = later.as_slice() else { panic!("{later:?}") };
    assert_eq!(batch.position, Some(position(12)), "though it is no news");
}

#[test]
fn a_watermark_of_ones_own_has_the_origin_of_its_commit() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    sent(&mut core, stream);
    let scope = Scope::Class(Name::parse("finance").unwrap());
    let draft = Entry::Watermark(scope.clone(), Origin::default());
    core.recorded(position(12), P, &[draft]);
    let messages = sent(&mut core, stream);
    let [Message::Revocations(batch)] = messages.as_slice() else { panic!("{messages:?}") };
    let [kept] = batch.kills.as_slice() else { panic!("{batch:?}") };
    assert_eq!(kept.kill, Kill::Watermark(scope.reach(), position(12)));
}

#[test]
fn kills_of_a_part_are_sent_at_once_and_their_position_with_the_last_part() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    sent(&mut core, stream);
    let first = page(meta(1, 13), Continuity::Continued(vec![event(1, 12, vec![lease(2)])]));
    core.page(P, Page { more: true, ..first }, at(12), at(12));
    let rest = read(&mut core, 13, 13, vec![event(1, 13, vec![])]);
    assert!(rest.kills, "whoever waits for the beat is told");
    let positions: Vec<_> = sent(&mut core, stream)
        .iter()
        .map(|message| match message {
            Message::Revocations(batch) => batch.position,
            Message::Freshness(_) => panic!("nobody asked"),
        })
        .collect();
    assert_eq!(positions, [None, Some(position(13))]);
}

#[test]
fn a_verifier_that_was_answered_holds_the_broker_up_until_it_acknowledges() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    core.keep_alive(stream, 1, at(11)).unwrap();
    read(&mut core, 12, 12, vec![event(1, 12, vec![lease(2)])]);
    assert!(core.acked(at(13)).get(&P) < Some(&position(12)));
    core.acknowledge(stream, &up_to(12), &Positions::new()).unwrap();
    assert_eq!(core.acked(at(13)), up_to(12));
}

#[test]
fn rule_04_a_verifier_that_left_is_waited_for_until_its_freshness_has_lapsed() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    core.keep_alive(stream, 1, at(11)).unwrap();
    core.leave(stream, at(12));
    read(&mut core, 12, 12, vec![event(1, 12, vec![lease(2)])]);
    assert!(core.acked(at(41)).get(&P) < Some(&position(12)));
    assert_eq!(core.acked(at(42)), up_to(12));
    assert!(core.record(at(42)).unwrap().verifiers.is_empty());
}

#[test]
fn class_20_nobody_acknowledges_what_was_never_sent_nor_for_another() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    let (future, other) = (up_to(11), [(Partition(1), position(1))].into());
    for wrong in [&future, &other] {
        let refused = core.acknowledge(stream, wrong, &Positions::new());
        assert!(matches!(refused, Err(Misuse::NeverSent(_))), "{refused:?}");
        let refused = core.acknowledge(stream, &Positions::new(), wrong);
        assert!(matches!(refused, Err(Misuse::NeverSent(_))), "{refused:?}");
    }
    let taken = core.subscribe(verifier(ONE, "b"), Arc::default(), at(11));
    assert_eq!(taken, Err(Misuse::InstanceTaken));
}

#[test]
fn class_03_the_registry_tells_two_principals_with_one_instance_apart() {
    let runs = |principal| {
        let mut core = registered();
        core.subscribe(verifier(ONE, principal), Arc::default(), at(11)).unwrap();
        let record = core.record(at(12)).unwrap();
        record.verifiers.iter().map(VerifierRecord::run).collect::<Vec<_>>()
    };
    assert_eq!(runs("a"), [(ONE, Owner::of("a"))]);
    assert_ne!(runs("a"), runs("b"), "at two brokers");
}

#[test]
fn class_15_streams_and_runs_have_a_number() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let mut join = |n: u128| {
        let verifier = verifier(InstanceId::new(n), "a");
        core.subscribe(verifier, Arc::default(), at(11)).map(|stream| (stream, n))
    };
    let first = join(1).unwrap().0;
    join(2).unwrap();
    assert_eq!(join(3), Err(Misuse::Full(2)));
    core.leave(first, at(11));
    let runs = (3..20).take_while(|n| {
        let joined = core.subscribe(verifier(InstanceId::new(*n), "a"), Arc::default(), at(11));
        let Ok(stream) = joined else { return false };
        core.keep_alive(stream, 1, at(11)).unwrap();
        core.leave(stream, at(11));
        true
    });
    assert_eq!(runs.count(), 2 * RUNS_PER_STREAM - 1, "with the one that stays");
    // Those that no answer can keep fresh any more make room, and their names are anybody's.
    core.subscribe(verifier(InstanceId::new(3), "b"), Arc::default(), at(42)).unwrap();
}

#[test]
fn class_15_one_principal_that_takes_all_streams_it_can_keeps_no_other_out() {
    let mut core = with_streams(100);
    let mut join = |n: u128, principal: &str| {
        let verifier = verifier(InstanceId::new(n), principal);
        core.subscribe(verifier, Arc::default(), at(11)).map(drop)
    };
    for n in 0..25 {
        assert_eq!(join(n, "a"), Ok(()), "{n}");
    }
    assert_eq!(join(25, "a"), Err(Misuse::Greedy(25)));
    assert_eq!(join(26, "b"), Ok(()));
}

#[test]
fn keep_alives_are_numbered_upward() {
    let mut core = registered();
    let stream = subscribed(&mut core, 11);
    core.keep_alive(stream, 4, at(11)).unwrap();
    for sequence in [4, 3] {
        let refused = core.keep_alive(stream, sequence, at(11));
        assert_eq!(refused, Err(Misuse::SequenceNotRaised));
    }
}

#[test]
fn the_floor_is_told_though_no_event_tells_it() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    sent(&mut core, stream);
    let raised = Meta { floor: stamp(1), ..meta(1, 12) };
    core.page(P, page(raised, Continuity::Continued(vec![])), at(12), at(12));
    let messages = sent(&mut core, stream);
    let [Message::Revocations(batch)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(batch.kills, [Kept { kill: Kill::Floor(stamp(1)), until: INFINITY }]);
}

#[test]
fn a_blocked_scope_is_known_from_the_set_and_from_events_until_it_is_lifted() {
    let scope = Scope::Class(Name::parse("finance").unwrap());
    let mut core = core();
    core.page(P, page(meta(1, 10), Continuity::Broken), at(9), at(9));
    core.set(P, &snapshot(&[Entry::Block(scope.clone(), 1)], 10), at(9));
    assert!(core.is_blocked(&[scope.reach()]));
    read(&mut core, 12, 12, vec![event(1, 12, vec![Entry::Block(scope.clone(), 2)])]);
    assert!(!core.is_blocked(&[scope.reach()]));
}

/// What a new subscriber is told of partition 0's set.
fn told_anew(core: &mut Core, n: u128, now: u64) -> Vec<Kill> {
    let stream = core.subscribe(verifier(InstanceId::new(n), "a"), Arc::default(), at(now));
    let messages = sent(core, stream.unwrap());
    let [Message::Revocations(set)] = messages.as_slice() else { panic!("{messages:?}") };
    set.kills.iter().map(|kept| kept.kill).collect()
}

fn lease_over(n: u128) -> Kill {
    Kill::Lease(LeaseId::new(P, n))
}

#[test]
fn a_set_that_is_loaded_anew_is_told_at_once_and_its_position_by_the_next_read() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    sent(&mut core, stream);
    let lost = core.page(P, page(meta(1, 12), Continuity::Broken), at(12), at(12));
    assert!(lost.gap && lost.again, "what happened meanwhile is read as a set, and not as events");
    let step = core.set(P, &snapshot(&[lease(1), lease(2)], 12), at(12));
    assert!(step.kills);
    let step = read(&mut core, 13, 13, vec![]);
    assert!(step.kills && step.counted, "whoever waits for the beat is told");
    let told: Vec<_> = sent(&mut core, stream)
        .into_iter()
        .map(|message| match message {
            Message::Revocations(batch) => (batch.kills.len(), batch.position),
            Message::Freshness(_) => panic!("nobody asked"),
        })
        .collect();
    assert_eq!(told, [(1, None), (0, Some(position(13)))]);
}

#[test]
fn the_floor_that_came_with_a_part_is_applied_with_the_last_part() {
    let mut core = registered();
    read(&mut core, 10, 10, vec![]);
    let stream = subscribed(&mut core, 11);
    sent(&mut core, stream);
    let raised = Meta { floor: stamp(1), ..meta(1, 12) };
    let part = page(raised, Continuity::Continued(vec![]));
    core.page(P, Page { more: true, ..part.clone() }, at(12), at(12));
    core.page(P, part, at(12), at(12));
    let messages = sent(&mut core, stream);
    let [Message::Revocations(floor), Message::Revocations(rest)] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    assert_eq!((floor.kills.len(), floor.position), (1, None));
    assert_eq!((rest.kills.len(), rest.position), (0, Some(position(12))));
}

#[test]
fn what_can_hit_nothing_any_more_is_forgotten_and_the_living_incarnation_never_is() {
    let living = Entry::End(stamp(1), INFINITY);
    for by_set in [true, false] {
        let mut core = registered();
        let entries = vec![living.clone(), lease(2)];
        if by_set {
            core.page(P, page(meta(1, 10), Continuity::Broken), at(9), at(9));
            core.set(P, &snapshot(&entries, 10), at(9));
            read(&mut core, 10, 10, vec![]);
        } else {
            read(&mut core, 10, 10, vec![event(1, 10, entries)]);
        }
        let end = Kill::End(stamp(1), INFINITY);
        assert_eq!(told_anew(&mut core, 2, 11), [end, lease_over(1), lease_over(2)]);
        read(&mut core, 12, 1_001, vec![]);
        assert_eq!(told_anew(&mut core, 3, 13), [end], "{by_set}");
    }
}

/// Its commit does not say until when it matters: as long as any credential may live, and until a page says it in any case.
#[test]
fn what_the_broker_committed_itself_is_kept_until_a_page_says_for_how_long() {
    for (max_expiry, kept_at) in [(stamp(1_000), 999), (stamp(0), 71)] {
        let mut core = core();
        let at_10 = Meta { max_expiry, ..meta(1, 10) };
        core.page(P, page(at_10, Continuity::Broken), at(9), at(9));
        core.set(P, &Snapshot { meta: at_10, ..snapshot(&[], 10) }, at(9));
        core.recorded(position(12), P, &[lease(3)]);
        let later = Meta { max_expiry, ..meta(1, kept_at) };
        core.page(P, page(later, Continuity::Continued(vec![])), at(12), at(12));
        assert_eq!(told_anew(&mut core, 2, 13), [lease_over(3)], "{max_expiry:?}");
    }
}

#[test]
fn rule_14_a_registry_of_an_earlier_incarnation_is_none() {
    let mut core = registered();
    assert_eq!(
        core.registry_known(stamp(1), at(11)),
        Some(at(9).moment),
        "since it was first seen"
    );
    assert_eq!(core.registry_known(stamp(2), at(12)), Some(at(12).moment));
    assert_eq!(core.registry_known(stamp(1), at(13)), None);
}

#[test]
fn the_store_s_time_that_verifiers_are_told_does_not_go_back() {
    let mut core = registered();
    read(&mut core, 10, 20, vec![]);
    let stream = subscribed(&mut core, 11);
    read(&mut core, 12, 15, vec![]);
    core.keep_alive(stream, 1, at(12)).unwrap();
    let messages = sent(&mut core, stream);
    let Some(Message::Freshness(answer)) = messages.last() else { panic!("{messages:?}") };
    assert_eq!(answer.store_time, stamp(20));
}
