//! The held-out scores as the report writes them.

use crate::frame::Seconds;
use crate::quality::holdout::{HoldoutScores, Pooled, Sample};
use crate::report::measured::{Encode, HeldOutFrame, Scores};
use crate::report::{Holdout, Quality};

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
        stride: (scores.samples > 0).then_some(scores.stride),
        network: scores_report(&scores.network),
        repeat: scores_report(&scores.repeat),
        blend: scores_report(&scores.blend),
        worst_pts_s: scores.worst_pts.map(seconds),
        frames: scores.frames.iter().map(frame).collect(),
    }
}

/// The report's form of all scores; `encode` is how many real frames were compared after the encoder, and how. `None`
/// where neither was measured; one that was stands without the other.
#[must_use]
pub fn quality(
    scores: Option<&HoldoutScores>,
    candidates: u64,
    encode: Option<(u64, Pooled)>,
) -> Option<Quality> {
    let encode = encode.map(|(frames, pooled)| Encode { frames, scores: scores_report(&pooled) });
    let nothing = HoldoutScores { candidates, ..HoldoutScores::default() };
    (scores.is_some() || encode.is_some())
        .then(|| Quality { holdout: holdout_report(scores.unwrap_or(&nothing)), encode })
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
        psnr_y_median_db: pooled.psnr_y_median_db,
        psnr_y_p5_db: pooled.psnr_y_p5_db,
        psnr_y_min_db: pooled.psnr_y_min_db,
        psnr_y_pooled_db: pooled.psnr_y_pooled_db,
        ssim_y: pooled.ssim_y,
        ssim_y_median: pooled.ssim_y_median,
        ssim_y_p5: pooled.ssim_y_p5,
        ssim_y_min: pooled.ssim_y_min,
        ssim_rife: pooled.ssim_rife,
        ssim_rife_median: pooled.ssim_rife_median,
        ssim_rife_p5: pooled.ssim_rife_p5,
        ssim_rife_min: pooled.ssim_rife_min,
        vmaf: pooled.vmaf,
        exact: pooled.exact,
        identical: pooled.identical,
    }
}

fn frame(sample: &Sample) -> HeldOutFrame {
    HeldOutFrame {
        frame: sample.middle_index,
        pts_s: seconds(sample.pts),
        psnr_rgb_db: sample.network.rgb.psnr_db(),
        psnr_y_db: sample.network.luma.psnr_db(),
        ssim_y: sample.network.ssim_y,
        ssim_rife: Some(sample.network.ssim_rife),
        vmaf: sample.network.vmaf,
    }
}

fn seconds(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}
