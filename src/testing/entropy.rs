//! Entropy that a test can predict, and entropy that has run dry.

use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{SHA256, digest};

use crate::broker::seams::{Entropy, EntropyError};

/// The same bytes for the same seed, and never the same bytes twice: SHA-256 of seed and counter.
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    block: AtomicU64,
}

impl SeededEntropy {
    /// The sequence of a seed, from its start.
    pub fn new(seed: u64) -> Self {
        Self { seed, block: AtomicU64::new(0) }
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in bytes.chunks_mut(32) {
            let block = self.block.fetch_add(1, Ordering::Relaxed);
            let input = [self.seed.to_be_bytes(), block.to_be_bytes()].concat();
            for (byte, random) in chunk.iter_mut().zip(digest(&SHA256, &input).as_ref()) {
                *byte = *random;
            }
        }
        Ok(())
    }
}

/// A source that always fails.
#[derive(Debug)]
pub struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
        Err(EntropyError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_names_one_sequence_without_repetition() {
        let draw = |entropy: &SeededEntropy| {
            let mut bytes = [0; 40];
            entropy.fill(&mut bytes).unwrap();
            bytes
        };
        let (one, two) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let first = draw(&one);
        assert_eq!(first, draw(&two));
        assert_ne!(first, draw(&one));
        assert_ne!(first, draw(&SeededEntropy::new(8)));
    }
}
