//! The end of the network by bands: the last transposed convolution into scratch rows, flows summed, both frames
//! warped, and blended by the mask, straight into the picture.
#![expect(unsafe_code, reason = "vector instructions over rows; `run` checks the shapes")]

use std::ops::Range;

use super::deconv::{Deconv, DeconvJob, deconv};
use super::flow_rows::{Aims, Begun, GROUP, Pairs, Records, add_all_pairs, add_row, lane_scales};
use super::instructions::Kernels;
use super::refine;
use super::simd::{Halves, Simd, Work};
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::Residual;
use crate::config::settings::Sampling;
use crate::ops::flow::{BlockOutput, MASK, MaskRule, only};
use crate::ops::fusion::Fusion;

/// Positions summed and warped at a time: their sums stay in the first-level cache.
const RUN: usize = 256;
/// Values of a run's sums, and of each of its parts by pairs of positions.
const SUMS: usize = (RUN + 2) * GROUP;
const PAIRS: usize = SUMS / 2;
/// Source rows of the last transposed convolution at a time: those of a row of tiles.
const ROWS: usize = 4;
/// Values of a run of their outputs.
const BAND: usize = ROWS * 4 * RUN * GROUP;

/// One picture, for the entry functions.
pub(super) struct FusionJob<'a> {
    fusion: &'a Fusion<'a, Tensor>,
    records: Records<'a>,
    /// Outputs that are read enlarged.
    outputs: &'a [BlockOutput<'a, Tensor>],
    last: Last<'a>,
    rgb: Shared<'a>,
}

/// Where the last block's output is.
enum Last<'a> {
    /// It has the picture's size and is made here, of its input.
    Made(&'a Deconv, &'a Tensor),
    /// It has the picture's size.
    Stored(&'a Tensor),
    /// Among the others.
    Enlarged,
}

/// The picture rows that come from source rows `rows` of the last transposed convolution (or the rows themselves).
///
/// # Safety
/// The instruction set of `S` is enabled; `run` checked the shapes; `scratch` has the length that `run` says; no other
/// thread touches these rows.
#[inline(always)]
pub(super) unsafe fn fusion<S: Simd>(job: &FusionJob<'_>, rows: Range<usize>, scratch: &mut [f32]) {
    let (_, width) = job.records.size();
    debug_assert!(rows.len() <= ROWS, "rows of a band");
    let factor = match job.last {
        Last::Made(last, _) => last.factor(),
        Last::Stored(_) | Last::Enlarged => 1,
    };
    let run = RUN / factor;
    let (own, rest) = scratch.split_at_mut(SUMS + 3 * PAIRS);
    let start = own.as_mut_ptr();
    let at = |index: usize| start.wrapping_add(SUMS + index * PAIRS);
    let own = Own { sums: start, pairs: at(0), aims: Aims { whole: at(1).cast(), parts: at(2) } };
    let (band, tiles) = rest.split_at_mut(BAND);
    let dst_row = RUN * GROUP;
    for column in (0..width.div_ceil(factor)).step_by(run) {
        let mut first = None;
        if let Last::Made(last, src) = job.last {
            let part = DeconvJob {
                deconv: last,
                src,
                dst: Shared::new(&mut *band),
                dst_first: (rows.start, column),
                dst_row,
                residual_at: Residual::None,
            };
            let columns = column..(column + run).min(src.w);
            // SAFETY: the band holds the rows of a run; the caller's promise for the rest.
            unsafe { deconv::<S>(&part, rows.clone(), columns, tiles) };
            first = Some(band.as_ptr());
        }
        let x = column * factor;
        if x >= job.fusion.width {
            break;
        }
        let n = RUN.min(job.fusion.width - x);
        for y in rows.start * factor..(rows.end * factor).min(job.fusion.height) {
            let last = match job.last {
                Last::Stored(whole) => Some(whole.values()[whole.at(y, x)..].as_ptr()),
                _ => first.map(|first| first.wrapping_add((y - rows.start * factor) * dst_row)),
            };
            // SAFETY: n positions fit the sums and lie in the picture.
            unsafe { <S::Eight as Simd>::outline(Blend { job, y, x, n, last, own }) };
        }
    }
}

/// A run's parts of a task's scratch memory.
#[derive(Clone, Copy)]
struct Own {
    /// Eight values a position.
    sums: *mut f32,
    /// Further flow, in pairs of positions.
    pairs: *mut f32,
    aims: Aims,
}

/// `n` pixels of row `y` from column `x` on.
struct Blend<'a> {
    job: &'a FusionJob<'a>,
    y: usize,
    x: usize,
    n: usize,
    /// The last block's output at the first of the pixels.
    last: Option<*const f32>,
    own: Own,
}

impl Blend<'_> {
    /// Sums flows and masks, and finds where both frames are read. Returns the groups whose mask is that of the pixels.
    ///
    /// # Safety
    /// As [`fusion`].
    #[inline(always)]
    unsafe fn sum<E: Halves>(&self) -> *const f32 {
        let Self { job, y, x: first, n, last, own: Own { sums, pairs, aims } } = *self;
        let fusion = job.fusion;
        let grid = Pairs { y, first, count: n.div_ceil(2), pitch: 2, unit: 1.0 };
        // SAFETY: `run` checked that the row lies in all outputs and records; n is at most RUN.
        unsafe {
            let groups = match last {
                // Flow of the last block is in picture pixels, its mask as it is: the others add flow alone.
                Some(row) if fusion.mask == MaskRule::Last => {
                    add_all_pairs::<E>(job.outputs, (grid, 1.0), pairs);
                    row
                }
                _ => {
                    pairs.write_bytes(0, grid.count * GROUP);
                    match last {
                        Some(row) => {
                            sums.copy_from_nonoverlapping(row, n * GROUP);
                        }
                        None => sums.write_bytes(0, n * GROUP),
                    }
                    for index in 0..job.outputs.len() {
                        let scales = lane_scales(job.outputs, index, fusion.mask, 1.0);
                        let scales = (&scales, 0);
                        add_row::<E, Begun>(&job.outputs[index], (y, first, n, 1.0), scales, sums);
                    }
                    sums.cast_const()
                }
            };
            // A copy of its own stays in registers.
            let records = job.records;
            records.aim::<E>(grid, (pairs, groups), aims);
            groups
        }
    }
}

impl<E: Halves> Work<E> for Blend<'_> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "positions number masks and aims alike")]
    unsafe fn run(self) {
        let Self { job, y, x: first, n, own, .. } = self;
        let mut masks = [0.0; RUN + GROUP];
        // SAFETY: `run` checked that the row lies in all outputs and records; n is at most RUN.
        unsafe {
            let groups = self.sum::<E>();
            for i in 0..n {
                masks[i] = *groups.add(i * GROUP + MASK);
            }
            for i in (0..n).step_by(GROUP) {
                let at = masks.as_mut_ptr().add(i);
                E::store(at, sigmoid::<E>(E::load(at)));
            }
            let out = job.rgb.at(3 * (y * job.fusion.width + first));
            let mut pixel = [0.0; GROUP];
            // Copies of its own stay in registers.
            let (records, aims) = (job.records, own.aims);
            let cubic = job.fusion.sampling == Sampling::Bicubic;
            for i in 0..n {
                let [from_a, from_b] = [aims.source(i, 0), aims.source(i, 1)];
                records.foresee::<E>(0, from_a, if cubic { 3 } else { 2 });
                records.foresee::<E>(1, from_b, if cubic { 3 } else { 2 });
                let (a, b) = if cubic {
                    let from_a = records.cubic_source(aims, i, 0);
                    let from_b = records.cubic_source(aims, i, 1);
                    (records.sample_cubic::<E>(0, &from_a), records.sample_cubic::<E>(1, &from_b))
                } else {
                    (records.sample::<E>(0, from_a, 0), records.sample::<E>(1, from_b, 0))
                };
                let rgb = E::mul_add(E::sub(a, b), E::splat(masks[i]), b);
                // The first pixels write a little into those to come.
                if i + 3 <= n {
                    E::store(out.add(3 * i), rgb);
                } else {
                    E::store(pixel.as_mut_ptr(), rgb);
                    out.add(3 * i).copy_from_nonoverlapping(pixel.as_ptr(), 3);
                }
            }
        }
    }
}

/// `1 / (1 + e^-x)`, within a few units in the last place.
///
/// # Safety
/// The instruction set of `E` is enabled.
#[inline(always)]
unsafe fn sigmoid<E: Simd>(x: E::V) -> E::V {
    // SAFETY: the caller's promise.
    unsafe {
        // Beyond 87 the result is 0 or 1 in f32; e^-x = 2^n e^r with |r| <= ln(2) / 2 about.
        let x = E::max(E::min(x, E::splat(87.0)), E::splat(-87.0));
        let t = E::mul(x, E::splat(-std::f32::consts::LOG2_E));
        let mut whole = [0i32; 16];
        // Rounding by cutting needs values above 0.
        let shifted = E::truncate(E::add(t, E::splat(128.5)), whole.as_mut_ptr());
        let n = E::sub(shifted, E::splat(128.0));
        // ln(2) in two parts, so that n times the first is exact.
        let r = E::mul_add(n, E::splat(-0.693_359_4), E::sub(E::splat(0.0), x));
        let r = E::mul_add(n, E::splat(2.121_944_4e-4), r);
        // Taylor to the sixth power: 1.2e-7 at the ends.
        let mut sum = E::splat(1.0 / 720.0);
        for factor in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = E::mul_add(sum, r, E::splat(factor));
        }
        let e = E::mul(sum, E::power_of_two(n));
        E::div(E::splat(1.0), E::add(E::splat(1.0), e))
    }
}

/// `fusion(deconv(input))` into `rgb` `[height, width, 3]`; `whole` is used where the last output has another size
/// than the picture or flows are refined, for which `refined` is.
///
/// # Panics
/// Where the shapes do not fit.
pub(super) fn run(
    (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
    (last, input): (&Deconv, &Tensor),
    fusion: &Fusion<'_, Tensor>,
    (whole, refined, rgb): (&mut Tensor, &mut [Tensor; 2], &mut [f32]),
) {
    let records = Records::new(only(fusion.views).records);
    let (h, w) = records.size();
    assert!(fusion.height <= h && fusion.width <= w, "a picture within its padding");
    assert_eq!(rgb.len(), 3 * fusion.height * fusion.width, "rgb of the picture");
    last.check(input);
    let size = |n: usize, factor: f32| (n as f32 * factor) as usize;
    for output in fusion.earlier {
        let full = (size(output.tensor.h, output.factor), size(output.tensor.w, output.factor));
        assert_eq!(full, (h, w), "block output");
    }
    let (last_h, last_w) = (input.h * last.factor(), input.w * last.factor());
    assert_eq!(
        (size(last_h, fusion.factor), size(last_w, fusion.factor)),
        (h, w),
        "last block output"
    );
    let mut outputs = fusion.earlier.to_vec();
    let direct = fusion.factor == 1.0 && last.channels() <= GROUP;
    let stored = !direct || fusion.refine;
    if stored {
        last.run((kernels, threads, scratch), input, whole);
    }
    let whole = BlockOutput { tensor: &*whole, factor: fusion.factor };
    if fusion.refine {
        let apart = direct.then_some(whole.tensor);
        outputs.extend((!direct).then_some(whole));
        let parts = (kernels, threads, scratch);
        let size = (fusion.height, fusion.width);
        refine::run(parts, only(fusion.views), (&outputs, apart), size, refined);
        outputs.truncate(fusion.earlier.len());
        outputs.push(BlockOutput { tensor: &refined[1], factor: refine::FACTOR });
    }
    outputs.extend((!direct).then_some(whole));
    let place = match (direct, stored) {
        (true, false) => Last::Made(last, input),
        (true, true) => Last::Stored(whole.tensor),
        (false, _) => Last::Enlarged,
    };
    // As the definition: the cubic repeats the picture's last row and column, the bilinear warp reads the padding.
    let records = match fusion.sampling {
        Sampling::Bicubic => records.within((fusion.height, fusion.width)),
        Sampling::Bilinear => records,
    };
    let job = FusionJob { fusion, records, outputs: &outputs, last: place, rgb: Shared::new(rgb) };
    let factor = if stored { 1 } else { last.factor() };
    let len = SUMS + 3 * PAIRS + BAND + last.scratch_len(RUN / factor);
    let rows = fusion.height.div_ceil(factor);
    threads.each(rows.div_ceil(ROWS), |task| {
        let rows = task * ROWS..((task + 1) * ROWS).min(rows);
        // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
        scratch.with(len, |own| unsafe { (kernels.fusion)(&job, rows, own) });
    });
}
