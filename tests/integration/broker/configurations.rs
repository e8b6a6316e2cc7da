//! Brokers over one store whose configurations differ, as they do while one is rolled out: each goes by its own, and what one
//! does not know, or forbids, it refuses, whoever else allowed it.

use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::{Broker, Settings};
use leasehold::domain::role::{AgentClass, Role};
use leasehold::domain::scope::Scope;
use leasehold::testing::world::settings;

use super::endings::unchanged;
use super::scene::{Level, ParseName, Scene, agent_of, reason, spec, token};

/// Another broker, with another configuration.
struct Other {
    broker: Broker,
    settings: Settings,
}

impl Other {
    fn new(scene: &Scene, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        Self { broker: Broker::new(scene.world.parts(), settings.clone()), settings }
    }

    /// What it takes a caller of the first broker for.
    fn sees(&self, caller: &Caller) -> Caller {
        Caller::new(caller.identity().clone(), &self.settings.roles).unwrap()
    }

    /// Why it gives neither a credential nor the next one of a lease.
    async fn refusals(&self, scene: &Scene, level: &Level) -> [&'static str; 2] {
        let agent = self.sees(&level.agent);
        [
            reason(scene.issue_at(&self.broker, &agent, token(level.task)).await),
            reason(scene.renew_at(&self.broker, &agent, &level.held[0]).await),
        ]
    }

    /// Why it lets no child begin.
    async fn no_child(&self, scene: &Scene, level: &Level) -> &'static str {
        let (id, ci) = (scene.world.id(), self.sees(&scene.ci));
        reason(self.broker.delegate(&ci, &id, level.task, 1, spec(&agent_of(1))).await)
    }
}

fn class<'a>(settings: &'a mut Settings, name: &str) -> &'a mut AgentClass {
    let mut classes = settings.roles.iter_mut().filter_map(|entry| match &mut entry.role {
        Role::Agent(class) if class.name.as_str() == name => Some(class),
        _ => None,
    });
    classes.next().unwrap()
}

async fn level(scene: &Scene) -> Level {
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    scene.held_level(task, scene.world.caller(&agent_of(0))).await
}

#[tokio::test]
async fn a_tier_that_a_broker_does_not_know_gets_nothing_from_it() {
    let scene = Scene::on_model().await;
    let level = level(&scene).await;
    let other = Other::new(&scene, |settings| settings.tiers.clear());
    assert_eq!(other.refusals(&scene, &level).await, ["REQUEST_INVALID"; 2]);
    assert_eq!(other.no_child(&scene, &level).await, "REQUEST_INVALID");
    scene.must_go_on(&level).await;
}

#[tokio::test]
async fn a_tier_that_a_broker_gives_no_class_gets_nothing_from_it() {
    let scene = Scene::on_model().await;
    let level = level(&scene).await;
    let other = Other::new(&scene, |settings| class(settings, "finance").tiers.clear());
    assert_eq!(other.refusals(&scene, &level).await, ["POLICY_DENIED"; 2]);
    assert_eq!(other.no_child(&scene, &level).await, "POLICY_DENIED");
}

#[tokio::test]
async fn an_agent_of_another_class_by_a_broker_s_configuration_gets_nothing_from_it() {
    let scene = Scene::on_model().await;
    let level = level(&scene).await;
    let other =
        Other::new(&scene, |settings| class(settings, "finance").name = "ledger".parse_name());
    assert_eq!(other.refusals(&scene, &level).await, ["NOT_FOUND"; 2]);
}

#[tokio::test]
async fn an_orchestrator_entry_that_a_broker_does_not_know_drives_nothing_through_it() {
    let scene = Scene::on_model().await;
    let level = level(&scene).await;
    let other = Other::new(&scene, |settings| {
        for entry in &mut settings.roles {
            if let Role::Orchestrator(name) = &mut entry.role {
                *name = "renamed".parse_name();
            }
        }
    });
    let (ci, id) = (other.sees(&scene.ci), || scene.world.id());
    let advanced = other.broker.advance(&ci, &id(), level.task, unchanged(1)).await;
    assert_eq!(reason(advanced), "NOT_FOUND");
    let ended = other.broker.end(&ci, &id(), Rpc::CompleteTask, level.task, String::new()).await;
    assert_eq!(reason(ended), "NOT_FOUND");
    // Operators end whatever there is, and every broker goes by what the store has of it.
    other
        .broker
        .end(&scene.operator, &id(), Rpc::RevokeTask, level.task, String::new())
        .await
        .unwrap();
    scene.must_be_over(&level).await;
}

/// What is written by name holds at brokers that know nobody of that name: of a quarantine, and of a task's freshness.
#[tokio::test]
async fn what_one_broker_wrote_holds_at_another_that_knows_no_such_name() {
    let scene = Scene::on_model().await;
    let level = level(&scene).await;
    let other = Other::new(&scene, |settings| {
        settings.roles.retain(|entry| !matches!(entry.role, Role::Agent(_)));
        settings.tiers.clear();
    });
    let scope = Scope::parse("class:finance").unwrap();
    let id = scene.world.id();
    other.broker.quarantine(&scene.operator, &id, scope, String::new()).await.unwrap();
    scene.must_be_over(&level).await;
    for held in &level.held {
        assert!(!scene.is_active(&other.broker, held).await);
    }
}

/// The credential of a tier that two brokers know differently has the limits of the one that gave it, and is renewed by those
/// of the one that is asked then; the freshness of a task is the one that it began with.
#[tokio::test]
async fn a_tier_with_other_limits_gives_the_limits_of_the_broker_that_is_asked() {
    let scene = Scene::on_model().await;
    let level = level(&scene).await;
    let other = Other::new(&scene, |settings| {
        for tier in &mut settings.tiers {
            (tier.ttl_seconds, tier.ceiling_seconds) = (40, 50);
            tier.freshness = tier.freshness.times(2);
        }
    });
    let issued = scene.issue_at(&other.broker, &level.agent, token(level.task)).await.unwrap();
    assert_eq!(issued.expires - issued.issued, 40);
    let lease = scene.a.get_lease(&level.agent, issued.lease).await.unwrap().lease;
    let first = scene.a.get_lease(&level.agent, level.held[0].lease).await.unwrap().lease;
    assert_eq!(lease.draft.freshness, first.draft.freshness);
    scene.forward(30).await;
    let renewed = scene.renew_at(&other.broker, &level.agent, &level.held[0]).await.unwrap();
    assert_eq!(renewed.expires, first.first_issue.seconds() + 50, "its ceiling, too");
}
