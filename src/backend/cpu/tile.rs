//! The one register-blocked inner loop of all convolutions: a few pixels by a few vectors of output channels.
#![expect(unsafe_code, reason = "vector instructions over raw rows; launchers check the shapes")]

use super::simd::{Simd, Work};

/// Whether a residual is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residual {
    /// Not at all.
    None,
    /// To the sum, before the activation.
    Added,
}

/// One row of outputs of one block of channels.
///
/// Output `x` is `activation(bias + Σ weights[ty][tx][ci] * rows[ty][x * step + tx * px + ci])`, at
/// `out + x * out_step`.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Input rows, each from the column of the leftmost tap of output 0.
    pub rows: [*const f32; 3],
    /// Taps down and across (3x3, or 2x2 for a phase of a transposed convolution).
    pub taps: usize,
    /// Values from an input pixel to its neighbor.
    pub px: usize,
    /// Values between the inputs of neighboring outputs.
    pub step: usize,
    /// Input channels.
    pub cin: usize,
    /// Weights of the block: `[taps * taps][cin][channels of the block]`.
    pub weights: *const f32,
    /// Bias of the block's channels.
    pub bias: *const f32,
    /// Factor on negative sums, per channel.
    pub slope: *const f32,
    /// Whether the residual is added.
    pub residual_at: Residual,
    /// The residual of output 0.
    pub residual: *const f32,
    /// Values between residuals of neighboring outputs.
    pub residual_step: usize,
    /// Where output 0 goes.
    pub out: *mut f32,
    /// Values between neighboring outputs.
    pub out_step: usize,
    /// Outputs in the row.
    pub w: usize,
}

/// Repeats a block for each vector of a row of the tile, its index a constant.
macro_rules! vectors {
    ($n:ident => $body:block) => {{
        {
            let $n: usize = 0;
            $body
        }
        if NV > 1 {
            let $n: usize = 1 % NV;
            $body
        }
        if NV > 2 {
            let $n: usize = 2 % NV;
            $body
        }
    }};
}

/// Defines the tile of as many pixels as there are numbers. Written out, so that the sums stay in registers.
macro_rules! tile {
    ($name:ident: $count:literal: $($p:literal)*) => {
        /// Outputs from `x` on, `NV` vectors of channels each; the tile ends at or before `w`.
        struct $name<'a, const NV: usize>(&'a Row, usize);

        impl<S: Simd, const NV: usize> Work<S> for $name<'_, NV> {
            #[inline(always)]
            unsafe fn run(self) {
            let Self(r, x) = self;
            // SAFETY: the caller vouches for every pointer of the row over w outputs, and the tile lies within.
            unsafe {
                let mut acc = [[S::splat(0.0); NV]; $count];
                vectors!(n => {
                    let bias = S::load(r.bias.add(n * S::LANES));
                    $(acc[$p][n] = bias;)*
                });
                // Neighboring pixels without padding between them make the taps of a row one run.
                let (runs, len) = if r.px == r.cin { (1, r.taps * r.cin) } else { (r.taps, r.cin) };
                let (mut k, step) = (r.weights, r.step);
                for ty in 0..r.taps {
                    for run in 0..runs {
                        // One pointer serves three pixels: once and twice the step are part of an address.
                        let start = r.rows[ty].add(x * step + run * r.px);
                        let mut from = [0, 3, 6, 9].map(|i| start.wrapping_add(i * step));
                        // Rows of several vectors go two channels at a time: half the steps of the pointers.
                        let at_once = if NV > 1 { 2 } else { 1 };
                        macro_rules! channels {
                            ($first:literal) => {
                                let mut w = [S::splat(0.0); NV];
                                vectors!(n => { w[n] = S::load(k.add(($first * NV + n) * S::LANES)); });
                                $(
                                    let v = S::splat(*from[$p / 3].add($p % 3 * step + $first));
                                    vectors!(n => { acc[$p][n] = S::mul_add(v, w[n], acc[$p][n]); });
                                )*
                            };
                        }
                        for _ in 0..len / at_once {
                            channels!(0);
                            if NV > 1 {
                                channels!(1);
                            }
                            k = k.add(at_once * NV * S::LANES);
                            from[0] = from[0].wrapping_add(at_once);
                            from[1] = from[1].wrapping_add(at_once);
                            from[2] = from[2].wrapping_add(at_once);
                            from[3] = from[3].wrapping_add(at_once);
                        }
                        if len % at_once == 1 {
                            channels!(0);
                            k = k.add(NV * S::LANES);
                        }
                    }
                }
                $(
                    vectors!(n => { finish::<S>(r, x + $p, n * S::LANES, acc[$p][n]); });
                )*
            }
        }
        }
    };
}

/// Residual, activation and store of one vector.
///
/// # Safety
/// As [`row`]; `x` is below `w`, `channel` a vector's first in the block.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(r: &Row, x: usize, channel: usize, sum: S::V) {
    // SAFETY: the caller vouches for every pointer of the row over w outputs.
    unsafe {
        let residual = r.residual.wrapping_add(x * r.residual_step + channel);
        let mut v = sum;
        if r.residual_at == Residual::Added {
            v = S::add(v, S::load(residual));
        }
        let slope = S::load(r.slope.add(channel));
        S::store(r.out.add(x * r.out_step + channel), activate::<S>(v, slope));
    }
}

/// `v`, times `slope` where it is negative.
///
/// # Safety
/// The instruction set of `S` must be enabled.
#[inline(always)]
pub(super) unsafe fn activate<S: Simd>(v: S::V, slope: S::V) -> S::V {
    // SAFETY: the caller's promise is the same.
    unsafe {
        let zero = S::splat(0.0);
        S::mul_add(slope, S::min(zero, v), S::max(zero, v))
    }
}

tile!(Tile1: 1: 0);
tile!(Tile2: 2: 0 1);
tile!(Tile3: 3: 0 1 2);
tile!(Tile4: 4: 0 1 2 3);
tile!(Tile5: 5: 0 1 2 3 4);
tile!(Tile6: 6: 0 1 2 3 4 5);
tile!(Tile7: 7: 0 1 2 3 4 5 6);
tile!(Tile8: 8: 0 1 2 3 4 5 6 7);
tile!(Tile9: 9: 0 1 2 3 4 5 6 7 8);
tile!(Tile10: 10: 0 1 2 3 4 5 6 7 8 9);
tile!(Tile11: 11: 0 1 2 3 4 5 6 7 8 9 10);
tile!(Tile12: 12: 0 1 2 3 4 5 6 7 8 9 10 11);

/// Computes one row of outputs for a block of `NV` vectors.
///
/// # Safety
/// The instruction set of `S` must be enabled, and the pointers of `r` valid for `w` outputs.
#[inline(always)]
unsafe fn row_of<S: Simd, const NV: usize>(r: &Row) {
    let most = S::TILE_PX[NV - 1];
    // Tiles as equal as possible: a narrow last tile would wait on its own sums.
    let tiles = r.w.div_ceil(most);
    let (small, larger) = (r.w / tiles.max(1), r.w % tiles.max(1));
    let mut x = 0;
    for i in 0..tiles {
        let p = small + usize::from(i < larger);
        macro_rules! of {
            ($($n:literal $tile:ident)*) => {
                match p {
                    // SAFETY: the caller's promise; the tiles add up to w.
                    $($n if $n <= S::TILE_PX[NV - 1] => unsafe { S::outline($tile::<NV>(r, x)) },)*
                    _ => unreachable!("a tile is at most {most} pixels wide"),
                }
            };
        }
        of!(1 Tile1 2 Tile2 3 Tile3 4 Tile4 5 Tile5 6 Tile6
            7 Tile7 8 Tile8 9 Tile9 10 Tile10 11 Tile11 12 Tile12);
        x += p;
    }
}

/// Computes one row of outputs for a block of `vectors` (1 to 3) vectors of channels.
///
/// # Safety
/// The instruction set of `S` must be enabled, and the pointers of `r` valid for `w` outputs.
#[inline(always)]
pub(super) unsafe fn row<S: Simd>(vectors: usize, r: &Row) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        match vectors {
            1 => row_of::<S, 1>(r),
            2 => row_of::<S, 2>(r),
            3 => row_of::<S, 3>(r),
            _ => unreachable!("blocks have 1 to 3 vectors"),
        }
    }
}
