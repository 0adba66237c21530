//! The network's ops on an NVIDIA GPU: the kernels of `kernels/`, in FP16 with f32 sums, flows and coordinates.

pub mod backend;
pub mod color;
pub mod conv;
pub mod counter;
pub mod deconv;
pub mod driver;
pub mod flow;
pub mod formats;
pub mod fusion;
pub mod head;
pub mod images;
pub mod instances;
pub mod metrics;
pub mod nvidia;
pub mod pack;
pub mod params;
mod pictures;
pub mod recorder;
pub mod scores;
pub mod shapes;
pub mod tensor;
pub mod warp;
