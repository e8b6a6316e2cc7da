//! The log of client certificates that were refused: the peer hears an alert and no more, so whoever looks for the cause finds
//! it here. Anybody may connect as often as he likes, so not every line is written.

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// So many lines a minute; the next one says how many were left out.
const LINES_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(19);

/// What was refused at one socket.
pub(super) struct Refusals {
    lines: DefaultDirectRateLimiter,
    left_out: AtomicU64,
}

impl Default for Refusals {
    fn default() -> Self {
        let lines = RateLimiter::direct(Quota::per_minute(LINES_PER_MINUTE));
        Self { lines, left_out: AtomicU64::new(0) }
    }
}

impl Refusals {
    /// A peer's certificate broke a rule.
    pub(super) fn log(&self, address: SocketAddr, fault: &dyn Display) {
        if self.lines.check().is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let left_out = (left_out > 0).then_some(left_out);
        tracing::warn!(%address, %fault, left_out, "a client certificate was refused");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use rustls::AlertDescription;

    use super::*;
    use crate::domain::time::Span;
    use crate::identity::x509_svid::X509SvidError;
    use crate::listen::connections::tests::Site;
    use crate::telemetry::{self, LogFormat};
    use crate::testing::ca::{Defect, Issued, TestAuthority};

    /// What was logged on this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn hear() -> (Self, impl Sized) {
            let lines = Self::default();
            let sink = lines.clone();
            let heard = telemetry::subscriber(LogFormat::Json, "warn", false, move || sink.clone());
            // With a second one, no other test's thread decides whether a line is heard here.
            let second = tracing::Dispatch::new(tracing_subscriber::registry());
            (lines, (second, tracing::subscriber::set_default(heard.unwrap())))
        }

        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_refused_certificate_is_told_by_the_alert_that_fits_and_logged_with_rule_and_address()
    {
        use AlertDescription as Alert;
        let (site, (lines, _hearing)) = (Site::new(), Lines::hear());
        let now = site.now();
        let (from, to) = (now.minus(Span::from_seconds(60)), now.plus(Span::from_seconds(60)));
        let defective = |defect| site.root.defective(defect, "prod.example", now);
        let ended = site.root.intermediate("ended", from, now.minus(Span::from_seconds(1)));
        let stranger = TestAuthority::root("root").svid("spiffe://prod.example/a", from, to);
        let cases: [(Issued, Alert, &str); 8] = [
            (defective(Defect::Expired), Alert::CertificateExpired, "has expired"),
            (defective(Defect::NotYetValid), Alert::CertificateExpired, "is not valid yet"),
            (
                ended.svid("spiffe://prod.example/a", from, to),
                Alert::CertificateExpired,
                "CertExpired",
            ),
            (stranger, Alert::UnknownCA, "does not lead to a root of trust domain `prod.example`"),
            (
                site.root.svid("spiffe://other.example/a", from, to),
                Alert::UnknownCA,
                "trust domain `other.example` is not trusted here",
            ),
            (defective(Defect::ClientAuthOnly), Alert::UnsupportedCertificate, "`extKeyUsage`"),
            (defective(Defect::CertificateAuthority), Alert::UnsupportedCertificate, "authority's"),
            (defective(Defect::TwoUriSans), Alert::CertificateUnknown, "more than one URI SAN"),
        ];
        for (certificate, alert, rule) in cases {
            let (heard, address) = site.refused(&certificate).await;
            assert_eq!(heard, alert, "{rule}");
            let logged = lines.take();
            assert!(logged.contains(rule) && logged.contains(&address.to_string()), "{logged}");
            assert_eq!(logged.lines().count(), 1, "{logged}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn class_15_whoever_is_refused_again_and_again_does_not_fill_the_log() {
        let (lines, _hearing) = Lines::hear();
        let refusals = Refusals::default();
        for _ in 0..1_000 {
            refusals.log(([127, 0, 0, 1], 1).into(), &X509SvidError::Expired);
        }
        let logged = lines.take().lines().count();
        assert!((20..=25).contains(&logged), "{logged} lines");
    }
}
