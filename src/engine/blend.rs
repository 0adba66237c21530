//! The trivial engine: a linear blend of the two frames. For tests of everything around the network, and as a baseline.

use crate::engine::{EngineDescription, EngineError, Interpolator, common_format};
use crate::frame::{Depth, Frame, Picture, Sample};

/// Blends the two frames sample by sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blend;

/// `(1 - t) * a + t * b`, rounded, for every sample. Both pictures must have one format.
#[must_use]
pub fn blend(a: &Picture, b: &Picture, timestep: f32) -> Picture {
    assert_eq!(a.format, b.format, "blend needs pictures of one format");
    let mut out = Picture::zeroed(a.format);
    let format = a.format;
    for (out, (a, b)) in out.planes.iter_mut().zip(a.planes.iter().zip(&b.planes)) {
        match format.depth {
            Depth::Eight => blend_plane::<u8>(a, b, timestep, out),
            Depth::Ten | Depth::Twelve => blend_plane::<[u8; 2]>(a, b, timestep, out),
        }
    }
    out
}

fn blend_plane<S: Sample>(a: &[u8], b: &[u8], timestep: f32, out: &mut [u8]) {
    for (out, (a, b)) in S::of_mut(out).iter_mut().zip(S::of(a).iter().zip(S::of(b))) {
        let exact = f32::from(a.code()) * (1.0 - timestep) + f32::from(b.code()) * timestep;
        // As `round`, which is a call for each sample on a plain x86-64: no weighted mean is below 0.
        let down = exact as i32;
        *out = S::from_code((down + i32::from(exact - down as f32 >= 0.5)) as u16);
    }
}

impl Interpolator for Blend {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        common_format(img0, img1)?;
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
            device_busy: false,
            model_name: "blend".into(),
            model_sha256: None,
            scale: 1.0,
            model_notes: Vec::new(),
            steps: Vec::new(),
            gpu: None,
            psnr_from_cpu_db: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Matrix, PictureFormat, Range};

    #[test]
    fn samples_are_rounded_to_the_nearest_for_every_pair_of_codes() {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px, depth) = (256, 256, Depth::Eight);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let picture = |code: fn(u32) -> u32| {
            let codes = (0..256 * 256).map(|at| code(at) as u8).collect();
            Picture { format, planes: vec![codes] }
        };
        let (a, b) = (picture(|at| at / 256), picture(|at| at % 256));
        for timestep in [0.0, 0.125, 1.0 / 3.0, 0.5, 0.7, 1.0] {
            let mixed = blend(&a, &b, timestep);
            for ((a, b), found) in a.planes[0].iter().zip(&b.planes[0]).zip(&mixed.planes[0]) {
                let exact = f32::from(*a) * (1.0 - timestep) + f32::from(*b) * timestep;
                assert_eq!(*found, exact.round() as u8, "{a} and {b} at {timestep}");
            }
        }
    }

    #[test]
    fn wide_samples_are_blended_by_their_codes() {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px, depth) = (2, 1, Depth::Twelve);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let picture = |codes: [u16; 2]| Picture {
            format,
            planes: vec![codes.map(u16::to_le_bytes).concat()],
        };
        let mixed = blend(&picture([255, 4095]), &picture([256, 0]), 0.25);
        assert_eq!(mixed, picture([255, 3071]));
    }
}
