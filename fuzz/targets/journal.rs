//! Fuzz target: `slomod_fuzz::journal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slomod_fuzz::journal(data));
