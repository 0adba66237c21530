//! A backend that measures another: seconds and arithmetic of each part of the network.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use slomod::backend::{Backend, BackendDescription};
use slomod::frame::{Picture, PictureFormat};
use slomod::ops::conv::ConvWeights;
use slomod::ops::deconv::DeconvWeights;
use slomod::ops::flow::Stage;
use slomod::ops::fusion::Fusion;
use slomod::ops::head::{HeadWeights, Padding};
use slomod::ops::tensor::{Shape, Tensor};

/// Part, seconds, floating-point operations; in the order in which parts first ran.
pub type Spent = Vec<(String, f64, f64)>;

/// Measures what it passes on.
pub struct Timed<B> {
    inner: B,
    spent: Arc<Mutex<Spent>>,
    block: usize,
}

/// Packed weights and the operations for each pixel of the output (of the input, for transposed ones).
pub struct Counted<T> {
    inner: T,
    flop_per_pixel: f64,
}

impl<B> Timed<B> {
    pub fn new(inner: B) -> Self {
        Self { inner, spent: Arc::default(), block: 0 }
    }

    /// Where the measurements go.
    pub fn spent(&self) -> Arc<Mutex<Spent>> {
        Arc::clone(&self.spent)
    }

    fn note(&self, part: &str, start: Instant, flop: f64) {
        let seconds = start.elapsed().as_secs_f64();
        let mut spent = self.spent.lock().unwrap();
        match spent.iter_mut().find(|(name, ..)| name == part) {
            Some((_, sum, flops)) => {
                *sum += seconds;
                *flops += flop;
            }
            None => spent.push((part.to_owned(), seconds, flop)),
        }
    }
}

fn pixels(tensor: &impl Shape) -> f64 {
    let [h, w, _] = tensor.shape();
    (h * w) as f64
}

fn conv_flop(weights: &ConvWeights) -> f64 {
    (2 * 9 * weights.in_channels * weights.out_channels) as f64
}

/// Each input pixel meets each of the 16 taps once.
fn deconv_flop(weights: &DeconvWeights) -> f64 {
    (2 * 16 * weights.in_channels * weights.out_channels) as f64
}

impl<B: Backend> Backend for Timed<B> {
    type Tensor = B::Tensor;
    type Image = B::Image;
    type Download = B::Download;
    type Conv = Counted<B::Conv>;
    type Deconv = Counted<B::Deconv>;
    type Head = Counted<B::Head>;

    fn description(&self) -> BackendDescription {
        self.inner.description()
    }

    fn pack_conv(&self, weights: &ConvWeights) -> Self::Conv {
        Counted { inner: self.inner.pack_conv(weights), flop_per_pixel: conv_flop(weights) }
    }

    fn pack_stage_conv(&self, weights: &ConvWeights, features: usize) -> Self::Conv {
        let inner = self.inner.pack_stage_conv(weights, features);
        Counted { inner, flop_per_pixel: conv_flop(weights) }
    }

    fn pack_deconv(&self, weights: &DeconvWeights) -> Self::Deconv {
        Counted { inner: self.inner.pack_deconv(weights), flop_per_pixel: deconv_flop(weights) }
    }

    fn pack_head(&self, weights: &HeadWeights) -> Self::Head {
        // All layers work at half the record's size.
        let convs: f64 = weights.convs.iter().map(conv_flop).sum();
        let flop_per_pixel = 0.25 * (convs + deconv_flop(&weights.deconv));
        Counted { inner: self.inner.pack_head(weights), flop_per_pixel }
    }

    fn image_from_picture(&mut self, picture: &Picture, image: &mut B::Image) {
        self.inner.image_from_picture(picture, image);
    }

    fn image_from_rgb(&mut self, rgb: &[f32], size: [usize; 2], image: &mut B::Image) {
        self.inner.image_from_rgb(rgb, size, image);
    }

    fn image_to_rgb(&mut self, image: &B::Image, index: usize) -> Vec<f32> {
        self.inner.image_to_rgb(image, index)
    }

    fn start_picture(
        &mut self,
        image: &B::Image,
        index: usize,
        format: PictureFormat,
    ) -> B::Download {
        self.inner.start_picture(image, index, format)
    }

    fn finish_picture(&mut self, download: B::Download) -> Picture {
        self.inner.finish_picture(download)
    }

    fn record(
        &mut self,
        head: Option<&Self::Head>,
        image: &B::Image,
        padding: &Padding,
        record: &mut B::Tensor,
    ) {
        let start = Instant::now();
        self.block = 0;
        self.inner.record(head.map(|head| &head.inner), image, padding, record);
        let flop = head.map_or(0.0, |head| head.flop_per_pixel * pixels(record));
        self.note("two heads", start, flop);
    }

    fn stage_conv(
        &mut self,
        conv: &Self::Conv,
        stage: &Stage<'_, B::Tensor>,
        output: &mut B::Tensor,
    ) {
        let start = Instant::now();
        self.block = stage.earlier.len();
        self.inner.stage_conv(&conv.inner, stage, output);
        let part = format!("block {} stage and first convolution", self.block);
        self.note(&part, start, conv.flop_per_pixel * pixels(output));
    }

    fn conv(&mut self, conv: &Self::Conv, input: &B::Tensor, output: &mut B::Tensor) {
        let start = Instant::now();
        self.inner.conv(&conv.inner, input, output);
        let part = format!("block {} convolutions", self.block);
        self.note(&part, start, conv.flop_per_pixel * pixels(output));
    }

    fn deconv(&mut self, deconv: &Self::Deconv, input: &B::Tensor, output: &mut B::Tensor) {
        let start = Instant::now();
        self.inner.deconv(&deconv.inner, input, output);
        let part = format!("block {} transposed convolution", self.block);
        self.note(&part, start, deconv.flop_per_pixel * pixels(input));
    }

    fn deconv_fusion(
        &mut self,
        deconv: &Self::Deconv,
        input: &B::Tensor,
        fusion: &Fusion<'_, B::Tensor>,
        image: &mut B::Image,
    ) {
        let start = Instant::now();
        self.inner.deconv_fusion(&deconv.inner, input, fusion, image);
        self.note(
            "last transposed convolution and fusion",
            start,
            deconv.flop_per_pixel * pixels(input),
        );
    }

    fn add(&mut self, from: &B::Tensor, to: &mut B::Tensor) {
        self.inner.add(from, to);
    }

    fn add_flows(&mut self, from: &B::Tensor, to: &mut B::Tensor) {
        self.inner.add_flows(from, to);
    }

    fn to_plain(&self, tensor: &B::Tensor) -> Tensor {
        self.inner.to_plain(tensor)
    }
}
