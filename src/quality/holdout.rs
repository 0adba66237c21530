//! The held-out protocol: real frames predicted from their neighbours and compared with what they are.
//!
//! The network sees twice the motion of the real job, so the scores are pessimistic. Repeating the earlier neighbor
//! and blending both are measured on the same frames.

use serde::{Deserialize, Serialize};

use crate::frame::{Picture, Seconds};
use crate::quality::psnr::psnr_of_mean;
use crate::quality::{FrameScores, Samples, compare_all};

/// Collects the scores of held-out frames; memory is bounded by the number of samples. Which frames are wanted depends on
/// what was reserved, not on when scores come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holdout {
    max_samples: u64,
    plan: Plan,
    candidates: u64,
    /// Middle frames whose samples are there or will come.
    reserved: Vec<u64>,
    samples: Vec<Sample>,
}

/// Which middle frames are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Plan {
    /// `wanted` of `middles`, evenly.
    Spread { wanted: u64, middles: u64 },
    /// Every `stride`-th; doubled, and every other sample dropped, whenever there are too many.
    Thinning { stride: u64 },
}

/// Where a sample was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasuredOn {
    /// By this module.
    Processor,
    /// On the device that runs the network.
    Device,
}

/// What a triplet came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Index of the middle frame.
    pub middle_index: u64,
    /// Its time in the source.
    pub pts: Seconds,
    /// Of the network.
    pub network: FrameScores,
    /// Of repeating the earlier frame.
    pub repeat: FrameScores,
    /// Of blending both neighbors.
    pub blend: FrameScores,
    /// Where it was measured.
    pub measured_on: MeasuredOn,
}

/// A triplet to measure: the real middle frame and three ways to make it from its neighbors.
#[derive(Clone, Copy, Debug)]
pub struct Triplet<'a> {
    /// Index of the middle frame.
    pub middle_index: u64,
    /// Its time in the source.
    pub pts: Seconds,
    /// The middle frame as it is.
    pub truth: &'a Picture,
    /// As the network makes it.
    pub network: &'a Picture,
    /// The frame before it.
    pub repeat: &'a Picture,
    /// The blend of both neighbors at the same time step.
    pub blend: &'a Picture,
}

/// Scores of a whole clip.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldoutScores {
    /// Triplets measured; those that [`Holdout::finish`] gives have 1 at least.
    pub samples: u64,
    /// Those of them that were measured on the network's device.
    pub samples_on_device: u64,
    /// Triplets that could have been measured.
    pub candidates: u64,
    /// Frames from one that was to be measured to the next, on average: 1 where all were.
    pub stride: f64,
    /// Of the network.
    pub network: Pooled,
    /// Of repeating the earlier frame.
    pub repeat: Pooled,
    /// Of blending both neighbors.
    pub blend: Pooled,
    /// Source time of the frame with the lowest PSNR of the network; `None` where all were exact.
    pub worst_pts: Option<Seconds>,
    /// Every sample, in order.
    pub frames: Vec<Sample>,
}

/// Scores of one way of making frames, over all samples. A frame that was made exactly has no PSNR and is left out of
/// the mean, median, percentile and minimum (not of the pooled value).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pooled {
    /// Mean of frames, RGB.
    pub psnr_rgb_db: Option<f64>,
    /// Median of frames, RGB.
    pub psnr_rgb_median_db: Option<f64>,
    /// Fifth percentile of frames, RGB (linear between neighbors).
    pub psnr_rgb_p5_db: Option<f64>,
    /// Lowest frame, RGB.
    pub psnr_rgb_min_db: Option<f64>,
    /// Of the mean of the frames' squared errors, RGB.
    pub psnr_rgb_pooled_db: Option<f64>,
    /// Mean of frames, luma.
    pub psnr_y_db: Option<f64>,
    /// Median of frames, luma.
    pub psnr_y_median_db: Option<f64>,
    /// Fifth percentile of frames, luma.
    pub psnr_y_p5_db: Option<f64>,
    /// Lowest frame, luma.
    pub psnr_y_min_db: Option<f64>,
    /// Of the mean of the frames' squared errors, luma.
    pub psnr_y_pooled_db: Option<f64>,
    /// Mean of frames.
    pub ssim_y: Option<f64>,
    /// Median of frames.
    pub ssim_y_median: Option<f64>,
    /// Fifth percentile of frames.
    pub ssim_y_p5: Option<f64>,
    /// Lowest frame.
    pub ssim_y_min: Option<f64>,
    /// Mean of frames.
    pub ssim_rife: Option<f64>,
    /// Median of frames.
    pub ssim_rife_median: Option<f64>,
    /// Fifth percentile of frames.
    pub ssim_rife_p5: Option<f64>,
    /// Lowest frame.
    pub ssim_rife_min: Option<f64>,
    /// Mean of the frames that have one.
    pub vmaf: Option<f64>,
    /// Frames made exactly (RGB).
    pub exact: u64,
    /// Whether every frame was made exactly (RGB).
    pub identical: bool,
}

impl Holdout {
    /// At most `max_samples` of a clip of `expected_frames` (a hint; without one, the samples thin out as frames come).
    #[must_use]
    pub fn new(max_samples: u32, expected_frames: Option<u64>) -> Self {
        let max_samples = u64::from(max_samples);
        let plan = match expected_frames.map(|frames| frames.saturating_sub(2)) {
            Some(middles) if middles > 0 => {
                Plan::Spread { wanted: middles.min(max_samples), middles }
            }
            _ => Plan::Thinning { stride: 1 },
        };
        Self { max_samples, plan, candidates: 0, reserved: Vec::new(), samples: Vec::new() }
    }

    /// Counts a triplet that could be measured: three real frames of one shot, none of them a duplicate.
    pub fn count_candidate(&mut self) {
        self.candidates += 1;
    }

    /// Triplets that could have been measured so far.
    #[must_use]
    pub fn candidates(&self) -> u64 {
        self.candidates
    }

    /// Whether the frame `middle_index` (1 is the first that has a frame before it) is to be measured.
    #[must_use]
    pub fn wants(&self, middle_index: u64) -> bool {
        let Some(place) = middle_index.checked_sub(1) else { return false };
        match self.plan {
            Plan::Spread { wanted, middles } => {
                // Exactly `wanted` of `middles` consecutive places step over a whole number, half a step in.
                let steps = |place: u64| (2 * place * wanted + middles) / (2 * middles);
                self.has_room() && steps(place + 1) > steps(place)
            }
            Plan::Thinning { stride } => self.max_samples > 0 && place.is_multiple_of(stride),
        }
    }

    fn has_room(&self) -> bool {
        (self.reserved.len() as u64) < self.max_samples
    }

    /// Makes room for a sample that was wanted and will come.
    pub fn reserve(&mut self, middle_index: u64) {
        self.reserved.push(middle_index);
        while let Plan::Thinning { stride } = self.plan
            && self.reserved.len() as u64 > self.max_samples
        {
            self.plan = Plan::Thinning { stride: stride * 2 };
            let plan = self.plan;
            self.reserved.retain(|index| plan.keeps(*index));
            self.samples.retain(|sample| plan.keeps(sample.middle_index));
        }
    }

    /// Takes a sample that room was made for, in whatever order.
    pub fn record(&mut self, sample: Sample) {
        if self.plan.keeps(sample.middle_index) {
            self.samples.push(sample);
        }
    }

    /// Measures a triplet. All pictures have one size.
    pub fn add(&mut self, triplet: &Triplet<'_>) {
        self.reserve(triplet.middle_index);
        self.record(triplet.measure());
    }

    /// The scores; `None` where nothing was measured.
    #[must_use]
    pub fn finish(mut self) -> Option<HoldoutScores> {
        self.samples.sort_by_key(|sample| sample.middle_index);
        let samples = self.samples.len() as u64;
        let psnr = |sample: &Sample| Some((sample.network.rgb.psnr_db()?, sample.pts));
        let worst = self.samples.iter().filter_map(psnr).min_by(|a, b| a.0.total_cmp(&b.0));
        let on_device = |sample: &&Sample| sample.measured_on == MeasuredOn::Device;
        (samples > 0).then(|| HoldoutScores {
            samples,
            samples_on_device: self.samples.iter().filter(on_device).count() as u64,
            candidates: self.candidates.max(samples),
            stride: self.plan.stride(),
            network: pool(self.samples.iter().map(|sample| sample.network)),
            repeat: pool(self.samples.iter().map(|sample| sample.repeat)),
            blend: pool(self.samples.iter().map(|sample| sample.blend)),
            worst_pts: worst.map(|(_, pts)| pts),
            frames: self.samples,
        })
    }
}

impl Plan {
    /// Frames from one to the next, on average; not a number where none is wanted.
    fn stride(self) -> f64 {
        match self {
            Self::Spread { wanted, middles } => middles as f64 / wanted as f64,
            Self::Thinning { stride } => stride as f64,
        }
    }

    /// Whether a sample that was taken stays one.
    fn keeps(self, middle_index: u64) -> bool {
        match self {
            Self::Spread { .. } => true,
            Self::Thinning { stride } => (middle_index - 1).is_multiple_of(stride),
        }
    }
}

impl Triplet<'_> {
    /// Measures it; all pictures have one size.
    ///
    /// # Panics
    /// If they have not.
    #[must_use]
    pub fn measure(&self) -> Sample {
        let truth = Samples::of_picture(self.truth);
        let others = [self.network, self.repeat, self.blend].map(Samples::of_picture);
        let scores = compare_all(&truth, others.each_ref());
        self.sample(scores, MeasuredOn::Processor)
    }

    /// The sample of scores of the network, of repeating and of blending.
    #[must_use]
    pub fn sample(
        &self,
        [network, repeat, blend]: [FrameScores; 3],
        measured_on: MeasuredOn,
    ) -> Sample {
        let Self { middle_index, pts, .. } = *self;
        Sample { middle_index, pts, network, repeat, blend, measured_on }
    }
}

/// Pools the scores of frames.
#[must_use]
pub fn pool(frames: impl Iterator<Item = FrameScores>) -> Pooled {
    let frames: Vec<FrameScores> = frames.collect();
    let collect = |value: &dyn Fn(&FrameScores) -> Option<f64>| -> Vec<f64> {
        frames.iter().filter_map(value).collect()
    };
    let sorted = |value: &dyn Fn(&FrameScores) -> Option<f64>| {
        let mut values = collect(value);
        values.sort_by(f64::total_cmp);
        values
    };
    let pooled = |error: &dyn Fn(&FrameScores) -> f64| {
        mean(&collect(&|frame| Some(error(frame)))).and_then(psnr_of_mean)
    };
    let psnr = sorted(&|frame| frame.rgb.psnr_db());
    let psnr_y = sorted(&|frame| frame.luma.psnr_db());
    let ssim_y = sorted(&|frame| Some(frame.ssim_y));
    let ssim_rife = sorted(&|frame| Some(frame.ssim_rife));
    let exact = (frames.len() - psnr.len()) as u64;
    Pooled {
        psnr_rgb_db: mean(&psnr),
        psnr_rgb_median_db: percentile(&psnr, 0.5),
        psnr_rgb_p5_db: percentile(&psnr, 0.05),
        psnr_rgb_min_db: psnr.first().copied(),
        psnr_rgb_pooled_db: pooled(&|frame| frame.rgb.mean()),
        psnr_y_db: mean(&psnr_y),
        psnr_y_median_db: percentile(&psnr_y, 0.5),
        psnr_y_p5_db: percentile(&psnr_y, 0.05),
        psnr_y_min_db: psnr_y.first().copied(),
        psnr_y_pooled_db: pooled(&|frame| frame.luma.mean()),
        ssim_y: mean(&ssim_y),
        ssim_y_median: percentile(&ssim_y, 0.5),
        ssim_y_p5: percentile(&ssim_y, 0.05),
        ssim_y_min: ssim_y.first().copied(),
        ssim_rife: mean(&ssim_rife),
        ssim_rife_median: percentile(&ssim_rife, 0.5),
        ssim_rife_p5: percentile(&ssim_rife, 0.05),
        ssim_rife_min: ssim_rife.first().copied(),
        vmaf: mean(&collect(&|frame| frame.vmaf)),
        exact,
        identical: !frames.is_empty() && exact == frames.len() as u64,
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Of sorted values, linear between neighbors.
fn percentile(sorted: &[f64], fraction: f64) -> Option<f64> {
    let place = fraction * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_linear_between_neighbors() {
        let sorted = [10.0, 20.0, 30.0, 50.0];
        assert_eq!(percentile(&sorted, 0.5), Some(25.0));
        assert_eq!(percentile(&sorted, 0.05), Some(11.5));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
