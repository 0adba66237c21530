//! Everything between the pictures of a pair and the picture between them, for comparison with other implementations.

use crate::backend::Backend;
use crate::engine::EngineError;
use crate::engine::rife::Rife;
use crate::engine::rife::network::{ChainEnd, Plan, Size};
use crate::ops::flow::{BlockOutput, HANDED_ON, flow_at, mask_at};
use crate::ops::resize;
use crate::ops::tensor::Tensor;

/// Everything in between, at the padded size.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// `[height, width, 3]`.
    pub rgb: Vec<f32>,
    /// Features of both frames, `[padded h, padded w, features]`; empty where the network has none.
    pub features: Vec<Tensor>,
    /// After each visit of a block.
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
    /// [`Rife::interpolate_rgb`] with everything in between.
    ///
    /// # Errors
    /// As [`Rife::interpolate_rgb`].
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
    ) -> Result<Trace, EngineError> {
        let size = self.size(width, height);
        let (rgb, slots) = self.plain_pair([img0, img1], size, timestep)?;
        let mut trace = Trace { rgb, ..Trace::default() };
        let plan = &self.network.plan;
        let ChainEnd { records, outputs, input, .. } = self.network.chain_end(&mut self.memory);
        let last = outputs.len() - 1;
        self.backend.deconv(&self.network.last_whole, input, &mut outputs[last]);
        if plan.features > 0 {
            let features =
                |slot| self.backend.to_plain(records.tensor(slot)).channels(3, plan.features);
            trace.features = slots.map(features).to_vec();
        }
        let plain: Vec<_> = outputs.iter().map(|it| self.backend.to_plain(it)).collect();
        self.backend.status()?;
        for count in 1..=plain.len() {
            let outputs = plan.outputs(&plain[..count], size.scale);
            trace.blocks.push(block_trace(plan, &outputs, size));
        }
        Ok(trace)
    }
}

/// What stands after the last of `outputs`.
fn block_trace(plan: &Plan, outputs: &[BlockOutput<'_>], size: Size) -> BlockTrace {
    let (h, w) = (size.padding.padded_height, size.padding.padded_width);
    let mut flow = Tensor::zeros(h, w, 4);
    let mut mask = Tensor::zeros(h, w, 1);
    for y in 0..h {
        for x in 0..w {
            flow.at_mut(y, x).copy_from_slice(&flow_at(outputs, y, x, 1.0));
            mask.at_mut(y, x)[0] = mask_at(outputs, plan.mask, y, x, 1.0);
        }
    }
    let last = &outputs[outputs.len() - 1];
    let low = last.tensor.channels(HANDED_ON, plan.handed_on);
    BlockTrace { flow, mask, handed_on: resize::reference(&low, last.factor) }
}
