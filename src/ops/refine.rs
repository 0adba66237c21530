//! One step of Lucas and Kanade on the finished flows: where both frames, moved, still differ by a shift, the flows give way.
//!
//! A network of a few channels finds a motion to a few tenths of a pixel. With `a` and `b` the brightness of both frames
//! at a pixel where the flows of all blocks lead, `d = b - a`, `g` the slope of `(a + b) / 2` and `k` a weight that falls
//! where they differ much (a thing that only one shows is nobody's shift), each cell of 4 x 4 pixels sums `k g g'` and
//! `k g d`; over 3 x 3 cells, weighted 1 2 1 both ways, the shift `u` solves `(sum k g g' + damping) u = -sum k g d`, one
//! pixel long at most. A frame's flow moves by its share of the time: `-t u` and `(1 - t) u`.
//!
//! What comes out is one more block output, a pixel a cell. Brightness is BT.601's; neighbors are of the picture, without
//! padding. Source: B. D. Lucas, T. Kanade, An Iterative Image Registration Technique, IJCAI 1981; sums by cells, weights
//! and limits are this project's own, chosen on drawn and real scenes (models/README.md).

use crate::ops::flow::{BlockOutput, HANDED_ON, flow_at, only};
use crate::ops::fusion::Fusion;
use crate::ops::tensor::Tensor;
use crate::ops::warp::{accumulate, corners};

/// Picture pixels for each of the output: the sides of a cell.
pub const CELL: usize = 4;
/// Of red, green and blue.
pub const BRIGHTNESS: [f32; 3] = [0.299, 0.587, 0.114];
/// Difference, of a range of 1, at which a pixel counts half.
pub const TOLERATED: f32 = 0.1;
/// Added to the sums of squared slopes, of a pixel's mean: slopes of half a level in 255 a pixel count little.
pub const DAMPING: f32 = 3.3e-5;
/// Longest shift in pixels.
pub const LONGEST_PX: f32 = 1.0;
/// Weights of cells side by side.
pub const NEARBY: [f32; 3] = [1.0, 2.0, 1.0];
/// Pixels times weights of a sum over cells.
pub const WEIGHT: f32 = 256.0;

/// What a cell sums: `k` times the slopes x x, x y, y y, x d, y d.
pub type Sums = [f32; 5];

/// The shift that sums over cells ask for, x and y in pixels.
#[must_use]
#[inline(always)]
pub fn shift(sums: Sums) -> [f32; 2] {
    let [xx, xy, yy, xd, yd] = sums.map(|sum| sum * (1.0 / WEIGHT));
    let (xx, yy) = (xx + DAMPING, yy + DAMPING);
    let scale = -1.0 / (xx * yy - xy * xy);
    let (x, y) = (scale * (yy * xd - xy * yd), scale * (xx * yd - xy * xd));
    let shorter = LONGEST_PX / (x * x + y * y).sqrt().max(LONGEST_PX);
    [x * shorter, y * shorter]
}

/// What moves the flows, in units of a cell: the first five channels of a block output, of which the mask is 0.
#[must_use]
#[inline(always)]
pub fn output([x, y]: [f32; 2], timestep: f32) -> [f32; HANDED_ON] {
    let (early, late) = (-timestep / CELL as f32, (1.0 - timestep) / CELL as f32);
    [early * x, early * y, late * x, late * y, 0.0]
}

/// The definition, in f32, of a batch of one: `[height / 4, width / 4, 5]` of the padded picture, to be read before `last`,
/// the output of the last block.
///
/// # Panics
/// Where shapes do not fit, or the padding is no multiple of [`CELL`].
#[must_use]
pub fn reference(fusion: &Fusion<'_>, last: &Tensor) -> Tensor {
    let view = only(fusion.views);
    let [h, w] = [view.records[0].h, view.records[0].w].map(|n| n / CELL);
    assert_eq!([h * CELL, w * CELL], [view.records[0].h, view.records[0].w], "whole cells");
    let sums = sums(fusion, last);
    let mut made = Tensor::zeros(h, w, HANDED_ON);
    for y in 0..h {
        for x in 0..w {
            let mut around = Sums::default();
            for (row, weight_y) in (y..).zip(NEARBY) {
                for (column, weight_x) in (x..).zip(NEARBY) {
                    if (1..=sums.h).contains(&row) && (1..=sums.w).contains(&column) {
                        let cell = sums.at(row - 1, column - 1);
                        around
                            .iter_mut()
                            .zip(cell)
                            .for_each(|(to, v)| *to += weight_y * weight_x * v);
                    }
                }
            }
            made.at_mut(y, x).copy_from_slice(&output(shift(around), view.timestep));
        }
    }
    made
}

/// The sums of all cells that have pixels of the picture.
fn sums(fusion: &Fusion<'_>, last: &Tensor) -> Tensor {
    let Moved { sum, difference } = brightness(fusion, last);
    let (height, width) = (fusion.height, fusion.width);
    let mut made = Tensor::zeros(height.div_ceil(CELL), width.div_ceil(CELL), 5);
    for y in 0..height {
        for x in 0..width {
            let at = |y: usize, x: usize| sum[y * width + x];
            // Of the mean of both, over two pixels.
            let slope_x = 0.25 * (at(y, (x + 1).min(width - 1)) - at(y, x.saturating_sub(1)));
            let slope_y = 0.25 * (at((y + 1).min(height - 1), x) - at(y.saturating_sub(1), x));
            let d = difference[y * width + x];
            let k = 1.0 / (1.0 + d * d * (1.0 / (TOLERATED * TOLERATED)));
            let (kx, ky) = (k * slope_x, k * slope_y);
            let products = [kx * slope_x, kx * slope_y, ky * slope_y, kx * d, ky * d];
            let cell = made.at_mut(y / CELL, x / CELL);
            cell.iter_mut().zip(products).for_each(|(to, v)| *to += v);
        }
    }
    made
}

/// Of both moved frames, at each pixel of the picture.
struct Moved {
    sum: Vec<f32>,
    difference: Vec<f32>,
}

fn brightness(fusion: &Fusion<'_>, last: &Tensor) -> Moved {
    let records = only(fusion.views).records;
    // Not the padding, which is black.
    let (h, w) = (fusion.height, fusion.width);
    let mut outputs = fusion.earlier.to_vec();
    outputs.push(BlockOutput { tensor: last, factor: fusion.factor });
    let (mut sum, mut difference) = (vec![], vec![]);
    for y in 0..fusion.height {
        for x in 0..fusion.width {
            let flow = flow_at(&outputs, y, x, 1.0);
            let moved = |side: usize| {
                let mut rgb = [0.0; 3];
                let at = corners(y, x, [flow[2 * side], flow[2 * side + 1]], h, w);
                accumulate(records[side], at, 1.0, &mut rgb);
                rgb.iter().zip(BRIGHTNESS).map(|(v, weight)| v * weight).sum::<f32>()
            };
            let (a, b) = (moved(0), moved(1));
            sum.push(a + b);
            difference.push(b - a);
        }
    }
    Moved { sum, difference }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Sampling;
    use crate::ops::flow::{MaskRule, View};

    fn frame(shift_x: f32, shift_y: f32) -> Tensor {
        let mut made = Tensor::zeros(32, 48, 3);
        for y in 0..32 {
            for x in 0..48 {
                let (x_, y_) = (x as f32 - shift_x, y as f32 - shift_y);
                let v =
                    0.5 + 0.2 * (0.31 * x_ + 0.1 * y_).sin() + 0.2 * (0.27 * y_ - 0.05 * x_).cos();
                made.at_mut(y, x).fill(v);
            }
        }
        made
    }

    fn refined(by: [f32; 2], timestep: f32, records: [&Tensor; 2]) -> Tensor {
        let mut last = Tensor::zeros(32, 48, 5);
        let flow = [
            -timestep * by[0],
            -timestep * by[1],
            (1.0 - timestep) * by[0],
            (1.0 - timestep) * by[1],
        ];
        last.data.chunks_exact_mut(5).for_each(|pixel| pixel[..4].copy_from_slice(&flow));
        let fusion = Fusion {
            views: &[View { records, timestep }],
            earlier: &[],
            factor: 1.0,
            mask: MaskRule::Last,
            sampling: Sampling::Bilinear,
            refine: true,
            height: 30,
            width: 45,
        };
        reference(&fusion, &last)
    }

    /// A flow half a pixel wrong becomes one a tenth wrong at the most, for each frame its share.
    #[test]
    fn a_flow_that_is_nearly_right_becomes_right() {
        let frames = [frame(0.0, 0.0), frame(1.6, -0.8)];
        for timestep in [0.25, 0.5] {
            let made = refined([1.2, -0.5], timestep, [&frames[0], &frames[1]]);
            assert_eq!([made.h, made.w, made.c], [8, 12, 5]);
            let found = made.at(4, 6);
            let expected = output([0.4, -0.3], timestep);
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 0.1 / CELL as f32, "{found:?}, not {expected:?}");
            }
        }
    }

    /// Nothing moves where the frames agree, where there is nothing to see, and far from pixels that only one shows.
    #[test]
    fn what_agrees_stays() {
        let same = frame(0.0, 0.0);
        assert!(refined([0.0; 2], 0.5, [&same, &same]).data.iter().all(|v| *v == 0.0));
        let mut flat = Tensor::zeros(32, 48, 3);
        let dark = flat.clone();
        flat.data.fill(0.5);
        assert!(refined([0.0; 2], 0.5, [&flat, &dark]).data.iter().all(|v| v.abs() < 1e-3));
    }

    /// However much the frames differ, a shift is a pixel long at most, and finite.
    #[test]
    fn shifts_are_short() {
        let [x, y] = shift([100.0, 0.0, 100.0, 900.0, -900.0]);
        assert!((x.hypot(y) - LONGEST_PX).abs() < 1e-6 && x < 0.0 && y > 0.0);
        assert_eq!(shift(Sums::default()), [0.0, 0.0]);
        // One slope alone: nothing along it.
        let [x, y] = shift([10.0, 0.0, 0.0, 2.0, 0.0]);
        assert!((x + 0.2).abs() < 1e-3 && y == 0.0);
    }
}
