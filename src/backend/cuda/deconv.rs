//! The transposed convolution of `kernels/deconv.cu`: a block's output in flow, mask and features.

use std::sync::Arc;

use super::driver::{Buffer, DeviceError, Driver, Parameters};
use super::instances::{self, Choice, Instance, Kind, Work};
use super::pack::{self, CHUNK};
use super::params::{DeconvParams, DeconvPlainParams};
use super::tensor::Tensor;
use crate::ops::deconv::{DeconvWeights, Shuffle};

/// Flow and mask.
const FLOW_AND_MASK: usize = 5;
/// Features that a block may hand on.
const HANDED_ON: usize = 8;
/// Where the features begin among the product's channels of a sub-pixel.
const HANDED_FROM: usize = 8;
/// Phases, and sub-pixels of a pixel shuffle.
const PHASES: usize = 4;

/// A transposed convolution in device memory. With five or six channels it makes flow and mask; with thirteen, features
/// too.
#[derive(Debug)]
pub struct PackedDeconv {
    weights: Buffer,
    bias: Buffer,
    candidates: Vec<Instance>,
    shuffle: Shuffle,
    cin: usize,
    handed_on: usize,
}

/// The output channel that a place of a sub-pixel's (or phase's) share of the product holds.
fn channel_at(place: usize, handed_on: usize) -> Option<usize> {
    match place {
        0..FLOW_AND_MASK => Some(place),
        HANDED_FROM.. if place < HANDED_FROM + handed_on => {
            Some(place - HANDED_FROM + FLOW_AND_MASK)
        }
        _ => None,
    }
}

impl PackedDeconv {
    /// Packs weights.
    ///
    /// # Errors
    /// As [`Buffer::with_content`].
    ///
    /// # Panics
    /// If shapes do not fit, or there are no five channels, or features without a pixel shuffle.
    pub fn new(driver: &Arc<dyn Driver>, weights: &DeconvWeights) -> Result<Self, DeviceError> {
        weights.check(weights.in_channels);
        let (_, _, channels) = weights.output_shape(1, 1);
        assert!(channels >= FLOW_AND_MASK, "{channels} channels hold no flow and mask");
        let handed_on = if channels >= FLOW_AND_MASK + HANDED_ON { HANDED_ON } else { 0 };
        assert!(handed_on == 0 || weights.shuffle == Shuffle::ByTwo, "features come shuffled");
        let (cin, nb) = (weights.in_channels.next_multiple_of(CHUNK), product_channels(handed_on));
        let share = nb / PHASES;
        // The weights' channel for a column of the product.
        let column = |out: usize| {
            let channel = channel_at(out % share, handed_on)?;
            Some(match weights.shuffle {
                Shuffle::ByTwo => 4 * channel + out / share,
                Shuffle::None => channel,
            })
        };
        let real = |out: usize, channel: usize| {
            column(out).filter(|_| channel < weights.in_channels).map(|out| [out, channel])
        };
        let packed = match weights.shuffle {
            Shuffle::ByTwo => {
                let phases = (0..PHASES).map(|phase| {
                    pack::fragments([nb, cin, 4], |out, channel, tap| {
                        let at = real(out, channel);
                        at.map_or(0.0, |at| pack::phase_weight(weights, at, phase, tap))
                    })
                });
                phases.collect::<Vec<_>>().concat()
            }
            Shuffle::None => pack::fragments([nb, cin, 9], |out, channel, tap| {
                let at = real(out, channel);
                at.map_or(0.0, |at| pack::window_weight(weights, at, out / share, tap))
            }),
        };
        let bias: Vec<_> =
            (0..nb).map(|out| column(out).map_or(0.0, |it| weights.bias[it])).collect();
        let kind = match weights.shuffle {
            Shuffle::ByTwo => Kind::Deconv,
            Shuffle::None => Kind::DeconvPlain,
        };
        let is_candidate = |it: &Instance| it.kind == kind && it.nb == nb;
        Ok(Self {
            weights: Buffer::with_content(driver, &packed)?,
            bias: Buffer::with_content(driver, &pack::float_bytes(&bias))?,
            candidates: instances::all().into_iter().filter(is_candidate).collect(),
            shuffle: weights.shuffle,
            cin,
            handed_on,
        })
    }

    /// Input channels in memory.
    #[must_use]
    pub fn cin(&self) -> usize {
        self.cin
    }

    /// Features that come out beside flow and mask: 0 or 8.
    #[must_use]
    pub fn handed_on(&self) -> usize {
        self.handed_on
    }

    /// Whether the output is four times the input's size, or twice.
    #[must_use]
    pub fn shuffle(&self) -> Shuffle {
        self.shuffle
    }

    /// Columns of the product: 32, or 64 with features.
    #[must_use]
    pub fn nb(&self) -> usize {
        product_channels(self.handed_on)
    }

    /// Address of the weights: with a pixel shuffle `[phase][NB / 16][cin / 16][4][lane][8]`, else
    /// `[NB / 16][cin / 16][9][lane][8]`.
    #[must_use]
    pub fn weights_address(&self) -> u64 {
        self.weights.address()
    }

    /// Address of the bias, `[NB]` floats.
    #[must_use]
    pub fn bias_address(&self) -> u64 {
        self.bias.address()
    }

    /// Which instance `run` takes for `n` pictures of `size`.
    ///
    /// # Errors
    /// If the device has too little shared memory for any.
    pub fn choice(
        &self,
        driver: &Arc<dyn Driver>,
        n: usize,
        size: [usize; 2],
    ) -> Result<Choice, DeviceError> {
        let work = Work { n: n * self.blocks_behind(), size, cin: self.cin, cout: self.nb() };
        instances::choose(&self.candidates, &work, driver.description())
            .ok_or_else(|| instances::none_fits(driver, "transposed convolution"))
    }

    /// Blocks behind each tile for each picture.
    fn blocks_behind(&self) -> usize {
        match self.shuffle {
            Shuffle::ByTwo => PHASES,
            Shuffle::None => 1,
        }
    }

    /// The block's output in `Layout::Output`; see [`crate::ops::deconv`].
    ///
    /// # Errors
    /// As [`Driver::allocate`] and [`Driver::launch`].
    ///
    /// # Panics
    /// If the input has another number of channels in memory.
    pub fn run(
        &self,
        driver: &Arc<dyn Driver>,
        input: &Tensor,
        output: &mut Tensor,
    ) -> Result<(), DeviceError> {
        self.run_with(driver, self.choice(driver, input.n, [input.h, input.w])?, input, output)
    }

    /// The same with an instance of the caller's choice, for tests and measurements.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_with(
        &self,
        driver: &Arc<dyn Driver>,
        choice: Choice,
        input: &Tensor,
        output: &mut Tensor,
    ) -> Result<(), DeviceError> {
        assert_eq!(input.stored, self.cin, "input channels of a transposed convolution");
        let &Tensor { n, h, w, .. } = input;
        let scale = match self.shuffle {
            Shuffle::ByTwo => 4,
            Shuffle::None => 2,
        };
        output.reshape_output(driver, [n, scale * h, scale * w], self.handed_on)?;
        let params = DeconvParams {
            src: input.address(),
            weights: self.weights.address(),
            bias: self.bias.address(),
            flow: output.address(),
            mask: output.mask_address(),
            handed: output.handed_address(),
            h: h as i32,
            w: w as i32,
            cin: self.cin as i32,
            stages: choice.stages as i32,
        };
        let depth = n * self.blocks_behind();
        match self.shuffle {
            Shuffle::ByTwo => choice.launch(driver, [h, w], depth, params.as_bytes()),
            Shuffle::None => choice.launch(driver, [h, w], depth, plain(&params).as_bytes()),
        }
    }
}

fn product_channels(handed_on: usize) -> usize {
    PHASES * (HANDED_FROM + handed_on)
}

fn plain(params: &DeconvParams) -> DeconvPlainParams {
    let &DeconvParams { src, weights, bias, flow, mask, handed: _, h, w, cin, stages } = params;
    DeconvPlainParams { src, weights, bias, flow, mask, h, w, cin, stages }
}
