//! Fields of the report about what was measured of single frames, and of the encoder by itself.

use serde::{Deserialize, Serialize};

use crate::report::Scores;

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
    /// VMAF, 0 to 100, where it was asked for and measured.
    #[serde(default)]
    pub vmaf: Option<f64>,
}
