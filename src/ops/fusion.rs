//! The end of the network: flows summed, both frames warped, blended by the mask, cropped to the picture.
//!
//! At every pixel of the picture: `m = sigmoid(mask)`, `rgb = warp(img0, flow[0..2]) * m + warp(img1, flow[2..4]) * (1 - m)`,
//! clamped to 0..1. Flow and mask as in [`crate::ops::flow`], from the outputs of all blocks. Source: the last lines of
//! IFNet of Practical-RIFE v4, whose warp is bilinear; the frames can be read by a cubic in its place, and the flows be
//! refined before (see [`crate::ops::refine`]).

use crate::config::settings::Sampling;
use crate::ops::flow::{BlockOutput, MaskRule, View, flow_at, mask_at, only};
use crate::ops::refine;
use crate::ops::tensor::Tensor;
use crate::ops::warp::{accumulate, accumulate_cubic, corners};

/// Everything the picture is made from but the output of the last block.
#[derive(Debug)]
pub struct Fusion<'a, T = Tensor> {
    /// The pictures of a batch, at least one; records are padded: r, g, b first.
    pub views: &'a [View<'a, T>],
    /// Outputs of all blocks but the last.
    pub earlier: &'a [BlockOutput<'a, T>],
    /// Picture pixels for each pixel of the last block's output.
    pub factor: f32,
    /// How mask logits combine.
    pub mask: MaskRule,
    /// How the frames are read.
    pub sampling: Sampling,
    /// Whether the flows are refined.
    pub refine: bool,
    /// Rows of the picture without padding.
    pub height: usize,
    /// Columns of the picture without padding.
    pub width: usize,
}

/// The definition, in f32, of a batch of one. `last` is the output of the last block, `rgb` takes `[height, width, 3]`.
///
/// # Panics
/// Where shapes do not fit.
pub fn reference(fusion: &Fusion<'_>, last: &Tensor, rgb: &mut [f32]) {
    let View { records, .. } = only(fusion.views);
    let (h, w) = (records[0].h, records[0].w);
    assert!(fusion.height <= h && fusion.width <= w, "a picture within its padding");
    assert_eq!(rgb.len(), 3 * fusion.height * fusion.width, "rgb of the picture");
    let mut outputs = fusion.earlier.to_vec();
    let refined = fusion.refine.then(|| refine::reference(fusion, last));
    outputs
        .extend(refined.iter().map(|tensor| BlockOutput { tensor, factor: refine::CELL as f32 }));
    outputs.push(BlockOutput { tensor: last, factor: fusion.factor });
    for (at, pixel) in rgb.chunks_exact_mut(3).enumerate() {
        let (y, x) = (at / fusion.width, at % fusion.width);
        let flow = flow_at(&outputs, y, x, 1.0);
        let mask = sigmoid(mask_at(&outputs, fusion.mask, y, x, 1.0));
        pixel.fill(0.0);
        let add = match fusion.sampling {
            Sampling::Bilinear => accumulate,
            Sampling::Bicubic => accumulate_cubic,
        };
        add(records[0], corners(y, x, [flow[0], flow[1]], h, w), mask, pixel);
        add(records[1], corners(y, x, [flow[2], flow[3]], h, w), 1.0 - mask, pixel);
        pixel.iter_mut().for_each(|value| *value = value.clamp(0.0, 1.0));
    }
}

/// `1 / (1 + e^-x)`.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
