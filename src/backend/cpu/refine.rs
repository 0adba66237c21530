//! What refines the flows (see [`crate::ops::refine`]): cells summed by bands of rows, each pixel's brightness worked out once
//! but at the seams, then the cells' shifts.
#![expect(unsafe_code, reason = "vector instructions over rows; `run` checks the shapes")]

use std::ops::Range;

use super::flow_rows::{Aims, GROUP, Pairs, Records, add_all_pairs};
use super::instructions::Kernels;
use super::simd::{Halves, Simd, Work};
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use crate::ops::flow::{BlockOutput, HANDED_ON, View};
use crate::ops::refine::{BRIGHTNESS, CELL, NEARBY, TOLERATED, output, shift};

/// Positions warped at a time.
const RUN: usize = 256;
/// Values of a run's sums by pairs of positions.
const PAIRS: usize = (RUN + 2) * GROUP / 2;
/// Rows of cells of a task: each costs two rows of pixels beside its own.
const ROWS: usize = 4;
/// Rows of pixels that are kept: of which slopes are taken.
const KEPT: usize = 3;
/// Picture pixels for each of the result.
pub(super) const FACTOR: f32 = CELL as f32;
/// What a cell sums.
const SUMS: usize = 5;

/// One picture's sums, for the entry functions.
pub(super) struct SumsJob<'a> {
    records: Records<'a>,
    /// Outputs that are read enlarged.
    outputs: &'a [BlockOutput<'a, Tensor>],
    /// The last block's output where it has the picture's size.
    whole: Option<&'a Tensor>,
    /// Rows and columns of the picture.
    size: (usize, usize),
    /// Values of the sums, where those of the first cell are and how many lie between rows of cells.
    sums: (Shared<'a>, usize, usize),
}

/// Values of a row with a neighbor at both ends, in whole cells.
fn line(width: usize) -> usize {
    width.next_multiple_of(CELL) + 2
}

/// Values of scratch memory that a task needs.
fn scratch_len(width: usize) -> usize {
    3 * PAIRS + (2 * KEPT + SUMS) * line(width)
}

/// The sums of the rows of cells `cells`.
///
/// # Safety
/// The instruction set of `S` is enabled; `run` checked the shapes; `scratch` has the length that `scratch_len` says; no
/// other thread touches these cells.
#[inline(always)]
pub(super) unsafe fn sums<S: Simd>(job: &SumsJob<'_>, cells: Range<usize>, scratch: &mut [f32]) {
    let (height, width) = job.size;
    let line = line(width);
    let (own, rest) = scratch.split_at_mut(3 * PAIRS);
    let (rows, products) = rest.split_at_mut(2 * KEPT * line);
    products.fill(0.0);
    let start = own.as_mut_ptr();
    let at = |index: usize| start.wrapping_add(index * PAIRS);
    let own = Own { pairs: at(0), aims: Aims { whole: at(1).cast(), parts: at(2) } };
    let (first, end) = (cells.start * CELL, (cells.end * CELL).min(height));
    let mut done = first.saturating_sub(1);
    for y in first..end {
        while done <= (y + 1).min(height - 1) {
            let row = &mut rows[done % KEPT * 2 * line..][..2 * line];
            for x in (0..width).step_by(RUN) {
                let (sum, difference) = row.split_at_mut(line);
                let to = (sum[x + 1..].as_mut_ptr(), difference[x..].as_mut_ptr());
                let n = RUN.min(width - x);
                // SAFETY: n positions lie in the picture and fit the rows.
                unsafe { <S::Eight as Simd>::outline(Brightness { job, y: done, x, n, own, to }) };
            }
            (row[0], row[width + 1]) = (row[1], row[width]);
            done += 1;
        }
        let of = |y: usize| &rows[y % KEPT * 2 * line..][..2 * line];
        let [above, row, below] = [y.saturating_sub(1), y, (y + 1).min(height - 1)].map(of);
        let (sum, difference) = row.split_at(line);
        let work = Products {
            left: &sum[..width],
            right: &sum[2..width + 2],
            above: &above[1..=width],
            below: &below[1..=width],
            difference: &difference[..width],
            products,
            line,
        };
        // SAFETY: the set is enabled.
        unsafe { S::outline(work) };
        if (y + 1).is_multiple_of(CELL) || y + 1 == end {
            let (shared, start, row) = job.sums;
            let start = start + y / CELL * row;
            for cell in 0..width.div_ceil(CELL) {
                let mut sums = [0.0; GROUP];
                for (sum, values) in sums.iter_mut().zip(products.chunks_exact(line)) {
                    *sum = values[CELL * cell..][..CELL].iter().sum();
                }
                // SAFETY: the cells are this task's.
                unsafe {
                    let to = shared.at(start + cell * GROUP);
                    to.copy_from_nonoverlapping(sums.as_ptr(), GROUP);
                }
            }
            products.fill(0.0);
        }
    }
}

/// A run's parts of a task's scratch memory.
#[derive(Clone, Copy)]
struct Own {
    /// Flow in pairs of positions.
    pairs: *mut f32,
    aims: Aims,
}

/// Sum and difference of both moved frames' brightness at `n` pixels of row `y` from column `x` on.
struct Brightness<'a> {
    job: &'a SumsJob<'a>,
    y: usize,
    x: usize,
    n: usize,
    own: Own,
    to: (*mut f32, *mut f32),
}

impl<E: Halves> Work<E> for Brightness<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { job, y, x, n, own: Own { pairs, aims }, to: (sums, differences) } = self;
        let grid = Pairs { y, first: x, count: n.div_ceil(2), pitch: 2, unit: 1.0 };
        let [red, green, blue] = BRIGHTNESS;
        // SAFETY: `run` checked that the row lies in all outputs and records; n is at most RUN.
        unsafe {
            let groups = match job.whole {
                Some(whole) => whole.values()[whole.at(y, x)..].as_ptr(),
                None => std::ptr::null(),
            };
            add_all_pairs::<E>(job.outputs, (grid, 1.0), pairs);
            // A copy of its own stays in registers.
            let records = job.records;
            records.aim::<E>(grid, (pairs, groups), aims);
            let (mut sum, mut difference) = ([0.0; GROUP], [0.0; GROUP]);
            for i in 0..n {
                let [from_a, from_b] = [aims.source(i, 0), aims.source(i, 1)];
                records.foresee::<E>(0, from_a, 2);
                records.foresee::<E>(1, from_b, 2);
                let a = records.sample::<E>(0, from_a, 0);
                let b = records.sample::<E>(1, from_b, 0);
                E::store(sum.as_mut_ptr(), E::add(a, b));
                E::store(difference.as_mut_ptr(), E::sub(b, a));
                *sums.add(i) = red * sum[0] + green * sum[1] + blue * sum[2];
                *differences.add(i) =
                    red * difference[0] + green * difference[1] + blue * difference[2];
            }
        }
    }
}

/// What a row of pixels adds to its cells, side by side: all slices have its length.
struct Products<'a> {
    left: &'a [f32],
    right: &'a [f32],
    above: &'a [f32],
    below: &'a [f32],
    difference: &'a [f32],
    products: &'a mut [f32],
    /// Values from one kind of product to the next.
    line: usize,
}

impl<S: Simd> Work<S> for Products<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { left, right, above, below, difference, products, line } = self;
        let n = difference.len();
        let (xx, rest) = products.split_at_mut(line);
        let (xy, rest) = rest.split_at_mut(line);
        let (yy, rest) = rest.split_at_mut(line);
        let (xd, yd) = rest.split_at_mut(line);
        let (xx, xy, yy, xd, yd) =
            (&mut xx[..n], &mut xy[..n], &mut yy[..n], &mut xd[..n], &mut yd[..n]);
        let (left, right, above, below) = (&left[..n], &right[..n], &above[..n], &below[..n]);
        for i in 0..n {
            let slope_x = 0.25 * (right[i] - left[i]);
            let slope_y = 0.25 * (below[i] - above[i]);
            let d = difference[i];
            let k = 1.0 / (1.0 + d * d * (1.0 / (TOLERATED * TOLERATED)));
            let (kx, ky) = (k * slope_x, k * slope_y);
            xx[i] += kx * slope_x;
            xy[i] += kx * slope_y;
            yy[i] += ky * slope_y;
            xd[i] += kx * d;
            yd[i] += ky * d;
        }
    }
}

/// What moves the flows of the picture of `size` rows and columns that `outputs` and, where the last block's output has the
/// picture's size, `whole` say; `memory` holds the sums and takes it.
///
/// # Panics
/// Where the padding is no multiple of [`CELL`]; the caller has checked the other shapes.
pub(super) fn run(
    (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
    view: View<'_, Tensor>,
    (outputs, whole): (&[BlockOutput<'_, Tensor>], Option<&Tensor>),
    (height, width): (usize, usize),
    [sums, refined]: &mut [Tensor; 2],
) {
    let records = Records::new(view.records);
    let (full_h, full_w) = records.size();
    assert!(full_h % CELL == 0 && full_w % CELL == 0, "whole cells");
    let cells = height.div_ceil(CELL);
    sums.resize(cells, width.div_ceil(CELL), SUMS);
    let (start, row) = (sums.at(0, 0), sums.row_stride());
    let job = SumsJob {
        records: records.within((height, width)),
        outputs,
        whole,
        size: (height, width),
        sums: (Shared::new(sums.values_mut()), start, row),
    };
    threads.each(cells.div_ceil(ROWS), |task| {
        let rows = task * ROWS..((task + 1) * ROWS).min(cells);
        // SAFETY: the kernels were chosen for this processor; the caller checked the shapes, tasks are disjoint.
        scratch.with(scratch_len(width), |own| unsafe { (kernels.sums)(&job, rows, own) });
    });
    refined.resize(full_h / CELL, full_w / CELL, HANDED_ON);
    let (sums, row, columns) = (&*sums, refined.row_stride(), refined.w);
    let first = refined.at(0, 0);
    let made = &mut refined.values_mut()[first..];
    threads.chunks(&mut made[..full_h / CELL * row], row, |y, values| {
        for (x, to) in values.chunks_exact_mut(GROUP).take(columns).enumerate() {
            to.fill(0.0);
            // The border of the sums is zero, as are those of cells further out.
            if y <= sums.h && x <= sums.w {
                to[..HANDED_ON].copy_from_slice(&output(shift(around(sums, y, x)), view.timestep));
            }
        }
    });
}

/// The sums over 3 x 3 cells; those beside the last are beside the border and zero.
fn around(sums: &Tensor, y: usize, x: usize) -> [f32; SUMS] {
    let mut total = [0.0; SUMS];
    // `at` counts from the first cell inside the border.
    let start = sums.at(y, x) - sums.row_stride() - GROUP;
    for (row, weight_y) in NEARBY.iter().enumerate().take(if y < sums.h { 3 } else { 2 }) {
        for (column, weight_x) in NEARBY.iter().enumerate().take(if x < sums.w { 3 } else { 2 }) {
            let cell = &sums.values()[start + row * sums.row_stride() + column * GROUP..];
            for (to, value) in total.iter_mut().zip(cell) {
                *to += weight_y * weight_x * value;
            }
        }
    }
    total
}
