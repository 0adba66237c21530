//! The held-out scores as the report writes them.

use crate::frame::Seconds;
use crate::quality::holdout::{HoldoutScores, Pooled};
use crate::report::{Holdout, Scores};

/// Name of the protocol: neighbors two frame distances apart, real time steps.
const PROTOCOL: &str = "holdout-2x";

/// The report's form of held-out scores.
#[must_use]
pub fn holdout_report(scores: &HoldoutScores) -> Holdout {
    Holdout {
        protocol: PROTOCOL.into(),
        samples: scores.samples,
        samples_on_device: scores.samples_on_device,
        candidates: scores.candidates,
        network: scores_report(&scores.network),
        repeat: scores_report(&scores.repeat),
        blend: scores_report(&scores.blend),
        worst_pts_s: scores.worst_pts.map(seconds),
    }
}

/// The report's form of pooled scores.
#[must_use]
pub fn scores_report(pooled: &Pooled) -> Scores {
    Scores {
        psnr_rgb_db: pooled.psnr_rgb_db,
        psnr_rgb_median_db: pooled.psnr_rgb_median_db,
        psnr_rgb_p5_db: pooled.psnr_rgb_p5_db,
        psnr_rgb_min_db: pooled.psnr_rgb_min_db,
        psnr_rgb_pooled_db: pooled.psnr_rgb_pooled_db,
        psnr_y_db: pooled.psnr_y_db,
        ssim_y: pooled.ssim_y,
        ssim_rife: pooled.ssim_rife,
        exact: pooled.exact,
        identical: pooled.identical,
    }
}

fn seconds(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}
