//! Fuzz target: `slomod_fuzz::weights`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slomod_fuzz::weights(data));
