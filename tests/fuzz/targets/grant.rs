//! See `leasehold_fuzz::grant`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leasehold_fuzz::grant(bytes);
});
