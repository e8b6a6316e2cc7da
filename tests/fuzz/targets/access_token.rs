//! See `leasehold_fuzz::access_token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leasehold_fuzz::access_token(bytes);
});
