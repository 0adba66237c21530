//! Transposed 4x4 convolution of stride 2, the pixel shuffle done by the order of its output channels.
#![expect(unsafe_code, reason = "entry of the vector kernels; the launcher checks shapes")]

use std::ops::Range;

use super::conv::row_of_lanes;
use super::instructions::Kernels;
use super::pack::Packed;
use super::simd::Simd;
use super::tensor::Tensor;
use super::threads::{Shared, Threads};
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
    /// Weights of the four parities, `2 * (y % 2) + x % 2`.
    phases: [Packed; 4],
    shuffle: Shuffle,
    channels: usize,
}

/// One transposed convolution, for the entry functions. Rows are those of the source.
pub(super) struct DeconvJob<'a> {
    pub deconv: &'a Deconv,
    pub src: &'a Tensor,
    /// Destination of output row 0 of source row `dst_first`, from pixel 0.
    pub dst: Shared<'a>,
    pub dst_first: usize,
    pub dst_row: usize,
    /// Whether the destination's present values are added (features beside the picture in its record).
    pub residual_at: Residual,
}

/// The outputs of source rows `rows`.
///
/// # Safety
/// The instruction set of `S` is enabled; shapes fit; no other thread touches these outputs.
#[inline(always)]
pub(super) unsafe fn deconv<S: Simd>(job: &DeconvJob<'_>, rows: Range<usize>) {
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
                let row_out = (y - job.dst_first) * factor + py * factor / 2 + i;
                let at = row_out * job.dst_row + px_odd * row_len + within;
                let out = job.dst.at(at);
                let input = |ty: usize| {
                    src.values()[(y + py + ty) * src.row_stride() + px_odd * src.stride..].as_ptr()
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
                    w: src.w,
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
        let phases = [0, 1, 2, 3].map(|phase| {
            let weight = |co: usize, tap: usize, ci: usize| {
                // Output parity p reads input offset p - 1 + t with kernel index 3 - p - 2t.
                let (ky, kx) = (3 - phase / 2 - 2 * (tap / 2), 3 - phase % 2 - 2 * (tap % 2));
                from(co).map_or(0.0, |co| given.weight[((ci * cout + co) * 4 + ky) * 4 + kx])
            };
            let bias = |co: usize| from(co).map_or(0.0, |co| given.bias[co]);
            Packed::new((4, cin, cout), (parts, parts.min(2 * px)), lanes, weight, bias, |_| 1.0)
        });
        Self { phases, shuffle: given.shuffle, channels }
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

    pub(super) fn check(&self, src: &Tensor) {
        let cin = self.phases[0].cin;
        assert!(cin <= src.stride, "{cin} channels are read of {}", src.stride);
    }

    /// `dst = deconv(src)`; `dst` takes the shape of the result.
    ///
    /// # Panics
    /// Where `src` has fewer channels than the weights read.
    pub(super) fn run(&self, kernels: &Kernels, threads: &Threads, src: &Tensor, dst: &mut Tensor) {
        dst.resize(src.h * self.factor(), src.w * self.factor(), self.channels);
        self.launch(kernels, threads, src, (dst, Residual::None));
    }

    /// `dst += deconv(src)`, over records of 8 values.
    ///
    /// # Panics
    /// Where the shapes do not fit.
    pub(super) fn run_adding(
        &self,
        kernels: &Kernels,
        threads: &Threads,
        src: &Tensor,
        dst: &mut Tensor,
    ) {
        let shape =
            (src.h * self.factor(), src.w * self.factor(), self.channels.next_multiple_of(8));
        assert!((dst.h, dst.w, dst.stride) == shape, "the destination has another shape");
        self.launch(kernels, threads, src, (dst, Residual::Added));
    }

    fn launch(
        &self,
        kernels: &Kernels,
        threads: &Threads,
        src: &Tensor,
        (dst, residual_at): (&mut Tensor, Residual),
    ) {
        self.check(src);
        let (dst_row, origin) = (dst.row_stride(), dst.at(0, 0));
        let row_bytes = self.factor() * dst_row * size_of::<f32>();
        let dst = Shared::new(&mut dst.values_mut()[origin..]);
        let job = DeconvJob { deconv: self, src, dst, dst_first: 0, dst_row, residual_at };
        let fitting = (TASK_BYTES / row_bytes.max(1)).max(1);
        let band = src.h.div_ceil(threads.count() * 4).min(fitting).max(1);
        threads.each(src.h.div_ceil(band), |task| {
            let rows = task * band..((task + 1) * band).min(src.h);
            // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
            unsafe { (kernels.deconv)(&job, rows) };
        });
    }
}
