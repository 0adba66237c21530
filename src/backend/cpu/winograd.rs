//! Stride-1 3x3 convolutions of many channels by Winograd's F(4x4, 3x3): a quarter of the multiplications.
//!
//! A task takes a run of tiles of 4x4 outputs. It transforms their 6x6 inputs to 36 coordinates, multiplies each
//! coordinate's `[tiles, cin]` by its `[cin, cout]` weights in the register tile of all convolutions, and transforms
//! the products back, with residual and activation in the store. Coordinates are values of polynomials at the points
//! 0, ±[`NEAR`], ±[`FAR`] and infinity (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
#![expect(
    unsafe_code,
    reason = "vector instructions over raw rows; `run` checks the shapes, clamped rows stay inside"
)]

use std::ops::Range;

use super::conv::Add;
use super::instructions::Kernels;
use super::pack::Packed;
use super::products::{LINE, Plane, Product};
use super::simd::{Simd, Work};
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::{Residual, activate};

/// Outputs of a tile, down and across.
pub(super) const OUTPUTS: usize = 4;
/// Inputs of a tile, down and across, and coordinates along each direction.
pub(super) const INPUTS: usize = OUTPUTS + 2;
/// Coordinates of a tile.
pub(super) const COORDINATES: usize = INPUTS * INPUTS;

/// The nearer pair of points. Not the customary 1 and 2: those round 2.7 times as coarsely.
const NEAR: f64 = 0.6875;
/// The farther pair of points.
const FAR: f64 = 1.5;
const NEAR_SQUARE: f64 = NEAR * NEAR;
const FAR_SQUARE: f64 = FAR * FAR;

/// Values of a kernel row's polynomial at the points, divided by the factors that interpolation asks for.
const KERNEL: [[f64; 3]; INPUTS] = {
    let near = 2.0 * NEAR_SQUARE * (NEAR_SQUARE - FAR_SQUARE);
    let far = 2.0 * FAR_SQUARE * (FAR_SQUARE - NEAR_SQUARE);
    [
        [1.0 / (NEAR_SQUARE * FAR_SQUARE), 0.0, 0.0],
        [1.0 / near, NEAR / near, NEAR_SQUARE / near],
        [1.0 / near, -NEAR / near, NEAR_SQUARE / near],
        [1.0 / far, FAR / far, FAR_SQUARE / far],
        [1.0 / far, -FAR / far, FAR_SQUARE / far],
        [0.0, 0.0, 1.0],
    ]
};

/// Bytes of transformed inputs and products that a task should stay within, most of a common second-level cache.
const TASK_BYTES: usize = 448 << 10;
/// Fewest and most tiles of a task, where there are so many: fewer would wait on the weights.
const TASK_TILES: Range<usize> = 6..64;
/// Fewest channels on either side for which this is the faster way: with 32 by a quarter, with 16 [`super::narrow`] is.
pub(super) const CHANNELS: usize = 32;

/// Whether this is the faster way for a convolution of stride 1 with so many channels.
pub(super) fn pays(cin: usize, cout: usize) -> bool {
    cin.min(cout) >= CHANNELS
}

/// Coordinate `at` of a 3x3 kernel.
#[expect(clippy::cast_possible_truncation, reason = "rounded once, at the end")]
pub(super) fn kernel_coordinate(at: usize, kernel: impl Fn(usize) -> f32) -> f32 {
    let (down, across) = (KERNEL[at / INPUTS], KERNEL[at % INPUTS]);
    let products = (0..9).map(|tap| down[tap / 3] * across[tap % 3] * f64::from(kernel(tap)));
    products.sum::<f64>() as f32
}

/// One convolution over whole tensors, for the entry functions.
pub(super) struct WinogradJob<'a> {
    /// Weights of the coordinates in place of taps.
    packed: &'a Packed,
    src: &'a Tensor,
    added: Add<'a>,
    dst: Shared<'a>,
    dst_h: usize,
    dst_w: usize,
    /// Tiles in a row of the picture.
    across: usize,
}

/// Input channels with padding.
pub(super) fn depth(packed: &Packed) -> usize {
    packed.cin.next_multiple_of(8)
}

/// Values of memory that a task of so many tiles and channels needs.
fn scratch_len(packed: &Packed, tiles: usize, channels: usize) -> usize {
    Plane::len(tiles, depth(packed)) + Plane::len(tiles, channels) + LINE / size_of::<f32>()
}

/// The outputs of the tiles `tiles`, counted row by row, in the blocks `blocks` of channels.
///
/// # Safety
/// The instruction set of `S` is enabled; `run` checked the shapes; `scratch` has the length that `scratch_len` says;
/// no other thread touches these outputs.
#[inline(always)]
pub(super) unsafe fn winograd<S: Simd>(
    job: &WinogradJob<'_>,
    tiles: Range<usize>,
    blocks: Range<usize>,
    scratch: &mut [f32],
) {
    let packed = job.packed;
    let (depth, lanes) = (depth(packed), packed.lanes);
    let first = packed.blocks[blocks.start].first;
    let end = packed.blocks.get(blocks.end).map_or(packed.padded, |block| block.first);
    assert!(scratch.len() >= scratch_len(packed, tiles.len(), end - first));
    let start = scratch.as_mut_ptr();
    let start = start.wrapping_add(start.align_offset(LINE));
    let inputs = Plane::new(start, tiles.len(), depth);
    let sums =
        Plane::new(start.wrapping_add(Plane::len(tiles.len(), depth)), tiles.len(), end - first);
    for (index, tile) in tiles.clone().enumerate() {
        let (y, x) = (tile / job.across * OUTPUTS, tile % job.across * OUTPUTS);
        // SAFETY: the plane has room for the tile.
        unsafe { take_in::<S>(Forward { src: job.src, y, x, index, to: inputs }) };
    }
    for at in 0..COORDINATES {
        for block in &packed.blocks[blocks.clone()] {
            let to = sums.at(at, 0).wrapping_add(block.first - first);
            let given = Product { packed, block, at, from: inputs.at(at, 0), inputs, to, sums };
            // SAFETY: both planes hold as many tiles.
            unsafe { given.run::<S>(tiles.len()) };
        }
    }
    for (index, tile) in tiles.enumerate() {
        // SAFETY: the plane holds the tile; its channels are a multiple of the lanes that they are packed for.
        unsafe {
            if lanes == S::LANES {
                S::outline(Back { job, tile, index, from: sums, first });
            } else {
                S::Eight::outline(Back { job, tile, index, from: sums, first });
            }
        }
    }
}

/// Takes a tile's inputs to its coordinates in vectors that its channels are a multiple of.
///
/// # Safety
/// The instruction set of `S` is enabled; the plane has room for the tile.
#[inline(always)]
pub(super) unsafe fn take_in<S: Simd>(tile: Forward<'_>) {
    // SAFETY: the caller's promise is the same; every set includes its 8-lane form.
    unsafe {
        if tile.to.channels.is_multiple_of(S::LANES) {
            S::outline(tile);
        } else {
            S::Eight::outline(tile);
        }
    }
}

/// Takes the inputs of a tile to its coordinates.
pub(super) struct Forward<'a> {
    pub src: &'a Tensor,
    /// The tile's first output.
    pub y: usize,
    pub x: usize,
    /// Where the tile is in the plane.
    pub index: usize,
    pub to: Plane,
}

impl<S: Simd> Work<S> for Forward<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { src, y, x, index, to } = self;
        let mut rows = [src.values().as_ptr(); INPUTS];
        let mut columns = [0; INPUTS];
        for i in 0..INPUTS {
            // What is beyond the border is as zero as the border.
            rows[i] = src.values()[(y + i).min(src.h + 1) * src.row_stride()..].as_ptr();
            columns[i] = (x + i).min(src.w + 1) * src.stride;
        }
        for channel in (0..to.channels).step_by(S::LANES) {
            // SAFETY: rows and columns are clamped into the bordered source; the plane has room for the tile.
            unsafe {
                let mut half = [[S::splat(0.0); INPUTS]; INPUTS];
                for (across, column) in columns.into_iter().enumerate() {
                    let values = forward::<S>(rows.map(|row| S::load(row.add(column + channel))));
                    for (line, value) in half.iter_mut().zip(values) {
                        line[across] = value;
                    }
                }
                for (down, line) in half.into_iter().enumerate() {
                    let whole = forward::<S>(line);
                    for (across, value) in whole.into_iter().enumerate() {
                        S::store(to.at(down * INPUTS + across, index).add(channel), value);
                    }
                }
            }
        }
    }
}

/// Takes the products of a tile back to outputs, and finishes these.
struct Back<'a> {
    job: &'a WinogradJob<'a>,
    tile: usize,
    /// Where the tile is in the plane.
    index: usize,
    from: Plane,
    /// Output channel of the plane's first.
    first: usize,
}

impl<S: Simd> Work<S> for Back<'_> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { job, tile, index, from, first } = self;
        let (y, x) = (tile / job.across * OUTPUTS, tile % job.across * OUTPUTS);
        let (rows, columns) = ((job.dst_h - y).min(OUTPUTS), (job.dst_w - x).min(OUTPUTS));
        let step = job.packed.padded;
        let row_step = (job.dst_w + 2) * step;
        let corner = (y + 1) * row_step + (x + 1) * step + first;
        let (residual_at, residual) = job.added.parts();
        for channel in (0..from.channels).step_by(S::LANES) {
            // SAFETY: the plane holds the tile; only pixels inside the destination are written.
            unsafe {
                let mut half = [[S::splat(0.0); INPUTS]; OUTPUTS];
                for across in 0..INPUTS {
                    let mut sums = [S::splat(0.0); INPUTS];
                    for (down, sum) in sums.iter_mut().enumerate() {
                        *sum = S::load(from.at(down * INPUTS + across, index).add(channel));
                    }
                    for (line, value) in half.iter_mut().zip(back::<S>(sums)) {
                        line[across] = value;
                    }
                }
                let bias = S::load(job.packed.bias.as_ptr().add(first + channel));
                let slope = S::load(job.packed.slope.as_ptr().add(first + channel));
                for (down, line) in half.into_iter().enumerate() {
                    let outputs = back::<S>(line);
                    for (across, sum) in outputs.into_iter().enumerate() {
                        if down >= rows || across >= columns {
                            continue;
                        }
                        let at = corner + down * row_step + across * step + channel;
                        let mut v = S::add(sum, bias);
                        if residual_at == Residual::Added {
                            v = S::add(v, S::load(residual.as_ptr().add(at)));
                        }
                        S::store(job.dst.at(at), activate::<S>(v, slope));
                    }
                }
            }
        }
    }
}

/// Six inputs in a line to their coordinates.
///
/// # Safety
/// The instruction set of `S` is enabled.
#[inline(always)]
pub(super) unsafe fn forward<S: Simd>(d: [S::V; INPUTS]) -> [S::V; INPUTS] {
    // SAFETY: the caller's promise is the same.
    unsafe {
        let [near, minus_near] = near::<S>([d[1], d[2], d[3], d[4]]);
        let [far, minus_far] = far::<S>([d[1], d[2], d[3], d[4]]);
        let first = end::<S>([d[0], d[2], d[4]]);
        [first, near, minus_near, far, minus_far, end::<S>([d[1], d[3], d[5]])]
    }
}

/// The coordinate at 0 of inputs 0, 2 and 4, and that at infinity of inputs 1, 3 and 5.
///
/// # Safety
/// The instruction set of `S` is enabled.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the factors are exact or rounded once")]
pub(super) unsafe fn end<S: Simd>([a, b, c]: [S::V; 3]) -> S::V {
    const PRODUCT: f32 = (NEAR_SQUARE * FAR_SQUARE) as f32;
    const SUM: f32 = (NEAR_SQUARE + FAR_SQUARE) as f32;
    // SAFETY: the caller's promise is the same.
    unsafe { S::mul_add(S::splat(PRODUCT), a, S::mul_add(S::splat(-SUM), b, c)) }
}

/// The coordinates at the nearer points of inputs 1 to 4.
///
/// # Safety
/// The instruction set of `S` is enabled.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the factors are exact or rounded once")]
pub(super) unsafe fn near<S: Simd>(d: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: the caller's promise is the same.
    unsafe { pair::<S>(d, -FAR_SQUARE as f32, NEAR as f32) }
}

/// The coordinates at the farther points of inputs 1 to 4.
///
/// # Safety
/// The instruction set of `S` is enabled.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the factors are exact or rounded once")]
pub(super) unsafe fn far<S: Simd>(d: [S::V; 4]) -> [S::V; 2] {
    // SAFETY: the caller's promise is the same.
    unsafe { pair::<S>(d, -NEAR_SQUARE as f32, FAR as f32) }
}

/// The coordinates at `point` and its opposite: the polynomial without the factors of the other pair of points, its even
/// and odd powers apart.
///
/// # Safety
/// The instruction set of `S` is enabled.
#[inline(always)]
unsafe fn pair<S: Simd>([a, b, c, d]: [S::V; 4], factor: f32, point: f32) -> [S::V; 2] {
    // SAFETY: the caller's promise is the same.
    unsafe {
        let even = S::mul_add(S::splat(factor), b, d);
        let odd = S::mul_add(S::splat(factor), a, c);
        [S::mul_add(S::splat(point), odd, even), S::mul_add(S::splat(-point), odd, even)]
    }
}

/// Six products in a line to the four outputs: the powers of the points, summed.
///
/// # Safety
/// The instruction set of `S` is enabled.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the factors are exact or rounded once")]
pub(super) unsafe fn back<S: Simd>(m: [S::V; INPUTS]) -> [S::V; OUTPUTS] {
    // SAFETY: the caller's promise is the same.
    unsafe {
        let (even_near, odd_near) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (even_far, odd_far) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        let powers = |near: f64, a, far: f64, b| {
            S::mul_add(S::splat(near as f32), a, S::mul(S::splat(far as f32), b))
        };
        [
            S::add(S::add(m[0], even_near), even_far),
            powers(NEAR, odd_near, FAR, odd_far),
            powers(NEAR_SQUARE, even_near, FAR_SQUARE, even_far),
            S::add(m[5], powers(NEAR_SQUARE * NEAR, odd_near, FAR_SQUARE * FAR, odd_far)),
        ]
    }
}

/// Runs a convolution whose weights are packed by coordinate; shapes are checked and `dst` has its own.
pub(super) fn run(
    packed: &Packed,
    (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
    (src, added): (&Tensor, Add<'_>),
    dst: &mut Tensor,
) {
    let (dst_h, dst_w) = (dst.h, dst.w);
    let across = dst_w.div_ceil(OUTPUTS);
    let tiles = across * dst_h.div_ceil(OUTPUTS);
    let job = WinogradJob {
        packed,
        src,
        added,
        dst: Shared::new(dst.values_mut()),
        dst_h,
        dst_w,
        across,
    };
    let (run, split) = partition(packed, threads.count(), tiles);
    let runs = tiles.div_ceil(run);
    let groups = packed.blocks.len().div_ceil(split);
    threads.each(runs * groups, |task| {
        let (index, group) = (task / groups, task % groups);
        let tiles = index * run..((index + 1) * run).min(tiles);
        let blocks = group * split..((group + 1) * split).min(packed.blocks.len());
        scratch.with(scratch_len(packed, run, packed.padded), |own| {
            // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
            unsafe { (kernels.winograd)(&job, tiles, blocks, own) };
        });
    });
}

/// Tiles and blocks of a task: all blocks of a run of tiles, or fewer blocks where tiles are too few for the threads.
fn partition(packed: &Packed, threads: usize, tiles: usize) -> (usize, usize) {
    let tile_bytes = COORDINATES * (depth(packed) + packed.padded) * size_of::<f32>();
    let fitting = (TASK_BYTES / tile_bytes).clamp(TASK_TILES.start, TASK_TILES.end);
    let runs = tiles.div_ceil(fitting).next_multiple_of(threads);
    let run = tiles.div_ceil(runs).max(TASK_TILES.start);
    let groups = (threads / tiles.div_ceil(run)).clamp(1, packed.blocks.len());
    (run, packed.blocks.len().div_ceil(groups))
}
