//! A frame's record with the kernels of `kernels/head.cu`.

use std::sync::Arc;

use super::conv::{self, PackedConv};
use super::driver::{Buffer, DeviceError, Driver, Launch, Parameters};
use super::instances::{self, Choice, Instance, Kind, Work};
use super::pack::{self, CHUNK};
use super::params::{HeadFirstParams, HeadLastParams, RecordParams};
use super::tensor::Tensor;
use crate::ops::conv::Stride;
use crate::ops::deconv::DeconvWeights;
use crate::ops::head::{HeadWeights, record_channels};

/// Values of a pixel's neighborhood, three channels of nine taps, up to 16s.
const ROW: usize = 32;
/// Phases of the transposed convolution.
const PHASES: usize = 4;

/// A feature network in device memory.
#[derive(Debug)]
pub struct PackedHead {
    first: First,
    middle: Vec<PackedConv>,
    last: Last,
}

#[derive(Debug)]
struct First {
    weights: Buffer,
    affine: Buffer,
    instance: Instance,
    out_channels: usize,
}

#[derive(Debug)]
struct Last {
    weights: Buffer,
    bias: Buffer,
    candidates: Vec<Instance>,
    features: usize,
    cin: usize,
}

impl PackedHead {
    /// Packs weights.
    ///
    /// # Errors
    /// As [`Buffer::with_content`], and [`DeviceError::Failed`] where the kernels know no such number of features.
    ///
    /// # Panics
    /// If the weights' shapes do not fit each other.
    pub fn new(driver: &Arc<dyn Driver>, weights: &HeadWeights) -> Result<Self, DeviceError> {
        let middle = weights.convs[1..].iter().map(|conv| {
            let stored = conv.in_channels.next_multiple_of(CHUNK);
            PackedConv::new(driver, conv, &conv::plain_order(conv.in_channels, stored))
        });
        Ok(Self {
            first: First::new(driver, weights)?,
            middle: middle.collect::<Result<_, _>>()?,
            last: Last::new(driver, &weights.deconv)?,
        })
    }

    /// The record `[padded, record channels]` of an image `[1, h, w, 4]`; see [`crate::ops::head`].
    ///
    /// # Errors
    /// As [`Driver::allocate`] and [`Driver::launch`].
    ///
    /// # Panics
    /// If the padding is smaller than the image.
    pub fn run(
        &self,
        driver: &Arc<dyn Driver>,
        image: &Tensor,
        padded: [usize; 2],
        scratch: &mut [Tensor; 2],
        record: &mut Tensor,
    ) -> Result<(), DeviceError> {
        check_image(image, padded);
        let [from, to] = scratch;
        self.first.run(driver, image, padded, from)?;
        let (mut from, mut to) = (from, to);
        for conv in &self.middle {
            conv.run(driver, from, to)?;
            std::mem::swap(&mut from, &mut to);
        }
        self.last.run(driver, image, from, padded, record)
    }
}

impl First {
    fn new(driver: &Arc<dyn Driver>, head: &HeadWeights) -> Result<Self, DeviceError> {
        let weights = &head.convs[0];
        weights.check(3);
        assert_eq!(weights.stride, Stride::Two, "stride of the head's first layer");
        let cout = weights.out_channels.next_multiple_of(CHUNK);
        let weight = |out: usize, place: usize, _| {
            let real = out < weights.out_channels && place < 27;
            if real { weights.weight[(out * 3 + place % 3) * 9 + place / 3] } else { 0.0 }
        };
        let mut fitting = instances::all();
        fitting.retain(|it| it.kind == Kind::HeadFirst && cout.is_multiple_of(it.nb));
        let widest = fitting.into_iter().max_by_key(|it| it.nb);
        Ok(Self {
            weights: Buffer::with_content(driver, &pack::fragments([cout, ROW, 1], weight))?,
            affine: pack::affine(driver, weights, cout)?,
            instance: widest.ok_or_else(|| instances::none_fits(driver, "head"))?,
            out_channels: weights.out_channels,
        })
    }

    fn run(
        &self,
        driver: &Arc<dyn Driver>,
        image: &Tensor,
        [h, w]: [usize; 2],
        output: &mut Tensor,
    ) -> Result<(), DeviceError> {
        let (size, cout) =
            ([h.div_ceil(2), w.div_ceil(2)], self.out_channels.next_multiple_of(CHUNK));
        output.reshape(driver, [1, size[0], size[1], self.out_channels], cout)?;
        let params = HeadFirstParams {
            image: image.address(),
            weights: self.weights.address(),
            affine: self.affine.address(),
            dst: output.address(),
            h: h as i32,
            w: w as i32,
            frame_h: image.h as i32,
            frame_w: image.w as i32,
        };
        let shared_bytes = self.instance.shared_bytes(1);
        let choice = Choice { instance: self.instance, stages: 1, shared_bytes };
        choice.launch(driver, size, cout / self.instance.nb, params.as_bytes())
    }
}

impl Last {
    fn new(driver: &Arc<dyn Driver>, weights: &DeconvWeights) -> Result<Self, DeviceError> {
        weights.check(weights.in_channels);
        let (features, cin) = (weights.out_channels, weights.in_channels.next_multiple_of(CHUNK));
        let nb = PHASES * features;
        let candidates: Vec<_> = instances::all()
            .into_iter()
            .filter(|it| it.kind == Kind::HeadLast && it.nb == nb)
            .collect();
        if candidates.is_empty() {
            return Err(DeviceError::Failed {
                device: driver.description().name.clone(),
                doing: "packing the feature network".into(),
                reason: format!("kernels are there for 4, 8 and 16 features, not for {features}"),
            });
        }
        let weight = |out: usize, channel: usize, tap: usize| {
            let real = channel < weights.in_channels;
            let at = [out % features, channel];
            if real { pack::window_weight(weights, at, out / features, tap) } else { 0.0 }
        };
        let packed = pack::fragments([nb, cin, 9], weight);
        let bias = weights.bias.repeat(PHASES);
        Ok(Self {
            weights: Buffer::with_content(driver, &packed)?,
            bias: Buffer::with_content(driver, &pack::float_bytes(&bias))?,
            candidates,
            features,
            cin,
        })
    }

    fn run(
        &self,
        driver: &Arc<dyn Driver>,
        image: &Tensor,
        input: &Tensor,
        [h, w]: [usize; 2],
        record: &mut Tensor,
    ) -> Result<(), DeviceError> {
        assert_eq!(input.stored, self.cin, "input channels of the head's last layer");
        let channels = record_channels(self.features);
        record.reshape(driver, [1, h, w, channels], channels)?;
        let size = [input.h, input.w];
        let work = Work { n: 1, size, cin: self.cin, cout: PHASES * self.features };
        let choice = instances::choose(&self.candidates, &work, driver.description())
            .ok_or_else(|| instances::none_fits(driver, "head"))?;
        let params = HeadLastParams {
            image: image.address(),
            src: input.address(),
            weights: self.weights.address(),
            bias: self.bias.address(),
            record: record.address(),
            h: h as i32,
            w: w as i32,
            frame_h: image.h as i32,
            frame_w: image.w as i32,
            cin: self.cin as i32,
            stages: choice.stages as i32,
        };
        choice.launch(driver, size, 1, params.as_bytes())
    }
}

/// Threads of a block of the kernel `record_plain`.
const RECORD_THREADS: u32 = 256;

/// The record `[padded, 4]` of a network without features.
///
/// # Errors
/// As [`Driver::allocate`] and [`Driver::launch`].
///
/// # Panics
/// If the padding is smaller than the image.
pub fn plain_record(
    driver: &Arc<dyn Driver>,
    image: &Tensor,
    padded: [usize; 2],
    record: &mut Tensor,
) -> Result<(), DeviceError> {
    check_image(image, padded);
    let [h, w] = padded;
    record.reshape(driver, [1, h, w, record_channels(0)], record_channels(0))?;
    let params = RecordParams {
        image: image.address(),
        record: record.address(),
        h: h as i32,
        w: w as i32,
        frame_h: image.h as i32,
        frame_w: image.w as i32,
    };
    driver.launch(&Launch {
        kernel: "record_plain",
        grid: [(w as u32).div_ceil(RECORD_THREADS), h as u32, 1],
        block: [RECORD_THREADS, 1, 1],
        shared_bytes: 0,
        params: params.as_bytes(),
    })
}

fn check_image(image: &Tensor, [h, w]: [usize; 2]) {
    assert_eq!((image.n, image.stored), (1, 4), "an image has four channels in memory");
    assert!(image.h <= h && image.w <= w, "the padding is no smaller than the image");
}
