//! Transposed convolutions before a pixel shuffle in the transformed tiles of [`super::winograd`].
//!
//! Each parity of outputs sees 2x2 taps: a convolution of 3x3 whose last or first row and column are zero. So one
//! coordinate of six vanishes down and across, at infinity or at 0, and 25 are left of 36.
#![expect(
    unsafe_code,
    reason = "vector instructions over raw rows; the launcher checks the shapes"
)]

use std::ops::Range;

use super::deconv::{DeconvJob, Shuffle};
use super::pack::Packed;
use super::products::{LINE, Plane, Product};
use super::simd::{Simd, Work};
use super::winograd::{Forward, INPUTS, OUTPUTS, back, depth, kernel_coordinate, take_in};

/// Coordinates along each direction that are not zero.
const USED: usize = INPUTS - 1;
/// Coordinates of a tile that are not zero.
pub(super) const COORDINATES: usize = USED * USED;

/// Input channels for which this is the faster way: with fewer the transforms take longer than the products, with more
/// the weights are far beyond the second-level cache.
const CHANNELS: std::ops::RangeInclusive<usize> = 16..=64;
/// Bytes of transformed inputs and products that a task should stay within, most of a common second-level cache.
const TASK_BYTES: usize = 448 << 10;
/// Fewest tiles of a task: fewer would wait on the weights.
const FEWEST: usize = 6;

/// Whether this is the faster way.
pub(super) fn pays(cin: usize, shuffle: Shuffle) -> bool {
    shuffle == Shuffle::Two && CHANNELS.contains(&cin)
}

/// Which of all coordinates is coordinate `at` of the parity `phase`.
fn coordinate(phase: usize, at: usize) -> usize {
    (at / USED + phase / 2) * INPUTS + at % USED + phase % 2
}

/// Coordinate `at` of the parity `phase`, whose four taps are given.
pub(super) fn kernel(phase: usize, at: usize, tap: impl Fn(usize) -> f32) -> f32 {
    kernel_coordinate(coordinate(phase, at), |of_nine| {
        let tap_of = |t: usize, parity: usize| t.checked_sub(parity).filter(|t| *t < 2);
        match (tap_of(of_nine / 3, phase / 2), tap_of(of_nine % 3, phase % 2)) {
            (Some(down), Some(across)) => tap(2 * down + across),
            _ => 0.0,
        }
    })
}

/// Values of memory that a row of tiles of `columns` source columns needs.
pub(super) fn scratch_len(packed: &Packed, columns: usize) -> usize {
    let tiles = columns.div_ceil(OUTPUTS);
    let values = Plane::len(tiles, depth(packed)) + Plane::len(tiles, packed.padded);
    values + LINE / size_of::<f32>()
}

/// Source rows and columns of a task.
pub(super) fn partition(packed: &Packed, width: usize) -> (usize, usize) {
    let tiles = width.div_ceil(OUTPUTS).max(1);
    let values = INPUTS * INPUTS * depth(packed) + COORDINATES * packed.padded;
    let fitting = (TASK_BYTES / (values * size_of::<f32>())).max(FEWEST);
    (OUTPUTS, tiles.div_ceil(tiles.div_ceil(fitting)) * OUTPUTS)
}

/// The outputs of source rows `rows` and columns `columns`.
///
/// # Safety
/// As [`super::deconv::deconv`].
#[inline(always)]
pub(super) unsafe fn deconv<S: Simd>(
    job: &DeconvJob<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &mut [f32],
) {
    let phases = job.deconv.phases();
    let (depth, padded, lanes) = (depth(&phases[0]), phases[0].padded, phases[0].lanes);
    let tiles = columns.len().div_ceil(OUTPUTS);
    assert!(scratch.len() >= scratch_len(&phases[0], columns.len()), "scratch memory of tiles");
    assert!(depth <= job.src.stride, "input channels");
    let start = scratch.as_mut_ptr();
    let start = start.wrapping_add(start.align_offset(LINE));
    let inputs = Plane::new(start, tiles, depth);
    let sums = Plane::new(start.wrapping_add(Plane::len(tiles, depth)), tiles, padded);
    for y in rows.clone().step_by(OUTPUTS) {
        for index in 0..tiles {
            let x = columns.start + index * OUTPUTS;
            // SAFETY: the plane has room for the tile.
            unsafe { take_in::<S>(Forward { src: job.src, y, x, index, to: inputs }) };
        }
        for (phase, packed) in phases.iter().enumerate() {
            for at in 0..COORDINATES {
                for block in &packed.blocks {
                    let from = inputs.at(coordinate(phase, at), 0);
                    let to = sums.at(at, 0).wrapping_add(block.first);
                    let given = Product { packed, block, at, from, inputs, to, sums };
                    // SAFETY: both planes hold as many tiles.
                    unsafe { given.run::<S>(tiles) };
                }
            }
            for index in 0..tiles {
                let x = columns.start + index * OUTPUTS;
                let size = ((rows.end - y).min(OUTPUTS), (columns.end - x).min(OUTPUTS));
                let tile = Tile { job, packed, index, corner: (y, x), size, from: sums };
                // SAFETY: the plane holds the tile; its channels are a multiple of the lanes that they are packed for.
                unsafe {
                    if lanes == S::LANES {
                        hand_out::<S>(phase, tile);
                    } else {
                        hand_out::<S::Eight>(phase, tile);
                    }
                }
            }
        }
    }
}

/// Products of one parity of a tile.
struct Tile<'a> {
    job: &'a DeconvJob<'a>,
    packed: &'a Packed,
    /// Where the tile is in the plane.
    index: usize,
    /// The tile's first source pixel.
    corner: (usize, usize),
    /// Source rows and columns that are wanted.
    size: (usize, usize),
    from: Plane,
}

/// Takes the products of the parity `phase` back to outputs.
///
/// # Safety
/// As [`deconv`]; the channels are a multiple of the lanes.
#[inline(always)]
unsafe fn hand_out<S: Simd>(phase: usize, tile: Tile<'_>) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        match (phase, tile.size == (OUTPUTS, OUTPUTS)) {
            (0, true) => S::outline(Back::<0, 0, OUTPUTS>(tile)),
            (1, true) => S::outline(Back::<0, 1, OUTPUTS>(tile)),
            (2, true) => S::outline(Back::<1, 0, OUTPUTS>(tile)),
            (_, true) => S::outline(Back::<1, 1, OUTPUTS>(tile)),
            (0, false) => S::outline(Back::<0, 0, 0>(tile)),
            (1, false) => S::outline(Back::<0, 1, 0>(tile)),
            (2, false) => S::outline(Back::<1, 0, 0>(tile)),
            (_, false) => S::outline(Back::<1, 1, 0>(tile)),
        }
    }
}

/// A tile's outputs of the parity `DOWN`, `ACROSS`: those of `WHOLE` source rows and columns, or where it is 0 of as many
/// as are wanted.
struct Back<'a, const DOWN: usize, const ACROSS: usize, const WHOLE: usize>(Tile<'a>);

impl<S: Simd, const DOWN: usize, const ACROSS: usize, const WHOLE: usize> Work<S>
    for Back<'_, DOWN, ACROSS, WHOLE>
{
    #[inline(always)]
    unsafe fn run(self) {
        let Self(Tile { job, packed, index, corner: (y, x), size, from }) = self;
        let (rows, columns) = if WHOLE > 0 { (WHOLE, WHOLE) } else { size };
        // Twice two rows and columns for each source pixel, two of either of this parity.
        let pixel = packed.padded / 4;
        let row_len = 2 * pixel;
        let first_row = 4 * (y - job.dst_first.0) + 2 * DOWN;
        let first_value = 4 * (x - job.dst_first.1) * pixel + ACROSS * row_len;
        for channel in (0..packed.padded).step_by(S::LANES) {
            let (i, within) = (channel / row_len, channel % row_len);
            let corner = (first_row + i) * job.dst_row + first_value + within;
            let last = 4 * (rows - 1) * job.dst_row + 4 * (columns - 1) * pixel;
            assert!(job.dst.at(corner + last + S::LANES) > job.dst.at(corner), "outputs");
            let start = job.dst.at(corner);
            // SAFETY: the plane holds the tile; only outputs of the source pixels wanted are written.
            unsafe {
                let mut half = [[S::splat(0.0); INPUTS]; OUTPUTS];
                for across in 0..USED {
                    let mut sums = [S::splat(0.0); INPUTS];
                    for down in 0..USED {
                        let at = from.at(down * USED + across, index).add(channel);
                        sums[down + DOWN] = S::load(at);
                    }
                    for (line, value) in half.iter_mut().zip(back::<S>(sums)) {
                        line[across + ACROSS] = value;
                    }
                }
                let bias = S::load(packed.bias.as_ptr().add(channel));
                for (down, line) in half.into_iter().enumerate() {
                    if down >= rows {
                        continue;
                    }
                    let outputs = back::<S>(line);
                    for (across, sum) in outputs.into_iter().enumerate() {
                        if across < columns {
                            let at = 4 * down * job.dst_row + 4 * across * pixel;
                            S::store(start.wrapping_add(at), S::add(sum, bias));
                        }
                    }
                }
            }
        }
    }
}
