//! The network's ops on an NVIDIA GPU: the kernels of `kernels/`, in FP16 with f32 sums, flows and coordinates.

pub mod driver;
pub mod images;
pub mod nvidia;
pub mod params;
pub mod recorder;
pub mod tensor;
