//! Fuzz target: `slomod_fuzz::import`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slomod_fuzz::import(data));
