//! Structural similarity: Wang et al. 2004 on luma, and the 3-D variant of RIFE's benchmarks on RGB.
//!
//! Both take local means, variances and the covariance under a Gaussian window and average
//! `(2 μa μb + C1)(2 σab + C2) / ((μa² + μb² + C1)(σa² + σb² + C2))` over all positions.

use crate::backend::cpu::similarity::{Planes, mean_similarities};
use crate::ops::metrics::Filter;

/// SSIM of Wang, Bovik, Sheikh and Simoncelli (2004) on 8-bit luma, `[h, w]`: Gaussian 11x11, sigma 1.5, only where
/// the window lies inside the picture, L = 255, K = 0.01 and 0.03, population (not sample) covariance.
///
/// Where the picture is under 11 pixels wide or high, the window shrinks to the largest odd side that fits.
///
/// # Panics
/// If a picture does not hold `width_px * height_px` samples, or none.
#[must_use]
pub fn ssim_y(a: &[u8], b: &[u8], width_px: usize, height_px: usize) -> f64 {
    assert_eq!(a.len(), width_px * height_px, "luma of {width_px}x{height_px}");
    of_luma(&Planes { truth: a, others: &[b], width: width_px, height: height_px })[0]
}

/// SSIM as in RIFE's benchmarks (`ssim_matlab` in hzwer/ECCV2022-RIFE) on 8-bit RGB, `[h, w, 3]`: one 3-D Gaussian
/// 11x11x11, sigma 1.5, over channel, row and column, each axis padded by 5 with its edge; L = 1 on samples / 255.
///
/// As there, a picture under 11 pixels wide or high takes a window of its shorter side, still padded by 5.
///
/// # Panics
/// If a picture does not hold `3 * width_px * height_px` samples, or none.
#[must_use]
pub fn ssim_rife(a: &[u8], b: &[u8], width_px: usize, height_px: usize) -> f64 {
    assert_eq!(a.len(), 3 * width_px * height_px, "rgb of {width_px}x{height_px}");
    let (a, b) = (planar(a), planar(b));
    of_rgb(&Planes { truth: &a, others: &[&b], width: width_px, height: height_px })[0]
}

/// [`ssim_y`] of one picture against several.
pub(super) fn of_luma(planes: &Planes<'_>) -> Vec<f64> {
    mean_similarities(planes, &Filter::of_luma(planes.width, planes.height))
}

/// [`ssim_rife`] of one picture against several, `[3, h, w]`.
pub(super) fn of_rgb(planes: &Planes<'_>) -> Vec<f64> {
    mean_similarities(planes, &Filter::of_rgb(planes.width, planes.height))
}

/// RGB `[h, w, 3]` as `[3, h, w]`.
pub(super) fn planar(rgb: &[u8]) -> Vec<u8> {
    let (pixels, _) = rgb.as_chunks::<3>();
    (0..3).flat_map(|channel| pixels.iter().map(move |pixel| pixel[channel])).collect()
}
