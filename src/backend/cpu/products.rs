//! Transformed tiles times their weights, a coordinate at a time: what they spend most of their time in.
#![expect(
    unsafe_code,
    reason = "vector instructions over scratch; callers size it by `Plane::len`"
)]

use super::conv::row_of_lanes;
use super::pack::{Block, Packed};
use super::simd::{Simd, Work};
use super::tile::{Residual, Row};

/// Most coordinates of a tile.
const COORDINATES: usize = 36;
/// Values between the coordinates beyond their length, so that they do not fall on the same lines of the cache.
const GAP: usize = 16;
/// Alignment of a task's memory in bytes: a line of the cache.
pub(super) const LINE: usize = 64;
/// Most channels of a block: 3 vectors of 16.
const BLOCK: usize = 48;
/// What a product of one coordinate adds: nothing.
const NO_BIAS: [f32; BLOCK] = [0.0; BLOCK];
/// What its activation does: nothing.
const NO_SLOPE: [f32; BLOCK] = [1.0; BLOCK];
/// Most tiles multiplied together.
const GROUP: usize = 6;

/// Where a task keeps its coordinates: `[coordinate][tile][channel]`.
#[derive(Clone, Copy)]
pub(super) struct Plane {
    start: *mut f32,
    /// Values from a coordinate to the next.
    coordinate: usize,
    /// Values from a tile to the next.
    pub(super) channels: usize,
}

impl Plane {
    pub(super) fn len(tiles: usize, channels: usize) -> usize {
        COORDINATES * (tiles * channels + GAP)
    }

    pub(super) fn new(start: *mut f32, tiles: usize, channels: usize) -> Self {
        Self { start, coordinate: tiles * channels + GAP, channels }
    }

    #[inline(always)]
    pub(super) fn at(&self, coordinate: usize, tile: usize) -> *mut f32 {
        self.start.wrapping_add(coordinate * self.coordinate + tile * self.channels)
    }
}

/// The product of one coordinate of a run of tiles and a block of output channels.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    /// Weights of coordinates in place of taps.
    pub packed: &'a Packed,
    pub block: &'a Block,
    /// Which of the weights' coordinates.
    pub at: usize,
    /// The first tile's values in the plane `inputs`.
    pub from: *const f32,
    pub inputs: Plane,
    /// Where the block's first channel of the first tile goes in the plane `sums`.
    pub to: *mut f32,
    pub sums: Plane,
}

impl Product<'_> {
    /// Multiplies `tiles` tiles.
    ///
    /// # Safety
    /// The instruction set of `S` is enabled; both planes hold as many tiles; the weights are packed for its lanes or 8.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(self, tiles: usize) {
        let Self { packed, block, at, from, inputs, to, sums } = self;
        let weights = block.offset + at * packed.cin * block.vectors * packed.lanes;
        let weights = packed.weights[weights..].as_ptr();
        // SAFETY: the caller's promise; every set includes its 8-lane form.
        unsafe {
            if block.vectors == 2 {
                let (cin, depth, step) = (packed.cin, inputs.channels, sums.channels);
                let work = Pairs { from, depth, cin, weights, to, step, tiles };
                return if packed.lanes == S::LANES {
                    S::outline(work)
                } else {
                    S::Eight::outline(work)
                };
            }
            let row = Row {
                rows: [from; 3],
                taps: 1,
                px: packed.cin,
                step: inputs.channels,
                cin: packed.cin,
                weights,
                bias: NO_BIAS.as_ptr(),
                slope: NO_SLOPE.as_ptr(),
                residual_at: Residual::None,
                residual: NO_BIAS.as_ptr(),
                residual_step: 0,
                out: to,
                out_step: sums.channels,
                w: tiles,
            };
            row_of_lanes::<S>(packed.lanes, block.vectors, &row);
        }
    }
}

/// Products of blocks of two vectors.
struct Pairs {
    from: *const f32,
    /// Values from a tile to the next.
    depth: usize,
    cin: usize,
    weights: *const f32,
    to: *mut f32,
    /// Values from a tile's products to the next's.
    step: usize,
    tiles: usize,
}

/// Multiplies as many tiles as there are numbers. Written out, so that the sums stay in registers.
macro_rules! multiply {
    ($S:ident, $given:ident, $first:ident, $count:literal: $($p:literal)*) => {{
        let Pairs { from, depth, cin, mut weights, to, step, .. } = $given;
        let start = from.add($first * depth);
        // One pointer serves three tiles: once and twice the depth are part of an address.
        let mut from = [start, start.wrapping_add(3 * depth)];
        let mut sums = [[$S::splat(0.0); 2]; $count];
        for _ in 0..cin {
            let w = [$S::load(weights), $S::load(weights.add($S::LANES))];
            $(
                let v = $S::splat(*from[$p / 3].add($p % 3 * depth));
                sums[$p][0] = $S::mul_add(v, w[0], sums[$p][0]);
                sums[$p][1] = $S::mul_add(v, w[1], sums[$p][1]);
            )*
            weights = weights.add(2 * $S::LANES);
            from[0] = from[0].wrapping_add(1);
            from[1] = from[1].wrapping_add(1);
        }
        $(
            let out = to.add(($first + $p) * step);
            $S::store(out, sums[$p][0]);
            $S::store(out.add($S::LANES), sums[$p][1]);
        )*
    }};
}

impl<S: Simd> Work<S> for Pairs {
    #[inline(always)]
    unsafe fn run(self) {
        // Groups as equal as possible: a small last one would wait on its own sums.
        let groups = self.tiles.div_ceil(GROUP.min(S::TILE_PX[1]));
        let (small, larger) = (self.tiles / groups.max(1), self.tiles % groups.max(1));
        let mut first = 0;
        for group in 0..groups {
            let count = small + usize::from(group < larger);
            // SAFETY: the planes hold all tiles; the groups add up to them.
            unsafe {
                match count {
                    1 => multiply!(S, self, first, 1: 0),
                    2 => multiply!(S, self, first, 2: 0 1),
                    3 => multiply!(S, self, first, 3: 0 1 2),
                    4 => multiply!(S, self, first, 4: 0 1 2 3),
                    5 => multiply!(S, self, first, 5: 0 1 2 3 4),
                    6 => multiply!(S, self, first, 6: 0 1 2 3 4 5),
                    _ => unreachable!("a group has at most {GROUP} tiles"),
                }
            }
            first += count;
        }
    }
}
