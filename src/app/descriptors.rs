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

/// How many connections each socket can have open, at most as many as are configured. One address keeps its part of them.
pub(super) fn afford(configured: &config::limits::Limits) -> Limits {
    let (wanted, of_address) = (configured.connections, configured.connections_per_address);
    let connections = raise_for(wanted);
    let part = of_address.saturating_mul(connections).div_ceil(wanted.max(1));
    Limits { connections, connections_per_address: part.max(1), ..Limits::default() }
}

fn raise_for(wanted: usize) -> usize {
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_mul(SOCKETS);
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
    wanted.min(each.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_15_connections_leave_descriptors_for_the_store() {
        assert_eq!(affordable(u64::MAX, 4_096), 4_096);
        assert_eq!(affordable(3 * 4_096 + RESERVE, 4_096), 4_096);
        assert_eq!(affordable(3 * 4_096 + RESERVE - 3, 4_096), 4_095);
        assert_eq!(affordable(1_024, 4_096), 170);
        assert_eq!(affordable(0, 4_096), 1);
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
