//! Fuzz target: `slomod_fuzz::config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slomod_fuzz::config(data));
