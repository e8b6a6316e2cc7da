//! What runs when its credential dies, and what is said of it.

use futures_util::FutureExt as _;

use super::*;
use crate::domain::lattice::Dead;

#[test]
fn drained_is_behind_while_something_runs_on_a_dead_credential_and_no_longer() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.tell(vec![], 55_000);
    let (one, two) = (bench.check(&token, at(0)).unwrap(), bench.check(&token, at(0)).unwrap());
    let living = bench.signer.sign(&AccessToken {
        execution: Execution {
            path: Path::new(vec![], Hop { task: task(4), counter: Counter::FIRST }),
            ..bench.signer.claims().execution
        },
        ..bench.signer.claims()
    });
    let _living = bench.check(&living, at(0)).unwrap();
    let acknowledged = bench.tell(vec![fence(2, 4, 1)], 60_000).unwrap();
    assert_eq!(acknowledged.applied, [position(0, 0), position(1, 60_000)]);
    assert_eq!(acknowledged.drained, [position(0, 0), position(1, 55_000)]);
    let acknowledged = bench.tell(vec![fence(3, 4, 1)], 61_000).unwrap();
    assert_eq!(acknowledged.drained, [position(0, 0), position(1, 55_000)]);
    drop(one);
    assert_eq!(bench.tell(vec![], 61_000), None, "one is still running");
    drop(two);
    let acknowledged = bench.tell(vec![], 61_000).unwrap();
    assert_eq!(acknowledged.drained, acknowledged.applied);
}

#[tokio::test]
async fn whoever_runs_is_told_that_the_credential_died() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    let admission = bench.check(&token, at(0)).unwrap();
    assert!(!admission.is_revoked());
    let mut waiting = Box::pin(admission.revoked());
    assert_eq!((&mut waiting).now_or_never(), None);
    bench.tell(vec![fence(3, 4, 1)], 60_000);
    assert_eq!((&mut waiting).now_or_never(), None, "another task");
    bench.tell(vec![fence(1, 9, 9)], 60_001);
    assert_eq!(waiting.await, Dead::Fenced);
    assert_eq!(admission.revoked().await, Dead::Fenced, "asked again");
}

#[test]
fn what_is_refused_holds_nothing_back() {
    let mut bench = Bench::fresh();
    let token = bench.signer.token();
    bench.tell(vec![fence(2, 4, 1)], 60_000).unwrap();
    assert!(bench.check(&token, at(0)).is_err());
    let acknowledged = bench.tell(vec![], 60_001).unwrap();
    assert_eq!(acknowledged.drained, acknowledged.applied);
}
