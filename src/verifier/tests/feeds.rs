//! What comes over the stream, and what goes back.

use super::*;

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
    assert_eq!(bench.stream.keep_alive(at(4_500)), None, "at most one is open");
    for sequence in [0, 1, 3, u64::MAX] {
        bench.stream.receive(freshness(sequence, Span::ZERO, &[]), at(4_600)).unwrap();
    }
    bench.stream.settle(at(4_600));
    assert!(bench.check(&token, at(5_000)).is_err());
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
