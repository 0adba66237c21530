//! The network over a backend: packed weights, the memory between its ops, and the ops in their order.

use crate::backend::Backend;
use crate::config::settings::Sampling;
use crate::engine::rife::records::Records;
use crate::models::pyramid::Visit;
use crate::models::rife_v4::{Block, ChainSum, Network, padded};
use crate::ops::flow::{BlockOutput, HANDED_ON, MaskRule, Stage, View};
use crate::ops::fusion::Fusion;
use crate::ops::head::Padding;

/// The network without its weights.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) features: usize,
    pub(super) handed_on: usize,
    pub(super) mask: MaskRule,
    pub(super) sampling: Sampling,
    pub(super) refine: bool,
    chain_sum: ChainSum,
    visits: Vec<Visit>,
    output_step: f32,
    pad_multiple: usize,
}

/// A network and its packed weights.
pub(super) struct Packed<B: Backend> {
    pub(super) plan: Plan,
    pub(super) head: Option<B::Head>,
    /// The last block's transposed convolution with the features that nobody reads.
    pub(super) last_whole: B::Deconv,
    blocks: Vec<PackedBlock<B>>,
}

struct PackedBlock<B: Backend> {
    conv0: [B::Conv; 2],
    convblock: Vec<B::Conv>,
    lastconv: B::Deconv,
}

/// What lies between the ops. It is allocated for the first batch of a size and used again for the others.
pub(super) struct Memory<B: Backend> {
    pub(super) records: Records<B::Tensor>,
    /// What each visit of a block leaves behind, with the flows of earlier visits at the same factor.
    pub(super) outputs: Vec<B::Tensor>,
    /// A frame on its way in, or the pictures of a batch on their way out.
    pub(super) image: B::Image,
    half: B::Tensor,
    chain: B::Tensor,
    ping: B::Tensor,
    pong: B::Tensor,
}

/// One picture of a batch: where the records of its frames lie, and the time between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shot {
    pub(super) slots: [usize; 2],
    pub(super) timestep: f32,
}

/// A picture size, what it is padded to, and the flow scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Size {
    pub(super) padding: Padding,
    pub(super) scale: f32,
}

impl<B: Backend> Memory<B> {
    pub(super) fn new(visits: usize, batch: usize) -> Self {
        Self {
            records: Records::new(batch),
            outputs: (0..visits).map(|_| B::Tensor::default()).collect(),
            image: B::Image::default(),
            half: B::Tensor::default(),
            chain: B::Tensor::default(),
            ping: B::Tensor::default(),
            pong: B::Tensor::default(),
        }
    }

    fn views<'a>(records: &'a Records<B::Tensor>, shots: &[Shot]) -> Vec<View<'a, B::Tensor>> {
        let view = |shot: &Shot| View {
            records: shot.slots.map(|slot| records.tensor(slot)),
            timestep: shot.timestep,
        };
        shots.iter().map(view).collect()
    }
}

impl<B: Backend> Packed<B> {
    /// Packs a network.
    pub(super) fn new(backend: &B, network: &Network) -> Self {
        assert!(!network.blocks.is_empty(), "a network has blocks");
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
        Self {
            plan: Plan::of(network),
            head: network.head.as_ref().map(|head| backend.pack_head(head)),
            last_whole: backend.pack_deconv(&network.blocks[network.blocks.len() - 1].lastconv),
            blocks: network.blocks.iter().enumerate().map(pack).collect(),
        }
    }

    /// Times that a block works.
    pub(super) fn visits(&self) -> usize {
        self.plan.visits.len()
    }

    /// The pictures of a batch, into `memory.image`.
    pub(super) fn run(&self, backend: &mut B, memory: &mut Memory<B>, shots: &[Shot], size: Size) {
        backend.sequence(&mut |backend| {
            self.pyramid(backend, memory, shots, size.scale);
            self.finish(backend, memory, shots, size);
        });
    }

    /// All blocks but the last block's `lastconv`, whose input is left at [`Packed::chain_end`].
    ///
    /// Which tensor holds what does not depend on what ran before: a backend that repeats launches sees the same ones.
    fn pyramid(&self, backend: &mut B, memory: &mut Memory<B>, shots: &[Shot], scale: f32) {
        let Memory { records, outputs, half, chain, ping, pong, .. } = memory;
        let views = Memory::<B>::views(records, shots);
        let last = self.visits() - 1;
        for (index, visit) in self.plan.visits.iter().enumerate() {
            let block = &self.blocks[visit.block];
            let (before, rest) = outputs.split_at_mut(index);
            let earlier = self.plan.outputs(before, scale);
            let stage = Stage {
                views: &views,
                features: self.plan.features,
                factor: visit.factor / scale,
                earlier: &earlier,
                mask: self.plan.mask,
                handed_on: self.plan.handed_on,
            };
            backend.stage_conv(&block.conv0[0], &stage, half);
            backend.conv(&block.conv0[1], half, chain);
            let (mut from, mut to) = (&mut *ping, &mut *pong);
            for (link, conv) in block.convblock.iter().enumerate() {
                backend.conv(conv, if link == 0 { chain } else { from }, to);
                std::mem::swap(&mut from, &mut to);
            }
            if self.plan.chain_sum == ChainSum::Added {
                backend.add(chain, from);
            }
            if index < last {
                backend.deconv(&block.lastconv, from, &mut rest[0]);
                if let Some(same) = self.plan.same_factor(index) {
                    backend.add_flows(&before[same], &mut rest[0]);
                }
            }
        }
    }

    /// Where the last block's chain ends.
    pub(super) fn chain_end<'a>(&self, memory: &'a mut Memory<B>) -> ChainEnd<'a, B> {
        let links = self.blocks[self.blocks.len() - 1].convblock.len();
        let Memory { records, outputs, image, ping, pong, .. } = memory;
        let input = if links.is_multiple_of(2) { ping } else { pong };
        ChainEnd { records, outputs, image, input }
    }

    /// The last block's `lastconv` and the pictures.
    fn finish(&self, backend: &mut B, memory: &mut Memory<B>, shots: &[Shot], size: Size) {
        let last = self.visits() - 1;
        let ChainEnd { records, outputs, image, input } = self.chain_end(memory);
        let earlier = self.plan.outputs(&outputs[..last], size.scale);
        let fusion = Fusion {
            views: &Memory::<B>::views(records, shots),
            earlier: &earlier,
            factor: self.plan.output_factor(last, size.scale),
            mask: self.plan.mask,
            sampling: self.plan.sampling,
            refine: self.plan.refine,
            height: size.padding.height,
            width: size.padding.width,
        };
        backend.deconv_fusion(&self.blocks[self.blocks.len() - 1].lastconv, input, &fusion, image);
    }
}

/// What the last block's `lastconv` works on.
pub(super) struct ChainEnd<'a, B: Backend> {
    pub(super) records: &'a Records<B::Tensor>,
    pub(super) outputs: &'a mut Vec<B::Tensor>,
    pub(super) image: &'a mut B::Image,
    /// What goes in.
    pub(super) input: &'a mut B::Tensor,
}

impl Plan {
    fn of(network: &Network) -> Self {
        Self {
            name: network.name.clone(),
            features: network.features(),
            handed_on: network.handed_on,
            chain_sum: network.chain_sum,
            mask: network.mask,
            sampling: network.sampling,
            refine: network.refine,
            visits: network.visits.clone(),
            output_step: network.output_step,
            pad_multiple: network.pad_multiple,
        }
    }

    /// Pads a picture for a flow scale.
    pub(super) fn size(&self, width: usize, height: usize, scale: f32) -> Size {
        let padded = |side_px| padded(side_px, self.pad_multiple, scale);
        let (padded_width, padded_height) = (padded(width), padded(height));
        Size { padding: Padding { height, width, padded_height, padded_width }, scale }
    }

    fn output_factor(&self, index: usize, scale: f32) -> f32 {
        self.visits[index].factor / scale * self.output_step
    }

    /// The visit before one whose output has the same size.
    fn same_factor(&self, index: usize) -> Option<usize> {
        self.visits[..index].iter().rposition(|it| it.factor == self.visits[index].factor)
    }

    /// What the first visits left: the newest output of each factor, in order, which has the flows of those before it.
    pub(super) fn outputs<'a, T>(&self, tensors: &'a [T], scale: f32) -> Vec<BlockOutput<'a, T>> {
        let count = tensors.len();
        let later = |index: usize| {
            let factor = self.visits[index].factor;
            self.visits[index + 1..count].iter().any(|it| it.factor == factor)
        };
        let newest = tensors.iter().enumerate().filter(|(index, _)| !later(*index));
        newest
            .map(|(index, tensor)| BlockOutput { tensor, factor: self.output_factor(index, scale) })
            .collect()
    }
}
