//! The broker's certificate towards its callers, swapped while it runs.
//!
//! A connection goes on with what it began with; each new handshake shows what is current.

pub mod files;
pub mod workload_api;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::tls::ServerIdentity;
use crate::domain::time::Stamp;
use crate::telemetry::metrics;

/// A certificate with less than this part of its life left, and no newer one, is warned of.
const LAST_PART: u64 = 10;

/// What is shown now. Until there is something, no handshake succeeds.
#[derive(Default)]
pub struct ServerCertificate {
    current: ArcSwapOption<ServerIdentity>,
    is_warned: AtomicBool,
}

impl ServerCertificate {
    /// Shows another one from now on.
    fn show(&self, identity: ServerIdentity) {
        self.current.store(Some(Arc::new(identity)));
        self.is_warned.store(false, Ordering::Relaxed);
    }

    /// Says when the certificate expires; warns once when that is soon.
    pub fn tell_expiry(&self, now: Stamp) {
        let Some(current) = self.current.load_full() else { return };
        let (begins, expires) = current.validity();
        metrics::server_certificate_expires(expires.seconds());
        let left = expires.since(now).seconds();
        let is_late = left < expires.since(begins).seconds() / LAST_PART;
        if is_late && !self.is_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                seconds_left = left,
                "the server's certificate expires, and there is no newer one where it comes from"
            );
        }
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref()?.resolve(hello)
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate").field("current", &self.current).finish_non_exhaustive()
    }
}

fn taken_over() {
    metrics::trust_loaded("server_certificate", "ok");
    tracing::info!("the server's certificate changed");
}

fn not_taken_over(fault: &dyn std::error::Error) {
    metrics::trust_loaded("server_certificate", "failed");
    tracing::error!(%fault, "the server's certificate was not taken over, the former one stays");
}

#[cfg(test)]
mod tests;
