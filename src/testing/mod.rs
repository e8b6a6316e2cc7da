//! Clocks, entropy and certificate authorities for tests. Insecure by design.
