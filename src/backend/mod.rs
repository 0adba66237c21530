//! Fast execution of the ops on a processor or a GPU: the [`Backend`] seam and what implements it.

use serde::{Deserialize, Serialize};

use crate::backend::cuda::driver::DeviceError;
use crate::frame::{Picture, PictureFormat};
use crate::ops::conv::ConvWeights;
use crate::ops::deconv::DeconvWeights;
use crate::ops::flow::Stage;
use crate::ops::fusion::Fusion;
use crate::ops::head::{HeadWeights, Padding};
use crate::ops::metrics::Measures;
use crate::ops::tensor::{Shape, Tensor};

pub mod cpu;
pub mod cuda;
pub mod reference;

/// What a backend is, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendDescription {
    /// `cpu` or `cuda`.
    pub device_kind: String,
    /// Human name of the device; empty where the caller should find out the processor's.
    pub device_name: String,
    /// Storage and arithmetic, such as `f32`.
    pub precision: String,
    /// Vector instructions or device generation in use, such as `avx2`.
    pub instructions: String,
    /// Threads used.
    pub threads: usize,
    /// What goes slower than it should since the backend was made, sentences.
    pub setbacks: Vec<String>,
    /// More of a GPU; absent where it runs on none.
    pub gpu: Option<Gpu>,
}

/// What a GPU says of itself, and what of its memory was in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Its own number, as `nvidia-smi -L` prints it; absent where the driver does not tell it.
    pub uuid: Option<String>,
    /// Newest version of CUDA that the driver knows, such as `12.2`.
    pub cuda: Option<String>,
    /// The most bytes of its memory that were allocated at a time.
    pub memory_peak_bytes: u64,
}

/// The ops of a network. Weights are packed once, when a network is loaded; every output tensor takes the shape that
/// follows from the inputs and keeps its allocation where it suffices.
///
/// Every method equals the plain definition in `ops` of the same name but for rounding. All panic on shapes that do not
/// fit: weights are checked when a file is loaded, so that is a fault of slomod's own.
///
/// A device can fail at any op, and may find out later. After a failure the ops do nothing until [`Backend::status`]
/// has told it; what they would have written is unspecified.
pub trait Backend: Send {
    /// An image of f32 channels in the backend's own layout and memory.
    type Tensor: Default + Send + Sync + Shape;
    /// RGB of one or several pictures of one size, in the backend's own layout and memory.
    type Image: Default + Send;
    /// A picture on its way out of the backend's memory.
    type Download: Send;
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

    /// Pictures that one call of an op can make at the most.
    fn max_batch(&self) -> usize {
        1
    }

    /// Pictures to ask for before the first is finished, so that the device never waits for the host; 0 where an op is
    /// done when its call returns.
    fn depth(&self) -> usize {
        0
    }

    /// Whether all is well, once; a failure that was told is forgotten.
    ///
    /// # Errors
    /// The first failure since the last call.
    fn status(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Runs `body`, whose launches a device may keep and repeat when the same come again.
    fn sequence(&mut self, body: &mut dyn FnMut(&mut Self)) {
        body(self);
    }

    /// RGB of a picture; see [`crate::ops::color`].
    fn image_from_picture(&mut self, picture: &Picture, image: &mut Self::Image);

    /// An image of `rgb`, `[height, width, 3]`.
    ///
    /// # Panics
    /// If `rgb` is not as long as the size says.
    fn image_from_rgb(&mut self, rgb: &[f32], size: [usize; 2], image: &mut Self::Image);

    /// RGB of one picture of an image, `[height, width, 3]`.
    fn image_to_rgb(&mut self, image: &Self::Image, index: usize) -> Vec<f32>;

    /// Begins to fetch the picture nearest to one of an image; the image may be overwritten by later ops.
    fn start_picture(
        &mut self,
        image: &Self::Image,
        index: usize,
        format: PictureFormat,
    ) -> Self::Download;

    /// Waits for a picture. After a failure its samples are unspecified.
    fn finish_picture(&mut self, download: Self::Download) -> Picture;

    /// Whether it compares pictures; what does not leaves that to `quality`.
    fn measures(&self) -> bool {
        false
    }

    /// Begins to compare pictures, three at the most, with the true one of the same format, and forgets an earlier
    /// comparison; see [`crate::ops::metrics`]. False where it cannot, for want of memory or after a failure. Not to be
    /// called within [`Backend::sequence`].
    fn start_measures(&mut self, _truth: &Picture, _predicted: &[&Picture]) -> bool {
        false
    }

    /// Waits for the comparison that was begun last: the measures in the order of the pictures. None where there is none,
    /// or after a failure.
    fn finish_measures(&mut self) -> Option<Vec<Measures>> {
        None
    }

    /// The record of an image of one frame; see [`crate::ops::head`].
    fn record(
        &mut self,
        head: Option<&Self::Head>,
        image: &Self::Image,
        padding: &Padding,
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

    /// The last block's transposed convolution and the pictures: `fusion(deconv(input))`. See [`crate::ops::fusion`].
    fn deconv_fusion(
        &mut self,
        deconv: &Self::Deconv,
        input: &Self::Tensor,
        fusion: &Fusion<'_, Self::Tensor>,
        image: &mut Self::Image,
    );

    /// `to += from`, for the sum round the convolution chain of v4.0 and v4.1.
    ///
    /// # Panics
    /// If the shapes differ.
    fn add(&mut self, from: &Self::Tensor, to: &mut Self::Tensor);

    /// Adds the flows (channels 0 to 3) of one block output to those of another.
    ///
    /// # Panics
    /// If the shapes differ.
    fn add_flows(&mut self, from: &Self::Tensor, to: &mut Self::Tensor);

    /// A copy of the first picture's values in the plain layout.
    fn to_plain(&self, tensor: &Self::Tensor) -> Tensor;
}
