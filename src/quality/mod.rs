//! How good a frame is: PSNR, SSIM and the held-out protocol.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::backend::cpu::similarity::Planes;
use crate::frame::{Chroma, Depth, Picture, Sample};
use crate::ops::color;
use crate::ops::metrics;

pub mod holdout;
pub mod psnr;
pub mod ssim;

use psnr::SquaredError;

/// Rows of one parallel piece of work.
const BAND: usize = 32;

/// The samples of a picture that the measures look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    width_px: usize,
    height_px: usize,
    /// `[3, h, w]`, 8 bit.
    rgb: Vec<u8>,
    /// `[h, w]`, 8 bit.
    luma: Vec<u8>,
}

impl Samples {
    /// Of a decoded picture: RGB rounded to 8 bits, luma as stored and rounded to 8 bits (of RGB pictures:
    /// [`luma_of_rgb`]). The measures are those that papers give, so they count in steps of 8 bits at any depth.
    #[must_use]
    pub fn of_picture(picture: &Picture) -> Self {
        let (width_px, height_px) = (picture.format.width_px, picture.format.height_px);
        let rgb = planar_rgb8(picture);
        let luma = match picture.format.chroma {
            Chroma::Gbr => luma_of_planes(&rgb),
            Chroma::Gray | Chroma::C420 | Chroma::C422 | Chroma::C444 => luma8(picture),
        };
        Self { width_px, height_px, rgb, luma }
    }

    /// The same with luma of its RGB ([`luma_of_rgb`]), to be compared with a picture whose stored luma means something else.
    #[must_use]
    pub fn with_luma_of_rgb(self) -> Self {
        let luma = luma_of_planes(&self.rgb);
        Self { luma, ..self }
    }

    /// Luma, `[h, w]`, 8 bits.
    #[must_use]
    pub fn luma(&self) -> &[u8] {
        &self.luma
    }

    /// Of RGB, `[h, w, 3]`; luma by [`luma_of_rgb`].
    ///
    /// # Panics
    /// If `rgb` does not hold `3 * width_px * height_px` samples, or none.
    #[must_use]
    pub fn of_rgb8(rgb: Vec<u8>, width_px: usize, height_px: usize) -> Self {
        assert_eq!(rgb.len(), 3 * width_px * height_px, "rgb of {width_px}x{height_px}");
        assert!(!rgb.is_empty(), "a picture has at least one sample");
        let luma = luma_of_rgb(&rgb);
        Self { width_px, height_px, rgb: ssim::planar(&rgb), luma }
    }
}

/// RGB of a picture, `[3, h, w]`: each value that of [`color::rgb8`].
fn planar_rgb8(picture: &Picture) -> Vec<u8> {
    let (w, h) = (picture.format.width_px, picture.format.height_px);
    let mut planes = vec![0; 3 * w * h];
    let (red, rest) = planes.split_at_mut(w * h);
    let (green, blue) = rest.split_at_mut(w * h);
    let bands = red.par_chunks_mut(BAND * w).zip(green.par_chunks_mut(BAND * w));
    bands.zip(blue.par_chunks_mut(BAND * w)).enumerate().for_each(
        |(band, ((red, green), blue))| {
            let mut rows = color::Rows::new(picture);
            for row in 0..red.len() / w {
                let rgb = rows.row(band * BAND + row);
                for (out, values) in [&mut *red, &mut *green, &mut *blue].into_iter().zip(rgb) {
                    for (out, value) in out[row * w..(row + 1) * w].iter_mut().zip(values) {
                        *out = color::code8(*value);
                    }
                }
            }
        },
    );
    planes
}

fn luma8(picture: &Picture) -> Vec<u8> {
    let (plane, steps) = (&picture.planes[0], picture.format.depth.steps());
    match picture.format.depth {
        Depth::Eight => plane.clone(),
        Depth::Ten | Depth::Twelve => {
            let samples = <[u8; 2]>::of(plane).iter();
            samples.map(|sample| metrics::luma8(sample.code(), steps)).collect()
        }
    }
}

fn luma_of_planes(rgb: &[u8]) -> Vec<u8> {
    let (red, rest) = rgb.split_at(rgb.len() / 3);
    let (green, blue) = rest.split_at(red.len());
    let pixels = red.iter().zip(green).zip(blue);
    pixels.map(|((red, green), blue)| metrics::luma_of_rgb([*red, *green, *blue])).collect()
}

/// Luma of RGB, `[h, w, 3]` → `[h, w]`: BT.601, full range, rounded to 8 bit.
#[must_use]
pub fn luma_of_rgb(rgb: &[u8]) -> Vec<u8> {
    let (pixels, _) = rgb.as_chunks::<3>();
    pixels.iter().map(|pixel| metrics::luma_of_rgb(*pixel)).collect()
}

/// How near a predicted picture is to the true one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrameScores {
    /// Over all 8-bit RGB samples, as RIFE's benchmarks take it.
    pub rgb: SquaredError,
    /// Over 8-bit luma.
    pub luma: SquaredError,
    /// [`ssim::ssim_y`].
    pub ssim_y: f64,
    /// [`ssim::ssim_rife`].
    pub ssim_rife: f64,
    /// VMAF, 0 to 100, where it was measured: not here, and of the whole picture.
    #[serde(default)]
    pub vmaf: Option<f64>,
}

impl FrameScores {
    /// Of sums that were made elsewhere over two pictures of a size.
    #[must_use]
    pub fn of_measures(measures: &metrics::Measures, width_px: usize, height_px: usize) -> Self {
        let pixels = (width_px * height_px) as u64;
        Self {
            rgb: SquaredError { sum: measures.rgb_squared_error, samples: 3 * pixels },
            luma: SquaredError { sum: measures.luma_squared_error, samples: pixels },
            ssim_y: measures.ssim_luma,
            ssim_rife: measures.ssim_rgb,
            vmaf: None,
        }
    }
}

impl FrameScores {
    /// The scores of the rest of a picture of `pixels`, where `left_out` of them were made equal before they were compared:
    /// exact for PSNR. For SSIM the places whose windows lie inside count as alike, and those at the edge in part, so that
    /// the rest is as dissimilar as the whole, by more for less.
    #[must_use]
    pub fn of_the_rest(self, pixels: u64, left_out: u64) -> Self {
        let rest = pixels.saturating_sub(left_out).max(1);
        let share = pixels as f64 / rest as f64;
        let similar = |ssim: f64| (1.0 - (1.0 - ssim) * share).max(-1.0);
        let fewer = |error: SquaredError| SquaredError {
            samples: error.samples / pixels.max(1) * rest,
            ..error
        };
        Self {
            rgb: fewer(self.rgb),
            luma: fewer(self.luma),
            ssim_y: similar(self.ssim_y),
            ssim_rife: similar(self.ssim_rife),
            vmaf: self.vmaf,
        }
    }
}

/// Squared error over all RGB samples of two pictures of one size; the quick part of [`compare`].
///
/// # Panics
/// If the sizes differ.
#[must_use]
pub fn rgb_error(truth: &Samples, predicted: &Samples) -> SquaredError {
    SquaredError::between(&truth.rgb, &predicted.rgb)
}

/// Compares two pictures of one size.
///
/// # Panics
/// If the sizes differ.
#[must_use]
pub fn compare(truth: &Samples, predicted: &Samples) -> FrameScores {
    compare_all(truth, [predicted])[0]
}

/// Compares a picture with several of its size: each as [`compare`] does, in less time.
///
/// # Panics
/// If the sizes differ.
#[must_use]
pub fn compare_all<const N: usize>(truth: &Samples, predicted: [&Samples; N]) -> [FrameScores; N] {
    let (width, height) = (truth.width_px, truth.height_px);
    let same = |it: &&Samples| (width, height) == (it.width_px, it.height_px);
    assert!(predicted.iter().all(same), "pictures of one size");
    let luma = predicted.map(|it| it.luma.as_slice());
    let ssim_y = ssim::of_luma(&Planes { truth: &truth.luma, others: &luma, width, height });
    let rgb = predicted.map(|it| it.rgb.as_slice());
    let ssim_rife = ssim::of_rgb(&Planes { truth: &truth.rgb, others: &rgb, width, height });
    std::array::from_fn(|index| FrameScores {
        rgb: rgb_error(truth, predicted[index]),
        luma: SquaredError::between(&truth.luma, &predicted[index].luma),
        ssim_y: ssim_y[index],
        ssim_rife: ssim_rife[index],
        vmaf: None,
    })
}
