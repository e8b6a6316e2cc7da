//! Clocks that drift. All ages are exact: time passes in ticks, and whatever else happens, happens between two ticks.

/// Time that has passed since something, in units of the clock it was measured on; it stops at a limit beyond which it
/// makes no difference, which is what keeps the number of states finite without a horizon.
pub type Age = u8;

/// True time of one tick, in units.
pub const TICK: Age = 2;

/// `1 + ρ`. Far from the 1 % of real clocks, so that every factor that is forgotten shows within two ticks.
pub const DRIFT: Age = 2;

/// How fast a clock runs. Only the extremes: what a rule bounds is a quotient of two clocks, and is largest there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rate {
    Slow,
    Fast,
}

impl Rate {
    pub fn per_tick(self) -> Age {
        match self {
            Self::Slow => TICK / DRIFT,
            Self::Fast => TICK * DRIFT,
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Slow => Self::Fast,
            Self::Fast => Self::Slow,
        }
    }

    /// `age` one tick later, by a clock of this rate.
    pub fn age(self, age: Age, limit: Age) -> Age {
        (age + self.per_tick()).min(limit)
    }
}
