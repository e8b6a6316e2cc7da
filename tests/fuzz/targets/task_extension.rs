//! See `leasehold_fuzz::task_extension`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    leasehold_fuzz::task_extension(bytes);
});
