//! Seeded chance, and the clocks of processes: within ρ of true time, with walls that people set.

use leasehold::clock::Present;
use leasehold::domain::feed::Drift;
use leasehold::domain::time::{Moment, Span, Stamp};

/// ρ: the most that is allowed, so that a forgotten factor shows.
pub const RHO_PPM: u32 = 100_000;
/// The slowest and the fastest clock that are within ρ, in millionths of true time.
const SLOWEST_PPM: i64 = -90_900;
const FASTEST_PPM: i64 = 99_990;
const MILLION: i64 = 1_000_000;
/// What a process's monotonic clock shows when it starts, in microseconds.
const ELAPSED: i64 = 1_000 * MILLION;
/// When every world begins, in seconds of the Unix epoch.
pub const START_SECONDS: u64 = 4_102_444_800;

pub fn drift() -> Drift {
    Drift::from_ppm(RHO_PPM).unwrap()
}

/// SplitMix64: the same numbers from the same seed, everywhere.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end as u64) as usize
    }

    pub fn between(&mut self, from: u64, end: u64) -> u64 {
        from + self.number() % (end - from)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.number() % 100 < chance
    }

    /// What a message or a store takes, in microseconds: mostly little, now and then very long.
    pub fn delay(&mut self) -> u64 {
        match self.number() % 1_000 {
            0..5 => self.between(50_000, 1_500_000),
            5..60 => self.between(3_000, 50_000),
            _ => self.between(200, 3_000),
        }
    }

    pub fn rate_ppm(&mut self) -> i64 {
        match self.number() % 3 {
            0 => SLOWEST_PPM,
            1 => FASTEST_PPM,
            _ => self.between(0, (FASTEST_PPM - SLOWEST_PPM) as u64) as i64 + SLOWEST_PPM,
        }
    }
}

/// So long before and after a sleep that only the wall clock sees nobody sets that one back: no view is fresh for longer, and two
/// witnesses who are wrong together are none.
const APART: u64 = 2_000_000;

/// The clocks of one process.
pub struct Clocks {
    since: u64,
    elapsed: i64,
    rate_ppm: i64,
    /// How far the wall was set ahead, and how much it went on in sleeps that it alone saw.
    wall_offset: i64,
    slept: i64,
    /// What the wall showed when the process started.
    began: u64,
    /// Until when the monotonic clock stood still last, and when the wall was set back last.
    still_until: u64,
    set_back: Option<u64>,
    /// Whether the wall clock counts as a witness.
    has_witness: bool,
}

impl Clocks {
    pub fn new(now: u64, rate_ppm: i64, has_witness: bool) -> Self {
        Self {
            since: now,
            // Ages are never cut off at a clock's beginning.
            elapsed: ELAPSED,
            rate_ppm,
            wall_offset: 0,
            slept: 0,
            began: START_SECONDS * 1_000_000 + now,
            still_until: 0,
            set_back: None,
            has_witness,
        }
    }

    fn elapsed(&self, now: u64) -> i64 {
        self.elapsed + (now.saturating_sub(self.since) as i64 * (MILLION + self.rate_ppm)) / MILLION
    }

    pub fn moment(&self, now: u64) -> Moment {
        Moment::new(Span::from_micros(self.elapsed(now) as u64))
    }

    /// Both clocks: one oscillator drives them.
    pub fn present(&self, now: u64) -> Present {
        let ahead = if self.has_witness { self.wall_offset + self.slept } else { 0 };
        let wall = self.began as i64 + self.elapsed(now) - ELAPSED + ahead;
        Present { wall: Stamp::saturating_from_micros(wall as u64), moment: self.moment(now) }
    }

    /// In how much true time so much will have passed here.
    pub fn true_micros(&self, span: Span) -> u64 {
        (span.micros() as i64 * MILLION / (MILLION + self.rate_ppm)) as u64 + 1
    }

    pub fn change_rate(&mut self, now: u64, rate_ppm: i64) {
        self.elapsed = self.elapsed(now);
        self.since = self.since.max(now);
        self.rate_ppm = rate_ppm;
    }

    pub fn step(&mut self, now: u64, micros: i64) {
        if micros < self.wall_offset {
            if now < self.still_until + APART {
                return;
            }
            self.set_back = Some(now);
        }
        self.wall_offset = micros;
    }

    /// The machine sleeps, and its monotonic clock does not count that.
    pub fn stand_still(&mut self, now: u64, until: u64) {
        if self.set_back.is_none_or(|set_back| now >= set_back + APART) {
            self.elapsed = self.elapsed(now);
            self.since = until;
            self.slept += until as i64 - now.max(self.still_until) as i64;
            self.still_until = until;
        }
    }
}
