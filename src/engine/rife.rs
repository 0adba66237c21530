//! RIFE v4 over a backend: padding, colour, one record a frame kept for the next pair, blocks coarse to fine.

use std::sync::Arc;

use crate::backend::Backend;
use crate::config::settings::Scale;
use crate::engine::{EngineDescription, EngineError, Interpolator};
use crate::frame::{Frame, Picture};
use crate::models::rife_v4::{Block, ChainSum, Network, padded};
use crate::ops::flow::{BlockOutput, HANDED_ON, MaskRule, Stage, flow_at, mask_at};
use crate::ops::fusion::Fusion;
use crate::ops::head::Padded;
use crate::ops::resize;
use crate::ops::tensor::Tensor;

/// Records kept: the two frames of a pair and one more, for callers that go back a frame (held-out measurement).
const RECORDS_KEPT: usize = 3;

/// Flow scales that the network is defined for.
pub const SCALES: [f32; 4] = [0.25, 0.5, 1.0, 2.0];

/// Pixels up to which `auto` takes scale 1.
const FULL_SCALE_PIXELS: usize = 2560 * 1440;
/// Pixels up to which `auto` takes scale 1/2; above, 1/4.
const HALF_SCALE_PIXELS: usize = 3840 * 2160;

/// The flow scale for a picture size.
#[must_use]
pub fn scale_for(choice: Scale, width_px: usize, height_px: usize) -> f32 {
    match choice {
        Scale::Fixed(scale) => scale,
        Scale::Auto if width_px * height_px <= FULL_SCALE_PIXELS => 1.0,
        Scale::Auto if width_px * height_px <= HALF_SCALE_PIXELS => 0.5,
        Scale::Auto => 0.25,
    }
}

/// Where weights come from and what they run on: what [`Interpolator::description`] adds to the backend's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// SHA-256 of the weights file, in hex.
    pub model_sha256: Option<String>,
    /// Name of the processor or device, where the backend does not know it.
    pub device_name: String,
    /// Why `auto` did not get a GPU.
    pub fallback_reason: Option<String>,
}

/// A network, its packed weights and everything it keeps between frames. Memory is allocated for the first pair of a
/// size and used again for the others.
pub struct Rife<B: Backend> {
    backend: B,
    blocks: Vec<PackedBlock<B>>,
    last_whole: B::Deconv,
    head: Option<B::Head>,
    plan: Plan,
    origin: Origin,
    choice: Scale,
    scale_in_use: f32,
    records: Vec<Record<B::Tensor>>,
    clock: u64,
    outputs: Vec<B::Tensor>,
    scratch: Scratch<B::Tensor>,
}

/// The network without its weights.
#[derive(Debug)]
struct Plan {
    name: String,
    features: usize,
    handed_on: usize,
    chain_sum: ChainSum,
    mask: MaskRule,
    factors: Vec<f32>,
    output_step: f32,
    pad_multiple: usize,
}

struct PackedBlock<B: Backend> {
    conv0: [B::Conv; 2],
    convblock: Vec<B::Conv>,
    lastconv: B::Deconv,
}

/// What is kept of a frame.
#[derive(Debug, Default)]
struct Record<T> {
    frame: Option<(u64, Arc<Picture>)>,
    used: u64,
    tensor: T,
}

#[derive(Debug, Default)]
struct Scratch<T> {
    half: T,
    chain: T,
    ping: T,
    pong: T,
    rgb: Vec<f32>,
}

/// A picture size, and what it is padded to.
#[derive(Clone, Copy, Debug)]
struct Size {
    width: usize,
    height: usize,
    padded_width: usize,
    padded_height: usize,
    scale: f32,
}

/// Everything in between, at the padded size, for comparison with other implementations.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// `[height, width, 3]`.
    pub rgb: Vec<f32>,
    /// Features of both frames, `[padded h, padded w, features]`; empty where the network has none.
    pub features: Vec<Tensor>,
    /// After each block.
    pub blocks: Vec<BlockTrace>,
}

/// What stands after a block, `[padded h, padded w, ..]`.
#[derive(Clone, Debug)]
pub struct BlockTrace {
    /// Four channels, picture pixels: x, y into `img0`, x, y into `img1`.
    pub flow: Tensor,
    /// Mask logit.
    pub mask: Tensor,
    /// Features handed on (of the last block too, though nobody reads them); no channels up to v4.20.
    pub handed_on: Tensor,
}

impl<B: Backend> Rife<B> {
    /// Packs a network for a backend.
    ///
    /// # Errors
    /// [`EngineError::Scale`] where a fixed scale is none of [`SCALES`].
    pub fn new(
        backend: B,
        network: &Network,
        choice: Scale,
        origin: Origin,
    ) -> Result<Self, EngineError> {
        if let Scale::Fixed(scale) = choice
            && !SCALES.contains(&scale)
        {
            return Err(EngineError::Scale(scale));
        }
        let pack = |(index, block): (usize, &Block)| {
            let last = index + 1 == network.blocks.len();
            let live = if last { HANDED_ON } else { HANDED_ON + network.handed_on };
            PackedBlock {
                conv0: [
                    backend.pack_stage_conv(&block.conv0[0], network.features()),
                    backend.pack_conv(&block.conv0[1]),
                ],
                convblock: block.convblock.iter().map(|conv| backend.pack_conv(conv)).collect(),
                lastconv: backend.pack_deconv(&block.lastconv.first_channels(live)),
            }
        };
        let blocks: Vec<_> = network.blocks.iter().enumerate().map(pack).collect();
        assert!(!blocks.is_empty(), "a network has blocks");
        Ok(Self {
            outputs: blocks.iter().map(|_| B::Tensor::default()).collect(),
            blocks,
            last_whole: backend.pack_deconv(&network.blocks[network.blocks.len() - 1].lastconv),
            head: network.head.as_ref().map(|head| backend.pack_head(head)),
            backend,
            plan: Plan::of(network),
            origin,
            scale_in_use: scale_for(choice, 0, 0),
            choice,
            records: vec![],
            clock: 0,
            scratch: Scratch::default(),
        })
    }

    /// RGB in, RGB out: `img0`, `img1` `[height, width, 3]` in 0..1. Nothing is kept for later calls but memory.
    ///
    /// # Panics
    /// If an image is not as long as its size says, or the size is 0.
    pub fn interpolate_rgb(
        &mut self,
        img0: &[f32],
        img1: &[f32],
        width: usize,
        height: usize,
        timestep: f32,
    ) -> Vec<f32> {
        let size = self.size(width, height);
        let slots = self.plain_records(img0, img1, size);
        self.pyramid(slots, size, timestep);
        let mut rgb = vec![0.0; 3 * width * height];
        self.finish(slots, size, &mut rgb);
        rgb
    }

    /// [`Rife::interpolate_rgb`] with everything in between.
    ///
    /// # Panics
    /// As [`Rife::interpolate_rgb`].
    pub fn trace_rgb(
        &mut self,
        img0: &[f32],
        img1: &[f32],
        width: usize,
        height: usize,
        timestep: f32,
    ) -> Trace {
        let size = self.size(width, height);
        let slots = self.plain_records(img0, img1, size);
        self.pyramid(slots, size, timestep);
        let mut trace = Trace { rgb: vec![0.0; 3 * width * height], ..Trace::default() };
        self.finish(slots, size, &mut trace.rgb);
        let last = self.blocks.len() - 1;
        self.backend.deconv(&self.last_whole, &self.scratch.ping, &mut self.outputs[last]);
        if self.plan.features > 0 {
            let features = |slot: usize| {
                let record = self.backend.to_plain(&self.records[slot].tensor);
                record.channels(3, self.plan.features)
            };
            trace.features = slots.map(features).to_vec();
        }
        let plain: Vec<_> = self.outputs.iter().map(|it| self.backend.to_plain(it)).collect();
        let outputs = self.plan.outputs(&plain, size.scale);
        for count in 1..=outputs.len() {
            trace.blocks.push(self.plan.block_trace(&outputs[..count], size));
        }
        trace
    }

    fn size(&mut self, width: usize, height: usize) -> Size {
        assert!(width > 0 && height > 0, "a picture has pixels");
        let scale = scale_for(self.choice, width, height);
        self.scale_in_use = scale;
        let padded = |side| self.plan.padded(side, scale);
        let (padded_width, padded_height) = (padded(width), padded(height));
        Size { width, height, padded_width, padded_height, scale }
    }

    /// Records of two images that belong to no clip.
    fn plain_records(&mut self, img0: &[f32], img1: &[f32], size: Size) -> [usize; 2] {
        let first = self.free_slot(None);
        self.write_record(first, img0, size);
        let second = self.free_slot(Some(first));
        self.write_record(second, img1, size);
        [first, second]
    }

    /// Where the record of a frame lies; computes it unless it is there.
    ///
    /// A frame is known again by its index and its picture, so that an engine may be used for one clip after another.
    fn frame_record(&mut self, frame: &Frame, size: Size, keep: Option<usize>) -> usize {
        let same = |record: &Record<B::Tensor>| {
            let same = |(index, picture): &(u64, Arc<Picture>)| {
                *index == frame.index
                    && (Arc::ptr_eq(picture, &frame.picture) || *picture == frame.picture)
            };
            record.frame.as_ref().is_some_and(same)
        };
        self.clock += 1;
        if let Some(slot) = self.records.iter().position(same) {
            self.records[slot].used = self.clock;
            return slot;
        }
        let slot = self.free_slot(keep);
        let mut rgb = std::mem::take(&mut self.scratch.rgb);
        self.backend.picture_to_rgb(&frame.picture, &mut rgb);
        self.write_record(slot, &rgb, size);
        self.scratch.rgb = rgb;
        self.records[slot].frame = Some((frame.index, Arc::clone(&frame.picture)));
        slot
    }

    /// The slot that was used longest ago and is not `keep`.
    fn free_slot(&mut self, keep: Option<usize>) -> usize {
        if self.records.len() < RECORDS_KEPT {
            self.records.push(Record::default());
        }
        let candidates = (0..self.records.len()).filter(|slot| Some(*slot) != keep);
        let oldest = candidates.min_by_key(|slot| {
            let record = &self.records[*slot];
            (record.frame.is_some(), record.used)
        });
        oldest.unwrap_or(0)
    }

    fn write_record(&mut self, slot: usize, rgb: &[f32], size: Size) {
        self.clock += 1;
        let record = &mut self.records[slot];
        (record.frame, record.used) = (None, self.clock);
        let picture = Padded {
            rgb,
            height: size.height,
            width: size.width,
            padded_height: size.padded_height,
            padded_width: size.padded_width,
        };
        self.backend.record(self.head.as_ref(), &picture, &mut record.tensor);
    }

    /// All blocks but the last block's `lastconv`, whose input is left in `scratch.ping`.
    fn pyramid(&mut self, slots: [usize; 2], size: Size, timestep: f32) {
        let last = self.blocks.len() - 1;
        for index in 0..=last {
            let (earlier, rest) = self.outputs.split_at_mut(index);
            let block = &self.blocks[index];
            let outputs = self.plan.outputs(earlier, size.scale);
            let stage = Stage {
                records: slots.map(|slot| &self.records[slot].tensor),
                features: self.plan.features,
                timestep,
                factor: self.plan.factors[index] / size.scale,
                earlier: &outputs,
                mask: self.plan.mask,
                handed_on: self.plan.handed_on,
            };
            let Scratch { half, chain, ping, pong, .. } = &mut self.scratch;
            let backend = &mut self.backend;
            backend.stage_conv(&block.conv0[0], &stage, half);
            backend.conv(&block.conv0[1], half, chain);
            for (link, conv) in block.convblock.iter().enumerate() {
                backend.conv(conv, if link == 0 { chain } else { ping }, pong);
                std::mem::swap(ping, pong);
            }
            if self.plan.chain_sum == ChainSum::Added {
                backend.add(chain, ping);
            }
            if index < last {
                backend.deconv(&block.lastconv, ping, &mut rest[0]);
            }
        }
    }

    /// The last block's `lastconv` and the picture.
    fn finish(&mut self, slots: [usize; 2], size: Size, rgb: &mut [f32]) {
        let last = self.blocks.len() - 1;
        let outputs = self.plan.outputs(&self.outputs[..last], size.scale);
        let fusion = Fusion {
            records: slots.map(|slot| &self.records[slot].tensor),
            earlier: &outputs,
            factor: self.plan.output_factor(last, size.scale),
            mask: self.plan.mask,
            height: size.height,
            width: size.width,
        };
        let lastconv = &self.blocks[last].lastconv;
        self.backend.deconv_fusion(lastconv, &self.scratch.ping, &fusion, rgb);
    }
}

impl Plan {
    fn of(network: &Network) -> Self {
        Self {
            name: network.name.clone(),
            features: network.features(),
            handed_on: network.handed_on,
            chain_sum: network.chain_sum,
            mask: network.mask,
            factors: network.factors.clone(),
            output_step: network.output_step,
            pad_multiple: network.pad_multiple,
        }
    }

    fn padded(&self, side_px: usize, scale: f32) -> usize {
        padded(side_px, self.pad_multiple, scale)
    }

    fn output_factor(&self, index: usize, scale: f32) -> f32 {
        self.factors[index] / scale * self.output_step
    }

    fn outputs<'a, T>(&self, tensors: &'a [T], scale: f32) -> Vec<BlockOutput<'a, T>> {
        let output =
            |(index, tensor)| BlockOutput { tensor, factor: self.output_factor(index, scale) };
        tensors.iter().enumerate().map(output).collect()
    }

    /// What stands after the last of `outputs`.
    fn block_trace(&self, outputs: &[BlockOutput<'_>], size: Size) -> BlockTrace {
        let (h, w) = (size.padded_height, size.padded_width);
        let mut flow = Tensor::zeros(h, w, 4);
        let mut mask = Tensor::zeros(h, w, 1);
        for y in 0..h {
            for x in 0..w {
                flow.at_mut(y, x).copy_from_slice(&flow_at(outputs, y, x, 1.0));
                mask.at_mut(y, x)[0] = mask_at(outputs, self.mask, y, x, 1.0);
            }
        }
        let last = &outputs[outputs.len() - 1];
        let low = last.tensor.channels(HANDED_ON, self.handed_on);
        BlockTrace { flow, mask, handed_on: resize::reference(&low, last.factor) }
    }
}

impl<B: Backend> Interpolator for Rife<B> {
    fn interpolate(
        &mut self,
        img0: &Frame,
        img1: &Frame,
        timesteps: &[f32],
    ) -> Result<Vec<Picture>, EngineError> {
        let format = img0.picture.format;
        if format != img1.picture.format {
            return Err(EngineError::FormatChanged { first: img0.index, second: img1.index });
        }
        let size = self.size(format.width_px, format.height_px);
        let first = self.frame_record(img0, size, None);
        let second = self.frame_record(img1, size, Some(first));
        let mut rgb = std::mem::take(&mut self.scratch.rgb);
        rgb.resize(3 * size.width * size.height, 0.0);
        let picture = |&timestep: &f32| {
            self.pyramid([first, second], size, timestep);
            self.finish([first, second], size, &mut rgb);
            self.backend.rgb_to_picture(&rgb, format)
        };
        let pictures = timesteps.iter().map(picture).collect();
        self.scratch.rgb = rgb;
        Ok(pictures)
    }

    fn description(&self) -> EngineDescription {
        let backend = self.backend.description();
        let named = !backend.device_name.is_empty();
        EngineDescription {
            device_kind: backend.device_kind,
            device_name: if named { backend.device_name } else { self.origin.device_name.clone() },
            precision: backend.precision,
            instructions: backend.instructions,
            threads: backend.threads,
            fallback_reason: self.origin.fallback_reason.clone(),
            model_name: self.plan.name.clone(),
            model_sha256: self.origin.model_sha256.clone(),
            scale: self.scale_in_use,
        }
    }
}
