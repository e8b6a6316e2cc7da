//! The promise, kept by the real code in a simulated world (DESIGN.md section 5).
//!
//! Three brokers (`feed::core::Core`, `domain::feed::Ending`), one store (`testing::model::ModelStore`), ten verifiers
//! (`verifier::{Checker, Mirror, Stream}`), each process with its own drifting clocks, and faults on a seeded schedule. One thread,
//! no real time, no sockets: the same seed gives the same world, but for its signatures. Credentials are tokens and certificates
//! from the real broker's `issue`; six verifiers check the tokens by `Checker::check`, four the certificates by
//! `Checker::check_certificate`, and all of them what they do not ask for by their view alone. What is invented here is the driving,
//! which follows `src/feed/{run,registry,enforce}.rs` and `src/verifier/{connection,certificates}.rs`; transports are not in it.
//!
//! Each rule of fencing can be left out, mostly by driving the same code otherwise: every place says `Rule n's switch`.
//!
//! - `LEASEHOLD_PROMISE_CHECKS`: how many checks; `make faults` makes 10^7 of them.
//! - `LEASEHOLD_PROMISE_SEED`: begin with that world.
#![allow(
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what it expects by failing"
)]

mod broker;
mod checks;
mod clock;
mod ending;
mod faults;
mod issuing;
mod report;
mod switches;
mod verifier;
mod world;

use checks::By;
use faults::Fault::{self, *};
use report::Report;
use world::{LASTS, Off, World};

/// The checks of `make test`.
const FEW: u64 = 100_000;

/// What goes wrong, and about how often, in microseconds.
type Schedule = (&'static [Fault], u64);

const EVERYTHING: Schedule = (&Fault::ALL, 700_000);
/// The same, with time between for acknowledgements.
const SELDOM: Schedule = (&Fault::ALL, 2_500_000);

/// The whole checker, of either sort.
const WHOLE: [By; 2] = [By::Token, By::Certificate];
/// That of tokens, that of certificates, and the view alone.
const EACH: [&[By]; 3] = [&[By::Token], &[By::Certificate], &[By::View]];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn run(first: u64, checks: u64) -> Report {
    let mut report = Report::default();
    for seed in first.. {
        let schedule = if seed % 2 == 0 { SELDOM } else { EVERYTHING };
        report.add(World::new(seed, Off::Nothing, schedule).run());
        if report.checks() >= checks && report.worlds > 1 {
            break;
        }
    }
    report
}

#[track_caller]
fn keeps_the_promise(checks: u64) {
    let first = number("LEASEHOLD_PROMISE_SEED").unwrap_or(1);
    let report = run(first, checks);
    println!("seed {first}\n{report}");
    println!(
        "again: LEASEHOLD_PROMISE_SEED={first} LEASEHOLD_PROMISE_CHECKS={checks} \
         cargo test --all-features --test promise -- --nocapture nothing_is_accepted"
    );
    assert_eq!(report.violations, 0, "{:#?}", report.first);
    assert_eq!(report.vacuous(), Vec::<String>::new(), "such a run shows nothing");
}

/// Something happens that must not, in one of so many worlds, and for each of `by` one of those lets it.
#[track_caller]
fn is_caught(off: Off, schedule: Schedule, first: u64, by: &[&[By]]) {
    const WORLDS: u64 = 60;
    let mut worlds = first..first + WORLDS;
    let is_shown = |report: &Report| {
        let shows = |by: &&[By]| by.iter().any(|by| report.is_by(*by));
        !report.first.is_empty() && by.iter().all(shows)
    };
    let found = worlds.find_map(|seed| {
        let (report, until) = World::new(seed, off, schedule).run_until(LASTS, is_shown);
        is_shown(&report).then_some((seed, until, report.first))
    });
    let (seed, until, found) = found.expect("left out, and nothing shows it");
    println!("{off:?}: {found:#?}");
    let (whole, _) = World::new(seed, Off::Nothing, schedule).run_until(until, |_| false);
    assert_eq!(whole.first, [].into(), "it is not what was left out");
}

#[test]
fn nothing_is_accepted_after_fenced_and_nothing_committed_after_recorded() {
    keeps_the_promise(number("LEASEHOLD_PROMISE_CHECKS").unwrap_or(FEW));
}

#[test]
#[ignore = "soak: 10^8 checks"]
fn soak_nothing_is_accepted_after_fenced() {
    keeps_the_promise(100_000_000);
}

#[test]
fn without_the_fence_wait_something_is_accepted() {
    is_caught(Off::FenceWait, EVERYTHING, 1, &EACH);
}

#[test]
fn without_guards_something_is_committed() {
    is_caught(Off::Guards, EVERYTHING, 1, &[]);
}

#[test]
fn by_lifetime_alone_something_is_accepted() {
    is_caught(Off::View, EVERYTHING, 1, &EACH);
}

#[test]
fn without_its_wall_clock_a_frozen_broker_says_that_it_is_up_to_date() {
    is_caught(Off::Witness, (&[FreezeBroker, SlowLink], 700_000), 1, &[&WHOLE]);
}

#[test]
fn without_its_wall_clock_a_frozen_verifier_takes_itself_for_fresh() {
    is_caught(Off::Witness, (&[FreezeVerifier], 700_000), 1, &[&WHOLE]);
}

/// Rule, what brings about that it is needed, and a world from which on that is soon seen.
macro_rules! rules {
    ($($name:ident: $rule:literal, $schedule:expr, $first:literal;)*) => {$(
        #[test]
        fn $name() {
            is_caught(Off::Rule($rule), $schedule, $first, &[&WHOLE]);
        }
    )*};
}

rules! {
    rule_01_as_of_is_the_send_time: 1, EVERYTHING, 4;
    rule_02_reads_count_once_registered: 2, (&[StartUnheard], 4_500_000), 2;
    rule_03_the_registry_is_read_after_recorded: 3, (&[StopBrokerForGood, SlowLink, CutReads], 700_000), 2;
    rule_04_who_is_cut_off_counts: 4, (&[CutLink], 700_000), 12;
    rule_05_each_run_is_another_instance: 5, EVERYTHING, 6;
    rule_06_an_answer_does_not_overtake_events: 6, EVERYTHING, 5;
    rule_07_the_earliest_partition: 7, EVERYTHING, 1;
    rule_08_lapse_for_both_clocks: 8, EVERYTHING, 6;
    rule_09_the_beat_counts: 9, (&[CutBeats, SlowLink, CutReads], 700_000), 1;
    rule_10_who_stops_leaves_its_record: 10, EVERYTHING, 1;
    rule_11_a_restarted_verifier_is_not_fresh: 11, (&[KillVerifier, CutReads], 700_000), 3;
    rule_12_fresh_from_the_own_send_time: 12, EVERYTHING, 12;
    rule_13_a_young_registry_counts_for_nothing: 13, EVERYTHING, 2;
    rule_14_a_registration_is_of_its_incarnation: 14, (&[RestartBehindCut], 4_000_000), 1;
}
