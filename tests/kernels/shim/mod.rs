//! The kernels of `kernels/` compiled for this machine's processor and a `Driver` that runs them, for any test.
//!
//! Use it from another test file with `#[path = "kernels/shim/mod.rs"] mod shim;`. See `cuda_shim.h` for what is checked.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod driver;
pub mod library;
pub mod tensors;
