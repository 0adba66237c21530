//! Convolution 3x3, zero padding 1, stride 1 or 2, with bias, residual and activation in one go.
//!
//! `y = act(bias + sum_{ky, kx, i} weight[o][i][ky][kx] * x[stride * oy + ky - 1, stride * ox + kx - 1, i] + residual)`,
//! where `x` is zero outside. Output size: `ceil(n / stride)` of each side. Source: PyTorch's `Conv2d(3, stride, 1)`;
//! `ResConv` of Practical-RIFE v4.5 on is `lrelu(conv(x) * beta + x)`, with `beta` folded into weight and bias by
//! [`ConvWeights::fold_beta`].

use crate::ops::tensor::Tensor;

/// What follows the sum.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `max(x, 0.2 x)`.
    LeakyRelu,
    /// `x` where positive, else `slope[channel] * x`: one slope an output channel.
    Prelu(Vec<f32>),
}

/// Slope of [`Activation::LeakyRelu`] below zero.
pub const LEAKY_SLOPE: f32 = 0.2;

/// What is added before the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// Nothing.
    None,
    /// The input itself: stride 1 and as many input as output channels.
    Input,
}

/// Step of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// Same size.
    One,
    /// Half the size, rounded up.
    Two,
}

impl Stride {
    /// As a number of rows or columns.
    #[must_use]
    pub fn step(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

/// One convolution: parameters and weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvWeights {
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// `[out][in][3][3]`, PyTorch's order.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
    /// Step of the window.
    pub stride: Stride,
    /// What is added before the activation.
    pub residual: Residual,
    /// What follows.
    pub activation: Activation,
}

impl ConvWeights {
    /// Multiplies weight and bias of each output channel by its `beta`: `conv(x) * beta` in one.
    #[must_use]
    pub fn fold_beta(mut self, beta: &[f32]) -> Self {
        let per_channel = self.in_channels * 9;
        for (rows, beta) in self.weight.chunks_exact_mut(per_channel).zip(beta) {
            rows.iter_mut().for_each(|w| *w *= beta);
        }
        self.bias.iter_mut().zip(beta).for_each(|(b, beta)| *b *= beta);
        self
    }

    /// Rows and columns that come out for those that go in.
    #[must_use]
    pub fn output_size(&self, h: usize, w: usize) -> (usize, usize) {
        (h.div_ceil(self.stride.step()), w.div_ceil(self.stride.step()))
    }

    /// Checks the shapes against each other and an input's channels.
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn check(&self, input_channels: usize) {
        let (i, o) = (self.in_channels, self.out_channels);
        assert_eq!(input_channels, i, "input channels of a convolution");
        assert_eq!(self.weight.len(), o * i * 9, "weights of a {i} to {o} convolution");
        assert_eq!(self.bias.len(), o, "biases of a {i} to {o} convolution");
        if let Activation::Prelu(slopes) = &self.activation {
            assert_eq!(slopes.len(), o, "slopes of a {i} to {o} convolution");
        }
        let fits = self.residual == Residual::None || (i == o && self.stride == Stride::One);
        assert!(fits, "a residual needs stride 1 and equal channels");
    }

    fn activate(&self, channel: usize, value: f32) -> f32 {
        match &self.activation {
            _ if value >= 0.0 => value,
            Activation::None => value,
            Activation::LeakyRelu => value * LEAKY_SLOPE,
            Activation::Prelu(slopes) => value * slopes[channel],
        }
    }
}

/// The definition, in f32. `output` takes the shape that follows from the input.
///
/// # Panics
/// Where shapes do not fit.
pub fn reference(conv: &ConvWeights, input: &Tensor, output: &mut Tensor) {
    conv.check(input.c);
    let (ins, outs, step) = (conv.in_channels, conv.out_channels, conv.stride.step());
    let (h, w) = conv.output_size(input.h, input.w);
    output.reshape(h, w, outs);
    let by_tap = weights_by_tap(conv);
    let mut sums = vec![0.0; outs];
    for y in 0..h {
        for x in 0..w {
            sums.copy_from_slice(&conv.bias);
            for tap in 0..9 {
                let (iy, ix) = (step * y + tap / 3, step * x + tap % 3);
                // Positions are one more than the input's, so that the padding needs no negative numbers.
                if iy == 0 || ix == 0 || iy > input.h || ix > input.w {
                    continue;
                }
                let weights = &by_tap[tap * ins * outs..(tap + 1) * ins * outs];
                for (value, row) in input.at(iy - 1, ix - 1).iter().zip(weights.chunks_exact(outs))
                {
                    sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
                }
            }
            if conv.residual == Residual::Input {
                sums.iter_mut().zip(input.at(y, x)).for_each(|(sum, value)| *sum += value);
            }
            for (channel, value) in output.at_mut(y, x).iter_mut().enumerate() {
                *value = conv.activate(channel, sums[channel]);
            }
        }
    }
}

/// `[out][in][tap]` to `[tap][in][out]`.
fn weights_by_tap(conv: &ConvWeights) -> Vec<f32> {
    let (ins, outs) = (conv.in_channels, conv.out_channels);
    let mut by_tap = vec![0.0; conv.weight.len()];
    for out in 0..outs {
        for channel in 0..ins {
            for tap in 0..9 {
                by_tap[(tap * ins + channel) * outs + out] =
                    conv.weight[(out * ins + channel) * 9 + tap];
            }
        }
    }
    by_tap
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One channel in, one out, a weight that names each tap.
    fn counting(stride: Stride, activation: Activation) -> ConvWeights {
        ConvWeights {
            in_channels: 1,
            out_channels: 1,
            weight: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            bias: vec![0.5],
            stride,
            residual: Residual::None,
            activation,
        }
    }

    #[test]
    fn an_impulse_meets_every_tap_at_odd_sizes() {
        let mut input = Tensor::zeros(3, 3, 1);
        input.at_mut(1, 1)[0] = 1.0;
        let mut output = Tensor::default();
        reference(&counting(Stride::One, Activation::None), &input, &mut output);
        assert_eq!(output.data, [9.5, 8.5, 7.5, 6.5, 5.5, 4.5, 3.5, 2.5, 1.5]);
        reference(&counting(Stride::Two, Activation::None), &input, &mut output);
        assert_eq!((output.h, output.w, output.data), (2, 2, vec![9.5, 7.5, 3.5, 1.5]));
    }

    #[test]
    fn negative_sums_are_scaled_by_the_activation() {
        let input = Tensor { h: 1, w: 1, c: 1, data: vec![-2.0] };
        let mut output = Tensor::default();
        reference(&counting(Stride::One, Activation::LeakyRelu), &input, &mut output);
        assert_eq!(output.data, [-9.5 * 0.2]);
        reference(&counting(Stride::One, Activation::Prelu(vec![0.25])), &input, &mut output);
        assert_eq!(output.data, [-9.5 * 0.25]);
    }

    #[test]
    fn beta_scales_the_convolution_and_not_the_residual() {
        let mut conv = counting(Stride::One, Activation::None).fold_beta(&[2.0]);
        conv.residual = Residual::Input;
        let input = Tensor { h: 1, w: 1, c: 1, data: vec![3.0] };
        let mut output = Tensor::default();
        reference(&conv, &input, &mut output);
        assert_eq!(output.data, [(5.0 * 3.0 + 0.5) * 2.0 + 3.0]);
    }
}
