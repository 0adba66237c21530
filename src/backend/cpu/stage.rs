//! The input of a block made row by row and fed straight into the block's first convolution, never stored whole.
//!
//! A task makes a tile of the convolution's outputs. It keeps three rows of the block's input, makes two new ones for
//! each output row, and so stays in the second-level cache. Kernel channel order: record of `img0`, record of `img1`
//! (each r, g, b, features), flow (4), mask, features handed on, timestep.
#![expect(unsafe_code, reason = "vector instructions over rows; `run` checks the shapes")]

use std::ops::Range;

use super::conv::{Conv, row_of_lanes};
use super::flow_rows::{
    Aims, Begun, Fresh, GROUP, Pairs, Records, add_all_pairs, add_row, lane_scales,
};
use super::instructions::Kernels;
use super::pack::Packed;
use super::paired;
use super::simd::{Halves, Simd, Work};
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::{Residual, Row};
use crate::ops::flow::{HANDED_ON, MaskRule, Stage, View, only};
use crate::ops::resize::tap;

/// Outputs in a row of a task's tile.
const TILE_COLUMNS: usize = 96;

/// One stage and convolution, for the entry functions.
pub(super) struct StageJob<'a> {
    stage: &'a Stage<'a, Tensor>,
    timestep: f32,
    records: Records<'a>,
    conv: &'a Conv,
    packed: &'a Packed,
    /// Size of the block's input.
    h: usize,
    w: usize,
    dst: Shared<'a>,
    dst_w: usize,
}

/// A task's rows in its scratch memory.
struct Rows {
    /// Three rows of the block's input.
    input: [*mut f32; 3],
    /// Flow, mask and further features at the block's own positions, one group after another.
    own: [*mut f32; 4],
    /// Further flow at the block's own positions, in pairs.
    own_pairs: *mut f32,
    /// Flow at the positions of a row that is warped, in pairs.
    pairs: *mut f32,
    /// Two rows of where frames are read.
    aims: [Aims; 2],
}

/// Weight channel of each kernel channel, for a block whose records have `features`.
pub(super) fn input_order(channels: usize, features: usize) -> Vec<Option<usize>> {
    let (frames, side) = (2 * (3 + features), 3 + features);
    let record = |side_index: usize| {
        let colors = 3 * side_index..3 * side_index + 3;
        colors.chain(6 + side_index * features..6 + (side_index + 1) * features)
    };
    let mut order: Vec<_> = record(0).chain(record(1)).collect();
    debug_assert_eq!(order.len(), 2 * side);
    // Given: timestep, mask, features handed on, flow. Wanted: flow, mask, features handed on, timestep.
    if channels > frames + 1 {
        order.extend(channels - 4..channels);
        order.extend(frames + 1..channels - 4);
    }
    order.push(frames);
    order.into_iter().map(Some).collect()
}

/// A tile of the convolution: output rows `rows`, columns `columns`.
///
/// # Safety
/// The instruction set of `S` is enabled; `run` checked the shapes; `scratch` has the length that `scratch_len` says;
/// no other thread touches these outputs.
#[inline(always)]
pub(super) unsafe fn stage_conv<S: Simd>(
    job: &StageJob<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &mut [f32],
) {
    let own = job.rows(columns.len(), scratch);
    let n = 2 * columns.len() + 1;
    let packed = job.packed;
    let dst_row = (job.dst_w + 2) * packed.padded;
    for y in rows.clone() {
        // Input rows 2y - 1, 2y, 2y + 1; the first is the former output row's last.
        let fresh = if y == rows.start { 0 } else { 1 };
        for ty in fresh..3 {
            let row = (2 * y + ty).checked_sub(1).filter(|row| *row < job.h);
            // SAFETY: the scratch rows hold n pixels and more; the caller's promise for the rest.
            unsafe {
                let to = own.input[(2 * y + ty) % 3];
                fill_row::<S::Eight>(job, &own, (row, 2 * columns.start, n), to);
            }
        }
        for (index, block) in packed.blocks.iter().enumerate() {
            let pairs = job.conv.pairs(index);
            let at = (y + 1) * dst_row + (columns.start + 1) * packed.padded + block.first;
            let row = Row {
                rows: [0, 1, 2].map(|ty| own.input[(2 * y + ty) % 3].cast_const()),
                taps: 3,
                px: packed.cin,
                step: 2 * packed.cin,
                cin: packed.cin,
                weights: pairs.unwrap_or(&packed.weights[block.offset..]).as_ptr(),
                bias: packed.bias[block.first..].as_ptr(),
                slope: packed.slope[block.first..].as_ptr(),
                residual_at: Residual::None,
                residual: std::ptr::null(),
                residual_step: 0,
                out: job.dst.at(at),
                out_step: packed.padded,
                w: columns.len(),
            };
            // SAFETY: windows lie within the scratch rows, outputs within the destination.
            unsafe {
                match pairs {
                    Some(_) => paired::row::<S>(block.vectors, &row),
                    None => row_of_lanes::<S>(packed.lanes, block.vectors, &row),
                }
            }
        }
    }
}

/// Fills pixels `first - 1 .. first - 1 + n` of input row `row`; `None` and columns outside give zeros.
///
/// # Safety
/// As [`stage_conv`]; `to` is valid for `n` pixels and a vector more.
#[inline(always)]
unsafe fn fill_row<E: Halves>(
    job: &StageJob<'_>,
    own: &Rows,
    (row, first, n): (Option<usize>, usize, usize),
    to: *mut f32,
) {
    let cin = job.packed.cin;
    let (begin, end) = (first.saturating_sub(1), (first + n - 1).min(job.w));
    let before = begin + 1 - first;
    // SAFETY: at most n pixels are written.
    unsafe {
        let Some(y) = row else {
            to.write_bytes(0, n * cin);
            return;
        };
        to.write_bytes(0, before * cin);
        let inside = to.add(before * cin);
        macro_rules! fill {
            ($groups:literal $cells:literal) => {
                E::outline(Inside::<$groups, $cells> { job, own, y, begin, end, to: inside })
            };
        }
        let groups = job.records.groups();
        match (groups, job.stage.factor) {
            (_, s) if s < 1.0 => fill_enlarged::<E>(job, own, (y, begin, end), inside),
            (1, 1.0) => fill!(1 1),
            (2, 1.0) => fill!(2 1),
            (3, 1.0) => fill!(3 1),
            (1, _) => fill!(1 2),
            (2, _) => fill!(2 2),
            (3, _) => fill!(3 2),
            _ => unreachable!("records have at most 24 channels"),
        }
        // Last: the pixels before write a little beyond their end.
        let filled = before + end - begin;
        to.add(filled * cin).write_bytes(0, (n - filled) * cin);
    }
}

/// Sums the rows `y` of the earlier blocks from block `all` on at positions `first..end` of a grid of `unit`; flows come
/// in units of `flow_unit`.
///
/// # Safety
/// As [`stage_conv`]; `sums` is valid for that many groups.
#[inline(always)]
unsafe fn sum_rows<E: Simd>(
    job: &StageJob<'_>,
    all: usize,
    (y, first, end, unit): (usize, usize, usize, f32),
    flow_unit: f32,
    sums: [*mut f32; 2],
) {
    let stage = job.stage;
    // SAFETY: the caller's promise; earlier outputs have the shapes that `Stage::check` saw.
    unsafe {
        let grid = (y, first, end - first, unit);
        if stage.earlier.is_empty() {
            sums[0].write_bytes(0, (end - first) * GROUP);
        }
        for (index, output) in stage.earlier.iter().enumerate().skip(all) {
            let scales = lane_scales(stage.earlier, index, stage.mask, flow_unit);
            if index == all {
                add_row::<E, Fresh>(output, grid, (&scales, 0), sums[0]);
            } else {
                add_row::<E, Begun>(output, grid, (&scales, 0), sums[0]);
            }
        }
        if let Some(last) = stage.earlier.last()
            && !sums[1].is_null()
        {
            add_row::<E, Fresh>(last, grid, (&[1.0; GROUP], 1), sums[1]);
        }
    }
}

/// Pixels `begin..end` of input row `y` of a block that works at the picture's size or below; `G` groups a record,
/// `C` x `C` pixels warped for each (the pixel itself, or the middle of its cell).
struct Inside<'a, const G: usize, const C: usize> {
    job: &'a StageJob<'a>,
    own: &'a Rows,
    y: usize,
    begin: usize,
    end: usize,
    /// Valid for the pixels and a vector more.
    to: *mut f32,
}

impl<const G: usize, const C: usize> Inside<'_, G, C> {
    /// The first of the block's own positions that are summed: even.
    fn first(&self) -> usize {
        self.begin & !1
    }

    /// Sums what the earlier blocks left at the block's own positions; `more` is null or the second row of these.
    ///
    /// # Safety
    /// As [`stage_conv`].
    #[inline(always)]
    unsafe fn sum_own<E: Halves>(&self, more: *mut f32) {
        let Self { job, own, y, end, .. } = *self;
        let (stage, unit, first) = (job.stage, job.stage.factor, self.first());
        let pairs = Pairs { y, first, count: (end - first).div_ceil(2), pitch: 2, unit };
        // SAFETY: the rows hold the positions asked for; the caller's promise for the rest.
        unsafe {
            let mut all = 0;
            if let (MaskRule::Last, [earlier @ .., _]) = (stage.mask, stage.earlier) {
                // All that these add is flow.
                all = earlier.len();
                add_all_pairs::<E>(earlier, (pairs, unit), own.own_pairs);
            } else {
                own.own_pairs.write_bytes(0, pairs.count * GROUP);
            }
            sum_rows::<E>(job, all, (y, first, end, unit), unit, [own.own[0], more]);
        }
    }

    /// Finds where both frames are read: at the block's own positions, or the middle of their cells.
    ///
    /// # Safety
    /// As [`stage_conv`]; [`Self::sum_own`] ran.
    #[inline(always)]
    unsafe fn aim<E: Halves>(&self) {
        let Self { job, own, y, begin, end, .. } = *self;
        let (stage, s) = (job.stage, job.stage.factor as usize);
        // A copy of its own stays in registers.
        let records = job.records;
        // SAFETY: the rows hold the positions asked for; the caller's promise for the rest.
        unsafe {
            if C == 1 {
                let first = self.first();
                let count = (end - first).div_ceil(2);
                let pairs = Pairs { y, first, count, pitch: 2, unit: 1.0 };
                let flows = (own.own_pairs.cast_const(), own.own[0].cast_const());
                return records.aim::<E>(pairs, flows, own.aims[0]);
            }
            for (i, aims) in own.aims.into_iter().enumerate() {
                let offset = s / 2 - 1;
                let (y, first, count) = (s * y + offset + i, s * begin + offset, end - begin);
                let pairs = Pairs { y, first, count, pitch: s, unit: 1.0 };
                add_all_pairs::<E>(stage.earlier, (pairs, 1.0), own.pairs);
                records.aim::<E>(pairs, (own.pairs, std::ptr::null()), aims);
            }
        }
    }
}

impl<E: Halves, const G: usize, const C: usize> Work<E> for Inside<'_, G, C> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "constant indices keep the sums in registers")]
    unsafe fn run(self) {
        let Self { job, own, y: _, begin, end, to } = self;
        let (stage, cin) = (job.stage, job.packed.cin);
        let s = stage.factor as usize;
        let weight = 1.0 / (C * C) as f32;
        let more = if stage.handed_on > 0 { own.own[1] } else { std::ptr::null_mut() };
        let flows = !stage.earlier.is_empty();
        let side = 3 + stage.features;
        // SAFETY: the rows hold the positions asked for; the caller's promise for the rest.
        unsafe {
            self.sum_own::<E>(more);
            self.aim::<E>();
            let records = job.records;
            let aims = own.aims;
            for x in begin..end {
                let pixel = to.add((x - begin) * cin);
                let own_at = x - self.first();
                let mut sums = [[E::splat(0.0); G]; 2];
                for i in 0..C {
                    for j in 0..C {
                        let index = if C == 1 { own_at } else { C * (x - begin) + j };
                        for k in 0..2 {
                            let from = aims[i].source(index, k);
                            records.foresee::<E>(k, from, s + 1);
                            if s >= 4 {
                                // The other of the two rows that are read is in no earlier line.
                                records.foresee::<E>(k, from, s);
                            }
                            for group in 0..G {
                                let value = records.sample::<E>(k, from, group);
                                sums[k][group] =
                                    E::mul_add(value, E::splat(weight), sums[k][group]);
                            }
                        }
                    }
                }
                // In this order: each store may write beyond its values, into what comes next.
                for k in 0..2 {
                    for group in 0..G {
                        E::store(pixel.add(k * side + group * GROUP), sums[k][group]);
                    }
                }
                let tail = pixel.add(2 * side);
                let mut len = 0;
                if flows {
                    len = HANDED_ON + stage.handed_on;
                    let flow = E::load_half(own.own_pairs.add(4 * own_at));
                    E::store(tail, E::add(E::load(own.own[0].add(own_at * GROUP)), flow));
                    if !more.is_null() {
                        E::store(tail.add(GROUP), E::load(more.add(own_at * GROUP)));
                    }
                }
                tail.add(len).write(job.timestep);
            }
        }
    }
}

/// Pixels `begin..end` of input row `y` of a block that works at twice the picture's size (flow scale 2).
///
/// # Safety
/// As [`stage_conv`]; `to` is valid for the pixels and a vector more.
#[inline(always)]
unsafe fn fill_enlarged<E: Simd>(
    job: &StageJob<'_>,
    own: &Rows,
    (y, begin, end): (usize, usize, usize),
    to: *mut f32,
) {
    let (stage, cin) = (job.stage, job.packed.cin);
    let (picture_h, picture_w) = job.records.size();
    let side = 3 + stage.features;
    let row = tap(y, stage.factor, picture_h);
    let first = tap(begin, stage.factor, picture_w).first;
    let beyond = tap(end - 1, stage.factor, picture_w).second + 1;
    let sums = [[own.own[0], own.own[1]], [own.own[2], own.own[3]]];
    let down = [(0, row.first, 1.0 - row.weight), (1, row.second, row.weight)];
    // Flows in units of half a picture pixel.
    let scales = [2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0];
    // SAFETY: the rows hold the positions asked for; the caller's promise for the rest.
    unsafe {
        for (sums, y) in sums.iter().zip([row.first, row.second]) {
            let more = if stage.handed_on > 0 { sums[1] } else { std::ptr::null_mut() };
            sum_rows::<E>(job, 0, (y, first, beyond, 1.0), 1.0, [sums[0], more]);
        }
        for x in begin..end {
            let pixel = to.add((x - begin) * cin);
            let column = tap(x, stage.factor, picture_w);
            let across = [(column.first, 1.0 - column.weight), (column.second, column.weight)];
            for group in 0..job.records.groups() {
                let mut both = [E::splat(0.0); 2];
                for (i, y, weight_y) in down {
                    for (x, weight_x) in across {
                        let flow = sums[i][0].add((x - first) * GROUP);
                        let at = Records::position::<E>(y, x);
                        let from = job.records.sources::<E>(at, flow);
                        for k in 0..2 {
                            let value = job.records.sample::<E>(k, from[k], group);
                            both[k] = E::mul_add(value, E::splat(weight_y * weight_x), both[k]);
                        }
                    }
                }
                for (k, sum) in both.iter().enumerate() {
                    put(
                        pixel,
                        k * side + group * GROUP,
                        E::LANES.min(side - group * GROUP),
                        *sum,
                        E::store,
                    );
                }
            }
            let tail = pixel.add(2 * side);
            for group in 0..if stage.handed_on > 0 { 2 } else { 1 } {
                let mut sum = E::splat(0.0);
                for (sums, weight_y) in sums.iter().zip([1.0 - row.weight, row.weight]) {
                    for (x, weight_x) in across {
                        let value = E::load(sums[group].add((x - first) * GROUP));
                        sum = E::mul_add(value, E::splat(weight_y * weight_x), sum);
                    }
                }
                let sum = if group == 0 { E::mul(sum, E::load(scales.as_ptr())) } else { sum };
                E::store(tail.add(group * GROUP), sum);
            }
            tail.add(HANDED_ON + stage.handed_on).write(job.timestep);
        }
    }
}

/// Stores the first `count` lanes of a vector at `to + at`.
///
/// # Safety
/// The instruction set of the vector is enabled, `E` has 8 lanes; `count` values are valid there.
#[inline(always)]
unsafe fn put<V>(to: *mut f32, at: usize, count: usize, vector: V, store: unsafe fn(*mut f32, V)) {
    let mut lanes = [0.0; GROUP];
    // SAFETY: 8 lanes into 8 values, then `count` of them to where the caller says.
    unsafe {
        store(lanes.as_mut_ptr(), vector);
        to.add(at).copy_from_nonoverlapping(lanes.as_ptr(), count);
    }
}

impl StageJob<'_> {
    /// Lengths of the rows: block input, all others.
    fn row_lens(&self, columns: usize) -> [usize; 2] {
        let n = 2 * columns + 1;
        [n * self.packed.cin + 2 * GROUP, (n + 5) * GROUP]
    }

    /// Values of scratch memory for tiles of `columns`.
    fn scratch_len(&self, columns: usize) -> usize {
        let [input, other] = self.row_lens(columns);
        3 * input + 10 * other
    }

    fn rows(&self, columns: usize, scratch: &mut [f32]) -> Rows {
        let [input, other] = self.row_lens(columns);
        assert!(scratch.len() >= self.scratch_len(columns), "scratch memory of a stage");
        let start = scratch.as_mut_ptr();
        let at = |index: usize| start.wrapping_add(index * other);
        let aims = |index: usize| Aims { whole: at(index).cast(), parts: at(index + 1) };
        Rows {
            input: [0, 1, 2].map(|i| at(10).wrapping_add(i * input)),
            own: [0, 1, 2, 3].map(at),
            own_pairs: at(4),
            pairs: at(5),
            aims: [aims(6), aims(8)],
        }
    }
}

/// `dst = conv(stage)`; `dst` takes the shape of the result.
///
/// # Panics
/// Where the shapes do not fit.
pub(super) fn run(
    (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
    conv: &Conv,
    stage: &Stage<'_, Tensor>,
    dst: &mut Tensor,
) {
    stage.check();
    assert!(stage.factor >= 0.5, "a block at more than twice the picture's size");
    let enlarged = stage.factor < 1.0;
    assert!(
        !enlarged || !stage.earlier.is_empty(),
        "the first block at more than the picture's size"
    );
    let (h, w) = stage.size();
    let packed = conv.packed();
    assert_eq!(packed.cin, stage.channels(), "channels of a block's input");
    assert_eq!(conv.stride(), 2, "stride of a block's first convolution");
    let (dst_h, dst_w) = (h.div_ceil(2), w.div_ceil(2));
    dst.resize(dst_h, dst_w, packed.cout);
    let View { records, timestep } = only(stage.views);
    let records = Records::new(records);
    let dst = Shared::new(dst.values_mut());
    let job = StageJob { stage, timestep, records, conv, packed, h, w, dst, dst_w };
    let across = dst_w.div_ceil(TILE_COLUMNS);
    let tile = dst_w.div_ceil(across.max(1));
    let band = dst_h.div_ceil((threads.count() * 6).div_ceil(across.max(1))).clamp(1, MOST_ROWS);
    let len = job.scratch_len(tile);
    threads.each(dst_h.div_ceil(band) * across, |task| {
        let (row, column) = (task / across * band, task % across * tile);
        let rows = row..(row + band).min(dst_h);
        let columns = column..(column + tile).min(dst_w);
        scratch.with(len, |own| {
            // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
            unsafe { (kernels.stage_conv)(&job, rows, columns, own) };
        });
    });
}

/// Most output rows of a task.
const MOST_ROWS: usize = 32;
