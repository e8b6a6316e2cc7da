//! The floor of a signature: ES256 by ring over as many bytes as a token's, with a key that is parsed once.

use std::hint::black_box;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::Outcome;
use crate::load::Caller;

/// Signs on one thread.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    entropy: SystemRandom,
    message: Vec<u8>,
}

impl Signer {
    pub(crate) fn new(message_bytes: usize) -> Outcome<Self> {
        let (algorithm, entropy) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &entropy);
        let document = document.map_err(|_| "no key can be made")?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &entropy);
        let key = key.map_err(|_| "the key cannot be read")?;
        Ok(Self { key, entropy, message: vec![b'e'; message_bytes] })
    }
}

impl Caller for Signer {
    async fn run(&mut self) -> Outcome<()> {
        let signature = self.key.sign(&self.entropy, black_box(&self.message));
        black_box(signature.map_err(|_| "the key does not sign")?);
        Ok(())
    }
}
