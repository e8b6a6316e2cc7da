//! How far a revocation is, in words and for a program.

use serde_json::{Value, json};

use super::{Shown, harmless, time};
use crate::proto::v1;

/// The exit code of a command that did what it was told, where that is not so far yet as was asked for.
const NOT_REACHED: u8 = 3;
/// So many are named in a line.
const NAMED: usize = 3;

/// Adds to an answer how far its revocation is; the exit code tells if that is not as far as `wanted`.
pub(in crate::cli) fn with_revocation(
    mut shown: Shown,
    revocation: Option<&v1::Revocation>,
    wanted: v1::Enforcement,
) -> Shown {
    let Some(revocation) = revocation else { return shown };
    let is_reached = revocation.enforcement >= i32::from(wanted);
    shown.text = format!("{}\n{}", shown.text, words(revocation, wanted));
    if !is_reached {
        shown.exit = NOT_REACHED;
    }
    if let Some(object) = shown.json.as_object_mut() {
        object.insert("revocation".to_owned(), fields(revocation));
    }
    shown
}

/// Who is waited for, and until when at most, in a line.
pub(in crate::cli) fn pending(revocation: &v1::Revocation) -> String {
    if !revocation.undrained.is_empty() {
        return format!("dead everywhere; still running at {}", names(&revocation.undrained));
    }
    let until = time(revocation.fenced_at_latest).unwrap_or_default();
    let waiting: Vec<String> = revocation.pending.iter().map(name).collect();
    match waiting.as_slice() {
        [] => format!("recorded; waiting for verifiers, until {until} at most"),
        some => format!("recorded; waiting for {}, until {until} at most", names(some)),
    }
}

fn words(revocation: &v1::Revocation, wanted: v1::Enforcement) -> String {
    let recorded = time(revocation.recorded_at).unwrap_or_default();
    let latest = time(revocation.fenced_at_latest).unwrap_or_default();
    let after = |at| milliseconds(revocation.recorded_at, at);
    let mut lines = vec![format!("recorded  {recorded}: nothing is issued for it any more")];
    match revocation.fenced_at {
        Some(at) => {
            lines.push(format!(
                "fenced    after {}: no subscribed verifier accepts it any more",
                after(at)
            ));
        }
        None if wanted == v1::Enforcement::Recorded => {
            lines.push(format!("fenced    by {latest} at the latest; nobody was waited for"));
        }
        None => {
            lines.push(format!("fenced    not yet; by {latest} at the latest"));
            lines.extend(revocation.pending.iter().map(|pending| {
                let until = time(pending.may_accept_until).unwrap_or_default();
                format!("pending   {} may accept it until {until}", name(pending))
            }));
        }
    }
    match revocation.drained_at {
        Some(at) => {
            lines.push(format!("drained   after {}: nothing runs any more", after(at)));
        }
        None => {
            let running = revocation.undrained.iter();
            lines.extend(running.map(|name| format!("running   something at {}", harmless(name))));
            let unknown = revocation.drain_unknown.iter();
            lines.extend(
                unknown
                    .map(|name| format!("unknown   whether something runs at {}", harmless(name))),
            );
        }
    }
    lines.join("\n")
}

fn fields(revocation: &v1::Revocation) -> Value {
    let pending: Vec<Value> = revocation
        .pending
        .iter()
        .map(|pending| {
            json!({
                "instance": pending.instance,
                "name": pending.name,
                "broker": pending.broker,
                "may_accept_until": time(pending.may_accept_until),
            })
        })
        .collect();
    json!({
        "recorded_at": time(revocation.recorded_at),
        "fenced_at": time(revocation.fenced_at),
        "drained_at": time(revocation.drained_at),
        "enforcement": revocation.enforcement().as_str_name(),
        "pending": pending,
        "fenced_at_latest": time(revocation.fenced_at_latest),
        "undrained": revocation.undrained,
        "drain_unknown": revocation.drain_unknown,
    })
}

fn name(pending: &v1::PendingVerifier) -> String {
    match pending.name.as_str() {
        "" => format!("whoever is on broker `{}`", harmless(&pending.broker)),
        name => format!("`{}` (broker `{}`)", harmless(name), harmless(&pending.broker)),
    }
}

fn names(all: &[String]) -> String {
    let named: Vec<_> = all.iter().take(NAMED).map(|name| harmless(name)).collect();
    match all.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn milliseconds(from: Option<prost_types::Timestamp>, to: prost_types::Timestamp) -> String {
    let micros = |time: prost_types::Timestamp| {
        time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos / 1_000))
    };
    let took = micros(to).saturating_sub(from.map_or(0, micros)).max(0);
    format!("{}.{} ms", took / 1_000, took % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    fn at(seconds: i64, nanos: i32) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos })
    }

    fn recorded() -> v1::Revocation {
        v1::Revocation {
            recorded_at: at(1_790_000_000, 0),
            fenced_at_latest: at(1_790_000_005, 100_500_000),
            enforcement: v1::Enforcement::Recorded.into(),
            ..Default::default()
        }
    }

    fn silent() -> v1::Revocation {
        let pending = v1::PendingVerifier {
            instance: "07".into(),
            name: "ledger\u{1b}[2J".into(),
            broker: "b1".into(),
            may_accept_until: at(1_790_000_005, 50_000_000),
        };
        v1::Revocation { pending: vec![pending], ..recorded() }
    }

    fn shown(revocation: &v1::Revocation, wanted: v1::Enforcement) -> Shown {
        with_revocation(Shown::new(json!({}), "task".into()), Some(revocation), wanted)
    }

    #[test]
    fn what_was_reached_is_told_with_its_time_and_the_exit_code_is_none() {
        let fenced = v1::Revocation {
            fenced_at: at(1_790_000_000, 12_345_000),
            enforcement: v1::Enforcement::Fenced.into(),
            ..recorded()
        };
        let shown = shown(&fenced, v1::Enforcement::Fenced);
        assert_eq!(shown.exit, 0);
        assert_eq!(
            shown.text,
            "task\nrecorded  2026-09-21T14:13:20Z: nothing is issued for it any more\n\
             fenced    after 12.3 ms: no subscribed verifier accepts it any more"
        );
        assert_eq!(shown.json["revocation"]["enforcement"], "ENFORCEMENT_FENCED");
    }

    #[test]
    fn a_silent_verifier_is_named_with_its_latest_time_and_the_exit_code_says_so() {
        let told = shown(&silent(), v1::Enforcement::Fenced);
        assert_eq!(told.exit, NOT_REACHED);
        assert_eq!(
            told.text,
            "task\nrecorded  2026-09-21T14:13:20Z: nothing is issued for it any more\n\
             fenced    not yet; by 2026-09-21T14:13:25.1005Z at the latest\n\
             pending   `ledger\\u{1b}[2J` (broker `b1`) may accept it until 2026-09-21T14:13:25.05Z"
        );
        let pending = &told.json["revocation"]["pending"][0];
        assert_eq!(pending["may_accept_until"], "2026-09-21T14:13:25.05Z");
        assert_eq!(
            super::pending(&silent()),
            "recorded; waiting for `ledger\\u{1b}[2J` (broker `b1`), until 2026-09-21T14:13:25.1005Z at most"
        );
    }

    #[test]
    fn fenced_is_not_drained_and_recorded_is_all_that_was_asked_for() {
        let running = v1::Revocation {
            fenced_at: at(1_790_000_001, 0),
            enforcement: v1::Enforcement::Fenced.into(),
            undrained: vec!["api".into()],
            drain_unknown: vec!["gone".into()],
            ..recorded()
        };
        let told = shown(&running, v1::Enforcement::Drained);
        assert_eq!(told.exit, NOT_REACHED);
        assert!(
            told.text
                .ends_with("running   something at api\nunknown   whether something runs at gone")
        );
        assert_eq!(shown(&recorded(), v1::Enforcement::Recorded).exit, 0);
    }
}
