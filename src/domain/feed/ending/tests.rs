//! When an ending is FENCED, and when DRAINED.

use super::*;
use crate::domain::feed::position::Owner;
use crate::domain::time::Stamp;

const OWN: Owner = Owner([1; 16]);
const DELTA_MAX: Span = Span::from_seconds(30);
const TERMS: Terms = Terms { drift: Drift::DEFAULT, delta_max: DELTA_MAX };

fn at(seconds: u64) -> Moment {
    Moment::new(Span::from_seconds(seconds))
}

fn far(seconds: u64) -> Origin {
    Origin { incarnation: Stamp::from_seconds(1), stamp: Stamp::from_seconds(seconds) }
}

fn positions(seconds: u64) -> BTreeMap<Partition, Origin> {
    [(Partition(3), far(seconds))].into()
}

/// RECORDED at second 1,000 of this broker's clock, with Δ of 5 s.
fn ending() -> Ending {
    Ending { written: positions(50), recorded: at(1_000), delta: Span::from_seconds(5) }
}

fn broker(applied: u64, acked: u64) -> BrokerRecord {
    BrokerRecord {
        instance: InstanceId::new(1),
        name: "b1".into(),
        address: String::new(),
        incarnation: Stamp::from_seconds(1),
        beat: 1,
        applied: positions(applied),
        acked: positions(acked),
        verifiers: Vec::new(),
        webhooks: BTreeMap::new(),
    }
}

fn verifier(instance: u128) -> VerifierRecord {
    VerifierRecord {
        instance: InstanceId::new(instance),
        owner: OWN,
        name: format!("v{instance}"),
        viewed_at: Stamp::ZERO,
        behind: BTreeMap::new(),
        undrained: None,
        connected: true,
    }
}

fn registry(records: Vec<BrokerRecord>) -> Registry {
    let reader = InstanceId::new(1);
    Registry { reader, sent: at(1_001), incarnation_known: at(100), is_first: false, records }
}

fn judge(registry: &Registry) -> Progress {
    ending().judge(Some(registry), at(1_002), TERMS)
}

#[test]
fn it_is_fenced_once_every_record_has_it() {
    assert_eq!(judge(&registry(vec![broker(50, 50)])), Progress::Fenced);
    let pending = Pending { broker: "b1".into(), verifier: None };
    let behind = registry(vec![broker(60, 60), broker(49, 49)]);
    assert_eq!(judge(&behind), Progress::Pending(Some(vec![pending])));
}

#[test]
fn every_partition_that_was_written_counts() {
    let mut ending = ending();
    ending.written.insert(Partition(4), far(50));
    let registry = registry(vec![broker(60, 60)]);
    assert!(matches!(ending.judge(Some(&registry), at(1_002), TERMS), Progress::Pending(Some(_))));
}

#[test]
fn a_verifier_that_is_behind_is_named() {
    let mut record = broker(50, 40);
    record.verifiers = vec![verifier(7), VerifierRecord { behind: positions(40), ..verifier(8) }];
    let pending =
        Pending { broker: "b1".into(), verifier: Some((InstanceId::new(8), "v8".into())) };
    assert_eq!(judge(&registry(vec![record])), Progress::Pending(Some(vec![pending])));
}

#[test]
fn rule_03_a_registry_that_was_read_before_recorded_says_nothing() {
    let early = Registry { sent: at(999), ..registry(vec![broker(50, 50)]) };
    assert_eq!(judge(&early), Progress::Pending(None));
    assert_eq!(ending().judge(None, at(1_002), TERMS), Progress::Pending(None));
}

#[test]
fn rule_13_a_registry_younger_than_lapse_counts_no_acknowledgements() {
    let lapse = Drift::DEFAULT.lapse(DELTA_MAX);
    let known = |since| Registry { incarnation_known: since, ..registry(vec![broker(50, 50)]) };
    assert_eq!(judge(&known(at(1_001).minus(lapse))), Progress::Fenced);
    let young = known(at(1_001).minus(lapse).plus(Span::from_micros(1)));
    assert_eq!(judge(&young), Progress::Pending(None));
    let first = Registry { is_first: true, ..young };
    assert_eq!(judge(&first), Progress::Fenced, "no registry was before it");
}

#[test]
fn a_registry_without_the_broker_that_reads_it_says_nothing() {
    assert_eq!(judge(&registry(vec![])), Progress::Pending(None));
    let other = BrokerRecord { instance: InstanceId::new(2), ..broker(50, 50) };
    assert_eq!(judge(&registry(vec![other.clone()])), Progress::Pending(None));
    assert_eq!(judge(&registry(vec![other, broker(50, 50)])), Progress::Fenced);
}

#[test]
fn rule_08_after_lapse_it_is_fenced_whoever_is_silent() {
    let lapse = Drift::DEFAULT.lapse(ending().delta);
    let over = at(1_000).plus(lapse);
    assert_eq!(ending().at_latest(TERMS), over);
    let ending = ending();
    let silent = registry(vec![broker(1, 1)]);
    let almost = over.minus(Span::from_micros(1));
    assert!(matches!(ending.judge(Some(&silent), almost, TERMS), Progress::Pending(Some(_))));
    assert_eq!(ending.judge(Some(&silent), over, TERMS), Progress::Fenced);
    assert_eq!(ending.judge(None, over, TERMS), Progress::Fenced);
}

fn drain(listed: &[u128], verifiers: Vec<VerifierRecord>) -> Drain {
    let listed = listed.iter().map(|n| ((InstanceId::new(*n), OWN), format!("v{n}"))).collect();
    let record = BrokerRecord { verifiers, ..broker(50, 50) };
    ending().drain(&listed, &registry(vec![record]))
}

#[test]
fn it_is_drained_when_everybody_who_was_listed_said_so() {
    let over = |n| VerifierRecord { undrained: Some(BTreeMap::new()), ..verifier(n) };
    let runs = |n| VerifierRecord { undrained: Some(positions(49)), ..verifier(n) };
    assert_eq!(drain(&[7], vec![over(7)]), Drain::Drained);
    assert_eq!(drain(&[7], vec![over(7), runs(8)]), Drain::Drained, "it came later");
    assert_eq!(drain(&[7, 8], vec![over(7), runs(8)]), Drain::Running(vec!["v8".into()]));
    let unapplied = VerifierRecord { behind: positions(49), ..over(7) };
    assert_eq!(drain(&[7], vec![unapplied]), Drain::Running(vec!["v7".into()]));
}

#[test]
fn a_verifier_that_is_gone_or_never_says_makes_it_unknown_and_never_true() {
    assert_eq!(drain(&[7], vec![]), Drain::Unknown(vec!["v7".into()]));
    assert_eq!(drain(&[7], vec![verifier(7)]), Drain::Unknown(vec!["v7".into()]));
    let gone = VerifierRecord { connected: false, undrained: Some(positions(49)), ..verifier(7) };
    assert_eq!(drain(&[7], vec![gone]), Drain::Unknown(vec!["v7".into()]));
}

/// Between two brokers its view may have begun anew: what was over by the first may run by the second.
#[test]
fn rule_19_of_a_verifier_at_several_brokers_those_count_that_it_is_connected_to() {
    let at = |connected, undrained| VerifierRecord { connected, undrained, ..verifier(7) };
    let (over, runs) = (Some(BTreeMap::new()), Some(positions(49)));
    let several = |one: &VerifierRecord, other: &VerifierRecord| {
        let both = [(one, other), (other, one)];
        let [by_order, by_other_order] = both.map(|(a, b)| drain(&[7], vec![a.clone(), b.clone()]));
        assert_eq!(by_order, by_other_order);
        by_order
    };
    let (is_over, was_over) = (at(true, over.clone()), at(false, over));
    let (still_runs, ran) = (at(true, runs.clone()), at(false, runs));
    let (running, unknown) = (Drain::Running(vec!["v7".into()]), Drain::Unknown(vec!["v7".into()]));
    assert_eq!(several(&is_over, &is_over), Drain::Drained);
    assert_eq!(several(&is_over, &ran), Drain::Drained, "it went on to another");
    assert_eq!(several(&was_over, &still_runs), running, "it began anew");
    assert_eq!(several(&is_over, &still_runs), running);
    assert_eq!(several(&was_over, &ran), unknown);
    assert_eq!(several(&was_over, &was_over), Drain::Drained);
}

#[test]
fn class_03_whoever_takes_the_instance_of_another_s_verifier_says_nothing_for_it() {
    let runs = VerifierRecord { undrained: Some(positions(49)), ..verifier(7) };
    let over = VerifierRecord { undrained: Some(BTreeMap::new()), ..verifier(7) };
    let of_another = VerifierRecord { owner: Owner([2; 16]), ..over.clone() };
    let of_nobody = VerifierRecord { owner: Owner::default(), ..over };
    for liar in [of_another, of_nobody] {
        let running = Drain::Running(vec!["v7".into()]);
        assert_eq!(drain(&[7], vec![runs.clone(), liar.clone()]), running);
        assert_eq!(drain(&[7], vec![liar]), Drain::Unknown(vec!["v7".into()]));
    }
}

#[test]
fn a_registry_tells_who_is_to_drain_only_once_every_broker_has_applied_it() {
    assert!(ending().is_applied(&registry(vec![broker(50, 1)])));
    assert!(!ending().is_applied(&registry(vec![broker(50, 50), broker(49, 49)])));
    assert!(!ending().is_applied(&registry(vec![])));
}
