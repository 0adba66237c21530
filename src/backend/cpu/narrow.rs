//! Stride-1 3x3 convolutions from 16 to 16 channels in transformed tiles, a few tiles at a time.
//!
//! The transform is that of [`super::winograd`]. With so few channels its products are cheap beside the way through
//! memory, so coordinates never go far: twelve tiles are transformed, multiplied in place and transformed back before the
//! next twelve.
#![expect(
    unsafe_code,
    reason = "vector instructions over raw rows; `run` checks the shapes, clamped columns stay inside"
)]

use std::ops::Range;

use super::conv::Add;
use super::instructions::Kernels;
use super::pack::Packed;
use super::simd::{Simd, Work};
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::activate;
use super::winograd::{COORDINATES, INPUTS, OUTPUTS, back, end, far, forward, near};

/// Channels on either side.
pub(super) const CHANNELS: usize = 16;
/// Tiles that are multiplied together: as many as the register tile is high.
const GROUP: usize = 6;
/// Tiles that are transformed together: the weights, which fill the first-level cache, are read once for all.
const TILES: usize = 2 * GROUP;
/// Values from a coordinate to the next.
const COORDINATE: usize = TILES * CHANNELS;
/// Alignment of the coordinates in bytes: a line of the cache.
const LINE: usize = 64;
/// Values of memory that [`line()`] needs.
pub(super) const SCRATCH: usize = COORDINATES * COORDINATE + LINE / size_of::<f32>();

/// Whether a convolution of stride 1 has these shapes.
pub(super) fn fits(cin: usize, cout: usize) -> bool {
    (cin, cout) == (CHANNELS, CHANNELS)
}

/// Up to four rows of outputs: a row of tiles. Pixels are 16 values apart everywhere.
pub(super) struct Line<'a> {
    /// Weights of the coordinates in place of taps.
    pub packed: &'a Packed,
    /// Rows that the tiles read, from the column left of the first output.
    pub from: [*const f32; INPUTS],
    /// The last column of these that holds pixels, and is zero or inside the picture.
    pub last: usize,
    /// Where the first output of each row goes; as many rows as are wanted count.
    pub to: [*mut f32; OUTPUTS],
    /// Rows wanted.
    pub rows: usize,
    /// Outputs in a row.
    pub w: usize,
    /// What is added to the first output of each row before the activation.
    pub residual: Option<[*const f32; OUTPUTS]>,
}

/// Computes the outputs of a line.
///
/// # Safety
/// The instruction set of `S` is enabled; the rows are valid up to `last` and for `w` outputs; the weights are for 16
/// channels.
#[inline(always)]
pub(super) unsafe fn line<S: Simd>(line: &Line<'_>, scratch: &mut [f32]) {
    assert!(scratch.len() >= SCRATCH, "scratch memory of a row of tiles");
    let start = scratch.as_mut_ptr();
    let start = start.wrapping_add(start.align_offset(LINE));
    let tiles = line.w.div_ceil(OUTPUTS);
    for first in (0..tiles).step_by(TILES) {
        let count = TILES.min(tiles - first);
        // SAFETY: the scratch holds as many tiles; the caller's promise for the rest.
        unsafe {
            for index in 0..count {
                let to = start.wrapping_add(index * CHANNELS);
                S::outline(Forward { line, x: (first + index) * OUTPUTS, to });
            }
            S::outline(Multiply { weights: line.packed.weights.as_ptr(), start, count });
            for index in 0..count {
                let from = start.wrapping_add(index * CHANNELS);
                let x = (first + index) * OUTPUTS;
                if line.rows == OUTPUTS && line.w - x >= OUTPUTS {
                    S::outline(Back::<OUTPUTS> { line, x, from });
                } else {
                    S::outline(Back::<0> { line, x, from });
                }
            }
        }
    }
}

/// Takes the inputs of the tile of outputs `x..` to its coordinates.
struct Forward<'a> {
    line: &'a Line<'a>,
    x: usize,
    to: *mut f32,
}

impl<S: Simd> Work<S> for Forward<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { line, x, to } = self;
        let mut columns = [0; INPUTS];
        for (i, column) in columns.iter_mut().enumerate() {
            *column = (x + i).min(line.last) * CHANNELS;
        }
        for channel in (0..CHANNELS).step_by(S::LANES) {
            // SAFETY: columns are clamped into the rows; the scratch has room for the tile.
            unsafe {
                // Inputs are read again for each row of coordinates: keeping all 36 halfway would take as long.
                let to = to.wrapping_add(channel);
                macro_rules! read {
                    ($column:ident: $($row:literal)*) => {
                        [$(S::load(line.from[$row].wrapping_add(columns[$column] + channel))),*]
                    };
                }
                let (mut one, mut other) = ([S::splat(0.0); INPUTS], [S::splat(0.0); INPUTS]);
                for i in 0..INPUTS {
                    one[i] = end::<S>(read!(i: 0 2 4));
                }
                across::<S>(one, to, 0);
                for i in 0..INPUTS {
                    [one[i], other[i]] = near::<S>(read!(i: 1 2 3 4));
                }
                across::<S>(one, to, 1);
                across::<S>(other, to, 2);
                for i in 0..INPUTS {
                    [one[i], other[i]] = far::<S>(read!(i: 1 2 3 4));
                }
                across::<S>(one, to, 3);
                across::<S>(other, to, 4);
                for i in 0..INPUTS {
                    one[i] = end::<S>(read!(i: 1 3 5));
                }
                across::<S>(one, to, 5);
            }
        }
    }
}

/// Takes row `down` of a tile, whose columns are coordinates, to its coordinates.
///
/// # Safety
/// The instruction set of `S` is enabled; `to` is where the tile's coordinates begin.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "constant indices keep the values in registers")]
unsafe fn across<S: Simd>(row: [S::V; INPUTS], to: *mut f32, down: usize) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        let values = forward::<S>(row);
        for i in 0..INPUTS {
            S::store(to.wrapping_add((down * INPUTS + i) * COORDINATE), values[i]);
        }
    }
}

/// Multiplies all coordinates of `count` tiles by their weights, in place.
struct Multiply {
    weights: *const f32,
    start: *mut f32,
    count: usize,
}

/// Multiplies one coordinate of as many tiles as there are numbers. Written out, so that the sums stay in registers.
macro_rules! multiply {
    ($S:ident, $vectors:literal, $from:expr, $weights:expr, $count:literal: $($p:literal)*) => {{
        let (from, mut weights): (*mut f32, *const f32) = ($from, $weights);
        let mut sums = [[$S::splat(0.0); $vectors]; $count];
        for k in 0..CHANNELS {
            let mut w = [$S::splat(0.0); $vectors];
            for n in 0..$vectors {
                w[n] = $S::load(weights.add(n * $S::LANES));
            }
            $(
                let v = $S::splat(*from.add($p * CHANNELS + k));
                for n in 0..$vectors {
                    sums[$p][n] = $S::mul_add(v, w[n], sums[$p][n]);
                }
            )*
            weights = weights.add(CHANNELS);
        }
        $(
            for n in 0..$vectors {
                $S::store(from.add($p * CHANNELS + n * $S::LANES), sums[$p][n]);
            }
        )*
    }};
}

/// The same with as many vectors as 16 channels take.
macro_rules! multiply_by_weights {
    ($S:ident, $from:expr, $weights:expr, $count:literal: $($p:literal)*) => {
        if $S::LANES == CHANNELS {
            multiply!($S, 1, $from, $weights, $count: $($p)*);
        } else {
            multiply!($S, 2, $from, $weights, $count: $($p)*);
        }
    };
}

impl<S: Simd> Work<S> for Multiply {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { weights, start, count } = self;
        for at in 0..COORDINATES {
            // SAFETY: the scratch holds all tiles, the weights 16 x 16 values for each coordinate.
            unsafe {
                let weights = weights.add(at * CHANNELS * CHANNELS);
                if S::LANES == CHANNELS && count == TILES {
                    // Enough sums at once that none is waited for.
                    let from = start.add(at * COORDINATE);
                    multiply!(S, 1, from, weights, 12: 0 1 2 3 4 5 6 7 8 9 10 11);
                    continue;
                }
                for first in (0..count).step_by(GROUP) {
                    let from = start.add(at * COORDINATE + first * CHANNELS);
                    if count - first <= GROUP / 2 {
                        multiply_by_weights!(S, from, weights, 3: 0 1 2);
                    } else if S::TILE_PX[1] >= GROUP || S::LANES == CHANNELS {
                        multiply_by_weights!(S, from, weights, 6: 0 1 2 3 4 5);
                    } else {
                        multiply_by_weights!(S, from, weights, 3: 0 1 2);
                        let from = from.add(GROUP / 2 * CHANNELS);
                        multiply_by_weights!(S, from, weights, 3: 0 1 2);
                    }
                }
            }
        }
    }
}

/// Takes the products of the tile of outputs `x..` back to outputs, and finishes these: `WHOLE` rows and columns, or
/// where it is 0 as many as the line has.
struct Back<'a, const WHOLE: usize> {
    line: &'a Line<'a>,
    x: usize,
    from: *const f32,
}

impl<S: Simd, const WHOLE: usize> Work<S> for Back<'_, WHOLE> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { line, x, from } = self;
        let (rows, columns) = if WHOLE > 0 {
            (WHOLE, WHOLE)
        } else {
            (line.rows.min(OUTPUTS), (line.w - x).min(OUTPUTS))
        };
        for channel in (0..CHANNELS).step_by(S::LANES) {
            // SAFETY: the scratch holds the tile; only outputs of the line are written.
            unsafe {
                let mut half = [[S::splat(0.0); INPUTS]; OUTPUTS];
                for across in 0..INPUTS {
                    let mut sums = [S::splat(0.0); INPUTS];
                    for (down, sum) in sums.iter_mut().enumerate() {
                        let at = (down * INPUTS + across) * COORDINATE + channel;
                        *sum = S::load(from.wrapping_add(at));
                    }
                    for (line, value) in half.iter_mut().zip(back::<S>(sums)) {
                        line[across] = value;
                    }
                }
                let bias = S::load(line.packed.bias.as_ptr().add(channel));
                let slope = S::load(line.packed.slope.as_ptr().add(channel));
                for (down, sums) in half.into_iter().enumerate() {
                    if down >= rows {
                        continue;
                    }
                    let outputs = back::<S>(sums);
                    for (across, sum) in outputs.into_iter().enumerate() {
                        if across >= columns {
                            continue;
                        }
                        let at = (x + across) * CHANNELS + channel;
                        let mut v = S::add(sum, bias);
                        if let Some(residual) = line.residual {
                            v = S::add(v, S::load(residual[down].wrapping_add(at)));
                        }
                        S::store(line.to[down].wrapping_add(at), activate::<S>(v, slope));
                    }
                }
            }
        }
    }
}

/// One convolution over whole tensors, for the entry functions.
pub(super) struct NarrowJob<'a> {
    packed: &'a Packed,
    src: &'a Tensor,
    added: Add<'a>,
    dst: Shared<'a>,
}

/// The outputs of the rows of tiles `lines`.
///
/// # Safety
/// The instruction set of `S` is enabled; `run` checked the shapes; no other thread touches these outputs.
#[inline(always)]
pub(super) unsafe fn narrow<S: Simd>(
    job: &NarrowJob<'_>,
    lines: Range<usize>,
    scratch: &mut [f32],
) {
    let (src, row) = (job.src, job.src.row_stride());
    for y in lines.map(|index| index * OUTPUTS) {
        let mut from = [src.values().as_ptr(); INPUTS];
        for (i, from) in from.iter_mut().enumerate() {
            // What is beyond the border is as zero as the border.
            *from = src.values()[(y + i).min(src.h + 1) * row..].as_ptr();
        }
        let at = src.at(y, 0);
        let start = job.dst.at(at);
        let below = [0, 1, 2, 3].map(|down| down * row);
        let residual = match job.added {
            Add::Nothing => None,
            Add::BeforeActivation(it) => {
                let start = it.values()[at..].as_ptr();
                Some(below.map(|offset| start.wrapping_add(offset)))
            }
        };
        let given = Line {
            packed: job.packed,
            from,
            last: src.w + 1,
            to: below.map(|offset| start.wrapping_add(offset)),
            rows: (src.h - y).min(OUTPUTS),
            w: src.w,
            residual,
        };
        // SAFETY: rows lie in the bordered source, outputs in the destination of its shape.
        unsafe { line::<S>(&given, scratch) };
    }
}

/// Runs a convolution whose weights are packed by coordinate; `conv` checked the shapes, `dst` has that of `src`.
pub(super) fn run(
    packed: &Packed,
    (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
    (src, added): (&Tensor, Add<'_>),
    dst: &mut Tensor,
) {
    assert_eq!((src.stride, packed.padded), (CHANNELS, CHANNELS), "channels of both sides");
    let lines = src.h.div_ceil(OUTPUTS);
    let job = NarrowJob { packed, src, added, dst: Shared::new(dst.values_mut()) };
    threads.each(lines, |index| {
        scratch.with(SCRATCH, |own| {
            // SAFETY: the kernels were chosen for this processor; shapes were checked, tasks are disjoint.
            unsafe { (kernels.narrow)(&job, index..index + 1, own) };
        });
    });
}
