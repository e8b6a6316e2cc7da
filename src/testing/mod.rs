//! Clocks, entropy and certificate authorities for tests. Insecure by design.

pub mod clock;
pub mod entropy;
