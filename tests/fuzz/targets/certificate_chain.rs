//! See `leasehold_fuzz::certificate_chain`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leasehold_fuzz::certificate_chain(bytes);
});
