//! Random histories at two brokers, beside the plain model: the same refusals, the same standing of every task, the same
//! credentials alive, after every step.

use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::error::BrokerError;
use leasehold::broker::request::{Deadline, TaskSpec};
use leasehold::broker::{AdvanceRequest, Broker};
use leasehold::domain::grant::Grant;
use leasehold::domain::id::TaskId;
use leasehold::domain::scope::Scope;
use leasehold::domain::task::{Agent, State};
use leasehold::domain::time::{Span, Stamp};
use leasehold::testing::scenario;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::plain::{
    DRIVER, Plain, PlainAdvance, PlainTask, Reason, SILENCE, Stand, TIERS, agent_scope,
};
use super::scene::{Held, ParseName, Scene, agent_of, spec, token};
use super::stores;

const AGENTS: usize = 3;
/// Nothing ended is dropped within a history: it is shorter than the retention.
const LONGEST: u64 = 3_000;

#[derive(Clone, Debug)]
enum Step {
    Begin(New),
    Delegate(usize, New),
    Advance { task: usize, stale: bool, keep: bool, narrow: Option<bool>, agent: Option<usize> },
    Suspend { task: usize, by_operator: bool },
    Resume { task: usize, stale: bool, by_operator: bool },
    End { task: usize, verb: usize },
    Heartbeat(usize),
    Issue { task: usize, agent: usize },
    Renew(usize),
    Over { lease: usize, revoked: bool },
    Quarantine { scope: usize, lift: bool },
    Forward(u64),
    Back(u64),
    Sweep,
}

#[derive(Clone, Debug)]
struct New {
    agent: usize,
    tier: usize,
    narrow: bool,
    seconds: u64,
    listens: bool,
}

/// How tasks end, and what the model calls it.
const VERBS: [(Rpc, &str); 4] = [
    (Rpc::CompleteTask, "complete"),
    (Rpc::FailTask, "fail"),
    (Rpc::CancelTask, "cancel"),
    (Rpc::RevokeTask, "revoke"),
];

fn step() -> impl Strategy<Value = Step> {
    let any_task = || 0usize..64;
    let agent = || 0..AGENTS;
    let new = || {
        (agent(), 0..TIERS.len(), any::<bool>(), 20u64..1_500, any::<bool>()).prop_map(
            |(agent, tier, narrow, seconds, listens)| New { agent, tier, narrow, seconds, listens },
        )
    };
    let change = (any_task(), any::<u8>(), any::<bool>(), option::weighted(0.3, any::<bool>()));
    let change = (change, option::weighted(0.2, agent())).prop_map(
        |((task, stale, keep, narrow), agent)| Step::Advance {
            task,
            stale: stale < 32,
            keep,
            narrow,
            agent,
        },
    );
    prop_oneof![
        2 => new().prop_map(Step::Begin),
        4 => (any_task(), new()).prop_map(|(task, new)| Step::Delegate(task, new)),
        3 => change,
        2 => (any_task(), any::<bool>())
            .prop_map(|(task, by_operator)| Step::Suspend { task, by_operator }),
        3 => (any_task(), any::<u8>(), any::<bool>()).prop_map(|(task, stale, by_operator)| {
            Step::Resume { task, stale: stale < 32, by_operator }
        }),
        1 => (any_task(), 0..VERBS.len()).prop_map(|(task, verb)| Step::End { task, verb }),
        1 => any_task().prop_map(Step::Heartbeat),
        10 => (any_task(), 0..4 * AGENTS).prop_map(|(task, agent)| Step::Issue { task, agent }),
        6 => any_task().prop_map(Step::Renew),
        1 => (any_task(), any::<bool>()).prop_map(|(lease, revoked)| Step::Over { lease, revoked }),
        2 => (0usize..7, any::<bool>()).prop_map(|(scope, lift)| Step::Quarantine { scope, lift }),
        3 => prop_oneof![1u64..15, 20u64..400].prop_map(Step::Forward),
        1 => (1u64..4_000).prop_map(Step::Back),
        2 => Just(Step::Sweep),
    ]
}

/// A step, and the broker that is asked.
fn history() -> impl Strategy<Value = Vec<(Step, bool)>> {
    vec((step(), any::<bool>()), 1..40)
}

/// Both, side by side.
struct Beside {
    scene: Scene,
    start: Stamp,
    agents: Vec<Caller>,
    plain: Plain,
    tasks: Vec<TaskId>,
    held: Vec<Held>,
}

impl Beside {
    fn of(scene: Scene) -> Self {
        let agents = (0..AGENTS).map(|n| scene.world.caller(&agent_of(n))).collect();
        let start = Stamp::from_seconds(scene.a.now().seconds());
        let plain = Plain::default();
        Self { scene, start, agents, plain, tasks: Vec::new(), held: Vec::new() }
    }

    /// Deadlines lie half a second beside every step of time.
    fn specified(&self, new: &New) -> (TaskSpec, PlainTask) {
        let deadline = self.plain.now + new.seconds * 1_000 + 500;
        let tier = TIERS[new.tier];
        let spec = TaskSpec {
            grant: if new.narrow { narrow() } else { scenario::grant() },
            tier: Some(tier.name.parse_name()),
            deadline: Deadline::At(self.start.plus(Span::from_millis(deadline))),
            heartbeat: new.listens.then(|| Span::from_millis(SILENCE / 3)),
            ..spec(&agent_of(new.agent))
        };
        let plain = PlainTask {
            parent: None,
            agent: new.agent,
            tier,
            narrow: new.narrow,
            deadline,
            silent_at: new.listens.then_some(self.plain.now + SILENCE),
            listens: new.listens,
            stand: Stand::Active,
            ended_by: "",
            by_operator: false,
            epoch: 1,
            branch: 1,
            floor: 1,
        };
        (spec, plain)
    }

    fn broker(&self, b: bool) -> &Broker {
        if b { &self.scene.b } else { &self.scene.a }
    }

    /// What the step comes to, on both sides.
    async fn step(&mut self, step: &Step, b: bool) -> Result<(), TestCaseError> {
        let id = self.scene.world.id();
        let (real, plain) = match *step {
            Step::Begin(ref new) => {
                let (spec, plain) = self.specified(new);
                let begun = self.broker(b).begin(&self.scene.ci, &id, spec).await;
                (begun.map(|view| self.tasks.push(view.task.id)), self.plain.begin(plain))
            }
            Step::Forward(seconds) => return self.forward(seconds).await,
            Step::Back(seconds) => {
                self.scene.world.clock.back(Span::from_seconds(seconds));
                return Ok(());
            }
            Step::Sweep => {
                self.broker(b).sweep().await.unwrap();
                return Ok(());
            }
            Step::Quarantine { scope, lift } => {
                let scope = match scope {
                    0..AGENTS => agent_scope(scope),
                    3 => "tier:critical".to_owned(),
                    4 => "orchestrator:ci".to_owned(),
                    5 => DRIVER.to_owned(),
                    _ => "all".to_owned(),
                };
                self.switch(&scope, lift, b).await;
                return Ok(());
            }
            Step::Renew(lease) | Step::Over { lease, .. } => {
                if self.plain.leases.is_empty() {
                    return Ok(());
                }
                let lease = lease % self.plain.leases.len();
                self.on_lease(step, lease, b).await
            }
            _ if self.tasks.is_empty() => return Ok(()),
            _ => self.on_task(step, b).await,
        };
        let real = real.map_err(|error| match error {
            BrokerError::Refused(refusal) => refusal.reason(),
            other => panic!("{other:?}"),
        });
        prop_assert_eq!(real, plain);
        Ok(())
    }

    async fn on_task(
        &mut self,
        step: &Step,
        b: bool,
    ) -> (Result<(), BrokerError>, Result<(), Reason>) {
        let id = self.scene.world.id();
        let (broker, count) = (if b { &self.scene.b } else { &self.scene.a }, self.tasks.len());
        let (ci, operator) = (&self.scene.ci, &self.scene.operator);
        let by = |by_operator| if by_operator { operator } else { ci };
        let epoch = |task: usize, stale: bool| self.plain.tasks[task].epoch + u64::from(stale);
        let why = String::new();
        match *step {
            Step::Delegate(parent, ref new) => {
                let parent = parent % count;
                let (spec, plain) = self.specified(new);
                let (above, epoch) = (self.tasks[parent], epoch(parent, false));
                let begun = broker.delegate(ci, &id, above, epoch, spec).await;
                let begun = begun.map(|view| self.tasks.push(view.task.id));
                (begun, self.plain.delegate(parent, epoch, plain))
            }
            Step::Advance { task, stale, keep, narrow: narrowed, agent } => {
                let task = task % count;
                let plain =
                    PlainAdvance { epoch: epoch(task, stale), keep, narrow: narrowed, agent };
                let grant = |narrowed| if narrowed { narrow() } else { scenario::grant() };
                let request = AdvanceRequest {
                    expected_epoch: plain.epoch,
                    grant: narrowed.map(grant),
                    step: None,
                    checkpoint: None,
                    agent: agent.map(|n| Agent::parse(&agent_of(n)).unwrap()),
                    keep_children: keep,
                };
                let real = broker.advance(ci, &id, self.tasks[task], request).await.map(drop);
                (real, self.plain.advance(task, plain))
            }
            Step::Suspend { task, by_operator } => {
                let task = task % count;
                let real = broker.suspend(by(by_operator), &id, self.tasks[task], why).await;
                (real.map(drop), self.plain.suspend(task, by_operator))
            }
            Step::Resume { task, stale, by_operator } => {
                let task = task % count;
                let epoch = epoch(task, stale);
                let real = broker.resume(by(by_operator), &id, self.tasks[task], epoch).await;
                (real.map(drop), self.plain.resume(task, epoch, by_operator))
            }
            Step::End { task, verb } => {
                let (task, (rpc, verb)) = (task % count, VERBS[verb]);
                let caller = by(rpc == Rpc::RevokeTask);
                let real = broker.end(caller, &id, rpc, self.tasks[task], why).await.map(drop);
                // What time ended may be recorded in more than one way, and an ancestor's end before it.
                let unsaid = self.plain.tasks[task].ended_by == "time";
                let plain =
                    if unsaid && real.is_ok() { Ok(()) } else { self.plain.end(task, verb) };
                (real, plain)
            }
            Step::Heartbeat(task) => {
                let task = task % count;
                let real = broker.heartbeat(ci, &id, self.tasks[task]).await.map(drop);
                (real, self.plain.heartbeat(task))
            }
            Step::Issue { task, agent } => {
                let task = task % count;
                // Mostly the right one.
                let agent = if agent < AGENTS { agent } else { self.plain.tasks[task].agent };
                let request = token(self.tasks[task]);
                let real = self.scene.issue_at(broker, &self.agents[agent], request).await;
                (real.map(|held| self.held.push(held)), self.plain.issue(task, agent))
            }
            _ => panic!("not about a task: {step:?}"),
        }
    }

    async fn on_lease(
        &mut self,
        step: &Step,
        lease: usize,
        b: bool,
    ) -> (Result<(), BrokerError>, Result<(), Reason>) {
        let id = self.scene.world.id();
        let plain = self.plain.leases[lease].clone();
        let (agent, held) = (&self.agents[plain.holder], self.held[plain.latest].clone());
        let broker = self.broker(b);
        match step {
            Step::Renew(_) => {
                let real = self.scene.renew_at(broker, agent, &held).await;
                (real.map(|held| self.held.push(held)), self.plain.renew(lease))
            }
            Step::Over { revoked: true, .. } => {
                let why = String::new();
                let real = broker.revoke_lease(&self.scene.operator, &id, held.lease, why).await;
                self.plain.leases[lease].over = true;
                (real.map(drop), Ok(()))
            }
            _ => {
                let real = broker.release(agent, &id, held.lease).await.map(drop);
                self.plain.leases[lease].over = true;
                (real, Ok(()))
            }
        }
    }

    async fn switch(&mut self, text: &str, lift: bool, b: bool) {
        let (id, scope, why) = (self.scene.world.id(), Scope::parse(text).unwrap(), String::new());
        let (broker, operator) = (self.broker(b), &self.scene.operator);
        if lift {
            broker.lift_quarantine(operator, &id, scope, why).await.unwrap();
            self.plain.lift(text);
        } else {
            broker.quarantine(operator, &id, scope, why).await.unwrap();
            self.plain.quarantine(text);
        }
    }

    /// Every clock goes on, the store's too; whoever set it back sets it right first.
    async fn forward(&mut self, seconds: u64) -> Result<(), TestCaseError> {
        if self.plain.now / 1_000 + seconds > LONGEST {
            return Ok(());
        }
        self.plain.forward(seconds);
        let now = self.start.plus(Span::from_millis(self.plain.now));
        let clock = &self.scene.world.clock;
        clock.forward(Span::from_seconds(seconds));
        clock.set(now);
        let upkeep = &self.scene.world.store.upkeep;
        for partition in upkeep.constants().partitions.all() {
            upkeep.prune(partition, now).await.unwrap();
        }
        for broker in [&self.scene.a, &self.scene.b] {
            assert!(broker.now() >= now);
        }
        Ok(())
    }

    async fn compare(&self, b: bool) -> Result<(), TestCaseError> {
        let broker = self.broker(b);
        for (number, task) in self.tasks.iter().enumerate() {
            let view = broker.get_task(&self.scene.operator, *task).await.unwrap();
            let stand = match view.standing.state {
                State::Active => Stand::Active,
                State::Suspended => Stand::Suspended,
                _ => Stand::Ended,
            };
            prop_assert_eq!(stand, self.plain.standing(number), "task {}", number);
        }
        for (number, held) in self.held.iter().enumerate() {
            let alive = self.scene.is_active(broker, held).await;
            prop_assert_eq!(alive, self.plain.is_alive(number), "credential {}", number);
            prop_assert_eq!(
                held.expires - self.start.seconds(),
                self.plain.credentials[number].expires
            );
        }
        Ok(())
    }
}

fn narrow() -> Grant {
    let json =
        r#"[{"type":"resource_access","audience":"https://ledger.example","actions":["read"]}]"#;
    Grant::parse(json).unwrap()
}

fn beside(cases: u32, open: impl AsyncFn() -> Scene) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let passed = runner.run(&history(), |history| {
        runtime.block_on(async {
            let mut beside = Beside::of(open().await);
            for (number, (step, b)) in history.iter().enumerate() {
                let same = match beside.step(step, *b).await {
                    Ok(()) => beside.compare(number.is_multiple_of(2)).await,
                    refused => refused,
                };
                same.map_err(|fault| {
                    let text = format!("{fault}\nin step {number}, {step:?} at b: {b}");
                    TestCaseError::fail(text)
                })?;
            }
            Ok(())
        })
    });
    if let Err(error) = passed {
        panic!("{error}");
    }
}

#[test]
fn class_06_random_histories_over_the_model_go_as_the_design_tells() {
    beside(64, stores::model);
}

#[test]
fn class_06_random_histories_over_the_embedded_store_go_as_the_design_tells() {
    beside(16, stores::embedded);
}

#[test]
fn class_06_random_histories_over_redis_go_as_the_design_tells() {
    beside(8, stores::redis);
}

#[test]
#[ignore = "soak: thousands of histories"]
fn class_06_many_random_histories_go_as_the_design_tells() {
    beside(5_000, stores::model);
    beside(500, stores::embedded);
    beside(200, stores::redis);
}
