//! The fingerprint of RSA keys from the broken generator of CVE-2017-15361 (ROCA).
//!
//! Its primes are `k·M + 65537^a mod M`, with M a product of the first small primes. So the modulus is a power of
//! 65537 modulo each of them, which of other moduli four in a thousand million are (Nemec et al., CCS 2017).

const GENERATOR: u32 = 65_537;
const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Whether a modulus, big-endian, bears the fingerprint.
pub(super) fn is_roca(modulus: &[u8]) -> bool {
    SMALL_PRIMES.iter().all(|&prime| {
        let residue = modulus.iter().fold(0, |r, byte| (r * 256 + u32::from(*byte)) % prime);
        is_power_of_generator(residue, prime)
    })
}

fn is_power_of_generator(residue: u32, prime: u32) -> bool {
    let mut power = 1;
    for _ in 1..prime {
        if power == residue {
            return true;
        }
        power = power * GENERATOR % prime;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_is_a_power_modulo_every_small_prime() {
        // 65537^3 is one by construction, 2 is not a power of 65537 modulo 11.
        assert!(is_roca(&(65_537u64.pow(3)).to_be_bytes()));
        assert!(!is_power_of_generator(2, 11));
        assert!(!is_roca(&[2]));
        assert!(!is_roca(&[]));
    }
}
