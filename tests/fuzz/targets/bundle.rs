//! See `leasehold_fuzz::bundle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leasehold_fuzz::bundle(bytes);
});
