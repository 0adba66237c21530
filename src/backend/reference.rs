//! The backend that computes every op by its plain definition: what the fast ones are compared with.

use crate::backend::{Backend, BackendDescription};
use crate::frame::{Picture, PictureFormat};
use crate::ops::color;
use crate::ops::conv::{self, ConvWeights};
use crate::ops::deconv::{self, DeconvWeights};
use crate::ops::flow::{self, MASK, Stage};
use crate::ops::fusion::{self, Fusion};
use crate::ops::head::{self, HeadWeights, Padding};
use crate::ops::tensor::Tensor;

/// Plain f32 on one thread. Keeps two tensors between calls.
#[derive(Debug, Default)]
pub struct Reference {
    stage: Tensor,
    last: Tensor,
}

impl Backend for Reference {
    type Tensor = Tensor;
    type Image = Vec<f32>;
    type Download = Picture;
    type Conv = ConvWeights;
    type Deconv = DeconvWeights;
    type Head = HeadWeights;

    fn description(&self) -> BackendDescription {
        BackendDescription {
            device_kind: "cpu".into(),
            device_name: String::new(),
            precision: "f32".into(),
            instructions: "plain".into(),
            threads: 1,
            setbacks: vec![],
            gpu: None,
        }
    }

    fn pack_conv(&self, weights: &ConvWeights) -> ConvWeights {
        weights.clone()
    }

    fn pack_stage_conv(&self, weights: &ConvWeights, _features: usize) -> ConvWeights {
        weights.clone()
    }

    fn pack_deconv(&self, weights: &DeconvWeights) -> DeconvWeights {
        weights.clone()
    }

    fn pack_head(&self, weights: &HeadWeights) -> HeadWeights {
        weights.clone()
    }

    fn image_from_picture(&mut self, picture: &Picture, image: &mut Vec<f32>) {
        color::write_rgb(picture, image);
    }

    fn image_from_rgb(&mut self, rgb: &[f32], [height, width]: [usize; 2], image: &mut Vec<f32>) {
        assert_eq!(rgb.len(), 3 * height * width, "rgb of the picture");
        image.clear();
        image.extend_from_slice(rgb);
    }

    fn image_to_rgb(&mut self, image: &Vec<f32>, _index: usize) -> Vec<f32> {
        image.clone()
    }

    fn start_picture(&mut self, image: &Vec<f32>, _index: usize, format: PictureFormat) -> Picture {
        color::rgb_to_picture(image, format)
    }

    fn finish_picture(&mut self, picture: Picture) -> Picture {
        picture
    }

    fn record(
        &mut self,
        head: Option<&HeadWeights>,
        image: &Vec<f32>,
        padding: &Padding,
        record: &mut Tensor,
    ) {
        head::reference(head, &padding.of(image), record);
    }

    fn stage_conv(&mut self, conv: &ConvWeights, stage: &Stage<'_>, output: &mut Tensor) {
        flow::reference(stage, &mut self.stage);
        conv::reference(conv, &self.stage, output);
    }

    fn conv(&mut self, conv: &ConvWeights, input: &Tensor, output: &mut Tensor) {
        conv::reference(conv, input, output);
    }

    fn deconv(&mut self, deconv: &DeconvWeights, input: &Tensor, output: &mut Tensor) {
        deconv::reference(deconv, input, output);
    }

    fn deconv_fusion(
        &mut self,
        deconv: &DeconvWeights,
        input: &Tensor,
        fusion: &Fusion<'_>,
        image: &mut Vec<f32>,
    ) {
        deconv::reference(deconv, input, &mut self.last);
        image.resize(3 * fusion.height * fusion.width, 0.0);
        fusion::reference(fusion, &self.last, image);
    }

    fn add(&mut self, from: &Tensor, to: &mut Tensor) {
        assert_eq!((from.h, from.w, from.c), (to.h, to.w, to.c), "tensors of one shape");
        to.data.iter_mut().zip(&from.data).for_each(|(to, from)| *to += from);
    }

    fn add_flows(&mut self, from: &Tensor, to: &mut Tensor) {
        assert_eq!((from.h, from.w, from.c), (to.h, to.w, to.c), "outputs of one shape");
        for (to, from) in to.data.chunks_exact_mut(to.c).zip(from.data.chunks_exact(from.c)) {
            to[..MASK].iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }

    fn to_plain(&self, tensor: &Tensor) -> Tensor {
        tensor.clone()
    }
}
