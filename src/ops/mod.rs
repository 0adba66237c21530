//! The operations of the networks: contract, parameters and plain f32 reference, one file each.

pub mod color;
