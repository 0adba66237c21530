//! Fields of the report about what was measured of single frames, and of the encoder by itself.

use serde::{Deserialize, Serialize};

/// Real frames of the finished output compared with the source's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encode {
    /// Frames compared, spread over the clip.
    pub frames: u64,
    /// How near they are.
    pub scores: Scores,
}

/// A real frame that the network predicted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldOutFrame {
    /// Its index in the source.
    pub frame: u64,
    /// Its time there.
    pub pts_s: f64,
    /// Over 8-bit RGB samples; absent where it was predicted exactly.
    pub psnr_rgb_db: Option<f64>,
    /// Luma; absent where it was predicted exactly.
    pub psnr_y_db: Option<f64>,
    /// SSIM on luma.
    pub ssim_y: f64,
    /// RIFE's SSIM over RGB; absent in reports of earlier versions.
    #[serde(default)]
    pub ssim_rife: Option<f64>,
    /// VMAF, 0 to 100, where it was asked for and measured.
    #[serde(default)]
    pub vmaf: Option<f64>,
}

/// Pooled scores of one way of making frames. PSNR is `None` where every picture was identical.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Over 8-bit RGB samples, as in RIFE's benchmarks; mean of frames.
    pub psnr_rgb_db: Option<f64>,
    /// Median of frames.
    pub psnr_rgb_median_db: Option<f64>,
    /// Fifth percentile of frames.
    pub psnr_rgb_p5_db: Option<f64>,
    /// Lowest frame.
    pub psnr_rgb_min_db: Option<f64>,
    /// From the mean of the frames' squared errors.
    pub psnr_rgb_pooled_db: Option<f64>,
    /// Luma, mean of frames.
    pub psnr_y_db: Option<f64>,
    /// Luma, median of frames.
    #[serde(default)]
    pub psnr_y_median_db: Option<f64>,
    /// Luma, fifth percentile of frames.
    #[serde(default)]
    pub psnr_y_p5_db: Option<f64>,
    /// Luma, lowest frame.
    #[serde(default)]
    pub psnr_y_min_db: Option<f64>,
    /// Luma, from the mean of the frames' squared errors.
    #[serde(default)]
    pub psnr_y_pooled_db: Option<f64>,
    /// Wang 2004 on luma (Gaussian 11x11, sigma 1.5, valid area), mean of frames.
    pub ssim_y: Option<f64>,
    /// Median of frames.
    #[serde(default)]
    pub ssim_y_median: Option<f64>,
    /// Fifth percentile of frames.
    #[serde(default)]
    pub ssim_y_p5: Option<f64>,
    /// Lowest frame.
    #[serde(default)]
    pub ssim_y_min: Option<f64>,
    /// RIFE's 3-D Gaussian SSIM over RGB, mean of frames.
    pub ssim_rife: Option<f64>,
    /// Median of frames.
    #[serde(default)]
    pub ssim_rife_median: Option<f64>,
    /// Fifth percentile of frames.
    #[serde(default)]
    pub ssim_rife_p5: Option<f64>,
    /// Lowest frame.
    #[serde(default)]
    pub ssim_rife_min: Option<f64>,
    /// VMAF (model `vmaf_v0.6.1`) of held-out frames between their real neighbors, mean of frames; absent where it was not
    /// asked for or not measured.
    #[serde(default)]
    pub vmaf: Option<f64>,
    /// Frames that equalled the real one: they have no PSNR and are left out of mean, median, percentile and minimum.
    #[serde(default)]
    pub exact: u64,
    /// Whether every predicted picture equalled the real one.
    pub identical: bool,
}
