//! What is heard of a task, and when: on a paused clock, without a broker.

use clap::Parser;
use futures_util::future::{pending, ready};
use futures_util::stream::{iter, once};

use super::*;
use crate::cli::diagnosis::{Called, Caller};
use crate::proto::v1::TaskState;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    connection: Connection,
}

fn task(state: TaskState) -> v1::Task {
    v1::Task { task_id: "tsk_1".to_owned(), epoch: 1, state: state.into(), ..Default::default() }
}

/// Of a task that somebody else drives, at a broker that cannot be called.
fn driver(deadline: Option<Duration>) -> Driver {
    let line = Line::try_parse_from(["leasehold", "--broker", "http://nowhere.example"]);
    let caller = line.map(|line| line.connection).unwrap();
    Driver {
        tell: Tell::new(caller.output(), "tsk_1"),
        caller,
        drives: false,
        known: Known::of(&task(TaskState::Active), None, false),
        look_every: Duration::from_secs(5),
        deadline: deadline.map(|deadline| Instant::now() + deadline),
        is_unwatched: false,
    }
}

fn refused() -> Failure {
    Failure::of_call(
        &tonic::Status::unimplemented("there is no such call"),
        Called { broker: "nowhere", caller: Caller::Certificate },
        None,
    )
}

async fn watched(
    driver: &mut Driver,
    changes: impl Stream<Item = Result<v1::Task, Failure>>,
) -> (Over, Duration) {
    let (view, _) = watch::channel(View { is_suspended: false, epoch: 1 });
    let began = Instant::now();
    let over = driver.watch(&view, &Notify::new(), changes.chain(once(pending()))).await;
    (over, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_end_is_heard_of_when_it_is_told_and_not_at_the_next_look() {
    let end = once(async {
        sleep(Duration::from_millis(1_234)).await;
        Ok(v1::Task { reason: "leaked".to_owned(), ..task(TaskState::Revoked) })
    });
    let changes = once(ready(Ok(task(TaskState::Active)))).chain(end);
    let (over, after) = watched(&mut driver(None), changes).await;
    assert_eq!(over, Over::Ended("it is revoked: leaked".to_owned()));
    assert_eq!(after, Duration::from_millis(1_234));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_not_there_any_more_is_over() {
    let gone = Failure::of_call(
        &tonic::Status::not_found("no task"),
        Called { broker: "nowhere", caller: Caller::Certificate },
        None,
    );
    let (over, after) = watched(&mut driver(None), iter([Err(gone)])).await;
    assert_eq!((over, after), (unknown(), Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_may_watch_it_goes_on_by_looking() {
    let mut driver = driver(Some(Duration::from_secs(12)));
    let (over, after) = watched(&mut driver, iter([Err(refused()), Err(refused())])).await;
    assert_eq!(over, Over::Ended("its deadline has passed".to_owned()));
    assert_eq!(after, Duration::from_secs(12));
}

#[test]
fn that_nobody_may_watch_is_said_once_and_that_one_may_again_too() {
    let mut driver = driver(None);
    let said = driver.unwatched(&refused()).unwrap();
    assert!(said.contains("it is looked at every 5 s instead"), "{said}");
    assert_eq!(driver.unwatched(&refused()), None);
    assert!(driver.watched().is_some());
    assert_eq!(driver.watched(), None);
    assert!(driver.unwatched(&refused()).is_some());
}
