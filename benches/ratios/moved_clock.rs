//! This machine's clock, which can be moved ahead: so that a day passes in a moment.

use std::sync::atomic::{AtomicU64, Ordering};

use leasehold::broker::seams::{Clock, SystemClock};
use leasehold::domain::time::{Span, Stamp};

/// The clock of brokers here, and of the embedded store.
#[derive(Debug, Default)]
pub(crate) struct MovedClock {
    system: SystemClock,
    ahead_micros: AtomicU64,
}

impl MovedClock {
    /// Lets so much time pass at once.
    pub(crate) fn pass(&self, span: Span) {
        self.ahead_micros.fetch_add(span.micros(), Ordering::AcqRel);
    }

    fn ahead(&self) -> Span {
        Span::from_micros(self.ahead_micros.load(Ordering::Acquire))
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Stamp {
        self.system.now().plus(self.ahead())
    }

    fn wall(&self) -> Stamp {
        self.system.wall().plus(self.ahead())
    }

    fn elapsed(&self) -> Span {
        Span::from_micros(self.system.elapsed().micros().saturating_add(self.ahead().micros()))
    }
}
