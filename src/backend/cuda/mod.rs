//! The network's ops on an NVIDIA GPU: the kernels of `kernels/`, in FP16 with f32 sums, flows and coordinates.

pub mod color;
pub mod driver;
pub mod metrics;
pub mod params;
pub mod tensor;
pub mod warp;
