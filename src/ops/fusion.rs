//! The end of the network: flows summed, both frames warped, blended by the mask, cropped to the picture.
//!
//! At every pixel of the picture: `m = sigmoid(mask)`, `rgb = warp(img0, flow[0..2]) * m + warp(img1, flow[2..4]) * (1 - m)`.
//! Flow and mask as in [`crate::ops::flow`], from the outputs of all blocks. Source: the last lines of
//! IFNet of Practical-RIFE v4, whose warp is bilinear; the frames can be read by a cubic in its place, and the flows be
//! refined before (see [`crate::ops::refine`]).
//!
//! Frames are padded with black below and at the right. The bilinear warp, as the authors', reads that where a flow leads past
//! the picture's last row or column, so that made pictures darken there; the cubic repeats the last ones.

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
        let flows = [[flow[0], flow[1]], [flow[2], flow[3]]];
        for ((record, flow), part) in records.into_iter().zip(flows).zip([mask, 1.0 - mask]) {
            match fusion.sampling {
                Sampling::Bilinear => accumulate(record, corners(y, x, flow, h, w), part, pixel),
                Sampling::Bicubic => {
                    let size = (fusion.height, fusion.width);
                    let at = corners(y, x, flow, size.0, size.1);
                    accumulate_cubic(record, size, at, part, pixel);
                }
            }
        }
    }
}

/// `1 / (1 + e^-x)`.
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 5x7 in records of 8x8 whose padding is `outside`, moved by `flow` in both directions.
    fn made(outside: f32, flow: f32, sampling: Sampling) -> Vec<f32> {
        let mut record = Tensor::zeros(8, 8, 3);
        for (at, value) in record.data.iter_mut().enumerate() {
            let (y, x) = (at / 24, at / 3 % 8);
            *value = if y < 5 && x < 7 { 0.5 + 0.03 * (y + x) as f32 } else { outside };
        }
        let mut last = Tensor::zeros(8, 8, 5);
        last.data.chunks_exact_mut(5).for_each(|pixel| pixel[..4].fill(flow));
        let fusion = Fusion {
            views: &[View { records: [&record; 2], timestep: 0.5 }],
            earlier: &[],
            factor: 1.0,
            mask: MaskRule::Last,
            sampling,
            refine: true,
            height: 5,
            width: 7,
        };
        let mut rgb = vec![f32::NAN; 3 * 5 * 7];
        reference(&fusion, &last, &mut rgb);
        rgb
    }

    #[test]
    fn the_cubic_never_reads_the_padding() {
        for flow in [0.0, 0.4, 3.7, -1.5] {
            let found = made(f32::NAN, flow, Sampling::Bicubic);
            assert!(found.iter().all(|it| (0.4..1.0).contains(it)), "{flow}: {found:?}");
        }
        let [black, white] = [0.0, 1.0].map(|it| made(it, 0.4, Sampling::Bilinear));
        assert_ne!(black, white, "the bilinear warp reads it, as the authors'");
    }
}
