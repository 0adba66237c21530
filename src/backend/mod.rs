//! Fast execution of the ops on a processor or (later) a GPU: the [`Backend`] seam and what implements it.

use crate::frame::{Picture, PictureFormat};
use crate::ops::color;
use crate::ops::conv::ConvWeights;
use crate::ops::deconv::DeconvWeights;
use crate::ops::flow::Stage;
use crate::ops::fusion::Fusion;
use crate::ops::head::{HeadWeights, Padded};
use crate::ops::tensor::{Shape, Tensor};

pub mod cpu;
pub mod cuda;
pub mod reference;

/// What a backend is, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendDescription {
    /// `cpu`, later `cuda`.
    pub device_kind: String,
    /// Human name of the device; empty where the caller should find out the processor's.
    pub device_name: String,
    /// Storage and arithmetic, such as `f32`.
    pub precision: String,
    /// Vector instructions or device generation in use, such as `avx2`.
    pub instructions: String,
    /// Threads used.
    pub threads: usize,
}

/// The ops of a network. Weights are packed once, when a network is loaded; every output tensor takes the shape that
/// follows from the inputs and keeps its allocation where it suffices.
///
/// Every method equals the plain definition in `ops` of the same name but for rounding. All panic on shapes that do not
/// fit: weights are checked when a file is loaded, so that is a fault of slomod's own.
pub trait Backend: Send {
    /// An image of f32 channels in the backend's own layout and memory.
    type Tensor: Default + Send + Sync + Shape;
    /// A packed convolution.
    type Conv: Send;
    /// A packed transposed convolution.
    type Deconv: Send;
    /// A packed feature network.
    type Head: Send;

    /// What it is.
    fn description(&self) -> BackendDescription;

    /// Packs a convolution.
    fn pack_conv(&self, weights: &ConvWeights) -> Self::Conv;

    /// Packs the first convolution of a block whose frames have `features`; a backend may order the channels of the
    /// block's input as it likes.
    fn pack_stage_conv(&self, weights: &ConvWeights, features: usize) -> Self::Conv;

    /// Packs a transposed convolution.
    fn pack_deconv(&self, weights: &DeconvWeights) -> Self::Deconv;

    /// Packs a feature network.
    fn pack_head(&self, weights: &HeadWeights) -> Self::Head;

    /// RGB of a picture, `[h, w, 3]`, into a buffer that is used again; see [`crate::ops::color`].
    fn picture_to_rgb(&mut self, picture: &Picture, rgb: &mut Vec<f32>) {
        color::write_rgb(picture, rgb);
    }

    /// The picture nearest to `rgb`; see [`crate::ops::color`].
    fn rgb_to_picture(&mut self, rgb: &[f32], format: PictureFormat) -> Picture {
        color::rgb_to_picture(rgb, format)
    }

    /// One frame's record; see [`crate::ops::head`].
    fn record(
        &mut self,
        head: Option<&Self::Head>,
        picture: &Padded<'_>,
        record: &mut Self::Tensor,
    );

    /// The first convolution of a block on the block's input: `conv(stage)`. A fast backend makes the input band by
    /// band and never stores it whole. See [`crate::ops::flow`].
    fn stage_conv(
        &mut self,
        conv: &Self::Conv,
        stage: &Stage<'_, Self::Tensor>,
        output: &mut Self::Tensor,
    );

    /// A convolution; see [`crate::ops::conv`].
    fn conv(&mut self, conv: &Self::Conv, input: &Self::Tensor, output: &mut Self::Tensor);

    /// A transposed convolution; see [`crate::ops::deconv`].
    fn deconv(&mut self, deconv: &Self::Deconv, input: &Self::Tensor, output: &mut Self::Tensor);

    /// The last block's transposed convolution and the picture: `fusion(deconv(input))` into `rgb`
    /// `[height, width, 3]`. See [`crate::ops::fusion`].
    fn deconv_fusion(
        &mut self,
        deconv: &Self::Deconv,
        input: &Self::Tensor,
        fusion: &Fusion<'_, Self::Tensor>,
        rgb: &mut [f32],
    );

    /// `to += from`, for the sum round the convolution chain of v4.0 and v4.1.
    ///
    /// # Panics
    /// If the shapes differ.
    fn add(&mut self, from: &Self::Tensor, to: &mut Self::Tensor);

    /// A copy in the plain layout.
    fn to_plain(&self, tensor: &Self::Tensor) -> Tensor;
}
