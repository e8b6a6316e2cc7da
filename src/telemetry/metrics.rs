//! What is counted and timed, and its Prometheus text.
//!
//! One recorder serves the whole process; brokers that share a process share its numbers. Labels are `&'static str`, so
//! that no id can become one; but for the names of trust domains and webhooks, which configuration bounds.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// RPCs and HTTP requests answered, by `call` and `code`.
pub const CALLS: &str = "leasehold_calls_total";
/// Seconds from a request's headers to its answer, by `call`.
pub const CALL_SECONDS: &str = "leasehold_call_seconds";
/// Requests refused, by the stable `reason` of the answer's `ErrorInfo`.
pub const REFUSALS: &str = "leasehold_refusals_total";
/// Credentials minted, by `kind` and by `verb`: `issue` or `renew`.
pub const CREDENTIALS: &str = "leasehold_credentials_total";
/// Tasks ended, by their final `state`.
pub const TASKS_ENDED: &str = "leasehold_tasks_ended_total";
/// Commits that the store answered, by `command` and `outcome`: `committed`, `replayed`, `stale`, `refused` or `failed`.
pub const COMMITS: &str = "leasehold_store_commits_total";
/// Seconds that the store took for a commit, by `command`.
pub const COMMIT_SECONDS: &str = "leasehold_store_commit_seconds";
/// What was read while the broker runs: changed files by `source` `bundle` and `server_certificate`, fetched keys by `issuer`;
/// and by `outcome`: `ok` or `failed`, which leaves the former ones.
pub const TRUST_LOADS: &str = "leasehold_trust_loads_total";
/// How many seconds ago the source of a `trust_domain`'s bundle last confirmed it; without a bundle, how long the broker has
/// waited for one.
pub const TRUST_BUNDLE_AGE: &str = "leasehold_trust_bundle_age_seconds";
/// When the certificate that the broker shows its callers expires, in seconds since 1970.
pub const SERVER_CERTIFICATE_EXPIRY: &str = "leasehold_server_certificate_expiry_timestamp_seconds";

/// How far the broker's time is ahead of the store's, in seconds; behind it is below zero.
pub const CLOCK_SKEW: &str = "leasehold_clock_skew_seconds";
/// How long ago the broker read what its revocation lists were made from, in seconds.
pub const REVOCATION_LIST_AGE: &str = "leasehold_revocation_list_age_seconds";
/// How many certificates are on its revocation lists.
pub const REVOCATION_LIST_ENTRIES: &str = "leasehold_revocation_list_entries";

/// Reads of a partition's revocations, by `outcome`: `counted`, `closed` or `failed`.
pub const FEED_READS: &str = "leasehold_feed_reads_total";
/// Writings of the broker's record in the registry, by `outcome`: `confirmed` or `failed`.
pub const BEATS: &str = "leasehold_feed_beats_total";
/// Keep-alives of verifiers, by `outcome`: `answered`, or `stale` where the broker's view was too old to answer.
pub const KEEP_ALIVES: &str = "leasehold_feed_keep_alives_total";
/// Streams of verifiers that were closed because they did not keep up.
pub const FEED_OVERFLOWS: &str = "leasehold_feed_overflows_total";
/// How old the broker's view of revocations is; infinite while it may not answer verifiers.
pub const FEED_AGE: &str = "leasehold_feed_age_seconds";
/// Open streams of verifiers.
pub const FEED_STREAMS: &str = "leasehold_feed_streams";
/// Open watches of tasks.
pub const TASK_WATCHES: &str = "leasehold_task_watches";
/// Brokers in the store's registry.
pub const BROKERS: &str = "leasehold_brokers";
/// Seconds from RECORDED to FENCED.
pub const FENCED_SECONDS: &str = "leasehold_fenced_seconds";
/// Events for a `webhook`, by `outcome`: `delivered`; `failed`, and tried again; `given_up`, `refused` or `lost`, which is not
/// delivered; `gap`, where the receiver was told so.
pub const WEBHOOK_EVENTS: &str = "leasehold_webhook_events_total";
/// How long ago the oldest event happened that a `webhook`'s receiver did not take when it was tried; 0: it takes them.
pub const WEBHOOK_BEHIND: &str = "leasehold_webhook_behind_seconds";

/// Questions that a sidecar answered, by `surface` (`verify`, `admit` or `ext_authz`) and `outcome`: `admitted`, [`UNREADABLE`], or
/// the stable reason of the refusal.
pub const SIDECAR_ANSWERS: &str = "leasehold_sidecar_answers_total";
/// What came is no question, or asks what makes no sense: whoever asks is to be mended.
pub const UNREADABLE: &str = "unreadable";
/// How old a sidecar's view of revocations is; infinite while it has none.
pub const SIDECAR_VIEW_AGE: &str = "leasehold_sidecar_view_age_seconds";
/// What a sidecar let in and counts as running, by `kind`: `held` requests, and credentials of which requests are `lingering`.
pub const SIDECAR_RUNNING: &str = "leasehold_sidecar_running";

const COUNTERS: [(&str, &str); 12] = [
    (CALLS, "RPCs and HTTP requests answered, by call and code"),
    (REFUSALS, "Requests refused, by the stable reason of the answer"),
    (CREDENTIALS, "Credentials minted, by kind and by verb: issue or renew"),
    (TASKS_ENDED, "Tasks ended, by final state"),
    (COMMITS, "Commits that the store answered, by command and outcome"),
    (TRUST_LOADS, "Trust bundles, issuers' keys and server certificates that were read again"),
    (FEED_READS, "Reads of a partition's revocations, by outcome"),
    (BEATS, "Writings of the broker's record in the registry, by outcome"),
    (KEEP_ALIVES, "Keep-alives of verifiers, by outcome: stale ones get no answer"),
    (FEED_OVERFLOWS, "Streams of verifiers that were closed because they did not keep up"),
    (SIDECAR_ANSWERS, "Questions that a sidecar answered, by surface and outcome"),
    (
        WEBHOOK_EVENTS,
        "Events for a webhook, by outcome: delivered, failed, given_up, refused, lost, gap",
    ),
];

const GAUGES: [(&str, Unit, &str); 12] = [
    (TRUST_BUNDLE_AGE, Unit::Seconds, "Time since the source of a trust bundle confirmed it"),
    (
        SERVER_CERTIFICATE_EXPIRY,
        Unit::Seconds,
        "When the broker's certificate towards its callers expires",
    ),
    (CLOCK_SKEW, Unit::Seconds, "How far the broker's time is ahead of the store's"),
    (
        REVOCATION_LIST_AGE,
        Unit::Seconds,
        "Time since what the revocation lists were made from was read",
    ),
    (REVOCATION_LIST_ENTRIES, Unit::Count, "Certificates on the broker's revocation lists"),
    (FEED_AGE, Unit::Seconds, "How old the broker's view of revocations is"),
    (FEED_STREAMS, Unit::Count, "Open streams of verifiers"),
    (TASK_WATCHES, Unit::Count, "Open watches of tasks"),
    (BROKERS, Unit::Count, "Brokers in the store's registry"),
    (SIDECAR_VIEW_AGE, Unit::Seconds, "How old a sidecar's view of revocations is"),
    (SIDECAR_RUNNING, Unit::Count, "What a sidecar let in and counts as running, by kind"),
    (
        WEBHOOK_BEHIND,
        Unit::Seconds,
        "Age of the oldest event that a webhook's receiver did not take",
    ),
];

const HISTOGRAMS: [(&str, &str); 3] = [
    (CALL_SECONDS, "Time from a request's headers to its answer, by call"),
    (COMMIT_SECONDS, "Time that the store took for a commit, by command"),
    (FENCED_SECONDS, "Time from RECORDED to FENCED"),
];

/// Upper bounds of the histograms' buckets, in seconds: a commit in memory to a call that times out.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Why the numbers could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The process has a recorder of somebody else's, which our numbers would go to.
    #[error("this process already records metrics elsewhere: install Leasehold's recorder first")]
    AlreadyInstalled,
    /// The bucket bounds are not usable.
    #[error("the histograms' buckets are not usable")]
    Buckets,
}

/// The process's numbers. Cheap to clone; every clone shows the same.
#[derive(Clone, Debug)]
pub struct Handle(PrometheusHandle);

impl Handle {
    /// All numbers in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds recorded times into their buckets. Call it every few seconds: between two calls, or scrapes, every single
    /// time is kept.
    pub fn fold(&self) {
        self.0.run_upkeep();
    }
}

/// The process's recorder, installed by the first call; every later call gives the same one.
pub fn install() -> Result<Handle, MetricsError> {
    static INSTALLED: OnceLock<Result<Handle, MetricsError>> = OnceLock::new();
    INSTALLED.get_or_init(first_install).clone()
}

fn first_install() -> Result<Handle, MetricsError> {
    let buckets = |_: BuildError| MetricsError::Buckets;
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).map_err(buckets)?;
    let recorder = builder.build_recorder();
    let handle = Handle(recorder.handle());
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::AlreadyInstalled)?;
    for (name, meaning) in COUNTERS {
        describe_counter!(name, meaning);
    }
    for (name, unit, meaning) in GAUGES {
        describe_gauge!(name, unit, meaning);
    }
    for (name, meaning) in HISTOGRAMS {
        describe_histogram!(name, Unit::Seconds, meaning);
    }
    Ok(handle)
}

/// Every metric: its name, its kind, and what `# HELP` says of it.
pub fn described() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let of = |kind| move |(name, meaning)| (name, kind, meaning);
    let counters = COUNTERS.into_iter().map(of("counter"));
    let gauges = GAUGES.into_iter().map(|(name, _, meaning)| (name, "gauge", meaning));
    counters.chain(gauges).chain(HISTOGRAMS.into_iter().map(of("histogram")))
}

/// An RPC (`IssueCredential`) or HTTP route (`/oauth2/introspect`) was answered with `code` after `elapsed`.
pub fn call_answered(call: &'static str, code: &'static str, elapsed: Duration) {
    counter!(CALLS, "call" => call, "code" => code).increment(1);
    histogram!(CALL_SECONDS, "call" => call).record(elapsed);
}

/// A request was refused for `reason`.
pub fn refused(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}

/// A credential was minted by `verb`.
pub fn credential_minted(kind: &'static str, verb: &'static str) {
    counter!(CREDENTIALS, "kind" => kind, "verb" => verb).increment(1);
}

/// A task reached its final `state`.
pub fn task_ended(state: &'static str) {
    counter!(TASKS_ENDED, "state" => state).increment(1);
}

/// The store answered `command` with `outcome` after `elapsed`.
pub fn commit_answered(command: &'static str, outcome: &'static str, elapsed: Duration) {
    counter!(COMMITS, "command" => command, "outcome" => outcome).increment(1);
    histogram!(COMMIT_SECONDS, "command" => command).record(elapsed);
}

/// A trust bundle, an issuer's keys or the server's certificate was taken over, or could not be.
pub fn trust_loaded(source: &'static str, outcome: &'static str) {
    counter!(TRUST_LOADS, "source" => source, "outcome" => outcome).increment(1);
}

/// The source of a trust domain's bundle confirmed it so long ago. The name is one of the configuration's, of which there are few.
pub fn trust_bundle_age(trust_domain: &str, age: Duration) {
    gauge!(TRUST_BUNDLE_AGE, "trust_domain" => trust_domain.to_owned()).set(age.as_secs_f64());
}

/// The certificate that callers are shown expires at that second; later than 2106 counts as then.
pub fn server_certificate_expires(seconds: u64) {
    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    gauge!(SERVER_CERTIFICATE_EXPIRY).set(f64::from(seconds));
}

/// The broker's time was seen to be so far ahead of the store's, or behind it; the larger counts.
pub fn clock_skew(ahead: Duration, behind: Duration) {
    let seconds = if behind > ahead { -behind.as_secs_f64() } else { ahead.as_secs_f64() };
    gauge!(CLOCK_SKEW).set(seconds);
}

/// The broker's revocation lists were made from what it read so long ago, and name so many certificates.
pub fn revocation_lists(age: Duration, entries: usize) {
    gauge!(REVOCATION_LIST_AGE).set(age.as_secs_f64());
    gauge!(REVOCATION_LIST_ENTRIES).set(f64::from(u32::try_from(entries).unwrap_or(u32::MAX)));
}

/// A partition's revocations were read, or not.
pub fn feed_read(outcome: &'static str) {
    counter!(FEED_READS, "outcome" => outcome).increment(1);
}

/// The broker's record was written, or not.
pub fn beat(outcome: &'static str) {
    counter!(BEATS, "outcome" => outcome).increment(1);
}

/// A verifier's keep-alive was answered, or not.
pub fn keep_alive(outcome: &'static str) {
    counter!(KEEP_ALIVES, "outcome" => outcome).increment(1);
}

/// So many streams of verifiers were closed because they did not keep up.
pub fn feed_overflowed(streams: usize) {
    if let Ok(streams @ 1..) = u64::try_from(streams) {
        counter!(FEED_OVERFLOWS).increment(streams);
    }
}

/// The broker's view of revocations is so old; `None`: too old.
pub fn feed_age(age: Option<Duration>) {
    gauge!(FEED_AGE).set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
}

/// So many streams of verifiers are open.
pub fn feed_streams(count: usize) {
    gauge!(FEED_STREAMS).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}

/// So many watches of tasks are open.
pub fn task_watches(count: usize) {
    gauge!(TASK_WATCHES).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}

/// So many brokers are in the registry.
pub fn brokers_registered(count: usize) {
    gauge!(BROKERS).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}

/// An ending was FENCED so long after it was RECORDED.
pub fn fenced(after: Duration) {
    histogram!(FENCED_SECONDS).record(after);
}

/// A sidecar answered a question.
pub fn sidecar_answered(surface: &'static str, outcome: &'static str) {
    counter!(SIDECAR_ANSWERS, "surface" => surface, "outcome" => outcome).increment(1);
}

/// A sidecar's view of revocations is so old; `None`: it has none.
pub fn sidecar_view_age(age: Option<Duration>) {
    gauge!(SIDECAR_VIEW_AGE).set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
}

/// So many requests are held, and requests of so many credentials are lingering.
pub fn sidecar_running(held: usize, lingering: usize) {
    for (kind, count) in [("held", held), ("lingering", lingering)] {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        gauge!(SIDECAR_RUNNING, "kind" => kind).set(f64::from(count));
    }
}

/// Something became of an event for a webhook. The name is one of the configuration's, of which there are few.
pub fn webhook_event(webhook: &str, outcome: &'static str) {
    counter!(WEBHOOK_EVENTS, "webhook" => webhook.to_owned(), "outcome" => outcome).increment(1);
}

/// The oldest event that a webhook's receiver did not take is so old.
pub fn webhook_behind(webhook: &str, age: Duration) {
    gauge!(WEBHOOK_BEHIND, "webhook" => webhook.to_owned()).set(age.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_broker_in_the_process_shows_the_same_numbers_as_the_first() {
        let (first, second) = (install().unwrap(), install().unwrap());
        refused("TEST_SHARED");
        let line = "leasehold_refusals_total{reason=\"TEST_SHARED\"} 1";
        assert!(first.render().contains(line), "{}", first.render());
        assert!(second.render().contains(line));
    }

    #[test]
    fn every_metric_is_described_and_written_under_its_own_name() {
        let handle = install().unwrap();
        call_answered("Test", "OK", Duration::from_millis(3));
        refused("TEST");
        credential_minted("test", "issue");
        task_ended("test");
        commit_answered("test", "committed", Duration::from_micros(300));
        trust_loaded("test", "ok");
        trust_bundle_age("test.example", Duration::from_secs(7));
        server_certificate_expires(1_790_000_000);
        clock_skew(Duration::ZERO, Duration::from_millis(1_500));
        revocation_lists(Duration::from_secs(2), 7);
        feed_read("test");
        beat("test");
        keep_alive("test");
        feed_overflowed(1);
        feed_age(None);
        feed_streams(1);
        task_watches(1);
        brokers_registered(1);
        fenced(Duration::from_millis(3));
        sidecar_answered("test", "admitted");
        sidecar_view_age(None);
        sidecar_running(1, 1);
        webhook_event("test", "delivered");
        webhook_behind("test", Duration::ZERO);
        handle.fold();
        let text = handle.render();
        for (name, meaning) in COUNTERS {
            assert!(text.contains(&format!("# HELP {name} {meaning}\n# TYPE {name} counter\n")));
        }
        for (name, _, meaning) in GAUGES {
            assert!(text.contains(&format!("# HELP {name} {meaning}\n# TYPE {name} gauge\n")));
        }
        for (name, meaning) in HISTOGRAMS {
            assert!(text.contains(&format!("# HELP {name} {meaning}\n# TYPE {name} histogram\n")));
        }
        assert!(text.contains("leasehold_call_seconds_bucket{call=\"Test\",le=\"0.0025\"} 0\n"));
        assert!(text.contains("leasehold_call_seconds_bucket{call=\"Test\",le=\"0.005\"} 1\n"));
        assert!(
            text.contains(
                "leasehold_store_commit_seconds_bucket{command=\"test\",le=\"0.0005\"} 1\n"
            )
        );
    }
}
