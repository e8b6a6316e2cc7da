//! What goes wrong, on a seeded schedule.

use super::world::{Event, World};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillBroker,
    StopBrokerForGood,
    PauseBroker,
    /// It pauses, and its monotonic clock stands still meanwhile.
    FreezeBroker,
    KillVerifier,
    PauseVerifier,
    FreezeVerifier,
    CutLink,
    SlowLink,
    StepWall,
    Drift,
    RestartStore,
    LoseRegistryToo,
    CutStore,
    CutReads,
    CutBeats,
    /// The store starts anew without its registry, and one broker, cut off from it, hears so late and can write nothing.
    RestartBehindCut,
    /// A broker starts that reads and cannot register, and then cannot read. Not among [`Self::ALL`], which have its parts.
    StartUnheard,
}

impl Fault {
    pub const ALL: [Self; 17] = [
        Self::KillBroker,
        Self::StopBrokerForGood,
        Self::PauseBroker,
        Self::FreezeBroker,
        Self::KillVerifier,
        Self::PauseVerifier,
        Self::FreezeVerifier,
        Self::CutLink,
        Self::SlowLink,
        Self::StepWall,
        Self::Drift,
        Self::RestartStore,
        Self::LoseRegistryToo,
        Self::CutStore,
        Self::CutReads,
        Self::CutBeats,
        Self::RestartBehindCut,
    ];
}

impl World {
    pub fn fault(&mut self) {
        if self.faults.is_empty() {
            return;
        }
        if self.left.is_empty() {
            self.left = self.faults.clone();
        }
        let fault = self.left.swap_remove(self.chance.below(self.left.len()));
        let b = self.chance.below(self.brokers.len());
        let v = self.chance.below(self.verifiers.len());
        // Shorter than anything, or longer than every Δ and its lapse.
        let long = match self.chance.percent(50) {
            true => self.chance.between(20_000, 400_000),
            false => self.chance.between(1_000_000, 3_000_000),
        };
        let until = self.now + long;
        *self.report.faults.entry(fault).or_default() += 1;
        match fault {
            Fault::KillBroker | Fault::StopBrokerForGood => {
                if self.brokers[b].is_up {
                    self.stop_broker(b);
                    // Who comes after one that is gone for good is another.
                    let is_gone = fault == Fault::StopBrokerForGood;
                    let pause =
                        if is_gone { 3_000_000 } else { self.chance.between(20_000, 500_000) };
                    self.after(pause, Event::StartBroker(b));
                }
            }
            Fault::StartUnheard => {
                if self.brokers[b].is_up {
                    self.stop_broker(b);
                    self.brokers[b].beats_cut_until = self.now + 6_000_000;
                    self.after(3_000_000, Event::StartBroker(b));
                    let reads = self.chance.between(3_400_000, 3_800_000);
                    self.after(reads, Event::CutReads(b));
                }
            }
            Fault::PauseBroker | Fault::FreezeBroker => self.pause_broker(b, fault, until),
            Fault::KillVerifier => self.restart_verifier(v),
            Fault::PauseVerifier | Fault::FreezeVerifier => self.pause_verifier(v, fault, until),
            Fault::CutLink | Fault::SlowLink => {
                let links: Vec<u64> = self.links.keys().copied().collect();
                if links.is_empty() {
                    return;
                }
                let id = links[self.chance.below(links.len())];
                match self.links.get_mut(&id) {
                    Some(link) if fault == Fault::SlowLink => link.slow_until = until,
                    _ => self.cut(id),
                }
            }
            Fault::StepWall => self.step_wall(b, v),
            Fault::Drift => {
                let (now, rate) = (self.now, self.chance.rate_ppm());
                self.brokers[b].clocks.change_rate(now, rate);
                let rate = self.chance.rate_ppm();
                self.verifiers[v].clocks.change_rate(now, rate);
            }
            Fault::RestartStore => self.store.restart(),
            Fault::LoseRegistryToo => self.restart_without_registry(),
            Fault::RestartBehindCut => {
                self.restart_without_registry();
                // It hears of it by a partition, and not by the registry, shortly before the others' registry counts again.
                let hears = self.chance.between(600_000, 900_000);
                self.brokers[b].reads_cut_until = self.now + hears;
                self.brokers[b].beats_cut_until = self.now + 3_500_000;
                self.brokers[b].registry_cut_until = self.now + 3_500_000;
                let reads = hears + self.chance.between(500_000, 800_000);
                self.after(reads, Event::CutReads(b));
            }
            Fault::CutStore => self.store_away_until = until,
            Fault::CutReads => self.brokers[b].reads_cut_until = until,
            Fault::CutBeats => self.brokers[b].beats_cut_until = until,
        }
    }

    /// What was put off comes in its order, so a pause is never shortened.
    fn pause_broker(&mut self, b: usize, fault: Fault, until: u64) {
        let broker = &mut self.brokers[b];
        broker.paused_until = broker.paused_until.max(until);
        if fault == Fault::FreezeBroker {
            broker.clocks.stand_still(self.now, broker.paused_until);
        }
    }

    fn pause_verifier(&mut self, v: usize, fault: Fault, until: u64) {
        let verifier = &mut self.verifiers[v];
        verifier.paused_until = verifier.paused_until.max(until);
        if fault == Fault::FreezeVerifier {
            verifier.clocks.stand_still(self.now, verifier.paused_until);
        }
    }

    fn step_wall(&mut self, b: usize, v: usize) {
        let step = self.chance.between(0, 3_000_000) as i64 - 1_500_000;
        match self.chance.below(3) {
            0 => self.store_step = step,
            1 => self.brokers[b].clocks.step(self.now, step),
            _ => self.verifiers[v].clocks.step(self.now, step),
        }
    }

    fn restart_without_registry(&mut self) {
        self.store.restart();
        self.registered().into_iter().for_each(|instance| self.forget_record(instance));
    }

    pub fn cut_reads(&mut self, b: usize) {
        self.brokers[b].reads_cut_until = self.now + 2_000_000;
    }
}
