//! What a report says of damage, of what was not recorded, and of black bars.

use serde::{Deserialize, Serialize};

/// A range of the source with frames that cannot be decoded, or not without errors. It reaches from the last sound frame
/// before to the first behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Barrier {
    /// Index of the first sound frame behind it.
    pub frame: u64,
    /// Source time of the last sound frame before it; where there is none, of the first behind it.
    pub pts_from_s: f64,
    /// Source time of the first sound frame behind it; where there is none, the end of the last before it.
    pub pts_to_s: f64,
    /// Frames in it that cannot be decoded.
    pub lost: u64,
    /// Frames in it that were decoded with errors; they are shown as they are.
    pub marred: u64,
}

/// A range of the source that has no frames, though nothing there is damaged. It reaches from the last frame before to the
/// first behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unrecorded {
    /// Index of the first frame behind it.
    pub frame: u64,
    /// Source time of the last frame before it.
    pub pts_from_s: f64,
    /// Source time of the first frame behind it.
    pub pts_to_s: f64,
    /// Frames that would have been there, by the gaps between those before it.
    pub missing: u64,
}

/// Black bars round the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bars {
    /// Lines at the top.
    pub top_px: usize,
    /// Lines at the bottom.
    pub bottom_px: usize,
    /// Columns at the left.
    pub left_px: usize,
    /// Columns at the right.
    pub right_px: usize,
}
