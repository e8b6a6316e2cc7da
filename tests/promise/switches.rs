//! Rules of registration, left out: what a broker then takes its registration for.

use leasehold::domain::id::Partition;
use leasehold::domain::time::{Present, Stamp};

use super::world::World;

impl World {
    /// Partition 0 is about to be read in this incarnation.
    pub fn take_for_registered(&mut self, b: usize, incarnation: Stamp, sent: Present) {
        let broker = &self.brokers[b];
        let known = broker.metas.get(&Partition::ZERO).map(|meta| meta.incarnation);
        let is_new = known.is_some_and(|known| known != incarnation);
        let is_registered = broker.core.is_registered();
        if self.is_off(14) && is_registered && is_new {
            // Rule 14's switch: the registration of the earlier incarnation still counts.
            self.brokers[b].core.confirmed(incarnation, sent, sent);
        }
        if self.is_off(2) && !is_registered {
            // Rule 2's switch: what is read counts before the registration is confirmed.
            self.brokers[b].core.confirmed(incarnation, sent, sent);
        }
    }
}
