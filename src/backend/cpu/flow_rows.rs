//! Rows of summed flow, mask and features, enlarged from the low-resolution outputs of the blocks, and warps by them.
//!
//! A row buffer holds 8 values a position: four flows, the mask logit, the first three features handed on; a second
//! buffer the other five. That is the order of a block's output, so that one vector serves all.
#![expect(unsafe_code, reason = "vector instructions over rows; launchers check the shapes")]

use std::marker::PhantomData;

use super::simd::{Halves, Simd};
use super::tensor::Tensor;
use crate::ops::flow::{BlockOutput, MASK, MaskRule};
use crate::ops::resize::tap;

/// Values of a position in a row buffer.
pub(super) const GROUP: usize = 8;

/// What each lane of a block's output is multiplied by in a sum: flows to the unit wished for, the mask as its rule
/// says.
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

/// Whether rows of sums hold something yet.
pub(super) trait Sums {
    /// The sum at `at` and `value`.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled; `at` is valid for a vector.
    unsafe fn with<E: Simd>(at: *const f32, value: E::V) -> E::V;
}

/// They do not: the first output is stored.
pub(super) struct Fresh;

impl Sums for Fresh {
    #[inline(always)]
    unsafe fn with<E: Simd>(_: *const f32, value: E::V) -> E::V {
        value
    }
}

/// They do: the next output is added.
pub(super) struct Begun;

impl Sums for Begun {
    #[inline(always)]
    unsafe fn with<E: Simd>(at: *const f32, value: E::V) -> E::V {
        // SAFETY: the caller's promise is the same.
        unsafe { E::add(E::load(at), value) }
    }
}

/// Adds `scales * output` at positions `first..first + n` of row `y` of a grid to `sums` (`n` groups).
///
/// `group` tells which 8 channels are read; the grid has `unit` picture pixels for each of its own.
///
/// # Safety
/// The instruction set of `E` is enabled and `E` has 8 lanes; `sums` is valid for `n * 8` values; the positions lie on
/// the grid.
#[inline(always)]
pub(super) unsafe fn add_row<E: Simd, B: Sums>(
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
        let add = |x: usize, value: E::V| {
            let at = sums.add((x - first) * GROUP);
            E::store(at, B::with::<E>(at, value));
        };
        let end = first + n;
        if step >= 1.0 {
            // The same size or half of it.
            for x in first..end {
                let t = tap(x, step, tensor.w);
                let a = column(t.first);
                add(x, E::mul_add(E::sub(column(t.second), a), E::splat(t.weight), a));
            }
            return;
        }
        // Enlarged by a power of two: `up` positions between the centers of two columns, weights (r + 1/2) / up.
        let up = (1.0 / step) as usize;
        let (half, shift) = (up / 2, up.trailing_zeros());
        let mut x = first;
        if up == 2 && first % 2 == 0 {
            // A column lies between the two positions of each pair.
            let mut a = column((first / 2).saturating_sub(1));
            let mut b = column(first / 2);
            while x + 1 < end {
                let c = column((x / 2 + 1).min(tensor.w - 1));
                add(x, E::mul_add(E::sub(b, a), E::splat(0.75), a));
                add(x + 1, E::mul_add(E::sub(c, b), E::splat(0.25), b));
                (a, b) = (b, c);
                x += 2;
            }
        }
        while x < end && x < half {
            add(x, column(0));
            x += 1;
        }
        let mut a = column((x.max(half) - half) >> shift);
        while x < end {
            let (low, part) = ((x - half) >> shift, (x - half) & (up - 1));
            let b = column((low + 1).min(tensor.w - 1));
            let d = E::sub(b, a);
            let mut weight = E::splat((part as f32 + 0.5) * step);
            let run = (up - part).min(end - x);
            for i in 0..run {
                add(x + i, E::mul_add(d, weight, a));
                weight = E::add(weight, E::splat(step));
            }
            x += run;
            a = b;
        }
    }
}

/// Pairs of neighboring positions in a row of a grid with `unit` picture pixels for each of its own.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    pub y: usize,
    /// The first position.
    pub first: usize,
    /// Pairs.
    pub count: usize,
    /// Positions from a pair to the next.
    pub pitch: usize,
    pub unit: f32,
}

/// Adds `scale` times an output's four flows at pairs of positions to `sums`: four values a position, eight a pair.
///
/// The values are those of [`add_row`].
///
/// # Safety
/// As [`add_row`]; `sums` is valid for eight values a pair. Positions beyond the grid count as its last.
#[inline(always)]
#[expect(clippy::cast_possible_wrap, reason = "columns of a picture")]
pub(super) unsafe fn add_pairs<E: Halves, B: Sums>(
    output: &BlockOutput<'_, Tensor>,
    pairs: Pairs,
    scale: f32,
    sums: *mut f32,
) {
    let tensor = output.tensor;
    let step = pairs.unit / output.factor;
    let row = tap(pairs.y, step, tensor.h);
    let top = tensor.values()[tensor.at(row.first, 0)..].as_ptr();
    let bottom = tensor.values()[tensor.at(row.second, 0)..].as_ptr();
    let (first, pitch) = (pairs.first as isize, pairs.pitch as isize);
    let up = (1.0 / step) as isize;
    // SAFETY: columns are clamped into the output's rows, as many pairs written as there are.
    unsafe {
        let rows = Blended {
            top,
            bottom,
            stride: tensor.stride,
            last: tensor.w as isize - 1,
            weight: E::splat(row.weight),
            scale: E::splat(scale),
        };
        if up == 2 && pitch == 2 && first % 2 == 0 {
            // A column lies between the two positions of each pair.
            let weights = E::load([0.75, 0.75, 0.75, 0.75, 0.25, 0.25, 0.25, 0.25].as_ptr());
            let start = first / 2;
            let mut a = rows.columns::<E>(start - 1, start);
            for pair in 0..pairs.count {
                let x = start + pair as isize;
                let b = rows.columns::<E>(x, x + 1);
                let at = sums.add(pair * GROUP);
                E::store(at, B::with::<E>(at, E::mul_add(E::sub(b, a), weights, a)));
                a = b;
            }
        } else if up > 1 && up % pitch == 0 && (first + 1 - up / 2).rem_euclid(pitch) != 0 {
            // Both positions of each pair lie between the same two columns.
            let shift = up.trailing_zeros();
            let advance = E::splat(pairs.pitch as f32 * step);
            let (mut x, mut pair) = (first - up / 2, 0);
            let mut b = rows.columns::<E>(x >> shift, x >> shift);
            while pair < pairs.count {
                let part = x & (up - 1);
                let (a, right) = (b, (x >> shift) + 1);
                b = rows.columns::<E>(right, right);
                let d = E::sub(b, a);
                let (near, far) = ((part as f32 + 0.5) * step, (part as f32 + 1.5) * step);
                let mut weights = E::load([near, near, near, near, far, far, far, far].as_ptr());
                let run = ((up - part + pitch - 1) / pitch) as usize;
                for pair in pair..pairs.count.min(pair + run) {
                    let at = sums.add(pair * GROUP);
                    E::store(at, B::with::<E>(at, E::mul_add(d, weights, a)));
                    weights = E::add(weights, advance);
                }
                pair += run;
                x += run as isize * pitch;
            }
        } else {
            for pair in 0..pairs.count {
                let mut both = [0.0; 2 * GROUP];
                let grid = (pairs.y, pairs.first + pair * pairs.pitch, 2, pairs.unit);
                add_row::<E, Fresh>(output, grid, (&[scale; GROUP], 0), both.as_mut_ptr());
                let both = E::load_halves(both.as_ptr(), both.as_ptr().add(GROUP));
                let at = sums.add(pair * GROUP);
                E::store(at, B::with::<E>(at, both));
            }
        }
    }
}

/// The sums of all outputs' flows, in units of `unit` picture pixels, as [`add_pairs`] adds them.
///
/// # Safety
/// As [`add_pairs`], of all outputs.
#[inline(always)]
pub(super) unsafe fn add_all_pairs<E: Halves>(
    outputs: &[BlockOutput<'_, Tensor>],
    (pairs, unit): (Pairs, f32),
    sums: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some((first, others)) = outputs.split_first() else {
            return sums.write_bytes(0, pairs.count * GROUP);
        };
        add_pairs::<E, Fresh>(first, pairs, first.factor / unit, sums);
        for output in others {
            add_pairs::<E, Begun>(output, pairs, output.factor / unit, sums);
        }
    }
}

/// Two rows of an output, blended and scaled.
struct Blended<V> {
    top: *const f32,
    bottom: *const f32,
    stride: usize,
    /// The last column.
    last: isize,
    weight: V,
    scale: V,
}

impl<V: Copy> Blended<V> {
    /// The flows of two columns, clamped into the row.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled; the rows are valid up to the last column.
    #[inline(always)]
    unsafe fn columns<E: Halves<V = V>>(&self, a: isize, b: isize) -> V {
        let [a, b] = [a, b].map(|x| x.clamp(0, self.last).cast_unsigned() * self.stride);
        // SAFETY: the caller's promise.
        unsafe {
            let upper = E::load_halves(self.top.add(a), self.top.add(b));
            let lower = E::load_halves(self.bottom.add(a), self.bottom.add(b));
            E::mul(self.scale, E::mul_add(E::sub(lower, upper), self.weight, upper))
        }
    }
}

/// Where both images are read at pairs of positions, four values a position: what [`Records::aim`] writes.
#[derive(Clone, Copy)]
pub(super) struct Aims {
    /// Values from the first pixel of a record to the column and to the row, of either image.
    pub whole: *mut i32,
    /// Weights of the second column and row, of either image.
    pub parts: *mut f32,
}

impl Aims {
    /// Where position `index` reads image `side`.
    ///
    /// # Safety
    /// [`Records::aim`] wrote the position.
    #[inline(always)]
    pub(super) unsafe fn source(&self, index: usize, side: usize) -> Source {
        let at = 4 * index + 2 * side;
        // SAFETY: the caller's promise.
        unsafe {
            let whole = *self.whole.add(at) + *self.whole.add(at + 1);
            Source {
                at: whole.cast_unsigned() as usize,
                weight_x: *self.parts.add(at),
                weight_y: *self.parts.add(at + 1),
            }
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

/// What a warp needs to know of both records. Kernels keep a copy of their own, so that it stays in registers.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    pub(super) start: [*const f32; 2],
    pub(super) stride: usize,
    pub(super) row_stride: usize,
    pub(super) size: (usize, usize),
    lifetime: PhantomData<&'a Tensor>,
}

// SAFETY: only read, for as long as the tensors are borrowed.
unsafe impl Send for Records<'_> {}
// SAFETY: as above.
unsafe impl Sync for Records<'_> {}

impl<'a> Records<'a> {
    /// Both must have one shape.
    pub(super) fn new([a, b]: [&'a Tensor; 2]) -> Self {
        assert_eq!((a.h, a.w, a.c), (b.h, b.w, b.c), "records of one shape");
        assert!(a.h > 0 && a.w > 0, "records of pictures with pixels");
        assert!(i32::try_from(a.values().len()).is_ok(), "records of fewer than 2^31 values");
        Self {
            start: [a, b].map(|it| it.values()[it.at(0, 0)..].as_ptr()),
            stride: a.stride,
            row_stride: a.row_stride(),
            size: (a.h, a.w),
            lifetime: PhantomData,
        }
    }

    /// The same, of which rows and columns from these on are not read.
    pub(super) fn within(self, (height, width): (usize, usize)) -> Self {
        assert!(
            (1..=self.size.0).contains(&height) && (1..=self.size.1).contains(&width),
            "a part"
        );
        Self { size: (height, width), ..self }
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Groups of 8 channels.
    pub(super) fn groups(&self) -> usize {
        self.stride / GROUP
    }

    /// Position (`y`, `x`) as [`Self::sources`] wants it.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled and `E` has 8 lanes.
    #[inline(always)]
    pub(super) unsafe fn position<E: Simd>(y: usize, x: usize) -> E::V {
        let (x, y) = (x as f32, y as f32);
        // SAFETY: 8 values for 8 lanes.
        unsafe { E::load([x, y, x, y, 0.0, 0.0, 0.0, 0.0].as_ptr()) }
    }

    /// Where the position `at` (x, y, x, y) with the flow at `flow` (four values and four more that are ignored) reads
    /// both.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled and `E` has 8 lanes; `flow` is valid for 8 values.
    #[inline(always)]
    pub(super) unsafe fn sources<E: Simd>(&self, at: E::V, flow: *const f32) -> [Source; 2] {
        let mut whole = [0i32; GROUP];
        let mut parts = [0f32; GROUP];
        // SAFETY: all pointers are to 8 values.
        unsafe {
            let limit = Self::position::<E>(self.size.0 - 1, self.size.1 - 1);
            // NaN becomes 0: `max` answers its second value.
            let at = E::max(E::add(E::load(flow), at), E::splat(0.0));
            let at = E::min(at, limit);
            let floor = E::truncate(at, whole.as_mut_ptr());
            E::store(parts.as_mut_ptr(), E::sub(at, floor));
        }
        let source = |side: usize| {
            // Clamped to the picture, so not negative.
            let [x, y] = [whole[2 * side], whole[2 * side + 1]].map(|v| v.unsigned_abs() as usize);
            let at = y * self.row_stride + x * self.stride;
            Source { at, weight_x: parts[2 * side], weight_y: parts[2 * side + 1] }
        };
        [source(0), source(1)]
    }

    /// Where pairs of positions read both: by the flows in `flows`, eight values a pair, and unless it is null in
    /// `groups`, a group a position. Apart from the reading, so that no address is waited for.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled; all pointers are valid for as many pairs.
    #[inline(always)]
    pub(super) unsafe fn aim<E: Halves>(
        &self,
        pairs: Pairs,
        (flows, groups): (*const f32, *const f32),
        to: Aims,
    ) {
        let [x, y] = [pairs.first, pairs.y].map(|n| n as f32);
        let [down, right] = [self.row_stride, self.stride].map(|n| n as i32);
        let (pitch, next) = (pairs.pitch as f32, x + 1.0);
        let factors = [right, down, right, down, right, down, right, down];
        // SAFETY: the caller's promise.
        unsafe {
            let [h, w] = [self.size.0 - 1, self.size.1 - 1].map(|n| n as f32);
            let limit = E::load([w, h, w, h, w, h, w, h].as_ptr());
            let mut at = E::load([x, y, x, y, next, y, next, y].as_ptr());
            let step = E::load([pitch, 0.0, pitch, 0.0, pitch, 0.0, pitch, 0.0].as_ptr());
            for pair in 0..pairs.count {
                let mut flow = E::load(flows.add(pair * GROUP));
                if !groups.is_null() {
                    let group = groups.add(2 * pair * GROUP);
                    flow = E::add(E::load_halves(group, group.add(GROUP)), flow);
                }
                // NaN becomes 0: `max` answers its second value.
                let clamped = E::max(E::add(flow, at), E::splat(0.0));
                let clamped = E::min(clamped, limit);
                let whole = to.whole.add(pair * GROUP);
                let floor = E::truncate_times(clamped, &factors, whole);
                E::store(to.parts.add(pair * GROUP), E::sub(clamped, floor));
                at = E::add(at, step);
            }
        }
    }

    /// Brings what lies `rows` rows below a source of one record into the cache: likely what the rows to come read, which
    /// the processor does not foresee.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled.
    #[inline(always)]
    pub(super) unsafe fn foresee<E: Simd>(&self, side: usize, from: Source, rows: usize) {
        // SAFETY: the address need not be valid.
        unsafe { E::prefetch(self.start[side].wrapping_add(from.at + rows * self.row_stride)) };
    }

    /// Eight channels of one record at a source: bilinear. The border stands in where the weight is 0.
    ///
    /// # Safety
    /// The instruction set of `E` is enabled and `E` has 8 lanes; `from` came from [`Self::sources`] or
    /// [`Self::aim`] and `group` is below [`Self::groups`].
    #[inline(always)]
    pub(super) unsafe fn sample<E: Simd>(&self, side: usize, from: Source, group: usize) -> E::V {
        // SAFETY: the source lies in the picture, so its right and lower neighbors lie in the bordered tensor.
        unsafe {
            let p = self.start[side].add(from.at + group * GROUP);
            let (right, below) = (self.stride, self.row_stride);
            let (wx, wy) = (E::splat(from.weight_x), E::splat(from.weight_y));
            let (a, b) = (E::load(p), E::load(p.add(right)));
            let (c, d) = (E::load(p.add(below)), E::load(p.add(below + right)));
            let upper = E::mul_add(E::sub(b, a), wx, a);
            let lower = E::mul_add(E::sub(d, c), wx, c);
            E::mul_add(E::sub(lower, upper), wy, upper)
        }
    }
}
