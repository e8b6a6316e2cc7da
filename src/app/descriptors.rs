//! File descriptors: connections take no more of them than leaves enough for the store.
//!
//! Each connection takes one, anybody may connect, and a store that cannot open its files stops. So the process asks the
//! system for as many as its connections need, and takes fewer connections if it does not get them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config;
use crate::listen::connections::Limits;

/// For the store's files, connections to other servers, and whatever else is open.
const RESERVE: u64 = 1_200;
/// Those of gRPC, of HTTP and of the metrics.
const SOCKETS: u64 = 3;

/// How many connections each socket can have open, at most as many as are configured. One address keeps its part of them, and
/// those who go first have as many again as a part of them.
pub(super) fn afford(configured: &config::limits::Limits) -> Limits {
    let (wanted, of_address) = (configured.connections, configured.connections_per_address);
    let connections = raise_for(wanted);
    let part = of_address.saturating_mul(connections).div_ceil(wanted.max(1));
    Limits {
        connections,
        reserved: reserved(connections),
        connections_per_address: part.max(1),
        handshakes: handshakes(connections),
        ..Limits::default()
    }
}

fn reserved(connections: usize) -> usize {
    connections.div_ceil(16)
}

fn handshakes(connections: usize) -> usize {
    Limits::default().handshakes.min(connections.div_ceil(4))
}

/// Descriptors of one socket: handshakes may come on top of what is open.
fn of_socket(connections: usize) -> usize {
    let most = connections.saturating_add(reserved(connections));
    most.saturating_add(handshakes(connections))
}

fn raise_for(wanted: usize) -> usize {
    let needed = u64::try_from(of_socket(wanted)).unwrap_or(u64::MAX).saturating_mul(SOCKETS);
    let available = raise(needed.saturating_add(RESERVE));
    let connections = affordable(available, wanted);
    if connections < wanted {
        tracing::warn!(
            connections,
            "too few file descriptors for `limits.connections`; raise the process's limit (`ulimit -n`)"
        );
    }
    connections
}

/// Raises the process's limit as far as need be and the system lets it; answers what it is then.
fn raise(needed: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let possible = needed.min(limit.maximum.unwrap_or(u64::MAX));
    if current >= possible {
        return current;
    }
    let raised = Rlimit { current: Some(possible), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_or(current, |()| possible)
}

/// Where there is not enough for the reserve either, half is for connections.
fn affordable(available: u64, wanted: usize) -> usize {
    let for_connections = available - RESERVE.min(available / 2);
    let each = usize::try_from(for_connections / SOCKETS).unwrap_or(usize::MAX);
    if of_socket(wanted) <= each {
        return wanted;
    }
    // What comes on top is at most a quarter and a sixteenth, rounded up.
    (each.saturating_sub(2) / 21 * 16).clamp(1, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_15_connections_leave_descriptors_for_the_store() {
        let all = SOCKETS * (4_096 + 256 + 512);
        assert_eq!(affordable(u64::MAX, 4_096), 4_096);
        assert_eq!(affordable(all + RESERVE, 4_096), 4_096);
        assert!(affordable(all + RESERVE - SOCKETS, 4_096) < 4_096);
        assert_eq!(affordable(0, 4_096), 1);
        for available in (100..20_000).step_by(7) {
            let connections = affordable(available, 65_536);
            let taken = SOCKETS * u64::try_from(of_socket(connections)).unwrap();
            assert!(taken + RESERVE.min(available / 2) <= available, "{available}: {connections}");
        }
    }

    #[test]
    fn class_15_limit_of_the_process_is_raised_as_far_as_it_goes() {
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(u64::MAX);
        let raised = raise(limit.current.unwrap_or(u64::MAX).saturating_add(1));
        assert!(raised > limit.current.unwrap_or(u64::MAX) || raised == most, "{raised}");
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), raised);
    }
}
