//! Fuzz target: `slomod_fuzz::clip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slomod_fuzz::clip(data));
