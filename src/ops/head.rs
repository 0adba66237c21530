//! One frame's record: its padded picture and, from v4.7 on, its features, side by side for one load a warp.
//!
//! The record is `[height, width, record_channels(features)]`: r, g, b, features, zeros. The picture is padded
//! with zeros on the right and at the bottom; values beyond 0..1 go through (see [`crate::ops::color`]). Features: a chain of 3x3 convolutions, the first with stride
//! 2, then a transposed convolution back to full size. Source: `encode` (`Head`) of Practical-RIFE v4.7 to v4.26.

use crate::ops::conv::{self, ConvWeights};
use crate::ops::deconv::{self, DeconvWeights};
use crate::ops::tensor::Tensor;

/// Weights of the feature network.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadWeights {
    /// One (v4.7 to v4.9) or three (later) convolutions; the first takes r, g, b and has stride 2.
    pub convs: Vec<ConvWeights>,
    /// Back to full size; its output channels are the features (4, 8 or 16).
    pub deconv: DeconvWeights,
}

/// Channels of a record: 3 and the features, up to the next multiple of 8; 4 where there are no features.
#[must_use]
pub fn record_channels(features: usize) -> usize {
    if features == 0 { 4 } else { (3 + features).next_multiple_of(8) }
}

/// A picture's size and the size it is padded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Padding {
    /// Rows of the picture.
    pub height: usize,
    /// Columns of the picture.
    pub width: usize,
    /// Rows with padding.
    pub padded_height: usize,
    /// Columns with padding.
    pub padded_width: usize,
}

impl Padding {
    /// That picture with this padding.
    #[must_use]
    pub fn of<'a>(&self, rgb: &'a [f32]) -> Padded<'a> {
        let Self { height, width, padded_height, padded_width } = *self;
        Padded { rgb, height, width, padded_height, padded_width }
    }
}

/// A picture and the size it is padded to.
#[derive(Clone, Copy, Debug)]
pub struct Padded<'a> {
    /// `[height, width, 3]`, nominal 0..1.
    pub rgb: &'a [f32],
    /// Rows of the picture.
    pub height: usize,
    /// Columns of the picture.
    pub width: usize,
    /// Rows with padding.
    pub padded_height: usize,
    /// Columns with padding.
    pub padded_width: usize,
}

impl Padded<'_> {
    /// Writes the picture with zeros round it into the first three channels of `record` and zeros into the others.
    ///
    /// # Panics
    /// If `rgb` is not as long as its size says, or the padding is smaller than the picture.
    pub fn write(&self, channels: usize, record: &mut Tensor) {
        assert_eq!(self.rgb.len(), 3 * self.height * self.width, "rgb of the picture");
        assert!(self.height <= self.padded_height && self.width <= self.padded_width, "padding");
        record.reshape(self.padded_height, self.padded_width, channels);
        record.data.fill(0.0);
        for (y, row) in self.rgb.chunks_exact(3 * self.width).enumerate() {
            let start = y * self.padded_width * channels;
            let pixels = record.data[start..].chunks_exact_mut(channels);
            for (to, from) in pixels.zip(row.chunks_exact(3)) {
                to[..3].copy_from_slice(from);
            }
        }
    }
}

/// The definition, in f32.
///
/// # Panics
/// Where shapes do not fit.
pub fn reference(head: Option<&HeadWeights>, picture: &Padded<'_>, record: &mut Tensor) {
    let Some(head) = head else {
        picture.write(record_channels(0), record);
        return;
    };
    let features = head.deconv.out_channels;
    picture.write(record_channels(features), record);
    let (mut from, mut to) = (record.channels(0, 3), Tensor::default());
    for layer in &head.convs {
        conv::reference(layer, &from, &mut to);
        std::mem::swap(&mut from, &mut to);
    }
    deconv::reference(&head.deconv, &from, &mut to);
    let channels = record.c;
    let pixels = record.data.chunks_exact_mut(channels).zip(to.data.chunks_exact(features));
    pixels.for_each(|(record, features)| record[3..3 + features.len()].copy_from_slice(features));
}
