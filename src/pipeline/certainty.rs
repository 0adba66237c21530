//! Collects how sure the gaps of a clip are; memory is bounded however long it is.

use serde::{Deserialize, Serialize};

use crate::frame::{Frame, Seconds};
use crate::pipeline::motion::Confidence;
use crate::report::content::{self, Gap, Point};

/// Score below which a gap is listed.
pub const LOW_BELOW: f64 = 0.5;
/// Low gaps listed at the most; further ones are counted.
const GAPS_LISTED: usize = 1_000;
/// Points of the curve at the most.
const POINTS: usize = 400;
/// Steps of the histogram that percentiles are taken from.
const STEPS: usize = 100;

/// The scores so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Certainty {
    gaps: u64,
    sum: f64,
    min: Option<f64>,
    low: u64,
    held: u64,
    strongest: Option<(f64, f64)>,
    low_gaps: Vec<Gap>,
    /// Gaps by score, in hundredths.
    histogram: Vec<u64>,
    curve: Vec<Point>,
    /// Gaps of a point; 0 before the first.
    stride: u64,
}

impl Certainty {
    /// Adds the gap between two frames; `held` says whether nothing is made in it.
    pub fn add(&mut self, first: &Frame, second: &Frame, found: Confidence, held: Held) {
        let Confidence { score, motion } = found;
        let (pts_from_s, pts_to_s) = (seconds(first.pts), seconds(second.pts));
        let held = held == Held::Yes;
        self.gaps += 1;
        self.sum += score;
        self.min = Some(self.min.map_or(score, |it| it.min(score)));
        self.held += u64::from(held);
        if self.strongest.is_none_or(|it| motion > it.0) {
            self.strongest = Some((motion, pts_from_s));
        }
        self.histogram.resize(STEPS + 1, 0);
        self.histogram[((score * STEPS as f64) as usize).min(STEPS)] += 1;
        if score < LOW_BELOW {
            self.low += 1;
            if self.low_gaps.len() < GAPS_LISTED {
                let frame = first.index;
                self.low_gaps.push(Gap { frame, pts_from_s, pts_to_s, score, motion, held });
            }
        }
        self.add_point(Point { pts_s: pts_from_s, score, motion });
    }

    fn add_point(&mut self, point: Point) {
        self.stride = self.stride.max(1);
        let begins = (self.gaps - 1).is_multiple_of(self.stride);
        match self.curve.last_mut().filter(|_| !begins) {
            Some(last) => *last = together(*last, point),
            None => self.curve.push(point),
        }
        if self.curve.len() > POINTS {
            self.stride *= 2;
            let pairs = self.curve.chunks(2);
            self.curve =
                pairs.map(|it| it.iter().copied().reduce(together).unwrap_or(it[0])).collect();
        }
    }

    /// The report's form.
    #[must_use]
    pub fn finish(self, hold_below: Option<f64>) -> content::Confidence {
        content::Confidence {
            gaps: self.gaps,
            mean: (self.gaps > 0).then(|| self.sum / self.gaps as f64),
            p5: self.percentile(),
            min: self.min,
            low_below: LOW_BELOW,
            low: self.low,
            hold_below,
            held: self.held,
            strongest_motion: self.strongest.map(|it| it.0),
            strongest_motion_pts_s: self.strongest.map(|it| it.1),
            low_gaps: self.low_gaps,
            curve: self.curve,
        }
    }

    fn percentile(&self) -> Option<f64> {
        let mut left = self.gaps / 20;
        for (step, count) in self.histogram.iter().enumerate() {
            if *count > left {
                return Some(step as f64 / STEPS as f64);
            }
            left -= count;
        }
        None
    }
}

/// Whether nothing is made in a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The earlier frame is held.
    Yes,
    /// Frames are made.
    No,
}

fn together(a: Point, b: Point) -> Point {
    Point { pts_s: a.pts_s, score: a.score.min(b.score), motion: a.motion.max(b.motion) }
}

fn seconds(time: Seconds) -> f64 {
    *time.numer() as f64 / *time.denom() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Range};
    use std::sync::Arc;

    fn frame(index: u64) -> Frame {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px, depth) = (1, 1, Depth::Eight);
        let format = PictureFormat { width_px, height_px, chroma, matrix, range, depth };
        let picture = Arc::new(Picture::zeroed(format));
        Frame {
            index,
            pts: Seconds::new(i128::from(index), 25),
            duration: None,
            picture,
            alpha: None,
        }
    }

    #[test]
    fn a_long_clip_keeps_its_worst_gap_and_few_points() {
        let mut certainty = Certainty::default();
        for index in 0..100_000 {
            let worst = index == 77_777;
            let score = if worst { 0.1 } else { 0.8 + (index % 10) as f64 / 100.0 };
            let motion = if worst { 0.2 } else { 0.01 };
            let (first, second) = (frame(index), frame(index + 1));
            certainty.add(&first, &second, Confidence { score, motion }, Held::No);
        }
        let found = certainty.finish(None);
        assert_eq!((found.gaps, found.low, found.held), (100_000, 1, 0));
        assert_eq!((found.min, found.strongest_motion), (Some(0.1), Some(0.2)));
        assert_eq!(found.low_gaps[0].frame, 77_777);
        assert!((found.p5.unwrap() - 0.8).abs() < 0.011, "{:?}", found.p5);
        assert!((200..=POINTS).contains(&found.curve.len()), "{}", found.curve.len());
        let lowest = found.curve.iter().min_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
        assert!((lowest.pts_s - 77_777.0 / 25.0).abs() < 20.0, "{lowest:?}");
    }
}
