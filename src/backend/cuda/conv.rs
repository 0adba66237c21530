//! The 3x3 convolution of `kernels/conv.cu`, and the sum of two tensors.

use std::sync::Arc;

use super::driver::{Buffer, DeviceError, Driver, Launch, Parameters};
use super::instances::{self, Choice, Instance, Kind, Work};
use super::pack::{self, CHUNK};
use super::params::{AddParams, ConvParams};
use super::tensor::Tensor;
use crate::ops::conv::{ConvWeights, Residual, Stride};

/// A convolution in device memory.
#[derive(Debug)]
pub struct PackedConv {
    weights: Buffer,
    affine: Buffer,
    candidates: Vec<Instance>,
    stride: Stride,
    residual: Residual,
    cin: usize,
    out_channels: usize,
}

/// Input channels as they are, `stored` of them in memory.
#[must_use]
pub fn plain_order(channels: usize, stored: usize) -> Vec<Option<usize>> {
    (0..stored).map(|channel| (channel < channels).then_some(channel)).collect()
}

impl PackedConv {
    /// Packs weights. `input_order` names, for each channel of the input in memory, the weights' input channel, or none;
    /// it is filled up to 16s with none. The residual needs the plain order.
    ///
    /// # Errors
    /// As [`Buffer::with_content`].
    ///
    /// # Panics
    /// If the weights' shapes do not fit each other.
    pub fn new(
        driver: &Arc<dyn Driver>,
        weights: &ConvWeights,
        input_order: &[Option<usize>],
    ) -> Result<Self, DeviceError> {
        weights.check(weights.in_channels);
        let cin = input_order.len().next_multiple_of(CHUNK);
        let cout = weights.out_channels.next_multiple_of(CHUNK);
        let weight = |out: usize, channel: usize, tap: usize| {
            let channel = input_order.get(channel).copied().flatten();
            let channel = channel.filter(|_| out < weights.out_channels);
            channel.map_or(0.0, |it| weights.weight[(out * weights.in_channels + it) * 9 + tap])
        };
        let packed = pack::fragments([cout, cin, 9], weight);
        let is_candidate =
            |it: &Instance| it.kind == Kind::Conv && it.stride == weights.stride.step();
        Ok(Self {
            weights: Buffer::with_content(driver, &packed)?,
            affine: pack::affine(driver, weights, cout)?,
            candidates: instances::all().into_iter().filter(is_candidate).collect(),
            stride: weights.stride,
            residual: weights.residual,
            cin,
            out_channels: weights.out_channels,
        })
    }

    /// Input channels in memory.
    #[must_use]
    pub fn cin(&self) -> usize {
        self.cin
    }

    /// Output channels in use.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Output channels in memory.
    #[must_use]
    pub fn cout(&self) -> usize {
        self.out_channels.next_multiple_of(CHUNK)
    }

    /// Address of the weights, `[cout / 16][cin / 16][9][lane][8]`.
    #[must_use]
    pub fn weights_address(&self) -> u64 {
        self.weights.address()
    }

    /// Address of bias and slope, `[cout][2]`.
    #[must_use]
    pub fn affine_address(&self) -> u64 {
        self.affine.address()
    }

    /// Rows and columns that come out.
    #[must_use]
    pub fn output_size(&self, [h, w]: [usize; 2]) -> [usize; 2] {
        [h.div_ceil(self.stride.step()), w.div_ceil(self.stride.step())]
    }

    /// Which instance `run` takes for `n` pictures of `size`, or a failure that says that none fits the device.
    ///
    /// # Errors
    /// If the device has too little shared memory for any.
    pub fn choice(
        &self,
        driver: &Arc<dyn Driver>,
        n: usize,
        size: [usize; 2],
    ) -> Result<Choice, DeviceError> {
        let work = Work { n, size: self.output_size(size), cin: self.cin, cout: self.cout() };
        instances::choose(&self.candidates, &work, driver.description())
            .ok_or_else(|| instances::none_fits(driver, "convolution"))
    }

    /// `output = act(W * input + bias [+ input])`; see [`crate::ops::conv`].
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
        assert_eq!(input.stored, self.cin, "input channels of a convolution");
        let ([out_h, out_w], cout) = (self.output_size([input.h, input.w]), self.cout());
        output.reshape(driver, [input.n, out_h, out_w, self.out_channels], cout)?;
        let params = ConvParams {
            src: input.address(),
            weights: self.weights.address(),
            affine: self.affine.address(),
            dst: output.address(),
            h: input.h as i32,
            w: input.w as i32,
            out_h: out_h as i32,
            out_w: out_w as i32,
            cin: self.cin as i32,
            cout: cout as i32,
            residual: (self.residual == Residual::Input).into(),
            stages: choice.stages as i32,
        };
        choice.launch(
            driver,
            [out_h, out_w],
            input.n * cout / choice.instance.nb,
            params.as_bytes(),
        )
    }
}

/// Threads of a block of the kernels `add` and `add_flows`.
const ADD_THREADS: u32 = 256;

/// `to += from`.
///
/// # Errors
/// As [`Driver::launch`].
///
/// # Panics
/// If the shapes differ.
pub fn add(driver: &Arc<dyn Driver>, from: &Tensor, to: &mut Tensor) -> Result<(), DeviceError> {
    assert!(from.stored.is_multiple_of(8), "channels of a sum come in eights");
    let chunks = from.n * from.h * from.w * from.stored / 8;
    sum(driver, "add", from, to, chunks)
}

/// Launches `kernel` (`add` or `add_flows`) on so many chunks of 16 bytes, from the start of two tensors of one shape.
pub(super) fn sum(
    driver: &Arc<dyn Driver>,
    kernel: &str,
    from: &Tensor,
    to: &mut Tensor,
    chunks: usize,
) -> Result<(), DeviceError> {
    let shape = |it: &Tensor| (it.n, it.h, it.w, it.stored, it.layout);
    assert_eq!(shape(from), shape(to), "shapes of a sum");
    let chunks = chunks as u64;
    let params = AddParams { src: from.address(), dst: to.address(), chunks };
    driver.launch(&Launch {
        kernel,
        grid: [chunks.div_ceil(ADD_THREADS.into()) as u32, 1, 1],
        block: [ADD_THREADS, 1, 1],
        shared_bytes: 0,
        params: params.as_bytes(),
    })
}
