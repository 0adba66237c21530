//! Transposed 4x4 convolution of stride 2, the pixel shuffle done by the order of its output channels.
#![expect(unsafe_code, reason = "entry of the vector kernels; the launcher checks shapes")]

use std::ops::Range;

use super::conv::row_of_lanes;
use super::deconv_tiles;
use super::instructions::Kernels;
use super::pack::Packed;
use super::simd::Simd;
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::{Residual, Row};

/// Bytes of input and output that a task should stay within.
const TASK_BYTES: usize = 256 << 10;

/// What a transposed convolution's channels mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Channels stay channels: the output has twice the size.
    None,
    /// Followed by `PixelShuffle(2)`: channel `4c + 2i + j` becomes channel `c` at (`2y + i`, `2x + j`), and the
    /// output has four times the size.
    Two,
}

/// Where the weights of a transposed convolution come from.
pub struct Parameters<'a> {
    /// `[cin, cout, 4, 4]`.
    pub weight: &'a [f32],
    /// `[cout]`.
    pub bias: &'a [f32],
    /// What the channels mean.
    pub shuffle: Shuffle,
    /// Channels of the result (after the shuffle) to compute, in their order; others are dead.
    pub output_order: &'a [Option<usize>],
}

/// `ConvTranspose2d(cin, cout, 4, 2, 1)`: each output pixel sees 2x2 of the 4x4 taps, which ones tells its parity.
#[derive(Clone, Debug)]
pub struct Deconv {
    /// Weights of the four parities, `2 * (y % 2) + x % 2`: by tap, or by coordinate where it is computed `in_tiles`.
    phases: [Packed; 4],
    in_tiles: bool,
    shuffle: Shuffle,
    channels: usize,
}

/// One transposed convolution, for the entry functions. Rows and columns are those of the source.
#[derive(Clone, Copy)]
pub(super) struct DeconvJob<'a> {
    pub deconv: &'a Deconv,
    pub src: &'a Tensor,
    /// Where the first output of source row and column `dst_first` goes.
    pub dst: Shared<'a>,
    pub dst_first: (usize, usize),
    pub dst_row: usize,
    /// Whether the destination's present values are added (features beside the picture in its record).
    pub residual_at: Residual,
}

/// The outputs of source rows `rows` and columns `columns`.
///
/// # Safety
/// The instruction set of `S` is enabled; shapes fit; `scratch` has the length that [`Deconv::scratch_len`] says; no
/// other thread touches these outputs.
#[inline(always)]
pub(super) unsafe fn deconv<S: Simd>(
    job: &DeconvJob<'_>,
    rows: Range<usize>,
    columns: Range<usize>,
    scratch: &mut [f32],
) {
    // SAFETY: the caller's promise is the same.
    unsafe {
        if job.deconv.in_tiles {
            deconv_tiles::deconv::<S>(job, rows, columns, scratch);
        } else {
            by_taps::<S>(job, rows, columns);
        }
    }
}

/// The same as it is written down.
///
/// # Safety
/// As [`deconv`].
#[inline(always)]
unsafe fn by_taps<S: Simd>(job: &DeconvJob<'_>, rows: Range<usize>, columns: Range<usize>) {
    let src = job.src;
    let factor = job.deconv.factor();
    let px = job.deconv.channels.next_multiple_of(8);
    for (phase, packed) in job.deconv.phases.iter().enumerate() {
        let (py, px_odd) = (phase / 2, phase % 2);
        for block in &packed.blocks {
            // Blocks run through the channels of one output row: with the shuffle two pixels a row, two rows.
            let row_len = px * factor / 2;
            let (i, within) = (block.first / row_len, block.first % row_len);
            for y in rows.clone() {
                let row_out = (y - job.dst_first.0) * factor + py * factor / 2 + i;
                let column_out = (columns.start - job.dst_first.1) * factor * px;
                let out =
                    job.dst.at(row_out * job.dst_row + column_out + px_odd * row_len + within);
                let input = |ty: usize| {
                    let pixel = (y + py + ty) * (src.w + 2) + columns.start + px_odd;
                    src.values()[pixel * src.stride..].as_ptr()
                };
                let row = Row {
                    rows: [input(0), input(1), input(1)],
                    taps: 2,
                    px: src.stride,
                    step: src.stride,
                    cin: packed.cin,
                    weights: packed.weights[block.offset..].as_ptr(),
                    bias: packed.bias[block.first..].as_ptr(),
                    slope: packed.slope[block.first..].as_ptr(),
                    residual_at: job.residual_at,
                    residual: out.cast_const(),
                    residual_step: factor * px,
                    out,
                    out_step: factor * px,
                    w: columns.len(),
                };
                // SAFETY: the windows lie within the bordered source, the outputs within the destination.
                unsafe { row_of_lanes::<S>(packed.lanes, block.vectors, &row) };
            }
        }
    }
}

impl Deconv {
    /// Packs weights for vectors of `lanes`.
    ///
    /// # Panics
    /// Where the lengths do not fit each other.
    #[must_use]
    pub fn new(lanes: usize, given: &Parameters<'_>) -> Self {
        let cout = given.bias.len();
        assert!(
            cout > 0 && given.weight.len().is_multiple_of(cout * 16),
            "weights do not fit the bias"
        );
        let cin = given.weight.len() / (cout * 16);
        let channels = given.output_order.len();
        let px = channels.next_multiple_of(8);
        let (parts, sub) = match given.shuffle {
            Shuffle::None => (px, 1),
            Shuffle::Two => (4 * px, 4),
        };
        let known = |c: &usize| *c < cout / sub;
        assert!(
            given.output_order.iter().flatten().all(known),
            "output order names a missing channel"
        );
        // Kernel channel (i, j, c) is weight channel 4c + 2i + j.
        let from = |co: usize| {
            let channel = given.output_order.get(co % px).copied().flatten()?;
            Some(channel * sub + co / px)
        };
        let in_tiles = deconv_tiles::pays(cin, given.shuffle);
        let phases = [0, 1, 2, 3].map(|phase| {
            let weight = |co: usize, tap: usize, ci: usize| {
                // Output parity p reads input offset p - 1 + t with kernel index 3 - p - 2t.
                let (ky, kx) = (3 - phase / 2 - 2 * (tap / 2), 3 - phase % 2 - 2 * (tap % 2));
                from(co).map_or(0.0, |co| given.weight[((ci * cout + co) * 4 + ky) * 4 + kx])
            };
            let bias = |co: usize| from(co).map_or(0.0, |co| given.bias[co]);
            let size = (parts, parts.min(2 * px));
            if in_tiles {
                let weight = |co: usize, at: usize, ci: usize| {
                    deconv_tiles::kernel(phase, at, |tap| weight(co, tap, ci))
                };
                let shape = (deconv_tiles::COORDINATES, cin, cout);
                return Packed::new(shape, size, lanes, weight, bias, |_| 1.0);
            }
            Packed::new((4, cin, cout), size, lanes, weight, bias, |_| 1.0)
        });
        Self { phases, in_tiles, shuffle: given.shuffle, channels }
    }

    /// How much larger than the source the result is.
    #[must_use]
    pub fn factor(&self) -> usize {
        match self.shuffle {
            Shuffle::None => 2,
            Shuffle::Two => 4,
        }
    }

    /// Channels of the result.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Weights of the four parities.
    pub(super) fn phases(&self) -> &[Packed; 4] {
        &self.phases
    }

    /// Values of memory that a task of `columns` source columns needs.
    pub(super) fn scratch_len(&self, columns: usize) -> usize {
        if self.in_tiles { deconv_tiles::scratch_len(&self.phases[0], columns) } else { 0 }
    }

    pub(super) fn check(&self, src: &Tensor) {
        let cin = self.phases[0].cin;
        assert!(cin <= src.stride, "{cin} channels are read of {}", src.stride);
    }

    /// `dst = deconv(src)`; `dst` takes the shape of the result.
    ///
    /// # Panics
    /// Where `src` has fewer channels than the weights read.
    pub(super) fn run(
        &self,
        parts: (&Kernels, &Threads, &Scratch),
        src: &Tensor,
        dst: &mut Tensor,
    ) {
        dst.resize(src.h * self.factor(), src.w * self.factor(), self.channels);
        self.launch(parts, src, (dst, Residual::None));
    }

    /// `dst += deconv(src)`, over records of 8 values.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub(super) fn run_adding(
        &self,
        parts: (&Kernels, &Threads, &Scratch),
        src: &Tensor,
        dst: &mut Tensor,
    ) {
        assert!(!self.in_tiles, "outputs of tiles are stored, not added");
        let shape =
            (src.h * self.factor(), src.w * self.factor(), self.channels.next_multiple_of(8));
        assert!((dst.h, dst.w, dst.stride) == shape, "the destination has another shape");
        self.launch(parts, src, (dst, Residual::Added));
    }

    fn launch(
        &self,
        (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
        src: &Tensor,
        (dst, residual_at): (&mut Tensor, Residual),
    ) {
        self.check(src);
        let (dst_row, origin) = (dst.row_stride(), dst.at(0, 0));
        let row_bytes = self.factor() * dst_row * size_of::<f32>();
        let dst = Shared::new(&mut dst.values_mut()[origin..]);
        let job = DeconvJob { deconv: self, src, dst, dst_first: (0, 0), dst_row, residual_at };
        let (band, run) = if self.in_tiles {
            deconv_tiles::partition(&self.phases[0], src.w)
        } else {
            let fitting = (TASK_BYTES / row_bytes.max(1)).max(1);
            (src.h.div_ceil(threads.count() * 4).min(fitting).max(1), src.w.max(1))
        };
        let across = src.w.div_ceil(run);
        threads.each(src.h.div_ceil(band) * across, |task| {
            let (row, column) = (task / across * band, task % across * run);
            let (rows, columns) = (row..(row + band).min(src.h), column..(column + run).min(src.w));
            scratch.with(self.scratch_len(run), |own| {
                // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
                unsafe { (kernels.deconv)(&job, rows, columns, own) };
            });
        });
    }
}
