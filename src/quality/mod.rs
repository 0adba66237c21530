//! How good a frame is: PSNR, SSIM and the held-out protocol.

use crate::frame::{Chroma, Picture};
use crate::ops::color;
use crate::ops::metrics;

pub mod holdout;
pub mod psnr;
pub mod ssim;

use psnr::SquaredError;

/// The samples of a picture that the measures look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    width_px: usize,
    height_px: usize,
    /// `[h, w, 3]`, 8 bit.
    rgb: Vec<u8>,
    /// `[h, w]`, 8 bit.
    luma: Vec<u8>,
}

impl Samples {
    /// Of a decoded picture: RGB rounded to 8 bit, luma as stored (of RGB pictures: [`luma_of_rgb`]).
    #[must_use]
    pub fn of_picture(picture: &Picture) -> Self {
        let rgb = color::rgb8(&color::picture_to_rgb(picture));
        let luma = match picture.format.chroma {
            Chroma::Gbr => luma_of_rgb(&rgb),
            Chroma::Gray | Chroma::C420 | Chroma::C422 | Chroma::C444 => picture.planes[0].clone(),
        };
        Self { width_px: picture.format.width_px, height_px: picture.format.height_px, rgb, luma }
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
        Self { width_px, height_px, rgb, luma }
    }
}

/// Luma of RGB, `[h, w, 3]` → `[h, w]`: BT.601, full range, rounded to 8 bit.
#[must_use]
pub fn luma_of_rgb(rgb: &[u8]) -> Vec<u8> {
    let (pixels, _) = rgb.as_chunks::<3>();
    pixels.iter().map(|pixel| metrics::luma_of_rgb(*pixel)).collect()
}

/// How near a predicted picture is to the true one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameScores {
    /// Over all 8-bit RGB samples, as RIFE's benchmarks take it.
    pub rgb: SquaredError,
    /// Over 8-bit luma.
    pub luma: SquaredError,
    /// [`ssim::ssim_y`].
    pub ssim_y: f64,
    /// [`ssim::ssim_rife`].
    pub ssim_rife: f64,
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
    let (w, h) = (truth.width_px, truth.height_px);
    assert_eq!((w, h), (predicted.width_px, predicted.height_px), "pictures of one size");
    FrameScores {
        rgb: rgb_error(truth, predicted),
        luma: SquaredError::between(&truth.luma, &predicted.luma),
        ssim_y: ssim::ssim_y(&truth.luma, &predicted.luma, w, h),
        ssim_rife: ssim::ssim_rife(&truth.rgb, &predicted.rgb, w, h),
    }
}
