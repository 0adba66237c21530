//! The register tile for blocks of 8, 16 or 24 channels that vectors of 16 lanes would leave half empty: the two lanes of
//! a channel sum every other input.
#![expect(unsafe_code, reason = "vector instructions over raw rows; launchers check the shapes")]

use super::simd::{Simd, Work};
use super::tile::{Row, finish};

/// Most pixels of a tile whose rows are 1, 2 and 3 vectors wide: sums, weights and inputs fit 32 registers.
const TILE_PX: [usize; 3] = [12, 8, 8];

/// Weights of a block in pairs of inputs: `[row of taps][pair][channel][2]`; an odd last input is paired with 0.
///
/// `weight(row of taps, input of the row, channel)` gives the values.
pub(super) fn pack(
    (rows, inputs, channels): (usize, usize, usize),
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let mut packed = Vec::with_capacity(rows * inputs.next_multiple_of(2) * channels);
    for row in 0..rows {
        for first in (0..inputs).step_by(2) {
            for channel in 0..channels {
                let second = if first + 1 < inputs { weight(row, first + 1, channel) } else { 0.0 };
                packed.extend([weight(row, first, channel), second]);
            }
        }
    }
    packed
}

/// Defines the tile of as many pixels as there are numbers. Written out, so that the sums stay in registers.
macro_rules! tile {
    ($S:ident, $NV:ident, $r:ident, $x:expr, $count:literal: $($p:literal)*) => {{
        let (r, x): (&Row, usize) = ($r, $x);
        let mut sums = [[$S::splat(0.0); $NV]; $count];
        let (mut weights, step, inputs) = (r.weights, r.step, r.taps * r.cin);
        for row in 0..r.taps {
            // One pointer serves three pixels: once and twice the step are part of an address.
            let start = r.rows[row].add(x * step);
            let mut from = [0, 3, 6, 9].map(|i| start.wrapping_add(i * step));
            macro_rules! inputs {
                ($read:ident) => {
                    let mut w = [$S::splat(0.0); $NV];
                    for n in 0..$NV {
                        w[n] = $S::load(weights.add(n * $S::LANES));
                    }
                    $(
                        let v = $read::<$S>(from[$p / 3].add($p % 3 * step));
                        for n in 0..$NV {
                            sums[$p][n] = $S::mul_add(v, w[n], sums[$p][n]);
                        }
                    )*
                    weights = weights.add($NV * $S::LANES);
                };
            }
            for _ in 0..inputs / 2 {
                inputs!(pair);
                for from in &mut from {
                    *from = from.wrapping_add(2);
                }
            }
            if inputs % 2 == 1 {
                inputs!(single);
            }
        }
        $(
            for n in 0..$NV {
                let mut lanes = [0.0; 8];
                $S::store_neighbors(lanes.as_mut_ptr(), sums[$p][n]);
                let bias = $S::Eight::load(r.bias.add(8 * n));
                let sum = $S::Eight::add($S::Eight::load(lanes.as_ptr()), bias);
                finish::<$S::Eight>(r, x + $p, 8 * n, sum);
            }
        )*
    }};
}

/// Two inputs, over and over.
///
/// # Safety
/// The instruction set of `S` is enabled; `from` is valid for two values.
#[inline(always)]
unsafe fn pair<S: Simd>(from: *const f32) -> S::V {
    // SAFETY: the caller's promise is the same.
    unsafe { S::splat_pair(from) }
}

/// One input: the weights beside its own are 0.
///
/// # Safety
/// The instruction set of `S` is enabled; `from` is valid for one value.
#[inline(always)]
unsafe fn single<S: Simd>(from: *const f32) -> S::V {
    // SAFETY: the caller's promise is the same.
    unsafe { S::splat(*from) }
}

/// A row of outputs, `NV` times 8 channels each.
struct Tiles<'a, const NV: usize>(&'a Row);

impl<S: Simd, const NV: usize> Work<S> for Tiles<'_, NV> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self(r) = self;
        // Tiles as equal as possible: a narrow last tile would wait on its own sums.
        let tiles = r.w.div_ceil(TILE_PX[NV - 1]);
        let (small, larger) = (r.w / tiles.max(1), r.w % tiles.max(1));
        let mut x = 0;
        for tile in 0..tiles {
            let count = small + usize::from(tile < larger);
            // SAFETY: the caller vouches for every pointer of the row over w outputs; the tiles add up to them.
            unsafe {
                match count {
                    1 => tile!(S, NV, r, x, 1: 0),
                    2 => tile!(S, NV, r, x, 2: 0 1),
                    3 => tile!(S, NV, r, x, 3: 0 1 2),
                    4 => tile!(S, NV, r, x, 4: 0 1 2 3),
                    5 => tile!(S, NV, r, x, 5: 0 1 2 3 4),
                    6 => tile!(S, NV, r, x, 6: 0 1 2 3 4 5),
                    7 => tile!(S, NV, r, x, 7: 0 1 2 3 4 5 6),
                    8 => tile!(S, NV, r, x, 8: 0 1 2 3 4 5 6 7),
                    9 if NV == 1 => tile!(S, NV, r, x, 9: 0 1 2 3 4 5 6 7 8),
                    10 if NV == 1 => tile!(S, NV, r, x, 10: 0 1 2 3 4 5 6 7 8 9),
                    11 if NV == 1 => tile!(S, NV, r, x, 11: 0 1 2 3 4 5 6 7 8 9 10),
                    12 if NV == 1 => tile!(S, NV, r, x, 12: 0 1 2 3 4 5 6 7 8 9 10 11),
                    _ => unreachable!("tiles of at most {} pixels", TILE_PX[NV - 1]),
                }
            }
            x += count;
        }
    }
}

/// Computes one row of outputs for a block of 1 to 3 times 8 channels whose weights are in pairs.
///
/// # Safety
/// The instruction set of `S`, which has 16 lanes, is enabled; the pointers of `r` are valid for `w` outputs, and inputs
/// of neighboring taps follow each other.
#[inline(always)]
pub(super) unsafe fn row<S: Simd>(eights: usize, r: &Row) {
    debug_assert_eq!((S::LANES, r.px), (16, r.cin), "vectors and taps");
    // SAFETY: the caller's promise is the same.
    unsafe {
        match eights {
            1 => S::outline(Tiles::<1>(r)),
            2 => S::outline(Tiles::<2>(r)),
            3 => S::outline(Tiles::<3>(r)),
            _ => unreachable!("blocks have 1 to 3 times 8 channels"),
        }
    }
}
