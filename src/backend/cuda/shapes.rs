//! Every compiled shape of the convolutions, run once and compared with the definition.
//!
//! A clip's size decides which of them it gets, so that pictures of one size try few. The other kernels are the same for all
//! sizes of one flow scale; those of a clip's format are tried in [`formats`](super::formats). What no trial runs: a block's
//! first convolution together with its gathering, and the end of the network, at other flow scales than that of the drawn pair
//! and half of it, where they differ.

use std::sync::Arc;

use half::f16;

use super::backend::Cuda;
use super::conv::{PackedConv, plain_order};
use super::deconv::PackedDeconv;
use super::driver::{DeviceError, Driver};
use super::instances::{self, Choice, Instance, Kind};
use super::tensor::Tensor;
use crate::backend::Backend as _;
use crate::ops::conv::{self, Activation, ConvWeights, Residual, Stride};
use crate::ops::deconv::{self, DeconvWeights, Shuffle};
use crate::ops::tensor as plain;

/// Rows and columns over which tiles are laid: the largest tile's, and one column more.
const SIZE: [usize; 2] = [16, 17];

/// How far a value may be off. Sums are of order one and rounded to half precision once; a tap that is left out changes most
/// of them by more.
const TOLERANCE: f32 = 0.01;

/// Input channels where they need not be as many as come out: a chunk for each group of warps.
const IN_CHANNELS: usize = 64;

/// What shapes are compared with.
#[derive(Debug)]
pub struct Trial(Vec<Case>);

/// An operation, what goes in and what comes out.
#[derive(Debug)]
struct Case {
    operation: Operation,
    /// Output channels of a block, [`Instance::nb`], of the shapes that are tried so.
    widths: &'static [usize],
    input: plain::Tensor,
    expected: plain::Tensor,
}

#[derive(Debug)]
enum Operation {
    Conv(ConvWeights),
    Deconv(DeconvWeights),
}

enum Packed {
    Conv(PackedConv),
    Deconv(PackedDeconv),
}

impl Trial {
    /// Computes what has to come out, by the definitions.
    #[must_use]
    pub fn prepare() -> Self {
        let (one, two) = (Stride::One, Stride::Two);
        Self(vec![
            Case::conv([96, 96], one, Residual::Input, &[16, 32, 48, 96]),
            Case::conv([64, 64], one, Residual::Input, &[64]),
            Case::conv([IN_CHANNELS, 96], two, Residual::None, &[16, 32, 48, 96]),
            Case::conv([IN_CHANNELS, 64], two, Residual::None, &[64]),
            Case::deconv(4 * 13, Shuffle::ByTwo, &[64]),
            Case::deconv(4 * 5, Shuffle::ByTwo, &[32]),
            Case::deconv(5, Shuffle::None, &[32]),
        ])
    }

    /// The first kernel with which the device computes otherwise, if any. A shape that does not fit it is none that it gets.
    ///
    /// # Errors
    /// What the driver says.
    pub fn run(&self, driver: &Arc<dyn Driver>) -> Result<Option<&'static str>, DeviceError> {
        let mut reader = Cuda::with_batch(Arc::clone(driver), 1);
        for case in &self.0 {
            let (packed, input) = (case.operation.pack(driver)?, upload(driver, &case.input)?);
            let mut output = Tensor::default();
            for instance in instances::all().into_iter().filter(|it| case.is_for(it)) {
                let Some(choice) = deepest(instance, input.stored, driver) else { continue };
                packed.shape(driver, &case.expected, &mut output)?;
                // What another shape wrote is not taken for its work: this is NaN, in float and in half.
                driver.upload(output.address(), &vec![0xff; output.bytes()])?;
                packed.run(driver, choice, &input, &mut output)?;
                let found = reader.to_plain(&output);
                reader.status()?;
                if differs(&found, &case.expected) {
                    return Ok(Some(instance.name));
                }
            }
        }
        Ok(None)
    }
}

impl Case {
    fn conv(
        [in_channels, out_channels]: [usize; 2],
        stride: Stride,
        residual: Residual,
        widths: &'static [usize],
    ) -> Self {
        let weights = ConvWeights {
            in_channels,
            out_channels,
            weight: values(out_channels * in_channels * 9, WEIGHT),
            bias: values(out_channels, BIAS),
            stride,
            residual,
            activation: Activation::LeakyRelu,
        };
        let (input, mut expected) = (picture(in_channels, stride.step()), plain::Tensor::default());
        conv::reference(&weights, &input, &mut expected);
        Self { operation: Operation::Conv(weights), widths, input, expected }
    }

    fn deconv(out_channels: usize, shuffle: Shuffle, widths: &'static [usize]) -> Self {
        let weights = DeconvWeights {
            in_channels: IN_CHANNELS,
            out_channels,
            weight: values(IN_CHANNELS * out_channels * 16, WEIGHT),
            bias: values(out_channels, BIAS),
            shuffle,
        };
        let (input, mut expected) = (picture(IN_CHANNELS, 1), plain::Tensor::default());
        deconv::reference(&weights, &input, &mut expected);
        Self { operation: Operation::Deconv(weights), widths, input, expected }
    }

    fn is_for(&self, instance: &Instance) -> bool {
        let kind = match &self.operation {
            Operation::Conv(weights) => {
                instance.kind == Kind::Conv && instance.stride == weights.stride.step()
            }
            Operation::Deconv(weights) => match weights.shuffle {
                Shuffle::ByTwo => instance.kind == Kind::Deconv,
                Shuffle::None => instance.kind == Kind::DeconvPlain,
            },
        };
        kind && self.widths.contains(&instance.nb)
    }
}

impl Operation {
    fn pack(&self, driver: &Arc<dyn Driver>) -> Result<Packed, DeviceError> {
        Ok(match self {
            Self::Conv(weights) => {
                let order = plain_order(weights.in_channels, weights.in_channels);
                Packed::Conv(PackedConv::new(driver, weights, &order)?)
            }
            Self::Deconv(weights) => Packed::Deconv(PackedDeconv::new(driver, weights)?),
        })
    }
}

impl Packed {
    fn shape(
        &self,
        driver: &Arc<dyn Driver>,
        &plain::Tensor { h, w, c, .. }: &plain::Tensor,
        output: &mut Tensor,
    ) -> Result<(), DeviceError> {
        match self {
            Self::Conv(conv) => output.reshape(driver, [1, h, w, c], conv.cout()),
            Self::Deconv(deconv) => output.reshape_output(driver, [1, h, w], deconv.handed_on()),
        }
    }

    fn run(
        &self,
        driver: &Arc<dyn Driver>,
        choice: Choice,
        input: &Tensor,
        output: &mut Tensor,
    ) -> Result<(), DeviceError> {
        match self {
            Self::Conv(conv) => conv.run_with(driver, choice, input, output),
            Self::Deconv(deconv) => deconv.run_with(driver, choice, input, output),
        }
    }
}

/// With as many chunks in flight as the device has room for; `None` where it has none for one.
fn deepest(instance: Instance, cin: usize, driver: &Arc<dyn Driver>) -> Option<Choice> {
    let most = driver.description().shared_bytes as usize;
    let choices = (1..=instance.stages_max(cin)).map(|stages| {
        let shared_bytes = instance.shared_bytes(stages);
        Choice { instance, stages, shared_bytes }
    });
    choices.take_while(|it| it.shared_bytes <= most).last()
}

/// Whether any value is off; NaN is.
fn differs(found: &plain::Tensor, expected: &plain::Tensor) -> bool {
    let same = |a: &f32, b: &f32| (a - b).abs() <= TOLERANCE;
    let shape = |it: &plain::Tensor| (it.h, it.w, it.c);
    shape(found) != shape(expected)
        || !found.data.iter().zip(&expected.data).all(|(a, b)| same(a, b))
}

/// Input of a layer whose tiles are laid over [`SIZE`].
fn picture(channels: usize, step: usize) -> plain::Tensor {
    let [h, w] = SIZE.map(|side| step * side);
    plain::Tensor { h, w, c: channels, data: values(h * w * channels, PICTURE) }
}

/// Largest values of what is drawn: half precision holds each exactly.
const PICTURE: f32 = 1.0;
const WEIGHT: f32 = 1.0 / 16.0;
const BIAS: f32 = 0.5;

/// As many values up to `largest`, 255 different ones, in an order that repeats nowhere.
pub(super) fn values(count: usize, largest: f32) -> Vec<f32> {
    let mut state = 1_u32;
    let mut next = || {
        // The constants of Numerical Recipes; the high bits are the good ones.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as f32 / 128.0 - 1.0
    };
    (0..count).map(|_| largest * next()).collect()
}

/// One picture in device memory, as half precision.
fn upload(driver: &Arc<dyn Driver>, picture: &plain::Tensor) -> Result<Tensor, DeviceError> {
    let &plain::Tensor { h, w, c, .. } = picture;
    let mut tensor = Tensor::default();
    tensor.reshape(driver, [1, h, w, c], c)?;
    let halves = picture.data.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes());
    driver.upload(tensor.address(), &halves.collect::<Vec<_>>())?;
    Ok(tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_among_which_is_chosen_is_tried() {
        let trial = Trial::prepare();
        let chosen = [Kind::Conv, Kind::Deconv, Kind::DeconvPlain];
        for instance in instances::all() {
            let cases = trial.0.iter().filter(|case| case.is_for(&instance)).count();
            assert_eq!(cases, usize::from(chosen.contains(&instance.kind)), "{}", instance.name);
        }
    }

    /// So each tap shows, of the last channel too: what comes out changes by more than is let pass.
    #[test]
    fn a_tap_that_is_left_out_shows() {
        for case in Trial::prepare().0 {
            let Operation::Conv(weights) = &case.operation else { continue };
            for tap in [0, 4, 8] {
                let mut without = weights.clone();
                let rows = without.weight.chunks_exact_mut(9 * weights.in_channels);
                rows.for_each(|row| row[9 * (weights.in_channels - 1) + tap] = 0.0);
                let mut found = plain::Tensor::default();
                conv::reference(&without, &case.input, &mut found);
                assert!(differs(&found, &case.expected), "tap {tap}");
            }
        }
    }
}
