//! The trivial engine: a linear blend of the two frames. For tests of everything around the network, and as a baseline.

use crate::engine::{EngineDescription, EngineError, Interpolator};
use crate::frame::{Frame, Picture};

/// Blends the two frames sample by sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blend;

/// `(1 - t) * a + t * b`, rounded, for every sample. Both pictures must have one format.
#[must_use]
pub fn blend(a: &Picture, b: &Picture, timestep: f32) -> Picture {
    assert_eq!(a.format, b.format, "blend needs pictures of one format");
    let mix = |(a, b): (&u8, &u8)| {
        (f32::from(*a) * (1.0 - timestep) + f32::from(*b) * timestep).round() as u8
    };
    let plane = |(a, b): (&Vec<u8>, &Vec<u8>)| a.iter().zip(b).map(mix).collect();
    Picture { format: a.format, planes: a.planes.iter().zip(&b.planes).map(plane).collect() }
}

impl Interpolator for Blend {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        if img0.picture.format != img1.picture.format {
            return Err(EngineError::FormatChanged { first: img0.index, second: img1.index });
        }
        Ok(timesteps.iter().map(|&t| blend(&img0.picture, &img1.picture, t)).collect())
    }

    fn description(&self) -> EngineDescription {
        EngineDescription {
            device_kind: "cpu".into(),
            device_name: String::new(),
            precision: "f32".into(),
            instructions: String::new(),
            threads: 1,
            fallback_reason: None,
            model_name: "blend".into(),
            model_sha256: None,
            scale: 1.0,
            steps: Vec::new(),
        }
    }
}
