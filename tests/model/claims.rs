//! What is claimed: with all rules no scenario breaks the promise, and without any one of them some scenario does.

use stateright::{Checker, HasDiscoveries, Model, Path};

use super::protocol::{Action, BOUND, FENCED, FENCED_AT_ONCE, FENCED_BY_LAPSE, Protocol, WINDOW};
use super::rules::{Rule, Rules};
use super::scenario::{
    BROKER_RESTART, CHANGING_CLOCKS, DEPOSED, DISCONNECT, FAILOVER, LARGE, QUARANTINE, REMOVAL,
    SHORT_DELTA, SMALL, Scenario, TWO_BROKERS, TWO_PARTITIONS, VERIFIER_RESTART, WHOLE,
};
use super::state::State;

#[test]
fn with_all_rules_every_scenario_keeps_the_promise() {
    for scenario in SMALL {
        explore_all(scenario);
    }
}

#[test]
fn with_all_rules_a_million_states_keep_the_promise() {
    let states = explore_all(WHOLE);
    assert!(states >= 1_000_000, "only {states} states");
}

#[test]
#[ignore = "soak: tens of millions of states, two minutes"]
fn with_all_rules_the_large_scenarios_keep_the_promise() {
    for scenario in LARGE {
        explore_all(scenario);
    }
}

#[test]
fn rule_01_as_of_is_the_send_time_of_the_read() {
    breaks(TWO_BROKERS, &[Rule::AsOfIsSendTime], BOUND);
}

#[test]
fn rule_02_grant_only_from_reads_after_registration() {
    breaks(TWO_BROKERS, &[Rule::ReadsAfterRegistration], FENCED);
}

#[test]
fn rule_03_registry_is_read_after_recorded() {
    breaks(TWO_BROKERS, &[Rule::RegistryAfterRecorded], FENCED);
    breaks(QUARANTINE, &[Rule::RegistryAfterRecorded], FENCED);
}

#[test]
fn rule_04_verifier_counts_until_lapse_though_disconnected() {
    breaks(DISCONNECT, &[Rule::CountsUntilLapse], FENCED);
}

#[test]
fn rule_05_instance_ids_of_brokers() {
    breaks(BROKER_RESTART, &[Rule::InstanceIds], FENCED);
}

#[test]
fn rule_05_instance_ids_of_verifiers() {
    breaks(VERIFIER_RESTART, &[Rule::InstanceIds], BOUND);
}

#[test]
fn rule_06_answer_behind_events() {
    breaks(TWO_BROKERS, &[Rule::AnswerBehindEvents], BOUND);
}

#[test]
fn rule_07_minimum_over_partitions() {
    breaks(TWO_PARTITIONS, &[Rule::EarliestPartition], BOUND);
    breaks(QUARANTINE, &[Rule::EarliestPartition], BOUND);
}

#[test]
fn rule_08_lapse_is_delta_times_drift_squared() {
    breaks(TWO_BROKERS, &[Rule::LapseIsSquared], FENCED);
    breaks(SHORT_DELTA, &[Rule::LapseIsSquared], FENCED);
    breaks(CHANGING_CLOCKS, &[Rule::LapseIsSquared], FENCED);
}

#[test]
fn rule_09_beat_counts_into_the_age() {
    breaks(REMOVAL, &[Rule::BeatCounts], FENCED);
}

#[test]
fn rule_10_stopping_broker_leaves_its_record() {
    breaks(BROKER_RESTART, &[Rule::StoppingLeavesRecord], FENCED);
}

#[test]
fn rule_11_restarted_verifier_has_no_freshness() {
    breaks(VERIFIER_RESTART, &[Rule::RestartIsStale], BOUND);
}

#[test]
fn rule_12_freshness_from_the_send_time_of_the_verifier() {
    breaks(TWO_BROKERS, &[Rule::FreshFromSendTime], BOUND);
}

#[test]
fn rule_13_young_registry_counts_no_acknowledgements() {
    breaks(FAILOVER, &[Rule::YoungRegistry], FENCED);
}

/// Rule 15 covers this too: whoever lost the whole registry lost each record. Without both the incarnation matters.
#[test]
fn rule_14_registration_is_bound_to_its_incarnation() {
    let only_15 = Rules::ALL.without(Rule::RegistrationOfRecord);
    assert!(counterexample(FAILOVER, only_15, FENCED).is_none());
    breaks(FAILOVER, &[Rule::RegistrationOfIncarnation, Rule::RegistrationOfRecord], FENCED);
}

/// Rule 14 does not cover this: the record is gone, and the incarnation is the same.
#[test]
fn rule_15_registration_is_bound_to_its_record() {
    breaks(REMOVAL, &[Rule::RegistrationOfRecord], FENCED);
}

#[test]
fn rule_16_registry_is_read_where_reads_are_confirmed() {
    breaks(DEPOSED, &[Rule::RegistryReadConfirmed], FENCED);
}

#[test]
fn rule_17_record_is_removed_only_if_its_beat_still_stands() {
    breaks(REMOVAL, &[Rule::RemovalCompares], FENCED);
}

#[test]
fn rule_18_only_the_first_incarnation_of_a_store_is_exempt() {
    breaks(FAILOVER, &[Rule::OnlyFirstIsExempt], FENCED);
}

#[test]
fn rule_19_a_verifier_begins_anew_with_another_store() {
    breaks(TWO_BROKERS, &[Rule::OneStore], FENCED);
}

/// Explores every state that can be reached. The promise holds in each, and in some of them something is promised.
fn explore_all(scenario: Scenario) -> usize {
    let name = scenario.name;
    let checker = Protocol { scenario, rules: Rules::ALL }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    for property in [BOUND, FENCED] {
        let actions = checker.discovery(property).map(Path::into_actions);
        assert!(actions.is_none(), "{name}: {property} is broken by\n{}", lines(&actions));
    }
    for property in [WINDOW, FENCED_AT_ONCE, FENCED_BY_LAPSE] {
        assert!(checker.discovery(property).is_some(), "{name}: never {property}");
    }
    println!("{name}: {} states, none breaks the promise", checker.unique_state_count());
    checker.unique_state_count()
}

/// Without these rules a scenario, which keeps the promise with them, breaks this part of it.
#[track_caller]
fn breaks(scenario: Scenario, rules: &[Rule], property: &'static str) {
    let is_explored = SMALL.iter().any(|small| small.name == scenario.name);
    assert!(is_explored, "{}: not tried with all rules", scenario.name);
    let left = rules.iter().fold(Rules::ALL, |left, rule| left.without(*rule));
    let found = counterexample(scenario, left, property);
    assert!(found.is_some(), "{}: {property} holds without {rules:?}", scenario.name);
    println!("{}, without {rules:?}:\n{}", scenario.name, lines(&found));
}

/// The shortest run that breaks a part of the promise.
fn counterexample(scenario: Scenario, rules: Rules, property: &'static str) -> Option<Vec<Action>> {
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = Protocol { scenario, rules }.checker().finish_when(wanted).spawn_bfs().join();
    checker.discovery(property).map(Path::<State, Action>::into_actions)
}

fn lines(actions: &Option<Vec<Action>>) -> String {
    actions.iter().flatten().map(|action| format!("    {action:?}\n")).collect()
}
