//! Rows of summed flow, mask and features, enlarged from the low-resolution outputs of the blocks, and warps by them.
//!
//! A row buffer holds 8 values a position: four flows, the mask logit, the first three features handed on; a second
//! buffer the other five. That is the order of a block's output, so that one vector serves all.
#![expect(unsafe_code, reason = "vector instructions over rows; launchers check the shapes")]

use super::simd::Simd;
use super::tensor::Tensor;
use crate::ops::flow::{BlockOutput, MASK, MaskRule};
use crate::ops::resize::tap;

/// Values of a position in a row buffer.
pub(super) const GROUP: usize = 8;

/// What each lane of a block's output is multiplied by in a sum: flows to the unit wished for, the mask as its rule says.
pub(super) fn lane_scales(
    outputs: &[BlockOutput<'_, Tensor>],
    index: usize,
    rule: MaskRule,
    unit: f32,
) -> [f32; GROUP] {
    let last = index + 1 == outputs.len();
    let mut scales = [if last { 1.0 } else { 0.0 }; GROUP];
    scales[..MASK].fill(outputs[index].factor / unit);
    scales[MASK] = if last || rule == MaskRule::Sum { 1.0 } else { 0.0 };
    scales
}

/// Adds `scales * output` at positions `first..first + n` of row `y` of a grid to `sums` (`n` groups).
///
/// `group` tells which 8 channels are read; the grid has `unit` picture pixels for each of its own.
///
/// # Safety
/// The instruction set of `E` is enabled and `E` has 8 lanes; `sums` is valid for `n * 8` values; the positions lie on
/// the grid.
#[inline(always)]
pub(super) unsafe fn add_row<E: Simd>(
    output: &BlockOutput<'_, Tensor>,
    (y, first, n, unit): (usize, usize, usize, f32),
    (scales, group): (&[f32; GROUP], usize),
    sums: *mut f32,
) {
    let tensor = output.tensor;
    let step = unit / output.factor;
    let row = tap(y, step, tensor.h);
    let top = tensor.values()[tensor.at(row.first, 0) + group * GROUP..].as_ptr();
    let bottom = tensor.values()[tensor.at(row.second, 0) + group * GROUP..].as_ptr();
    // SAFETY: low-resolution columns below tensor.w are read, n groups written.
    unsafe {
        let (scales, weight_y) = (E::load(scales.as_ptr()), E::splat(row.weight));
        let column = |x: usize| {
            let a = E::load(top.add(x * tensor.stride));
            let b = E::load(bottom.add(x * tensor.stride));
            E::mul(scales, E::mul_add(E::sub(b, a), weight_y, a))
        };
        let mut x = first;
        while x < first + n {
            let t = tap(x, step, tensor.w);
            let a = column(t.first);
            let d = E::sub(column(t.second), a);
            // Positions between the same two columns. Steps are powers of two: no rounding. Left of the first center
            // nothing changes.
            let left_edge = (x as f32 + 0.5) * step < 0.5;
            let run =
                if left_edge { 1 } else { ((1.0 - t.weight) / step).ceil().max(1.0) as usize };
            for i in 0..run.min(first + n - x) {
                let weight = t.weight + i as f32 * step;
                let at = sums.add((x + i - first) * GROUP);
                E::store(at, E::add(E::load(at), E::mul_add(d, E::splat(weight), a)));
            }
            x += run;
        }
    }
}

/// Where one image is read: the first of four pixels, and the weights of the second column and row.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub at: usize,
    pub weight_x: f32,
    pub weight_y: f32,
}

/// What a warp needs to know of both records.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub tensors: [&'a Tensor; 2],
}

impl<'a> Records<'a> {
    /// Both must have one shape.
    pub(super) fn new(tensors: [&'a Tensor; 2]) -> Self {
        let [a, b] = tensors;
        assert_eq!((a.h, a.w, a.c), (b.h, b.w, b.c), "records of one shape");
        Self { tensors }
    }

    /// Where position (`y`, `x`) with the flow at `flow` (four values and four more that are ignored) reads both.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled and `E` has 8 lanes; `flow` is valid for 8 values.
    #[inline(always)]
    pub(super) unsafe fn sources<E: Simd>(
        &self,
        y: usize,
        x: usize,
        flow: *const f32,
    ) -> [Source; 2] {
        let tensor = self.tensors[0];
        let (x, y) = (x as f32, y as f32);
        let (right, low) = ((tensor.w - 1) as f32, (tensor.h - 1) as f32);
        let mut whole = [0i32; GROUP];
        let mut parts = [0f32; GROUP];
        // SAFETY: all pointers are to 8 values.
        unsafe {
            let at = E::add(E::load(flow), E::load([x, y, x, y, 0.0, 0.0, 0.0, 0.0].as_ptr()));
            // NaN becomes 0: `max` answers its second value.
            let at = E::max(at, E::splat(0.0));
            let limit = [right, low, right, low, 0.0, 0.0, 0.0, 0.0];
            let at = E::min(at, E::load(limit.as_ptr()));
            let floor = E::truncate(at, whole.as_mut_ptr());
            E::store(parts.as_mut_ptr(), E::sub(at, floor));
        }
        let source = |side: usize| {
            // Clamped to the picture, so not negative.
            let (x, y) = (
                whole[2 * side].unsigned_abs() as usize,
                whole[2 * side + 1].unsigned_abs() as usize,
            );
            Source { at: tensor.at(y, x), weight_x: parts[2 * side], weight_y: parts[2 * side + 1] }
        };
        [source(0), source(1)]
    }

    /// Where both are read with no flow.
    #[inline(always)]
    pub(super) fn standing(&self, y: usize, x: usize) -> [Source; 2] {
        [Source { at: self.tensors[0].at(y, x), weight_x: 0.0, weight_y: 0.0 }; 2]
    }

    /// Eight channels of one record at a source: bilinear. The border stands in where the weight is 0.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled and `E` has 8 lanes; `from` came from [`Self::sources`] and `group` is
    /// below `stride / 8`.
    #[inline(always)]
    pub(super) unsafe fn sample<E: Simd>(&self, side: usize, from: Source, group: usize) -> E::V {
        let tensor = self.tensors[side];
        // SAFETY: the source lies in the picture, so its right and lower neighbors lie in the bordered tensor.
        unsafe {
            let p = tensor.values().as_ptr().add(from.at + group * GROUP);
            let (right, below) = (tensor.stride, tensor.row_stride());
            let (wx, wy) = (E::splat(from.weight_x), E::splat(from.weight_y));
            let (a, b) = (E::load(p), E::load(p.add(right)));
            let (c, d) = (E::load(p.add(below)), E::load(p.add(below + right)));
            let upper = E::mul_add(E::sub(b, a), wx, a);
            let lower = E::mul_add(E::sub(d, c), wx, c);
            E::mul_add(E::sub(lower, upper), wy, upper)
        }
    }
}
