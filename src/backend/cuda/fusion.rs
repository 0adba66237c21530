//! The end of the network on the device: picture from stored outputs, or together with the last transposed convolution;
//! see [`crate::ops::fusion`].

use std::sync::Arc;

use super::deconv::PackedDeconv;
use super::driver::{DeviceError, Driver, Launch, Parameters};
use super::flow::{GATHER_THREADS, earlier_params, gather_grid, mask_sum};
use super::params::{DeconvFusionParams, FusionParams};
use super::tensor::Tensor;
use crate::config::settings::Sampling;
use crate::ops::deconv::Shuffle;
use crate::ops::flow::{BlockOutput, MaskRule};
use crate::ops::head::record_channels;

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
    /// Picture pixels for each pixel of the last block's output.
    pub factor: f32,
}

impl Frames<'_> {
    fn params(&self, outputs: &[BlockOutput<'_, Tensor>], image: &Tensor) -> FusionParams {
        let fits = self.frame[0] <= self.full[0] && self.frame[1] <= self.full[1];
        assert!(fits, "a picture within its padding");
        FusionParams {
            views: self.views,
            earlier: earlier_params(self.n, self.full, outputs),
            image: image.address(),
            earlier_count: outputs.len() as i32,
            mask_sum: mask_sum(self.mask),
            full_h: self.full[0] as i32,
            full_w: self.full[1] as i32,
            frame_h: self.frame[0] as i32,
            frame_w: self.frame[1] as i32,
            record: record_channels(self.features) as i32,
            unused: 0,
        }
    }

    fn reshape(&self, driver: &Arc<dyn Driver>, image: &mut Tensor) -> Result<(), DeviceError> {
        image.reshape(driver, [self.n, self.frame[0], self.frame[1], 3], 4)
    }
}

/// Pictures `[n, frame_h, frame_w, 4]` into `image`; `last` is the output of the last block.
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
    image: &mut Tensor,
) -> Result<(), DeviceError> {
    frames.reshape(driver, image)?;
    let mut outputs = frames.earlier.to_vec();
    outputs.push(BlockOutput { tensor: last, factor: frames.factor });
    driver.launch(&Launch {
        kernel: match frames.sampling {
            Sampling::Bilinear => "fusion",
            Sampling::Bicubic => "fusion_cubic",
        },
        grid: gather_grid(frames.n, frames.frame),
        block: GATHER_THREADS,
        shared_bytes: 0,
        params: frames.params(&outputs, image).as_bytes(),
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
/// fused kernel does not serve: where it is not at full resolution, too wide or not shuffled.
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
    scratch: &mut Tensor,
    image: &mut Tensor,
) -> Result<(), DeviceError> {
    let whole = [4 * input.h, 4 * input.w] == frames.full;
    let serves = whole
        && deconv.shuffle() == Shuffle::ByTwo
        && deconv.nb() == FUSED_CHANNELS
        && input.stored <= IN_CHANNELS_MAX
        && shared_bytes(input.stored) <= driver.description().shared_bytes;
    if !serves {
        deconv.run(driver, input, scratch)?;
        return fusion(driver, frames, scratch, image);
    }
    assert_eq!((input.n, input.stored), (frames.n, deconv.cin()), "input");
    frames.reshape(driver, image)?;
    let params = DeconvFusionParams {
        fusion: frames.params(frames.earlier, image),
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
