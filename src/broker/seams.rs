//! Where time and randomness come in: the only two facts that the rules cannot compute.
//!
//! One request reads the clock once and hands `now` on.

use ring::rand::{SecureRandom, SystemRandom};

pub use crate::clock::{Clock, SystemClock};

/// Where unpredictable bytes come from.
pub trait Entropy: Send + Sync {
    /// Fills all of `bytes`.
    ///
    /// # Errors
    /// [`EntropyError`] if the source gave nothing; then nothing may be minted.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;
}

/// The source of randomness gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system's source of randomness failed; check that the process may call `getrandom`")]
pub struct EntropyError;

/// The operating system's random numbers.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        SystemRandom::new().fill(bytes).map_err(|_| EntropyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_entropy_fills_every_buffer_differently() {
        let (mut one, mut two) = ([0; 32], [0; 32]);
        SystemEntropy.fill(&mut one).unwrap();
        SystemEntropy.fill(&mut two).unwrap();
        assert_ne!(one, two);
    }
}
