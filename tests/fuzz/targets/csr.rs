//! See `leasehold_fuzz::csr`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leasehold_fuzz::csr(bytes);
});
