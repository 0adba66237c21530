//! The end of the network on the device: picture from stored outputs, or together with the last transposed convolution;
//! see [`crate::ops::fusion`] and, for the flows refined before, [`crate::ops::refine`].

use std::sync::Arc;

use super::deconv::PackedDeconv;
use super::driver::{DeviceError, Driver, Launch, Parameters};
use super::flow::{GATHER_THREADS, earlier_params, gather_grid, mask_sum};
use super::params::{DeconvFusionParams, Earlier, FusionParams, RefineParams};
use super::tensor::Tensor;
use crate::config::settings::Sampling;
use crate::ops::deconv::Shuffle;
use crate::ops::flow::{BlockOutput, MaskRule};
use crate::ops::head::record_channels;
use crate::ops::refine::CELL;

/// Everything the pictures are made from but the output of the last block, for `n` pictures of one size.
#[derive(Clone, Copy, Debug)]
pub struct Frames<'a> {
    /// Address of `n` [`super::params::View`]s in device memory.
    pub views: u64,
    /// Pictures of the batch.
    pub n: usize,
    /// Rows and columns of the padded picture.
    pub full: [usize; 2],
    /// Rows and columns of the picture.
    pub frame: [usize; 2],
    /// Feature channels in a record: 0, 4, 8 or 16.
    pub features: usize,
    /// Outputs of all blocks but the last, each of all `n` pictures.
    pub earlier: &'a [BlockOutput<'a, Tensor>],
    /// How mask logits combine.
    pub mask: MaskRule,
    /// How the frames are read.
    pub sampling: Sampling,
    /// Whether the flows are refined.
    pub refine: bool,
    /// Picture pixels for each pixel of the last block's output.
    pub factor: f32,
}

impl Frames<'_> {
    fn params(&self, outputs: &[BlockOutput<'_, Tensor>], image: u64) -> FusionParams {
        let fits = self.frame[0] <= self.full[0] && self.frame[1] <= self.full[1];
        assert!(fits, "a picture within its padding");
        FusionParams {
            views: self.views,
            earlier: earlier_params(self.n, self.full, outputs),
            refined: [Earlier::default()],
            image,
            earlier_count: outputs.len() as i32,
            mask_sum: mask_sum(self.mask),
            full_h: self.full[0] as i32,
            full_w: self.full[1] as i32,
            frame_h: self.frame[0] as i32,
            frame_w: self.frame[1] as i32,
            record: record_channels(self.features) as i32,
            refined_count: 0,
        }
    }

    fn reshape(&self, driver: &Arc<dyn Driver>, image: &mut Tensor) -> Result<(), DeviceError> {
        image.reshape(driver, [self.n, self.frame[0], self.frame[1], 3], 4)
    }
}

/// What the end of the network keeps on the device.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The last block's output, where it is stored.
    whole: Tensor,
    sums: Tensor,
    refined: Tensor,
}

/// Rows and columns of cells that a block of threads sums, and its threads.
const SUMMED: [usize; 2] = [4, 8];
const SUM_THREADS: [u32; 3] = [128, 1, 1];
/// Memory of a cell's sums, in halves.
const SUMS_STORED: usize = 16;

/// What refines the flows, into `refined`, as a block output without a mask; `last` is the output of the last block.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn refine(
    driver: &Arc<dyn Driver>,
    frames: &Frames<'_>,
    last: &Tensor,
    sums: &mut Tensor,
    refined: &mut Tensor,
) -> Result<(), DeviceError> {
    let [h, w] = frames.full.map(|n| n / CELL);
    assert_eq!([CELL * h, CELL * w], frames.full, "whole cells");
    let cells = frames.frame.map(|n| n.div_ceil(CELL));
    sums.reshape(driver, [frames.n, cells[0], cells[1], SUMS_STORED], SUMS_STORED)?;
    refined.reshape_output(driver, [frames.n, h, w], 0)?;
    let mut outputs = frames.earlier.to_vec();
    outputs.push(BlockOutput { tensor: last, factor: frames.factor });
    let params = RefineParams {
        fusion: frames.params(&outputs, 0),
        sums: sums.address(),
        flow: refined.address(),
        mask: refined.mask_address(),
    };
    let [down, across] = SUMMED;
    let grid = [cells[1].div_ceil(across) as u32, cells[0].div_ceil(down) as u32, frames.n as u32];
    driver.launch(&Launch {
        kernel: "refine_sums",
        grid,
        block: SUM_THREADS,
        shared_bytes: 0,
        params: params.as_bytes(),
    })?;
    driver.launch(&Launch {
        kernel: "refine_shifts",
        grid: gather_grid(frames.n, [h, w]),
        block: GATHER_THREADS,
        shared_bytes: 0,
        params: params.as_bytes(),
    })
}

/// Pictures `[n, frame_h, frame_w, 4]` into `image`; `last` is the output of the last block, and `refined`, if anything, what
/// [`refine`] made.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn fusion(
    driver: &Arc<dyn Driver>,
    frames: &Frames<'_>,
    last: &Tensor,
    refined: Option<&Tensor>,
    image: &mut Tensor,
) -> Result<(), DeviceError> {
    frames.reshape(driver, image)?;
    let mut outputs = frames.earlier.to_vec();
    outputs.push(BlockOutput { tensor: last, factor: frames.factor });
    let mut params = frames.params(&outputs, image.address());
    if let Some(tensor) = refined {
        let output = BlockOutput { tensor, factor: CELL as f32 };
        params.refined = earlier_params(frames.n, frames.full, &[output]);
        params.refined_count = 1;
    }
    driver.launch(&Launch {
        kernel: match frames.sampling {
            Sampling::Bilinear => "fusion",
            Sampling::Bicubic => "fusion_cubic",
        },
        grid: gather_grid(frames.n, frames.frame),
        block: GATHER_THREADS,
        shared_bytes: 0,
        params: params.as_bytes(),
    })
}

/// Rows and columns of an input tile of the fused kernel.
const TILE: [usize; 2] = [8, 16];
/// Output channels it makes: flow, mask and padding for each of the shuffle's four pixels.
const FUSED_CHANNELS: usize = 32;
/// Input channels that its halo tile has room for.
const IN_CHANNELS_MAX: usize = 64;

/// Halo tile of all chunks of 16 channels, weights of two phases, flow and mask of two phases, as in
/// `kernels/deconv_fusion.cu`.
fn shared_bytes(in_channels: usize) -> u32 {
    let halo = ((TILE[0] + 2) * (TILE[1] + 2) * 32).next_multiple_of(128);
    let weights = 2 * 4 * 32 * FUSED_CHANNELS;
    let staged = TILE[0] * TILE[1] * 8 * 20;
    (in_channels / 16 * (halo + weights) + staged) as u32
}

/// Dynamic shared memory of a block of `deconv_fusion`, in bytes: for 16 input channels, for 32, to the most that it serves.
#[must_use]
pub fn fused_shared_bytes() -> Vec<usize> {
    (1..=IN_CHANNELS_MAX / 16).map(|chunks| shared_bytes(16 * chunks) as usize).collect()
}

/// The last block's transposed convolution of `input` and the pictures. The output is stored in `scratch` only where the
/// fused kernel does not serve: where it is not at full resolution, too wide or not shuffled, or where the flows are refined,
/// for which all of it has to be there.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn deconv_fusion(
    driver: &Arc<dyn Driver>,
    deconv: &PackedDeconv,
    input: &Tensor,
    frames: &Frames<'_>,
    scratch: &mut Scratch,
    image: &mut Tensor,
) -> Result<(), DeviceError> {
    let Scratch { whole: last, sums, refined } = scratch;
    let whole = [4 * input.h, 4 * input.w] == frames.full;
    let serves = whole
        && !frames.refine
        && deconv.shuffle() == Shuffle::ByTwo
        && deconv.nb() == FUSED_CHANNELS
        && input.stored <= IN_CHANNELS_MAX
        && shared_bytes(input.stored) <= driver.description().shared_bytes;
    if !serves {
        deconv.run(driver, input, last)?;
        if frames.refine {
            refine(driver, frames, last, sums, refined)?;
        }
        return fusion(driver, frames, last, frames.refine.then_some(&*refined), image);
    }
    assert_eq!((input.n, input.stored), (frames.n, deconv.cin()), "input");
    frames.reshape(driver, image)?;
    let params = DeconvFusionParams {
        fusion: frames.params(frames.earlier, image.address()),
        src: input.address(),
        weights: deconv.weights_address(),
        bias: deconv.bias_address(),
        h: input.h as i32,
        w: input.w as i32,
        cin: input.stored as i32,
        unused: 0,
    };
    let (rows, columns) = (frames.frame[0].div_ceil(4), frames.frame[1].div_ceil(4));
    driver.launch(&Launch {
        kernel: match frames.sampling {
            Sampling::Bilinear => "deconv_fusion",
            Sampling::Bicubic => "deconv_fusion_cubic",
        },
        grid: [columns.div_ceil(TILE[1]) as u32, rows.div_ceil(TILE[0]) as u32, frames.n as u32],
        block: [128, 1, 1],
        shared_bytes: shared_bytes(input.stored),
        params: params.as_bytes(),
    })
}
