//! The network as published, without any fusion: full-resolution tensors, concatenated, resized, warped.

use slomod::models::rife_v4::{Block, ChainSum, Network, padded};
use slomod::ops::flow::{HANDED_ON, MASK, MaskRule};
use slomod::ops::fusion::sigmoid;
use slomod::ops::head::Padded;
use slomod::ops::tensor::Tensor;
use slomod::ops::{conv, deconv, head, resize, warp};

/// Two pictures of one size, and where between them.
pub struct Pair<'a> {
    pub img0: &'a [f32],
    pub img1: &'a [f32],
    pub width: usize,
    pub height: usize,
    pub timestep: f32,
    pub scale: f32,
}

/// The picture in between.
pub fn interpolate(network: &Network, pair: &Pair<'_>) -> Vec<f32> {
    let side = |side| padded(side, network.pad_multiple, pair.scale);
    let (h, w) = (side(pair.height), side(pair.width));
    let record = |rgb: &[f32]| {
        let (height, width) = (pair.height, pair.width);
        let picture = Padded { rgb, height, width, padded_height: h, padded_width: w };
        let mut record = Tensor::default();
        head::reference(network.head.as_ref(), &picture, &mut record);
        record.channels(0, 3 + network.features())
    };
    let records = [record(pair.img0), record(pair.img1)];
    let mut time = Tensor::zeros(h, w, 1);
    time.data.fill(pair.timestep);
    let (mut flow, mut mask) = (Tensor::zeros(h, w, 4), Tensor::zeros(h, w, 1));
    let mut warped = records.clone();
    let mut left: Vec<Left> = vec![];
    for visit in &network.visits {
        let (block, factor) = (&network.blocks[visit.block], visit.factor / pair.scale);
        let colors = [warped[0].channels(0, 3), warped[1].channels(0, 3)];
        let count = network.features();
        let features = [warped[0].channels(3, count), warped[1].channels(3, count)];
        let parts = [&colors[0], &colors[1], &features[0], &features[1], &time];
        let mut input = resize::reference(&concat(&parts), 1.0 / factor);
        if let Some(last) = left.last() {
            let low: Vec<_> = left.iter().map(|it| it.at(factor)).collect();
            let masks = if network.mask == MaskRule::Sum { &low } else { &low[low.len() - 1..] };
            let mask = sum(masks.iter().map(|it| it.channels(MASK, 1)));
            let handed_on = last.at(factor).channels(HANDED_ON, network.handed_on);
            let mut flow = sum(low.iter().map(|it| it.channels(0, 4)));
            flow.data.iter_mut().for_each(|value| *value /= factor);
            input = concat(&[&input, &mask, &handed_on, &flow]);
        }
        let output = run_block(network, block, &input);
        let up = factor * network.output_step;
        let full = resize::reference(&output, up);
        let delta = full.channels(0, 4);
        flow.data.iter_mut().zip(&delta.data).for_each(|(sum, delta)| *sum += up * delta);
        let logit = full.channels(MASK, 1);
        match network.mask {
            MaskRule::Last => mask = logit,
            MaskRule::Sum => {
                mask.data.iter_mut().zip(&logit.data).for_each(|(sum, delta)| *sum += delta);
            }
        }
        left.push(Left { output, full, up });
        warped = [warp::reference(&records[0], &flow, 0), warp::reference(&records[1], &flow, 2)];
    }
    blend(pair, &warped, &mask)
}

/// What a block left: as it is, at full size, and how many times larger that is.
struct Left {
    output: Tensor,
    full: Tensor,
    up: f32,
}

impl Left {
    /// Flow in picture pixels, mask and features at the size of a block: of its own size as they are.
    fn at(&self, factor: f32) -> Tensor {
        let of_one_size = || self.output.clone();
        let resized = || resize::reference(&self.full, 1.0 / factor);
        let mut low = if self.up == factor { of_one_size() } else { resized() };
        for pixel in low.data.chunks_exact_mut(low.c) {
            pixel[..MASK].iter_mut().for_each(|value| *value *= self.up);
        }
        low
    }
}

fn sum(tensors: impl Iterator<Item = Tensor>) -> Tensor {
    let add = |mut sum: Tensor, one: Tensor| {
        sum.data.iter_mut().zip(&one.data).for_each(|(sum, one)| *sum += one);
        sum
    };
    tensors.reduce(add).unwrap()
}

fn run_block(network: &Network, block: &Block, input: &Tensor) -> Tensor {
    let (mut low, mut output) = (Tensor::default(), Tensor::default());
    conv::reference(&block.conv0[0], input, &mut output);
    conv::reference(&block.conv0[1], &output, &mut low);
    let chain = low.clone();
    for link in &block.convblock {
        conv::reference(link, &low, &mut output);
        std::mem::swap(&mut low, &mut output);
    }
    if network.chain_sum == ChainSum::Added {
        low.data.iter_mut().zip(&chain.data).for_each(|(to, from)| *to += from);
    }
    deconv::reference(&block.lastconv, &low, &mut output);
    output
}

fn blend(pair: &Pair<'_>, warped: &[Tensor; 2], mask: &Tensor) -> Vec<f32> {
    let mut rgb = Vec::with_capacity(3 * pair.width * pair.height);
    for y in 0..pair.height {
        for x in 0..pair.width {
            let m = sigmoid(mask.at(y, x)[0]);
            for channel in 0..3 {
                let [a, b] = [&warped[0], &warped[1]].map(|it| it.at(y, x)[channel]);
                rgb.push(a * m + b * (1.0 - m));
            }
        }
    }
    rgb
}

fn concat(parts: &[&Tensor]) -> Tensor {
    let channels = parts.iter().map(|part| part.c).sum();
    let mut whole = Tensor::zeros(parts[0].h, parts[0].w, channels);
    for y in 0..whole.h {
        for x in 0..whole.w {
            let values: Vec<f32> = parts.iter().flat_map(|part| part.at(y, x)).copied().collect();
            whole.at_mut(y, x).copy_from_slice(&values);
        }
    }
    whole
}
