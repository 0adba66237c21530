//! Fields of the report about what a clip shows: cuts and other changes, how sure each gap is, what was masked.

use serde::{Deserialize, Serialize};

use crate::config::content::Rectangle;

/// A hard cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// Index of the first frame after the cut.
    pub frame: u64,
    /// Its time in the source.
    pub pts_s: f64,
    /// How different the frames are, 0..1.
    pub score: f64,
    /// Whether a list of cuts has it; otherwise it was found.
    #[serde(default)]
    pub listed: bool,
}

/// A flash or a fade: no barrier, but a reader should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// `flash`, `fade_out` or `fade_in`.
    pub kind: String,
    /// Its first frame.
    pub frame: u64,
    /// Time of that in the source.
    pub pts_s: f64,
    /// How many frames it lasts.
    pub frames: u64,
    /// Change of the mean luma (flash) or of contrast (fade), of full scale.
    pub score: f64,
}

/// How sure the frames between real ones can be: 1 is sure, 0 is not at all. Estimated from motion there and back on small
/// pictures, and from its size; cuts and repeated pictures are no gaps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Gaps that have a score.
    pub gaps: u64,
    /// Mean of them; absent where there are none.
    pub mean: Option<f64>,
    /// Fifth percentile, to a hundredth.
    pub p5: Option<f64>,
    /// Lowest.
    pub min: Option<f64>,
    /// Score below which a gap is low.
    pub low_below: f64,
    /// How many are.
    pub low: u64,
    /// Score below which nothing was made and the earlier frame held; absent where that was not asked for.
    pub hold_below: Option<f64>,
    /// In how many gaps it was.
    pub held: u64,
    /// Largest motion of a gap, in parts of the picture's longer side.
    pub strongest_motion: Option<f64>,
    /// Source time of that gap's beginning.
    pub strongest_motion_pts_s: Option<f64>,
    /// The first low gaps, in order.
    pub low_gaps: Vec<Gap>,
    /// Scores over time, of gaps or of as many gaps together as make the list short enough.
    pub curve: Vec<Point>,
}

/// A gap between two real frames.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Index of the earlier frame.
    pub frame: u64,
    /// Its time in the source.
    pub pts_from_s: f64,
    /// Time of the later frame.
    pub pts_to_s: f64,
    /// Its score.
    pub score: f64,
    /// Its motion, in parts of the picture's longer side.
    pub motion: f64,
    /// Whether nothing was made in it.
    pub held: bool,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Source time of the first of its gaps.
    pub pts_s: f64,
    /// Lowest score.
    pub score: f64,
    /// Largest motion.
    pub motion: f64,
}

/// A part of the picture in which made frames show the nearest real one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masked {
    /// Where.
    #[serde(flatten)]
    pub rectangle: Rectangle,
    /// Whether it was found; otherwise it was configured.
    pub detected: bool,
}
