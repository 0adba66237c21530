//! The operations of the networks: contract, parameters and plain f32 reference, one file each.

pub mod color;
pub mod conv;
pub mod deconv;
pub mod flow;
pub mod fusion;
pub mod head;
pub(crate) mod levels;
pub mod metrics;
pub mod refine;
pub mod resize;
pub mod tensor;
pub mod warp;
