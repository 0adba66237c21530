//! The network's ops on the processor: what the contracts in `ops` ask for, in terms of the kernels here.

use super::Cpu;
use super::conv::{Add, Conv, Parameters};
use super::deconv::{self, Deconv};
use super::tensor::Tensor;
use super::{color, fusion, head, stage};
use crate::backend::{Backend, BackendDescription};
use crate::frame::{Picture, PictureFormat};
use crate::ops::conv::{Activation, ConvWeights, LEAKY_SLOPE, Residual};
use crate::ops::deconv::{DeconvWeights, Shuffle};
use crate::ops::flow::{MASK, Stage};
use crate::ops::fusion::Fusion;
use crate::ops::head::{HeadWeights, Padded, Padding, record_channels};
use crate::ops::tensor as plain;

/// Values that a task copies: half of a common second-level cache.
const COPIED: usize = 64 << 10;

/// A packed convolution and whether its input is added to its sum.
#[derive(Clone, Debug)]
pub struct PackedConv {
    conv: Conv,
    residual: Residual,
}

/// A packed feature network.
#[derive(Clone, Debug)]
pub struct PackedHead {
    /// Where one pass over strips does it all; the rest is for other shapes, layer by layer.
    strips: Option<head::Head>,
    convs: Vec<PackedConv>,
    /// Its channels are those of a record, zero for the picture's.
    deconv: Deconv,
    channels: usize,
}

impl Cpu {
    fn pack(&self, weights: &ConvWeights, input_order: &[Option<usize>]) -> PackedConv {
        weights.check(weights.in_channels);
        let slope: &[f32] = match &weights.activation {
            Activation::None => &[1.0],
            Activation::LeakyRelu => &[LEAKY_SLOPE],
            Activation::Prelu(slopes) => slopes,
        };
        let given = Parameters {
            weight: &weights.weight,
            bias: &weights.bias,
            slope,
            input_order,
            stride: weights.stride.step(),
        };
        let conv = Conv::new(self.instructions().lanes(), &given);
        PackedConv { conv, residual: weights.residual }
    }
}

impl Backend for Cpu {
    type Tensor = Tensor;
    type Image = Vec<f32>;
    type Download = Picture;
    type Conv = PackedConv;
    type Deconv = Deconv;
    type Head = PackedHead;

    fn description(&self) -> BackendDescription {
        BackendDescription {
            device_kind: "cpu".into(),
            device_name: String::new(),
            precision: "f32".into(),
            instructions: self.instructions().name().into(),
            threads: self.threads(),
            setbacks: vec![],
            gpu: None,
        }
    }

    fn pack_conv(&self, weights: &ConvWeights) -> PackedConv {
        let order: Vec<_> = (0..weights.in_channels).map(Some).collect();
        self.pack(weights, &order)
    }

    fn pack_stage_conv(&self, weights: &ConvWeights, features: usize) -> PackedConv {
        self.pack(weights, &stage::input_order(weights.in_channels, features))
    }

    fn pack_deconv(&self, weights: &DeconvWeights) -> Deconv {
        let (_, _, channels) = weights.output_shape(1, 1);
        let order: Vec<_> = (0..channels).map(Some).collect();
        Deconv::new(self.instructions().lanes(), &deconv_parameters(weights, &order))
    }

    fn pack_head(&self, weights: &HeadWeights) -> PackedHead {
        let features = weights.deconv.out_channels;
        let channels = record_channels(features);
        // Three channels of the picture before the features, padding behind.
        let order: Vec<_> =
            (0..channels).map(|c| c.checked_sub(3).filter(|c| *c < features)).collect();
        let convs: Vec<_> = weights.convs.iter().map(|conv| self.pack_conv(conv)).collect();
        let layers: Vec<_> = convs.iter().map(|packed| &packed.conv).collect();
        PackedHead {
            strips: head::Head::new(self.instructions().lanes(), &layers, &weights.deconv),
            convs,
            deconv: Deconv::new(
                self.instructions().lanes(),
                &deconv_parameters(&weights.deconv, &order),
            ),
            channels,
        }
    }

    fn image_from_picture(&mut self, picture: &Picture, image: &mut Vec<f32>) {
        color::picture_to_rgb(&self.threads, picture, image);
    }

    fn image_from_rgb(&mut self, rgb: &[f32], [height, width]: [usize; 2], image: &mut Vec<f32>) {
        assert_eq!(rgb.len(), 3 * height * width, "rgb of the picture");
        image.resize(rgb.len(), 0.0);
        self.copy(rgb, image);
    }

    fn image_to_rgb(&mut self, image: &Vec<f32>, _index: usize) -> Vec<f32> {
        let mut rgb = vec![0.0; image.len()];
        self.copy(image, &mut rgb);
        rgb
    }

    fn start_picture(&mut self, image: &Vec<f32>, _index: usize, format: PictureFormat) -> Picture {
        color::rgb_to_picture(&self.threads, image, format)
    }

    fn finish_picture(&mut self, picture: Picture) -> Picture {
        picture
    }

    fn record(
        &mut self,
        head: Option<&PackedHead>,
        image: &Vec<f32>,
        padding: &Padding,
        record: &mut Tensor,
    ) {
        if let Some(strips) = head.and_then(|head| head.strips.as_ref()) {
            let parts = (&self.kernels, &self.threads, &self.scratch);
            return head::run(parts, strips, &padding.of(image), record);
        }
        let channels = head.map_or(record_channels(0), |head| head.channels);
        self.write_picture(&padding.of(image), channels, record);
        let Some(head) = head else { return };
        let [mut from, mut to] = std::mem::take(&mut self.head);
        for (index, layer) in head.convs.iter().enumerate() {
            let input = if index == 0 { &*record } else { &from };
            let parts = (&self.kernels, &self.threads, &self.scratch);
            layer.conv.run(parts, (input, Add::Nothing), &mut to);
            std::mem::swap(&mut from, &mut to);
        }
        let parts = (&self.kernels, &self.threads, &self.scratch);
        head.deconv.run_adding(parts, &from, record);
        self.head = [from, to];
    }

    fn stage_conv(&mut self, conv: &PackedConv, stage: &Stage<'_, Tensor>, output: &mut Tensor) {
        let parts = (&self.kernels, &self.threads, &self.scratch);
        stage::run(parts, &conv.conv, stage, output);
    }

    fn conv(&mut self, conv: &PackedConv, input: &Tensor, output: &mut Tensor) {
        let add = match conv.residual {
            Residual::None => Add::Nothing,
            Residual::Input => Add::BeforeActivation(input),
        };
        let parts = (&self.kernels, &self.threads, &self.scratch);
        conv.conv.run(parts, (input, add), output);
    }

    fn deconv(&mut self, deconv: &Deconv, input: &Tensor, output: &mut Tensor) {
        deconv.run((&self.kernels, &self.threads, &self.scratch), input, output);
    }

    fn deconv_fusion(
        &mut self,
        deconv: &Deconv,
        input: &Tensor,
        fusion: &Fusion<'_, Tensor>,
        image: &mut Vec<f32>,
    ) {
        image.resize(3 * fusion.height * fusion.width, 0.0);
        let parts = (&self.kernels, &self.threads, &self.scratch);
        let memory = (&mut self.whole, &mut self.refined, &mut image[..]);
        fusion::run(parts, (deconv, input), fusion, memory);
    }

    fn add(&mut self, from: &Tensor, to: &mut Tensor) {
        assert_eq!((from.h, from.w, from.c), (to.h, to.w, to.c), "tensors of one shape");
        let row = to.row_stride();
        let from = from.values();
        self.threads.chunks(to.values_mut(), row, |index, values| {
            let from = &from[index * row..];
            values.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        });
    }

    fn add_flows(&mut self, from: &Tensor, to: &mut Tensor) {
        assert_eq!((from.h, from.w, from.c), (to.h, to.w, to.c), "outputs of one shape");
        let (row, stride) = (to.row_stride(), to.stride);
        let from = from.values();
        self.threads.chunks(to.values_mut(), row, |index, values| {
            let pixels = values.chunks_exact_mut(stride);
            for (to, from) in pixels.zip(from[index * row..].chunks_exact(stride)) {
                to[..MASK].iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        });
    }

    fn to_plain(&self, tensor: &Tensor) -> plain::Tensor {
        let mut copy = plain::Tensor::zeros(tensor.h, tensor.w, tensor.c);
        for y in 0..tensor.h {
            for x in 0..tensor.w {
                let at = tensor.at(y, x);
                copy.at_mut(y, x).copy_from_slice(&tensor.values()[at..at + tensor.c]);
            }
        }
        copy
    }
}

fn deconv_parameters<'a>(
    weights: &'a DeconvWeights,
    output_order: &'a [Option<usize>],
) -> deconv::Parameters<'a> {
    weights.check(weights.in_channels);
    deconv::Parameters {
        weight: &weights.weight,
        bias: &weights.bias,
        shuffle: match weights.shuffle {
            Shuffle::None => deconv::Shuffle::None,
            Shuffle::ByTwo => deconv::Shuffle::Two,
        },
        output_order,
    }
}

impl Cpu {
    /// Copies values across the threads.
    fn copy(&self, from: &[f32], to: &mut [f32]) {
        self.threads.chunks(to, COPIED, |index, to| {
            to.copy_from_slice(&from[index * COPIED..][..to.len()]);
        });
    }

    /// The picture, zeros round it, in the first channels of a record; zeros in the others.
    fn write_picture(&self, picture: &Padded<'_>, channels: usize, record: &mut Tensor) {
        let (height, width) = (picture.height, picture.width);
        assert_eq!(picture.rgb.len(), 3 * height * width, "rgb of the picture");
        let fits = height <= picture.padded_height && width <= picture.padded_width;
        assert!(fits, "a picture within its padding");
        record.resize(picture.padded_height, picture.padded_width, channels);
        let (row, stride) = (record.row_stride(), record.stride);
        self.threads.chunks(record.values_mut(), row, |index, values| {
            values.fill(0.0);
            let Some(y) = index.checked_sub(1).filter(|y| *y < height) else { return };
            let from = picture.rgb[3 * y * width..].chunks_exact(3).take(width);
            for (to, from) in values[stride..].chunks_exact_mut(stride).zip(from) {
                to[..3].copy_from_slice(from);
            }
        });
    }
}
