//! The one register-blocked inner loop of all convolutions: a few pixels by a few vectors of output channels.
#![expect(unsafe_code, reason = "vector instructions over raw rows; launchers check the shapes")]

use super::simd::Simd;

/// When a residual is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Residual {
    /// Not at all.
    None,
    /// To the sum, before the activation.
    BeforeActivation,
    /// To the activated value.
    AfterActivation,
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
    /// When the residual is added.
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

/// Repeats a block with a constant index below a constant bound (12 at most), so that arrays stay in registers.
macro_rules! unroll {
    ($i:ident < $bound:expr => $body:block) => {
        unroll!(@ $i $bound, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $i:ident $bound:expr, $body:block, $($n:literal)*) => {
        $(if $n < $bound { const { assert!($bound <= 12) }; let $i: usize = $n; $body })*
    };
}

/// Computes `P` outputs from `x` on, `NV` vectors of channels each.
///
/// # Safety
/// As [`row`]; `x + P <= w`.
#[inline(always)]
unsafe fn tile<S: Simd, const NV: usize, const P: usize>(r: &Row, x: usize) {
    // SAFETY: the caller vouches for every pointer of the row over w outputs, and x + P <= w.
    unsafe {
        let mut acc = [[S::splat(0.0); NV]; P];
        unroll!(n < NV => {
            let bias = S::load(r.bias.add(n * S::LANES));
            unroll!(p < P => { acc[p][n] = bias; });
        });
        // Neighboring pixels without padding between them make the taps of a row one run.
        let (runs, len) = if r.px == r.cin { (1, r.taps * r.cin) } else { (r.taps, r.cin) };
        let (mut k, step) = (r.weights, r.step);
        for ty in 0..r.taps {
            for run in 0..runs {
                // One pointer serves three pixels: an index of once and twice the step is part of an address.
                let mut from = [r.rows[ty].add(x * step + run * r.px); 4];
                unroll!(i < 4 => { from[i] = from[i].wrapping_add(3 * i * step); });
                for _ in 0..len {
                    let mut w = [S::splat(0.0); NV];
                    unroll!(n < NV => { w[n] = S::load(k.add(n * S::LANES)); });
                    unroll!(p < P => {
                        let v = S::splat(*from[p / 3].add(p % 3 * step));
                        unroll!(n < NV => { acc[p][n] = S::mul_add(v, w[n], acc[p][n]); });
                    });
                    k = k.add(NV * S::LANES);
                    unroll!(i < 4 => { from[i] = from[i].wrapping_add(1); });
                }
            }
        }
        let zero = S::splat(0.0);
        unroll!(n < NV => {
            let slope = S::load(r.slope.add(n * S::LANES));
            unroll!(p < P => {
                let residual = r.residual.wrapping_add((x + p) * r.residual_step + n * S::LANES);
                let mut v = acc[p][n];
                if r.residual_at == Residual::BeforeActivation {
                    v = S::add(v, S::load(residual));
                }
                v = S::mul_add(slope, S::min(zero, v), S::max(zero, v));
                if r.residual_at == Residual::AfterActivation {
                    v = S::add(v, S::load(residual));
                }
                S::store(r.out.add((x + p) * r.out_step + n * S::LANES), v);
            });
        });
    }
}

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
            ($($n:literal)*) => {
                match p {
                    // SAFETY: the caller's promise; the tiles add up to w.
                    $($n if $n <= most => unsafe { tile::<S, NV, $n>(r, x) },)*
                    _ => unreachable!("a tile is at most {most} pixels wide"),
                }
            };
        }
        of!(1 2 3 4 5 6 7 8 9 10 11 12);
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
