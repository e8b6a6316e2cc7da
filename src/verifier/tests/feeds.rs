//! What comes over the stream, and what goes back.

use super::*;
use crate::domain::lattice::Dead;

/// Another than [`INCARNATION`].
pub(super) const OTHER_STORE: u64 = INCARNATION + 1;

#[test]
fn rule_06_an_answer_makes_fresh_only_what_came_before_it_on_the_stream() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.stream.keep_alive(at(3_000)).unwrap();
    bench.stream.receive(revoked(1, [fence(2, 4, 1)], Some(60_000)), at(3_100)).unwrap();
    bench.stream.receive(freshness(2, Span::ZERO, &[]), at(3_100)).unwrap();
    assert!(bench.check(&token, at(4_999)).is_ok(), "nothing is swapped before it is settled");
    assert!(bench.check(&token, at(5_000)).is_err(), "neither is the freshness");
    bench.stream.settle(at(5_000)).unwrap();
    assert!(matches!(bench.check(&token, at(5_000)), Err(Refused::Dead(_))));
}

#[test]
fn rule_12_a_delay_on_the_way_makes_no_view_younger() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.beat(at(1_000), Span::ZERO, at(9_000));
    assert!(bench.check(&token, at(5_999)).is_ok());
    assert!(bench.check(&token, at(6_000)).is_err());
}

#[test]
fn an_answer_to_another_keep_alive_makes_nothing_fresh() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.stream.keep_alive(at(4_000)).unwrap();
    for sequence in [0, 1, 3, u64::MAX] {
        bench.stream.receive(freshness(sequence, Span::ZERO, &[]), at(4_600)).unwrap();
    }
    bench.stream.settle(at(4_600));
    assert!(bench.check(&token, at(5_000)).is_err());
}

#[test]
fn a_keep_alive_waits_for_no_other_and_each_counts_from_when_it_was_sent_itself() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    for sent in [1_000, 1_200, 1_400, 1_600] {
        bench.stream.keep_alive(at(sent)).unwrap();
    }
    bench.stream.receive(freshness(3, Span::ZERO, &[]), at(5_500)).unwrap();
    bench.stream.settle(at(5_500));
    assert!(bench.check(&token, at(6_199)).is_ok());
    assert!(bench.check(&token, at(6_200)).is_err(), "the later ones are open");
    bench.stream.receive(freshness(5, Span::ZERO, &[]), at(6_200)).unwrap();
    bench.stream.settle(at(6_200));
    assert!(bench.check(&token, at(6_599)).is_ok());
    assert!(bench.check(&token, at(6_600)).is_err());
    bench.stream.receive(freshness(4, Span::ZERO, &[]), at(6_600)).unwrap();
    bench.stream.settle(at(6_600));
    assert!(bench.check(&token, at(6_600)).is_err(), "answers come in order, and once");
}

#[test]
fn class_07_a_broker_that_answered_nothing_for_a_while_makes_fresh_by_its_first_answer() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    // The first is number 2, and nothing is answered until the one of 20 s arrives.
    for tick in 1..=100 {
        bench.stream.keep_alive(at(tick * 200)).unwrap();
    }
    assert!(bench.check(&token, at(20_000)).is_err());
    bench.stream.receive(freshness(101, Span::ZERO, &[]), at(20_100)).unwrap();
    bench.stream.settle(at(20_100));
    assert!(bench.check(&token, at(24_999)).is_ok());
    assert!(bench.check(&token, at(25_000)).is_err());
}

#[test]
fn class_07_a_way_that_takes_longer_than_many_keep_alives_keeps_a_view_fresh_nonetheless() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    // Each arrives half a second later and is answered, after a stall of the broker, half a second later still.
    let (stalled_until, way) = (10_000, 1_000);
    for now in (200..30_000).step_by(200) {
        bench.stream.keep_alive(at(now)).unwrap();
        let sent = now.saturating_sub(way);
        if sent >= stalled_until {
            let sequence = sent / 200 + 1;
            bench.stream.receive(freshness(sequence, Span::ZERO, &[]), at(now)).unwrap();
            bench.stream.settle(at(now));
        }
        if sent >= stalled_until + 2 * way {
            assert!(bench.check(&token, at(now)).is_ok(), "{now}");
        }
    }
}

#[test]
fn a_connection_on_which_nothing_is_answered_for_as_long_as_delta_max_is_given_up() {
    let mut bench = Bench::fresh();
    bench.stream.keep_alive(at(1_000)).unwrap();
    for tick in 6..200 {
        bench.stream.keep_alive(at(tick * 200)).unwrap();
        assert_eq!(bench.stream.is_silent(at(tick * 200)), tick * 200 > 31_000, "{tick}");
    }
    bench.stream.receive(freshness(100, Span::ZERO, &[]), at(40_000)).unwrap();
    assert!(!bench.stream.is_silent(at(40_000)), "it answers");
}

#[test]
fn what_is_acknowledged_is_what_checks_go_by() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.stream.receive(revoked(1, [fence(2, 4, 1)], None), at(0)).unwrap();
    let first = bench.stream.settle(at(0));
    assert_eq!(first, None, "there is more to come before the partition is anywhere");
    let acknowledged = bench.tell(vec![], 60_000).unwrap();
    assert_eq!(acknowledged.applied, [position(0, 0), position(1, 60_000)]);
    assert_eq!(acknowledged.drained, acknowledged.applied);
    assert!(matches!(bench.check(&token, at(0)), Err(Refused::Dead(_))));
    assert_eq!(bench.tell(vec![], 60_000), None, "nothing new");
}

#[test]
fn a_partition_that_did_not_move_is_not_acknowledged_again() {
    let mut bench = Bench::fresh();
    bench.stream.receive(revoked(1, [], Some(60_000)), at(0)).unwrap();
    let moved = vec![position(1, 60_000)];
    let news = Acknowledgement { applied: moved.clone(), drained: moved };
    let said = bench.stream.settle(at(0)).and_then(|request| request.message);
    assert_eq!(said, Some(Say::Acknowledgement(news)));
}

/// A message about one partition that says how far another one is.
fn with_position_of(partition: u32, other: u32) -> WatchRevocationsResponse {
    let position = Some(position(other, 60_000));
    heard(Heard::Revocations(Revocations { partition, entries: vec![], position }))
}

#[test]
fn class_01_what_is_not_understood_ends_the_connection_and_is_not_acknowledged() {
    let unset = RevocationEntry { entry: None, keep_until: 0 };
    let of_later_kind =
        Revocations { partition: 1, entries: vec![unset], position: Some(position(1, 60_000)) };
    let elsewhere = Entry::Fence(TaskFence {
        task_id: TaskId::new(Partition(0), 1).to_string(),
        epoch: 1,
        branch: 1,
    });
    let short = Entry::Watermark(ScopeWatermark { reach: vec![0; 15], incarnation: 1, stamp: 1 });
    let too_large = Entry::Floor(1 << 53);
    for wrong in [
        WatchRevocationsResponse { message: None },
        heard(Heard::Revocations(of_later_kind)),
        revoked(2, [], Some(1)),
        revoked(256, [], Some(1)),
        revoked(1, [elsewhere], Some(1)),
        revoked(1, [short], Some(1)),
        revoked(1, [too_large], Some(1)),
        revoked(1, [Entry::LeaseId("lse_x".to_owned())], Some(1)),
        revoked(1, [fence(1, 0, 1)], Some(1)),
        freshness(1, Span::ZERO, &[position(2, 1)]),
        subscribed(),
        with_position_of(1, 0),
    ] {
        let mut bench = Bench::fresh();
        assert!(bench.stream.receive(wrong.clone(), at(0)).is_err(), "{wrong:?}");
        assert_eq!(bench.stream.settle(at(0)), None, "{wrong:?}");
    }
}

#[test]
fn class_07_an_answer_before_every_partition_was_sent_is_no_answer() {
    let mut bench = Bench::subscribed();
    let living = incarnation(INCARNATION, INFINITY.micros());
    bench.stream.receive(revoked(1, [living], Some(0)), at(0)).unwrap();
    bench.stream.keep_alive(at(0)).unwrap();
    let answer = bench.stream.receive(freshness(1, Span::ZERO, &[]), at(0));
    assert_eq!(answer, Err(StreamError::Incomplete));
}

#[test]
fn what_two_brokers_send_is_merged_and_the_younger_answer_counts() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    let (mut other, _) = Stream::open(Arc::clone(bench.checker.mirror()), "ledger");
    other.receive(subscribed(), at(0)).unwrap();
    other.receive(revoked(0, [], Some(0)), at(0)).unwrap();
    other.receive(revoked(1, [], Some(0)), at(0)).unwrap();
    other.keep_alive(at(4_000)).unwrap();
    other.receive(freshness(1, Span::ZERO, &[]), at(4_000)).unwrap();
    other.settle(at(4_000));
    bench.beat(at(4_100), Span::from_seconds(4), at(4_100));
    assert!(bench.check(&token, at(8_999)).is_ok());
    other.receive(revoked(1, [fence(1, 1, 6)], Some(70_000)), at(4_000)).unwrap();
    other.settle(at(4_000));
    bench.tell(vec![fence(1, 1, 5)], 60_000);
    assert!(bench.check(&token, at(4_000)).is_err(), "the one that is behind revives nothing");
}

#[test]
fn rule_19_what_the_broker_of_one_store_made_fresh_is_not_fresh_for_another_store() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    drop(opened(&bench, INCARNATION, at(0)).unwrap());
    assert!(bench.check(&token, at(0)).is_ok(), "the same store again");
    bench.hang_up();
    let mut other = opened(&bench, OTHER_STORE, at(1)).unwrap();
    load(&mut other, at(1));
    assert!(matches!(bench.check(&token, at(1)), Err(Refused::Stale(_))));
    other.keep_alive(at(1)).unwrap();
    other.receive(freshness(1, Span::ZERO, &[]), at(1)).unwrap();
    other.settle(at(1));
    assert!(bench.check(&token, at(1)).is_ok());
}

#[test]
fn rule_19_a_broker_over_another_store_is_refused_while_the_first_one_keeps_the_view_fresh() {
    let bench = Bench::fresh();
    let token = bench.signer.token();
    for store in [OTHER_STORE, 0] {
        let refused = opened(&bench, store, at(29_999)).err();
        let Some(StreamError::NotTaken(NotTaken::OtherStore(error))) = refused else {
            panic!("{refused:?}")
        };
        assert!(matches!(error, OtherStore::Here(..)));
        assert!(error.to_string().contains("over one store"), "{error}");
    }
    assert!(bench.check(&token, at(0)).is_ok(), "and nothing of the first one is lost");
    opened(&bench, OTHER_STORE, at(30_000)).unwrap();
}

/// Of one that does not say which it is, nobody knows that it is the same.
#[test]
fn rule_19_a_store_that_is_not_known_is_another_at_each_connection() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.hang_up();
    for _ in 0..2 {
        let mut unknown = opened(&bench, 0, at(0)).unwrap();
        assert!(bench.check(&token, at(0)).is_err());
        load(&mut unknown, at(0));
        unknown.keep_alive(at(0)).unwrap();
        unknown.receive(freshness(1, Span::ZERO, &[]), at(0)).unwrap();
        unknown.settle(at(0));
        assert!(bench.check(&token, at(0)).is_ok());
    }
}

/// Its own Δ says nothing of what the store that is followed granted.
#[test]
fn rule_19_how_long_the_view_is_fresh_is_not_the_newcomer_s_to_say() {
    let bench = Bench::fresh();
    let mut newcomer = subscribed_to(OTHER_STORE);
    if let Some(Heard::Subscribed(subscribed)) = &mut newcomer.message {
        subscribed.delta_max = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    }
    let (mut stream, _) = Stream::open(Arc::clone(bench.checker.mirror()), "ledger");
    let heard = stream.receive(newcomer, at(2_000));
    assert!(matches!(heard, Err(StreamError::NotTaken(_))), "{heard:?}");
    assert!(bench.check(&bench.signer.token(), at(2_000)).is_ok());
}

/// The view went to another store and came back, and knows nothing of what this one said before.
#[test]
fn rule_19_what_was_on_its_way_when_the_view_began_anew_counts_no_more() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    let stale = at(30_000);
    bench.stream.receive(revoked(1, [fence(2, 4, 1)], Some(60_000)), at(0)).unwrap();
    bench.stream.keep_alive(stale).unwrap();
    drop(opened(&bench, OTHER_STORE, stale).unwrap());
    let mut back = opened(&bench, INCARNATION, stale).unwrap();
    load(&mut back, stale);
    for late in [freshness(2, Span::ZERO, &[]), revoked(1, [], Some(0))] {
        let heard = bench.stream.receive(late, stale);
        assert_eq!(heard, Err(OtherStore::Since.into()));
        bench.stream.settle(stale);
    }
    assert!(matches!(bench.check(&token, stale), Err(Refused::Stale(_))));
}

/// A connection to a broker over this store, and its first message.
fn opened(bench: &Bench, store: u64, now: Present) -> Result<Stream, StreamError> {
    let (mut stream, _) = Stream::open(Arc::clone(bench.checker.mirror()), "ledger");
    stream.receive(subscribed_to(store), now)?;
    Ok(stream)
}

/// What there is when nothing is revoked.
fn load(stream: &mut Stream, now: Present) {
    for partition in 0..PARTITIONS {
        let living = incarnation(INCARNATION, INFINITY.micros());
        stream.receive(revoked(partition, [living], Some(0)), now).unwrap();
    }
    stream.settle(now);
}

#[test]
fn class_15_an_entry_that_can_hit_nothing_any_more_is_dropped_and_one_that_can_is_not() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    let until = |entry, keep_until| RevocationEntry { entry: Some(entry), keep_until };
    let expiry = at(250_000).wall.micros();
    let entries = vec![until(fence(2, 4, 1), expiry), until(fence(3, 4, 1), at(10).wall.micros())];
    let told = Revocations { partition: 1, entries, position: Some(position(1, 60_000)) };
    bench.stream.receive(heard(Heard::Revocations(told)), at(0)).unwrap();
    bench.stream.settle(at(0));
    assert_eq!(bench.checker.mirror().entries(), 4);
    bench.beat(at(11), Span::ZERO, at(11));
    assert_eq!(bench.checker.mirror().entries(), 3);
    bench.beat(at(249_999), Span::ZERO, at(249_999));
    assert!(matches!(bench.check(&token, at(249_999)), Err(Refused::Dead(_))));
    bench.beat(at(250_001), Span::ZERO, at(250_001));
    assert_eq!(bench.checker.mirror().entries(), 2, "the incarnation of each partition");
    assert!(
        matches!(bench.check(&token, at(249_999)), Err(Refused::Token(_))),
        "whoever does not find the entry finds that it is too late"
    );
}

#[test]
fn class_15_of_an_entry_that_comes_twice_the_later_end_counts() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    for keep_until in [at(250_000), at(10)] {
        let entry =
            RevocationEntry { entry: Some(fence(2, 4, 1)), keep_until: keep_until.wall.micros() };
        let told = Revocations { partition: 1, entries: vec![entry], position: None };
        bench.stream.receive(heard(Heard::Revocations(told)), at(0)).unwrap();
    }
    bench.stream.settle(at(0));
    bench.beat(at(11), Span::ZERO, at(11));
    assert_eq!(bench.check(&token, at(11)).unwrap_err(), Refused::Dead(Dead::Fenced));
}

#[test]
fn class_15_of_an_incarnation_whose_end_comes_twice_what_lived_before_it_lives_on() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    let ended = incarnation(INCARNATION, bench.signer.claims().execution.origin.stamp.micros());
    for keep_until in [at(250_000), at(10)] {
        let keep_until = keep_until.wall.micros();
        let entries = vec![RevocationEntry { entry: Some(ended.clone()), keep_until }];
        let told = Revocations { partition: 1, entries, position: None };
        bench.stream.receive(heard(Heard::Revocations(told)), at(0)).unwrap();
    }
    bench.stream.settle(at(0));
    bench.beat(at(11), Span::ZERO, at(11));
    assert!(bench.check(&token, at(11)).is_ok());
}

#[test]
fn class_15_of_however_many_incarnations_the_living_one_is_kept_and_those_that_others_could_be_of()
{
    let mut bench = Bench::fresh();
    let told = |entry, keep_until: Option<Present>| {
        let keep_until = keep_until.map_or(0, |until| until.wall.micros());
        let entries = vec![RevocationEntry { entry: Some(entry), keep_until }];
        heard(Heard::Revocations(Revocations { partition: 1, entries, position: None }))
    };
    let living = |n| told(incarnation(INCARNATION + n, INFINITY.micros()), None);
    let ended = |n, until| told(incarnation(INCARNATION + n, INCARNATION + n), Some(until));
    for n in 1..=100 {
        let now = at(n * 100);
        bench.stream.receive(ended(n - 1, at(n * 100 + 1_000)), now).unwrap();
        bench.stream.receive(living(n), now).unwrap();
        // A broker that has not heard of the end says that it lives; one that has says so again.
        bench.stream.receive(living(n - 1), now).unwrap();
        bench.stream.receive(ended(n - 1, at(n * 100 + 1_000)), now).unwrap();
        bench.beat(now, Span::ZERO, now);
        assert!(bench.checker.mirror().entries() <= 14, "{n}");
    }
    let with = |n| {
        let mut claims = bench.signer.claims();
        claims.execution.origin.incarnation = Stamp::from_micros(INCARNATION + n).unwrap();
        bench.check(&bench.signer.sign(&claims), at(10_000)).map(drop)
    };
    assert_eq!(with(100), Ok(()));
    assert_eq!(with(99), Err(Refused::Dead(Dead::Lost)));
    assert_eq!(with(50), Err(Refused::Dead(Dead::IncarnationUnknown)), "what is forgotten is dead");
}

#[test]
fn class_15_few_keep_alives_are_open_and_the_last_of_them_gives_way_to_a_new_one() {
    let mut bench = Bench::subscribed();
    bench.load();
    for millis in 1..=10 {
        bench.stream.keep_alive(at(millis)).unwrap();
    }
    bench.stream.receive(freshness(5, Span::ZERO, &[]), at(20)).unwrap();
    bench.stream.settle(at(20));
    assert_eq!(
        bench.checker.mirror().age(at(20)),
        None,
        "when that was sent is not known any more"
    );
    bench.stream.receive(freshness(10, Span::ZERO, &[]), at(20)).unwrap();
    bench.stream.settle(at(20));
    assert_eq!(bench.checker.mirror().age(at(20)), Some(Span::from_millis(10)));
}

#[test]
fn no_keep_alive_is_sent_before_the_broker_said_how_often() {
    let (mut stream, _) = Stream::open(Mirror::new(InstanceId::new(1)), "ledger");
    assert_eq!(stream.keep_alive(at(0)), None);
}
