//! 3x3 convolutions, stride 1 and 2, with residual and activation in the store.
#![expect(
    unsafe_code,
    reason = "entry of the vector kernels; `check` and the loops keep every row inside"
)]

use std::ops::Range;

use super::instructions::Kernels;
use super::narrow;
use super::pack::{Block, Packed};
use super::paired;
use super::simd::Simd;
use super::tensor::Tensor;
use super::threads::{Scratch, Shared, Threads};
use super::tile::{self, Residual, Row};
use super::winograd;

/// Bytes of input and output that a task should stay within: half of a common second-level cache.
const TASK_BYTES: usize = 256 << 10;

/// A 3x3 convolution with zero padding of 1.
#[derive(Clone, Debug)]
pub struct Conv {
    packed: Packed,
    /// Of each block, the weights in pairs of inputs, where vectors of 16 lanes would be half empty.
    pairs: Vec<Vec<f32>>,
    stride: usize,
    method: Method,
}

/// How a convolution is computed, and what its packed weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// As it is written down: weights by tap.
    Direct,
    /// In transformed tiles: weights by coordinate.
    Winograd,
    /// The same for 16 channels.
    Narrow,
}

/// What is added to a convolution's result.
#[derive(Clone, Copy)]
pub enum Add<'a> {
    /// Nothing.
    Nothing,
    /// A tensor of the output's shape, before the activation.
    BeforeActivation(&'a Tensor),
}

impl<'a> Add<'a> {
    /// Whether something is added, and its values.
    #[inline(always)]
    pub(super) fn parts(&self) -> (Residual, &'a [f32]) {
        match *self {
            Add::Nothing => (Residual::None, &[]),
            Add::BeforeActivation(tensor) => (Residual::Added, tensor.values()),
        }
    }
}

/// Where the weights of a convolution come from.
pub struct Parameters<'a> {
    /// `[cout, cin, 3, 3]`.
    pub weight: &'a [f32],
    /// `[cout]`.
    pub bias: &'a [f32],
    /// Factor on negative sums: `[cout]`, or one for all.
    pub slope: &'a [f32],
    /// Which weight channel each input channel of the kernel has, in its order; `None` for channels not used.
    pub input_order: &'a [Option<usize>],
    /// 1 or 2.
    pub stride: usize,
}

/// One convolution over whole tensors, for the entry functions.
pub(super) struct ConvJob<'a> {
    pub packed: &'a Packed,
    pub stride: usize,
    pub src: &'a Tensor,
    pub residual_at: Residual,
    pub residual: &'a [f32],
    pub dst: Shared<'a>,
    pub dst_w: usize,
}

/// The rows `rows` of the blocks `blocks` of a convolution.
///
/// # Safety
/// The instruction set of `S` is enabled; shapes fit (`Conv::run` checks); no other thread touches these outputs.
#[inline(always)]
pub(super) unsafe fn conv<S: Simd>(job: &ConvJob<'_>, rows: Range<usize>, blocks: Range<usize>) {
    let (packed, src) = (job.packed, job.src);
    let out_step = packed.padded;
    let dst_row = (job.dst_w + 2) * out_step;
    for block in &packed.blocks[blocks] {
        for y in rows.clone() {
            let input =
                |ty: usize| src.values()[(y * job.stride + ty) * src.row_stride()..].as_ptr();
            let at = (y + 1) * dst_row + out_step + block.first;
            let row = Row {
                rows: [input(0), input(1), input(2)],
                taps: 3,
                px: src.stride,
                step: src.stride * job.stride,
                cin: packed.cin,
                weights: packed.weights[block.offset..].as_ptr(),
                bias: packed.bias[block.first..].as_ptr(),
                slope: packed.slope[block.first..].as_ptr(),
                residual_at: job.residual_at,
                residual: job.residual.as_ptr().wrapping_add(at),
                residual_step: out_step,
                out: job.dst.at(at),
                out_step,
                w: job.dst_w,
            };
            // SAFETY: the row's windows lie within the bordered source, its outputs within the destination.
            unsafe { row_of_lanes::<S>(packed.lanes, block.vectors, &row) };
        }
    }
}

/// Runs a row with the vector width that its weights are packed for.
///
/// # Safety
/// As [`tile::row`]; `lanes` is that of `S` or 8.
#[inline(always)]
pub(super) unsafe fn row_of_lanes<S: Simd>(lanes: usize, vectors: usize, row: &Row) {
    // SAFETY: the caller's promise is the same; every set includes its 8-lane form.
    unsafe {
        if lanes == S::LANES {
            tile::row::<S>(vectors, row);
        } else {
            tile::row::<S::Eight>(vectors, row);
        }
    }
}

impl Conv {
    /// Packs weights for vectors of `lanes`.
    ///
    /// # Panics
    /// Where the lengths do not fit each other.
    #[must_use]
    pub fn new(lanes: usize, given: &Parameters<'_>) -> Self {
        let cout = given.bias.len();
        assert!(
            cout > 0 && given.weight.len().is_multiple_of(cout * 9),
            "weights do not fit the bias"
        );
        let cin = given.weight.len() / (cout * 9);
        assert!(
            given.input_order.iter().flatten().all(|&c| c < cin),
            "input order names a missing channel"
        );
        assert!(given.stride == 1 || given.stride == 2, "stride {}", given.stride);
        assert!(given.slope.len() == 1 || given.slope.len() == cout, "slopes do not fit the bias");
        let weight = |co: usize, tap: usize, ci: usize| match given.input_order[ci] {
            Some(from) if co < cout => given.weight[(co * cin + from) * 9 + tap],
            _ => 0.0,
        };
        let bias = |co: usize| if co < cout { given.bias[co] } else { 0.0 };
        let slope = |co: usize| *given.slope.get(co).or(given.slope.first()).unwrap_or(&1.0);
        let (depth, padded) = (given.input_order.len(), cout.next_multiple_of(8));
        let pack = |taps, weight: &dyn Fn(usize, usize, usize) -> f32| {
            Packed::new((taps, depth, cout), (padded, padded), lanes, weight, bias, slope)
        };
        let method = match given.stride {
            1 if narrow::fits(depth, cout) => Method::Narrow,
            1 if winograd::pays(depth, cout) => Method::Winograd,
            _ => Method::Direct,
        };
        let packed = match method {
            Method::Direct => pack(9, &weight),
            Method::Winograd | Method::Narrow => pack(winograd::COORDINATES, &|co, at, ci| {
                winograd::kernel_coordinate(at, |tap| weight(co, tap, ci))
            }),
        };
        let halved = method == Method::Direct && given.stride == 2 && packed.lanes < lanes;
        let paired = |block: &Block| {
            paired::pack((3, 3 * depth, block.vectors * packed.lanes), |row, input, channel| {
                weight(block.first + channel, 3 * row + input / depth, input % depth)
            })
        };
        let pairs = packed.blocks.iter().filter(|_| halved).map(paired).collect();
        Self { packed, pairs, stride: given.stride, method }
    }

    /// The weights by tap.
    ///
    /// # Panics
    /// Where they are packed otherwise; those of stride 2 never are.
    pub(super) fn packed(&self) -> &Packed {
        assert_eq!(self.method, Method::Direct, "weights by tap");
        &self.packed
    }

    /// The weights of a block in pairs of inputs, where that is the faster way for inputs that follow each other.
    pub(super) fn pairs(&self, block: usize) -> Option<&[f32]> {
        self.pairs.get(block).map(Vec::as_slice)
    }

    /// The weights by coordinate, for tiles of 16 channels.
    ///
    /// # Panics
    /// Where they are packed otherwise.
    pub(super) fn coordinates(&self) -> &Packed {
        assert!(self.is_narrow(), "weights by coordinate");
        &self.packed
    }

    /// Whether it is computed in transformed tiles of 16 channels.
    pub(super) fn is_narrow(&self) -> bool {
        self.method == Method::Narrow
    }

    /// Channels read and made.
    pub(super) fn shape(&self) -> (usize, usize) {
        (self.packed.cin, self.packed.cout)
    }

    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// `dst = activation(conv(src) + added)`; `dst` takes the shape of the result.
    ///
    /// # Panics
    /// Where `src` has fewer channels than the weights read, or the added tensor another shape.
    pub(super) fn run(
        &self,
        (kernels, threads, scratch): (&Kernels, &Threads, &Scratch),
        (src, added): (&Tensor, Add<'_>),
        dst: &mut Tensor,
    ) {
        let packed = &self.packed;
        assert!(packed.cin <= src.stride, "{} channels are read of {}", packed.cin, src.stride);
        let (h, w) = (src.h.div_ceil(self.stride), src.w.div_ceil(self.stride));
        dst.resize(h, w, packed.cout);
        if let Add::BeforeActivation(it) = added {
            assert!(
                (it.h, it.w, it.stride) == (h, w, dst.stride),
                "the added tensor has another shape"
            );
        }
        let parts = (kernels, threads, scratch);
        match self.method {
            Method::Direct => {}
            Method::Winograd => return winograd::run(packed, parts, (src, added), dst),
            Method::Narrow => return narrow::run(packed, parts, (src, added), dst),
        }
        let (residual_at, residual) = added.parts();
        let job = ConvJob {
            packed,
            stride: self.stride,
            src,
            residual_at,
            residual,
            dst: Shared::new(dst.values_mut()),
            dst_w: w,
        };
        let (band, split) = partition(packed, threads.count(), h, src.row_stride() * self.stride);
        let bands = h.div_ceil(band);
        let groups = packed.blocks.len().div_ceil(split);
        threads.each(bands * groups, |task| {
            // Neighboring tasks share their weights.
            let (group, index) = (task / bands, task % bands);
            let rows = index * band..((index + 1) * band).min(h);
            let blocks = group * split..((group + 1) * split).min(packed.blocks.len());
            // SAFETY: the kernels were chosen for this processor; shapes were checked above, tasks are disjoint.
            unsafe { (kernels.conv)(&job, rows, blocks) };
        });
    }
}

/// Rows and blocks of a task: all blocks of a few rows where there are rows enough, else single blocks.
fn partition(packed: &Packed, threads: usize, h: usize, row_len: usize) -> (usize, usize) {
    let wished = threads * 4;
    let fitting = (TASK_BYTES / (row_len * size_of::<f32>()).max(1)).max(1);
    let band = h.div_ceil(wished).min(fitting).max(1);
    let weights_bytes = packed.weights.len() * size_of::<f32>();
    if weights_bytes <= TASK_BYTES {
        return (band, packed.blocks.len());
    }
    // Weights beyond the cache: a task reads one block's only, over as many rows as balance allows.
    let bands = wished.div_ceil(packed.blocks.len()).max(1);
    (h.div_ceil(bands).max(1), 1)
}
