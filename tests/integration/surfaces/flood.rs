//! The kill switch while the broker drowns: far more issue requests than it takes come without pause, from many connections, and
//! most are turned away. Endings and quarantines are carried out and FENCED all the same, and what lives stays alive at the verifier.

use leasehold::broker::seams::Clock;
use leasehold::domain::lattice::Dead;
use leasehold::domain::time::Span;
use leasehold::proto::v1;
use leasehold::testing::redis::RedisServer;
use leasehold::verifier::Refused;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::site::{AGENT, ORCHESTRATOR, Site, reason, request_id, token_request};
use super::verifier::{DELTA, PATIENCE, Pair, follow};

/// What the broker works on at once, of endings and of everything else each.
const ROOM: usize = 4;
/// Connections of the flood, and requests at a time on each: many times as many.
const CONNECTIONS: usize = 8;
const PER_CONNECTION: usize = 8;
/// Tasks that end during the flood: more than there is room for at once.
const ENDINGS: usize = ROOM + 2;

const FROM: &str = r#"drain_timeout = "1s""#;
const TO: &str = r#"drain_timeout = "1s", requests_in_flight = 4"#;

/// Issue requests without pause, until this is dropped.
struct Flood {
    turned_away: watch::Receiver<u64>,
    quarantined: watch::Receiver<u64>,
    _requests: JoinSet<()>,
}

impl Flood {
    async fn begin(site: &Site) -> Self {
        let mut requests = JoinSet::new();
        let (turned_away, quarantined) = (watch::Sender::new(0), watch::Sender::new(0));
        let told = (turned_away.subscribe(), quarantined.subscribe());
        let mut tasks = Vec::new();
        for _ in 0..CONNECTIONS {
            tasks.push(site.begin().await);
        }
        for task in tasks {
            let connection = site.credentials(AGENT);
            for _ in 0..PER_CONNECTION {
                let (mut connection, task) = (connection.clone(), task.clone());
                let (turned_away, quarantined) = (turned_away.clone(), quarantined.clone());
                requests.spawn(async move {
                    loop {
                        let Err(refused) = connection.issue_credential(token_request(&task)).await
                        else {
                            continue;
                        };
                        match reason(&refused).as_str() {
                            "RATE_LIMITED" => turned_away.send_modify(|count| *count += 1),
                            "QUARANTINED" => quarantined.send_modify(|count| *count += 1),
                            _ => panic!("{refused:?}"),
                        }
                    }
                });
            }
        }
        let (turned_away, quarantined) = told;
        let mut flood = Self { turned_away, quarantined, _requests: requests };
        flood.turns_more_away().await;
        flood
    }

    /// That requests are turned away from now on, too: as many as all that there are at a time.
    async fn turns_more_away(&mut self) {
        let all = u64::try_from(CONNECTIONS * PER_CONNECTION).unwrap();
        let enough = *self.turned_away.borrow() + all;
        let more = self.turned_away.wait_for(|count| *count >= enough);
        tokio::time::timeout(PATIENCE, more).await.expect("the flood has ebbed").unwrap();
    }
}

/// Time goes on by twice Δ, but never beyond where the view is half as old as it may be: it is renewed meanwhile, or this does
/// not end.
async fn view_stays_fresh(pair: &Pair) {
    let until = pair.site.clock.elapsed().micros() + 2 * DELTA.micros();
    let mut renewed = pair.verifier.checker().mirror().published();
    let passing = async {
        while pair.site.clock.elapsed().micros() < until {
            let age = pair.verifier.age().expect("it had a view");
            if age.micros() < DELTA.micros() / 2 {
                pair.site.clock.forward(Span::from_millis(50));
            } else {
                renewed.changed().await.unwrap();
            }
        }
    };
    tokio::time::timeout(PATIENCE, passing).await.expect("the view is not renewed");
}

/// Time goes on by two seconds, of which it is known which verifiers there were: whose store has a clock of its own asks for them
/// from as long ago as an ending was on its way by that.
async fn registry_is_followed(pair: &Pair) {
    let mut registry = pair.site.running.broker.feed().registry();
    let followed = async {
        for _ in 0..2 {
            registry.changed().await.unwrap();
            pair.site.clock.forward(Span::from_seconds(1));
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("the registry is not read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_15_the_kill_switch_works_while_the_embedded_broker_drowns_in_issue_requests() {
    must_work(Site::start_with(FROM, TO).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn class_15_the_kill_switch_works_while_a_broker_on_redis_drowns_in_issue_requests() {
    let server = RedisServer::durable();
    must_work(Site::start_on_redis_with(&server, FROM, TO).await).await;
}

async fn must_work(site: Site) {
    let pair = Pair::at(site, |_| {}).await;
    let mut doomed = Vec::new();
    for _ in 0..ENDINGS {
        doomed.push(pair.token().await);
    }
    let (_, _, other) = pair.token().await;
    let (running, _, undrained) = pair.token().await;
    let admission = undrained.check(&pair.verifier).unwrap();
    let mut flood = Flood::begin(&pair.site).await;

    view_stays_fresh(&pair).await;
    registry_is_followed(&pair).await;
    let (late, _folder) = follow(&pair.site);
    tokio::time::timeout(PATIENCE, late.ready()).await.expect("who comes now is kept out");
    // They are answered once they are DRAINED, which they will not be while the admission is held, and take nobody's room.
    let mut waiting = JoinSet::new();
    for _ in 0..2 * ROOM {
        let mut tasks = pair.site.tasks(ORCHESTRATOR);
        let request = v1::CompleteTaskRequest {
            request_id: request_id(),
            task_id: running.task_id.clone(),
            wait_for: v1::Enforcement::Drained.into(),
            ..Default::default()
        };
        waiting.spawn(async move { tasks.complete_task(request).await });
    }
    for (task, _, token) in &doomed {
        drop(token.check(&pair.verifier).unwrap());
        let fenced = pair.complete(task, v1::Enforcement::Fenced).await;
        assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
        assert_eq!(token.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Fenced));
    }
    flood.turns_more_away().await;
    drop(other.check(&late).expect("what goes on is let in by who came late"));
    drop(other.check(&pair.verifier).expect("what goes on is let in meanwhile"));

    let everything = v1::QuarantineRequest {
        request_id: request_id(),
        scope: "all".to_owned(),
        ..Default::default()
    };
    let mut operator = pair.operator();
    let fenced = pair.while_time_passes(operator.quarantine(everything)).await.unwrap();
    let fenced = fenced.into_inner().revocation.unwrap();
    assert_eq!(fenced.enforcement(), v1::Enforcement::Fenced, "{fenced:?}");
    assert_eq!(other.check(&pair.verifier).unwrap_err(), Refused::Dead(Dead::Quarantined));
    let refused = flood.quarantined.wait_for(|count| *count > 0);
    tokio::time::timeout(PATIENCE, refused).await.expect("issuing goes on").unwrap();
    flood.turns_more_away().await;

    drop(admission);
    pair.while_time_passes(async {
        while let Some(drained) = waiting.join_next().await {
            let answer = drained.unwrap().unwrap().into_inner().revocation.unwrap();
            assert_eq!(answer.enforcement(), v1::Enforcement::Drained, "{answer:?}");
        }
    })
    .await;
}
