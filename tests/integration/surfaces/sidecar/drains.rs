//! What runs, and what DRAINED means where a sidecar answers.

use std::time::Duration;

use leasehold::proto::v1;
use leasehold::sidecar::Options;
use serde_json::json;

use super::{Beside, HOUR, PATIENCE, call};

fn lingering(longest_request: Duration) -> Options {
    Options { longest_request, grace: Duration::ZERO, ..Options::default() }
}

#[tokio::test]
async fn class_09_a_held_request_is_told_of_its_end_and_holds_drained_back_until_it_hangs_up() {
    let beside = Beside::start_with(|_| {}, lingering(HOUR)).await;
    let (task, _, token) = beside.pair.token().await;
    let mut held = beside.admit(&call(&token)).await;
    assert_eq!((held.status, &held.next().await["active"]), (200, &json!(true)));
    let not_yet = beside.pair.complete_in_vain(&task).await;
    assert_eq!(not_yet.enforcement(), v1::Enforcement::Fenced, "{not_yet:?}");
    let told = held.next().await;
    assert_eq!((&told["revoked"], &told["reason"]), (&json!(true), &json!("EPOCH_STALE")));

    let (task, _, token) = beside.pair.token().await;
    let mut running = beside.admit(&call(&token)).await;
    running.next().await;
    let work = async {
        running.next().await;
        running.hang_up().await;
        held.hang_up().await;
    };
    let (drained, ()) = tokio::join!(beside.pair.complete(&task, v1::Enforcement::Drained), work);
    assert_eq!(drained.enforcement(), v1::Enforcement::Drained, "{drained:?}");
}

#[tokio::test]
async fn class_09_what_has_no_end_counts_as_running_until_the_longest_request_is_over() {
    let beside = Beside::start_with(|_| {}, lingering(HOUR)).await;
    let (task, _, token) = beside.pair.token().await;
    assert_eq!(beside.verify(&call(&token)).await.0, 200);
    let not_yet = beside.pair.complete_in_vain(&task).await;
    assert_eq!(not_yet.enforcement(), v1::Enforcement::Fenced, "{not_yet:?}");

    let beside = Beside::start_with(|_| {}, lingering(Duration::from_millis(100))).await;
    let (task, _, token) = beside.pair.token().await;
    assert_eq!(beside.verify(&call(&token)).await.0, 200);
    let drained = beside.pair.complete(&task, v1::Enforcement::Drained).await;
    assert_eq!(drained.enforcement(), v1::Enforcement::Drained, "{drained:?}");
}

#[tokio::test]
async fn class_09_what_is_cut_off_when_the_sidecar_stops_is_never_said_to_be_over() {
    let beside = Beside::start_with(|_| {}, lingering(HOUR)).await;
    let (task, _, token) = beside.pair.token().await;
    let mut held = beside.admit(&call(&token)).await;
    held.next().await;
    assert_eq!(beside.verify(&call(&token)).await.0, 200);
    let work = async {
        assert_eq!(held.next().await["revoked"], true);
        beside.pair.drained_is_held_back().await;
        beside.stop.cancel();
    };
    let (not_known, ()) = tokio::join!(beside.pair.complete(&task, v1::Enforcement::Drained), work);
    assert_eq!(not_known.enforcement(), v1::Enforcement::Fenced, "{not_known:?}");
    tokio::time::timeout(PATIENCE, beside.serving).await.unwrap().unwrap();
}
