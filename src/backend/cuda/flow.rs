//! The input of a block on the device, alone or with the block's first convolution; see [`crate::ops::flow`].

use std::sync::Arc;

use super::conv::{self, PackedConv};
use super::driver::{DeviceError, Driver, Launch, Parameters};
use super::params::{Earlier, StageConvParams, StageParams};
use super::tensor::{Layout, Tensor};
use crate::ops::flow::{BlockOutput, MaskRule};

/// Threads of a block of the gathering kernels, along x and y.
pub(super) const GATHER_THREADS: [u32; 3] = [32, 4, 1];
/// Blocks before the last that a kernel has room for.
const EARLIER_MAX: usize = 4;
/// Coarsest block whose first convolution gathers its input itself: at coarser ones the input is a small part of the
/// traffic, and the convolution's few tiles would leave most of the device without anything to gather.
const FUSED_FACTOR_MAX: f32 = 2.0;

/// Everything the inputs of a block are made from, for `n` pictures of one size.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Address of `n` [`super::params::View`]s in device memory.
    pub views: u64,
    /// Pictures of the batch.
    pub n: usize,
    /// Rows and columns of the padded picture.
    pub full: [usize; 2],
    /// Feature channels in a record: 0, 4, 8 or 16.
    pub features: usize,
    /// Picture pixels for each pixel of this block, a power of two from 1/2 on.
    pub factor: f32,
    /// Outputs of the blocks before, one for each factor, the newest last, each of all `n` pictures; empty for the first block.
    pub earlier: &'a [BlockOutput<'a, Tensor>],
    /// How mask logits combine.
    pub mask: MaskRule,
    /// Features the block before hands on: 0 or 8; nothing to the first block.
    pub handed_on: usize,
}

/// For each channel of a block's input as the device stores it, the channel of the weights, or none where it is zero. The
/// order is that of [`crate::ops::flow`]; zeros follow.
#[must_use]
pub fn input_order(channels: usize) -> Vec<Option<usize>> {
    (0..channels.next_multiple_of(16)).map(|c| (c < channels).then_some(c)).collect()
}

impl Inputs<'_> {
    /// Channels of the block's input that are in use.
    #[must_use]
    pub fn channels(&self) -> usize {
        let first = 2 * (3 + self.features) + 1;
        if self.earlier.is_empty() { first } else { later_channels(self.features, self.handed_on) }
    }

    /// Rows and columns of the block's input.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        self.full.map(|n| (n as f32 / self.factor) as usize)
    }

    /// The part of a kernel's name that tells what a record and a block output hold.
    fn kind(&self) -> String {
        // The first block reads no output: the kernel that exists for these features serves.
        let alone = if self.features == 16 { 8 } else { 0 };
        let handed_on = if self.earlier.is_empty() { alone } else { self.handed_on };
        format!("f{}_h{handed_on}", self.features)
    }

    fn is_whole(&self) -> bool {
        self.factor == 1.0
    }

    fn whole(&self) -> &'static str {
        if self.is_whole() { "_whole" } else { "" }
    }

    fn params(&self, dst: u64) -> StageParams {
        assert!(self.earlier.len() <= EARLIER_MAX, "{} blocks before", self.earlier.len());
        if let Some(last) = self.earlier.last() {
            let handed = last.tensor.stored;
            assert!(handed >= self.handed_on, "{handed} features handed on");
        }
        let [h, w] = self.size();
        StageParams {
            views: self.views,
            earlier: earlier_params(self.n, self.full, self.earlier),
            dst,
            earlier_count: self.earlier.len() as i32,
            mask_sum: mask_sum(self.mask),
            full_h: self.full[0] as i32,
            full_w: self.full[1] as i32,
            h: h as i32,
            w: w as i32,
            channels: self.channels().next_multiple_of(16) as i32,
            factor: self.factor,
        }
    }
}

/// What a kernel is told of block outputs; the rest of the array is zero.
///
/// # Panics
/// Where an output does not fit the batch or the picture.
pub(super) fn earlier_params<const N: usize>(
    n: usize,
    full: [usize; 2],
    outputs: &[BlockOutput<'_, Tensor>],
) -> [Earlier; N] {
    let mut params = [Earlier::default(); N];
    assert!(outputs.len() <= N, "{} block outputs", outputs.len());
    for (to, output) in params.iter_mut().zip(outputs) {
        *to = earlier(n, full, output);
    }
    params
}

fn earlier(n: usize, full: [usize; 2], output: &BlockOutput<'_, Tensor>) -> Earlier {
    let tensor = output.tensor;
    let covers = [tensor.h, tensor.w].map(|size| (size as f32 * output.factor) as usize);
    assert_eq!((tensor.n, covers), (n, full), "block output");
    Earlier {
        flow: tensor.address(),
        mask: tensor.mask_address(),
        handed: tensor.handed_address(),
        h: tensor.h as i32,
        w: tensor.w as i32,
        factor: output.factor,
        inverse: 1.0 / output.factor,
    }
}

pub(super) fn mask_sum(rule: MaskRule) -> i32 {
    match rule {
        MaskRule::Sum => 1,
        MaskRule::Last => 0,
    }
}

/// Blocks of threads of [`GATHER_THREADS`] over `n` pictures.
pub(super) fn gather_grid(n: usize, [h, w]: [usize; 2]) -> [u32; 3] {
    let [x, y, _] = GATHER_THREADS;
    [(w as u32).div_ceil(x), (h as u32).div_ceil(y), n as u32]
}

/// The block's input `[n, h, w, channels]` into `output`.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn stage(
    driver: &Arc<dyn Driver>,
    inputs: &Inputs<'_>,
    output: &mut Tensor,
) -> Result<(), DeviceError> {
    let [h, w] = inputs.size();
    let channels = inputs.channels();
    output.reshape(driver, [inputs.n, h, w, channels], channels.next_multiple_of(16))?;
    // At full resolution a thread makes a square of four.
    let side = if inputs.is_whole() { 2 } else { 1 };
    driver.launch(&Launch {
        kernel: &format!("stage_{}{}", inputs.kind(), inputs.whole()),
        grid: gather_grid(inputs.n, [h, w].map(|n: usize| n.div_ceil(side))),
        block: GATHER_THREADS,
        shared_bytes: 0,
        params: inputs.params(output.address()).as_bytes(),
    })
}

/// Channels of the input of a block behind the first: two frames with features, timestep, mask, what the block before
/// hands on, flow.
fn later_channels(features: usize, handed_on: usize) -> usize {
    2 * (3 + features) + 1 + 1 + handed_on + 4
}

/// A kernel of gather and convolution: rows of an output tile of 16 columns, and warps.
#[derive(Clone, Copy, Debug)]
struct FusedTile {
    rows: usize,
    warps: u32,
}

/// The larger is used where shared memory suffices.
const FUSED_TILES: [FusedTile; 2] =
    [FusedTile { rows: 8, warps: 5 }, FusedTile { rows: 4, warps: 4 }];
/// Columns of an output tile.
const TILE_COLUMNS: usize = 16;
/// Output channels that fused kernels make.
const FUSED_CHANNELS: [usize; 3] = [16, 32, 48];
/// Features of a frame up to which there are fused kernels: with the 16 of v4.26.heavy alone they ran out of registers.
const FUSED_FEATURES_MAX: usize = 8;

impl FusedTile {
    /// Halo tile and weights of all chunks of 16 channels, as in `kernels/tile.cuh`.
    fn shared_bytes(self, stored: usize, out_channels: usize) -> usize {
        let halo = (2 * self.rows + 1) * (2 * TILE_COLUMNS + 1) * 32;
        stored / 16 * (halo.next_multiple_of(128) + 9 * 32 * out_channels)
    }

    /// The small one exists only where there is a device that it fits and the large one does not.
    fn exists(self, stored: usize, out_channels: usize) -> bool {
        self.rows == 8 || (stored == 48 && out_channels < 48)
    }
}

/// Dynamic shared memory of a block of the fused kernel `name`, in bytes; `None` where it is none of them.
#[must_use]
pub fn fused_shared_bytes(name: &str) -> Option<usize> {
    let (features, rest) = name.strip_prefix("stage_conv_f")?.split_once("_h")?;
    let (handed_on, rest) = rest.split_once("_n")?;
    let (out_channels, tile) = rest.split_once('_')?;
    let rows: usize = tile.split_once('x')?.0.parse().ok()?;
    let tile = FUSED_TILES.into_iter().find(|it| it.rows == rows)?;
    let channels = later_channels(features.parse().ok()?, handed_on.parse().ok()?);
    Some(tile.shared_bytes(channels.next_multiple_of(16), out_channels.parse().ok()?))
}

/// The fused kernel's tile and shared memory for these inputs, if there is one that pays.
fn fused_tile(
    inputs: &Inputs<'_>,
    conv: &PackedConv,
    shared_limit: u32,
) -> Option<(FusedTile, u32)> {
    let out_channels = conv.cout();
    let pays = !inputs.earlier.is_empty() && inputs.factor <= FUSED_FACTOR_MAX;
    let shaped = FUSED_CHANNELS.contains(&out_channels) && inputs.features <= FUSED_FEATURES_MAX;
    if !(pays && shaped) {
        return None;
    }
    let stored = inputs.channels().next_multiple_of(16);
    let bytes = |tile: FusedTile| tile.shared_bytes(stored, out_channels);
    let fits = |tile: &FusedTile| {
        tile.exists(stored, out_channels) && bytes(*tile) <= shared_limit as usize
    };
    FUSED_TILES.into_iter().find(fits).map(|tile| (tile, bytes(tile) as u32))
}

/// The block's first convolution on its input. The input is stored in `scratch` only where no fused kernel serves.
///
/// # Errors
/// What the driver says.
///
/// # Panics
/// Where shapes do not fit.
pub fn stage_conv(
    driver: &Arc<dyn Driver>,
    inputs: &Inputs<'_>,
    conv: &PackedConv,
    scratch: &mut Tensor,
    output: &mut Tensor,
) -> Result<(), DeviceError> {
    let Some((tile, shared_bytes)) = fused_tile(inputs, conv, driver.description().shared_bytes)
    else {
        stage(driver, inputs, scratch)?;
        return conv.run(driver, scratch, output);
    };
    let stored = conv.cout();
    let [out_h, out_w] = inputs.size().map(|n| n.div_ceil(2));
    assert_eq!(conv.output_size(inputs.size()), [out_h, out_w], "a first convolution has stride 2");
    assert_eq!(conv.cin(), inputs.channels().next_multiple_of(16), "channels of a block's input");
    output.reshape(driver, [inputs.n, out_h, out_w, conv.out_channels()], stored)?;
    let params = StageConvParams {
        stage: inputs.params(0),
        weights: conv.weights_address(),
        affine: conv.affine_address(),
        dst: output.address(),
        out_h: out_h as i32,
        out_w: out_w as i32,
        cout: stored as i32,
        unused: 0,
    };
    let (kind, rows, whole) = (inputs.kind(), tile.rows, inputs.whole());
    driver.launch(&Launch {
        kernel: &format!("stage_conv_{kind}_n{stored}_{rows}x{TILE_COLUMNS}{whole}"),
        grid: [out_w.div_ceil(TILE_COLUMNS) as u32, out_h.div_ceil(rows) as u32, inputs.n as u32],
        block: [32 * tile.warps, 1, 1],
        shared_bytes,
        params: params.as_bytes(),
    })
}

/// `to += from` of the flows of two block outputs.
///
/// # Errors
/// As [`Driver::launch`].
///
/// # Panics
/// If they are no outputs of one shape.
pub fn add_flows(
    driver: &Arc<dyn Driver>,
    from: &Tensor,
    to: &mut Tensor,
) -> Result<(), DeviceError> {
    assert_eq!(to.layout, Layout::Output, "flows of block outputs");
    conv::sum(driver, "add_flows", from, to, to.n * to.h * to.w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_behind_the_last_are_zero() {
        let order = input_order(28);
        assert_eq!(order.len(), 32);
        assert_eq!(order[27..], [Some(27), None, None, None, None]);
    }
}
