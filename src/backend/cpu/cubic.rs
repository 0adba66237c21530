//! Reads of both frames by a cubic, for the picture in the end; see [`crate::ops::warp`].
#![expect(unsafe_code, reason = "vector instructions over raw rows; launchers check the shapes")]

use super::flow_rows::{Aims, Records};
use super::simd::Simd;
use crate::ops::warp::cubic_weights;

/// Where one image is read by a cubic, from its first pixel on: four columns, four rows, and their weights.
#[derive(Clone, Copy)]
pub(super) struct CubicSource {
    columns: [usize; 4],
    rows: [usize; 4],
    weights_x: [f32; 4],
    weights_y: [f32; 4],
}

impl Records<'_> {
    /// Where position `index` reads image `side` by a cubic.
    ///
    /// # Safety
    /// [`Self::aim`] wrote the position to `aims`.
    #[inline(always)]
    pub(super) unsafe fn cubic_source(&self, aims: Aims, index: usize, side: usize) -> CubicSource {
        let at = 4 * index + 2 * side;
        let taps = |first: i32, step: usize, n: usize| {
            let (first, last) = (first.cast_unsigned() as usize, (n - 1) * step);
            let second = (first + step).min(last);
            [first.saturating_sub(step), first, second, (second + step).min(last)]
        };
        // SAFETY: the caller's promise.
        unsafe {
            CubicSource {
                columns: taps(*aims.whole.add(at), self.stride, self.size.1),
                rows: taps(*aims.whole.add(at + 1), self.row_stride, self.size.0),
                weights_x: cubic_weights(*aims.parts.add(at)),
                weights_y: cubic_weights(*aims.parts.add(at + 1)),
            }
        }
    }

    /// The first eight channels of one record by a cubic.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled and `E` has 8 lanes; `from` came from [`Self::cubic_source`].
    #[inline(always)]
    pub(super) unsafe fn sample_cubic<E: Simd>(&self, side: usize, from: &CubicSource) -> E::V {
        // No closures: they would not be of the instruction set.
        // SAFETY: all columns and rows lie in the picture.
        unsafe {
            let mut sum = E::splat(0.0);
            for (row, weight_y) in from.rows.iter().zip(&from.weights_y) {
                let start = self.start[side].add(*row);
                let mut line = E::splat(0.0);
                for (column, weight_x) in from.columns.iter().zip(&from.weights_x) {
                    line = E::mul_add(E::load(start.add(*column)), E::splat(*weight_x), line);
                }
                sum = E::mul_add(line, E::splat(*weight_y), sum);
            }
            sum
        }
    }
}
