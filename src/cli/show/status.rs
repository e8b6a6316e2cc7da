//! A broker, its store, and who is on its feed.

use serde_json::{Value, json};

use super::{Shown, fields, seconds, table, time};
use crate::proto::v1;

/// How a broker and its store stand.
pub(in crate::cli) fn status(status: &v1::GetStatusResponse) -> Shown {
    let mut parts = vec![fields(&[
        ("version", status.version.clone()),
        ("trust domain", status.trust_domain.clone()),
        ("store", format!("{}, {}", status.store, partitions(&status.partitions))),
        ("started", time(status.start_time).unwrap_or_default()),
        ("quarantined", status.quarantined_scopes.join(", ")),
    ])];
    let mut rows = vec![["BROKER", "ADDRESS", "LAST BEAT", "INSTANCE"].map(str::to_owned)];
    rows.extend(status.brokers.iter().map(|broker| {
        let beat = format!("{} ago", seconds(broker.beat_age).unwrap_or_default());
        let is_this = if broker.instance == status.instance { " (this one)" } else { "" };
        let instance = format!("{}{is_this}", broker.instance);
        [broker.name.clone(), broker.address.clone(), beat, instance]
    }));
    parts.push(table(&rows));
    let mut rows = vec![
        ["VERIFIER", "BROKER", "CONNECTED", "FRESH UNTIL", "APPLIED", "INSTANCE"]
            .map(str::to_owned),
    ];
    for broker in &status.brokers {
        rows.extend(broker.verifiers.iter().map(|verifier| row(&broker.name, verifier)));
    }
    parts.push(match rows.len() {
        1 => "no verifier follows revocations".to_owned(),
        _ => table(&rows),
    });
    if status.verifiers_not_listed > 0 {
        parts.push(format!("and {} verifiers more", status.verifiers_not_listed));
    }
    Shown::new(json_of(status), parts.join("\n\n"))
}

fn partitions(partitions: &[v1::PartitionStatus]) -> String {
    let closed = partitions.iter().filter(|partition| !partition.open);
    let closed: Vec<_> = closed.map(|closed| format!("{:02x}", closed.partition)).collect();
    match closed.as_slice() {
        [] => format!("{} partitions, all open", partitions.len()),
        some => format!("{} partitions, closed: {}", partitions.len(), some.join(", ")),
    }
}

fn row(broker: &str, verifier: &v1::VerifierStatus) -> [String; 6] {
    let connected = if verifier.connected { "yes" } else { "no" };
    let applied = match verifier.partitions_behind {
        0 => "everything".to_owned(),
        some => format!("all but {some} partitions"),
    };
    let fresh_until = time(verifier.fresh_until).unwrap_or_else(|| "never yet".to_owned());
    let (name, instance) = (verifier.name.clone(), verifier.instance.clone());
    [name, broker.to_owned(), connected.to_owned(), fresh_until, applied, instance]
}

fn json_of(status: &v1::GetStatusResponse) -> Value {
    let partition = |partition: &v1::PartitionStatus| {
        json!({
            "partition": partition.partition,
            "open": partition.open,
            "incarnation": partition.incarnation.to_string(),
            "stamp": partition.stamp.to_string(),
            "floor": partition.floor.to_string(),
        })
    };
    let verifier = |verifier: &v1::VerifierStatus| {
        json!({
            "instance": verifier.instance,
            "name": verifier.name,
            "connected": verifier.connected,
            "view_time": time(verifier.view_time),
            "fresh_until": time(verifier.fresh_until),
            "partitions_behind": verifier.partitions_behind,
        })
    };
    let broker = |broker: &v1::BrokerStatus| {
        json!({
            "instance": broker.instance,
            "name": broker.name,
            "address": broker.address,
            "beat_age": seconds(broker.beat_age),
            "verifiers": broker.verifiers.iter().map(verifier).collect::<Vec<_>>(),
        })
    };
    json!({
        "version": status.version,
        "trust_domain": status.trust_domain,
        "store": status.store,
        "partitions": status.partitions.iter().map(partition).collect::<Vec<_>>(),
        "start_time": time(status.start_time),
        "quarantined_scopes": status.quarantined_scopes,
        "brokers": status.brokers.iter().map(broker).collect::<Vec<_>>(),
        "verifiers_not_listed": status.verifiers_not_listed,
        "instance": status.instance,
    })
}
