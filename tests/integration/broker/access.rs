//! Who may ask what: every verb by every role, and ids of others, which are as good as none.

use leasehold::broker::access::{Caller, Rpc};
use leasehold::broker::error::BrokerError;
use leasehold::broker::{AdvanceRequest, Broker};
use leasehold::domain::id::{LeaseId, TaskId};
use leasehold::domain::refusal::Refusal;
use leasehold::domain::role::Role;
use leasehold::domain::scope::Scope;
use leasehold::domain::task::Agent;
use leasehold::domain::time::Stamp;
use leasehold::testing::world::{
    CD, CI, CI_TOO, FINANCE, LEDGER, OPERATOR, RESEARCH, SEARCH, STRANGER, TWOFOLD, settings,
};

use super::endings::unchanged;
use super::round_trips::Counting;
use super::scene::{Held, ParseName, Scene, agent_of, reason, refused, spec, token};

/// The agent that delegated the task which the verbs are about.
const DELEGATING: &str = "spiffe://prod.example/agents/finance/delegating";
/// An agent of the same class that has nothing to do with it.
const OTHER: &str = "spiffe://prod.example/agents/finance/other";
const CALLERS: [&str; 9] = [CI, CD, FINANCE, OTHER, DELEGATING, OPERATOR, LEDGER, SEARCH, STRANGER];

/// `+` may, `n` is told that there is no such thing, `r` that a role is missing. The callers are those of [`CALLERS`], about
/// a task of [`CI`] that [`DELEGATING`] delegated to [`FINANCE`], who holds a token for [`LEDGER`].
const TABLE: [(Rpc, &str); 24] = [
    (Rpc::BeginTask, "++rrrrrrr"),
    (Rpc::DelegateTask, "+n+nnrrrr"),
    (Rpc::AdvanceTask, "+nrrrrrrr"),
    (Rpc::SuspendTask, "+nrrr+rrr"),
    (Rpc::ResumeTask, "+nrrr+rrr"),
    (Rpc::CompleteTask, "+nnn+rrrr"),
    (Rpc::FailTask, "+nnn+rrrr"),
    (Rpc::CancelTask, "+nnn++rrr"),
    (Rpc::Heartbeat, "+nrrrrrrr"),
    (Rpc::GetTask, "+n+n++rrr"),
    (Rpc::ListTasks, "+n+n++rrr"),
    (Rpc::WatchTask, "+n+n++rrr"),
    (Rpc::IssueCredential, "rr+nnrrrr"),
    (Rpc::RenewCredential, "rr+nnrrrr"),
    (Rpc::ReleaseCredential, "rr+nnrrrr"),
    (Rpc::GetLease, "+n+nn+rrr"),
    (Rpc::ListLeases, "+n+nn+rrr"),
    (Rpc::IntrospectCredential, "rrrrr++nr"),
    (Rpc::RevokeLease, "rrrrr+rrr"),
    (Rpc::RevokeTask, "rrrrr+rrr"),
    (Rpc::Quarantine, "rrrrr+rrr"),
    (Rpc::LiftQuarantine, "rrrrr+rrr"),
    (Rpc::ListTiers, "rrrrr+rrr"),
    (Rpc::GetStatus, "rrrrr+rrr"),
];

/// A delegated task, and what its agent holds.
struct Subject {
    task: TaskId,
    held: Held,
}

async fn subject(scene: &Scene) -> Subject {
    let root = scene.begin(spec(DELEGATING)).await.task.id;
    let delegating = scene.world.caller(DELEGATING);
    let heartbeat = Some(leasehold::domain::time::Span::from_seconds(60));
    let child = leasehold::broker::request::TaskSpec { heartbeat, ..spec(FINANCE) };
    let child = scene.a.delegate(&delegating, &scene.world.id(), root, 1, child).await.unwrap();
    let held = scene.issue(&scene.world.caller(FINANCE), child.task.id).await.unwrap();
    Subject { task: child.task.id, held }
}

/// Calls a verb about a task and a lease; an answer that leaves them out is as if they were not found.
async fn call(
    scene: &Scene,
    broker: &Broker,
    rpc: Rpc,
    caller: &Caller,
    (task, lease): (TaskId, LeaseId),
    held: &Held,
) -> Result<(), BrokerError> {
    let id = scene.world.id();
    let (text, found) = (String::new(), |found: bool| match found {
        true => Ok(()),
        false => Err(Refusal::NotFound("entry of the list").into()),
    });
    let scope = || Scope::parse("tier:critical").unwrap();
    match rpc {
        Rpc::BeginTask => broker.begin(caller, &id, spec(FINANCE)).await.map(drop),
        Rpc::DelegateTask => broker.delegate(caller, &id, task, 1, spec(OTHER)).await.map(drop),
        Rpc::AdvanceTask => broker.advance(caller, &id, task, unchanged(1)).await.map(drop),
        Rpc::SuspendTask => broker.suspend(caller, &id, task, text).await.map(drop),
        Rpc::ResumeTask => broker.resume(caller, &id, task, 1).await.map(drop),
        Rpc::CompleteTask | Rpc::FailTask | Rpc::CancelTask | Rpc::RevokeTask => {
            broker.end(caller, &id, rpc, task, text).await.map(drop)
        }
        Rpc::Heartbeat => broker.heartbeat(caller, &id, task).await.map(drop),
        Rpc::GetTask => broker.get_task(caller, task).await.map(drop),
        Rpc::WatchTask => broker.watched_task(caller, task).await.map(drop),
        Rpc::ListTasks => {
            let page = broker.list_tasks(caller, 1_000, "", None).await?;
            found(page.tasks.iter().any(|view| view.task.id == task))
        }
        Rpc::IssueCredential => broker.issue(caller, &id, token(task)).await.map(drop),
        Rpc::RenewCredential => broker.renew(caller, &id, lease, None, None).await.map(drop),
        Rpc::ReleaseCredential => broker.release(caller, &id, lease).await.map(drop),
        Rpc::GetLease => broker.get_lease(caller, lease).await.map(drop),
        Rpc::ListLeases => {
            let page = broker.list_leases(caller, task, 0, "").await?;
            found(!page.leases.is_empty())
        }
        Rpc::IntrospectCredential => {
            found(broker.introspect(caller, held.presented()).await?.is_some())
        }
        Rpc::GetTrustBundle | Rpc::WatchRevocations => Ok(()),
        Rpc::RevokeLease => broker.revoke_lease(caller, &id, lease, text).await.map(drop),
        Rpc::Quarantine => broker.quarantine(caller, &id, scope(), text).await.map(drop),
        Rpc::LiftQuarantine => broker.lift_quarantine(caller, &id, scope(), text).await.map(drop),
        Rpc::ListTiers => broker.tiers(caller).map(drop),
        Rpc::GetStatus => broker.status(caller).await.map(drop),
    }
}

#[tokio::test]
async fn class_02_every_verb_answers_every_role_as_the_table_says() {
    let scene = Scene::on_model().await;
    for (rpc, row) in TABLE {
        for (name, expected) in CALLERS.iter().zip(row.chars()) {
            let Subject { task, held } = subject(&scene).await;
            let caller = scene.world.caller(name);
            let answer = call(&scene, &scene.b, rpc, &caller, (task, held.lease), &held).await;
            let was = match answer {
                Ok(()) => '+',
                Err(BrokerError::Refused(refusal)) => match refusal.reason() {
                    "NOT_FOUND" => 'n',
                    "ROLE_MISSING" => 'r',
                    _ => panic!("{rpc:?} by {name}: {refusal}"),
                },
                Err(error) => panic!("{rpc:?} by {name}: {error}"),
            };
            assert_eq!(was, expected, "{rpc:?} by {name}");
        }
    }
}

/// Those whom the table tells that there is no such thing, and about which verb; a list leaves it out instead.
fn refused_as_unknown() -> Vec<(&'static str, Rpc)> {
    let told = |column: usize| {
        let rows = TABLE.into_iter().filter(move |(_, row)| row.chars().nth(column) == Some('n'));
        rows.map(|(rpc, _)| rpc).filter(|rpc| *rpc != Rpc::ListTasks)
    };
    // An agent of another class is told the same as another agent of this one.
    let columns = [(CD, 1), (OTHER, 3), (RESEARCH, 3)];
    columns
        .into_iter()
        .flat_map(|(name, column)| told(column).map(move |rpc| (name, rpc)))
        .collect()
}

#[tokio::test]
async fn class_03_ids_of_others_are_answered_as_ids_that_never_were_and_nothing_happens() {
    let scene = Scene::on_model().await;
    let Subject { task, held } = subject(&scene).await;
    let unknown = (TaskId::new(task.partition(), 7), LeaseId::new(task.partition(), 7));
    let before = scene.a.get_task(&scene.operator, task).await.unwrap().task;
    for (name, rpc) in refused_as_unknown() {
        let caller = scene.world.caller(name);
        let foreign = call(&scene, &scene.b, rpc, &caller, (task, held.lease), &held).await;
        let never = call(&scene, &scene.b, rpc, &caller, unknown, &held).await;
        assert_eq!(refused(foreign), refused(never), "{rpc:?} by {name}");
    }
    assert_eq!(scene.b.get_task(&scene.operator, task).await.unwrap().task, before);
    assert!(scene.is_active(&scene.b, &held).await);
}

/// Whoever measures how long an answer takes learns no more than from the answer.
#[tokio::test]
async fn class_03_ids_of_others_cost_as_many_round_trips_as_ids_that_never_were() {
    let scene = Scene::on_model().await;
    let Subject { task, held } = subject(&scene).await;
    let unknown = (TaskId::new(task.partition(), 7), LeaseId::new(task.partition(), 7));
    let (store, warm) = Counting::over(&scene);
    scene.issue_at(&warm, &scene.world.caller(FINANCE), token(task)).await.unwrap();
    for (name, rpc) in refused_as_unknown() {
        let caller = scene.world.caller(name);
        let (cold_store, cold) = Counting::over(&scene);
        for (store, broker) in [(&store, &warm), (&cold_store, &cold)] {
            store.asked();
            refused(call(&scene, broker, rpc, &caller, (task, held.lease), &held).await);
            let of_others = store.asked();
            refused(call(&scene, broker, rpc, &caller, unknown, &held).await);
            assert_eq!(of_others, store.asked(), "{rpc:?} by {name}");
        }
    }
}

/// A broker that knows the task from before it was handed over asks again before it says that it is somebody else's.
#[tokio::test]
async fn who_took_a_task_over_may_delegate_at_every_broker() {
    let scene = Scene::on_model().await;
    let task = scene.begin(spec(FINANCE)).await.task.id;
    scene.issue_at(&scene.b, &scene.world.caller(FINANCE), token(task)).await.unwrap();
    let agent = Some(Agent::parse(OTHER).unwrap());
    let handover = AdvanceRequest { agent, ..unchanged(1) };
    scene.a.advance(&scene.ci, &scene.world.id(), task, handover).await.unwrap();
    let (former, other) = (scene.world.caller(FINANCE), scene.world.caller(OTHER));
    scene.issue(&other, task).await.unwrap();
    let delegate =
        async |caller| scene.b.delegate(caller, &scene.world.id(), task, 2, spec(FINANCE)).await;
    delegate(&other).await.unwrap();
    assert_eq!(reason(delegate(&former).await), "NOT_FOUND");
}

#[tokio::test]
async fn class_03_ids_of_a_partition_that_there_is_not_are_not_found() {
    let scene = Scene::on_model().await;
    let beyond = leasehold::domain::id::Partition(200);
    let ids = (TaskId::new(beyond, 1), LeaseId::new(beyond, 1));
    let Subject { held, .. } = subject(&scene).await;
    for (rpc, caller) in [
        (Rpc::GetTask, CI),
        (Rpc::CompleteTask, CI),
        (Rpc::DelegateTask, CI),
        (Rpc::IssueCredential, FINANCE),
        (Rpc::RenewCredential, FINANCE),
        (Rpc::RevokeTask, OPERATOR),
        (Rpc::RevokeLease, OPERATOR),
        (Rpc::ListLeases, OPERATOR),
    ] {
        let answer = call(&scene, &scene.b, rpc, &scene.world.caller(caller), ids, &held).await;
        assert_eq!(reason(answer), "NOT_FOUND", "{rpc:?}");
    }
}

#[tokio::test]
async fn principals_of_one_orchestrator_entry_drive_each_other_s_tasks() {
    let scene = Scene::on_model().await;
    let task = scene.begin(spec(FINANCE)).await.task.id;
    let colleague = scene.world.caller(CI_TOO);
    let id = scene.world.id();
    scene.b.end(&colleague, &id, Rpc::CompleteTask, task, String::new()).await.unwrap();
}

#[tokio::test]
async fn what_an_operator_suspended_an_operator_resumes() {
    let scene = Scene::on_model().await;
    let task = scene.begin(spec(FINANCE)).await.task.id;
    let suspend = |caller| {
        let id = scene.world.id();
        let broker = &scene.a;
        async move { broker.suspend(caller, &id, task, String::new()).await }
    };
    suspend(&scene.ci).await.unwrap();
    suspend(&scene.operator).await.unwrap();
    let resumed = scene.b.resume(&scene.ci, &scene.world.id(), task, 2).await;
    assert_eq!(reason(resumed), "TASK_SUSPENDED");
    scene.b.resume(&scene.operator, &scene.world.id(), task, 2).await.unwrap();
}

#[tokio::test]
async fn a_principal_of_two_agent_classes_is_refused_as_caller_and_as_agent() {
    let scene = Scene::on_model().await;
    let refusal = scene.world.try_caller(TWOFOLD, Stamp::from_seconds(4_000_000_000)).unwrap_err();
    assert_eq!(refusal.reason(), "POLICY_DENIED");
    let begun = scene.a.begin(&scene.ci, &scene.world.id(), spec(TWOFOLD)).await;
    assert_eq!(reason(begun), "REQUEST_INVALID");
}

/// An agent of the right name but another class is not the task's.
#[tokio::test]
async fn class_12_an_agent_that_was_moved_to_another_class_has_no_part_in_its_former_tasks() {
    let scene = Scene::on_model().await;
    let agent = scene.world.caller(&agent_of(0));
    let task = scene.begin(spec(&agent_of(0))).await.task.id;
    scene.issue(&agent, task).await.unwrap();
    let mut roles = settings().roles;
    for entry in &mut roles {
        if let Role::Agent(class) = &mut entry.role {
            class.name = "audit".parse_name();
        }
    }
    let moved = Caller::new(agent.identity().clone(), &roles).unwrap();
    assert_eq!(reason(scene.issue(&moved, task).await), "NOT_FOUND");
}

#[tokio::test]
async fn class_12_an_agent_of_another_class_is_not_a_class_s_agent() {
    let scene = Scene::on_model().await;
    let task = scene.begin(spec("class:finance")).await.task.id;
    let research = scene.world.caller(RESEARCH);
    assert_eq!(reason(scene.issue(&research, task).await), "NOT_FOUND");
    scene.issue(&scene.world.caller(&agent_of(5)), task).await.unwrap();
}
