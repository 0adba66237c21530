//! Transposed convolution 4x4, stride 2, padding 1, with bias, and the pixel shuffle by 2 in the store.
//!
//! `d[oy, ox, o] = bias[o] + sum_{ky, kx, i} weight[i][o][ky][kx] * x[(oy + 1 - ky) / 2, (ox + 1 - kx) / 2, i]`, over
//! the taps for which both divisions are exact and the position is inside: two by two taps for each output. Twice the
//! input's size. With the shuffle, `y[2 oy + a, 2 ox + b, o] = d[oy, ox, 4 o + 2 a + b]`: four times the size, a
//! quarter of the channels. Source: PyTorch's `ConvTranspose2d(4, 2, 1)` and `PixelShuffle(2)`.

use crate::ops::tensor::Tensor;

/// What happens to the channels on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Nothing: twice the size.
    None,
    /// `PixelShuffle(2)`: four times the size.
    ByTwo,
}

/// One transposed convolution: parameters and weights.
#[derive(Clone, Debug, PartialEq)]
pub struct DeconvWeights {
    /// Input channels.
    pub in_channels: usize,
    /// Channels of the transposed convolution, before any shuffle.
    pub out_channels: usize,
    /// `[in][out][4][4]`, PyTorch's order.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
    /// What happens to the channels on the way out.
    pub shuffle: Shuffle,
}

impl DeconvWeights {
    /// Channels, rows and columns that come out: `(h, w, c)`.
    #[must_use]
    pub fn output_shape(&self, h: usize, w: usize) -> (usize, usize, usize) {
        match self.shuffle {
            Shuffle::None => (2 * h, 2 * w, self.out_channels),
            Shuffle::ByTwo => (4 * h, 4 * w, self.out_channels / 4),
        }
    }

    /// The same operation with only the first `count` channels of its output (after the shuffle).
    ///
    /// # Panics
    /// If there are fewer.
    #[must_use]
    pub fn first_channels(&self, count: usize) -> Self {
        let kept = match self.shuffle {
            Shuffle::None => count,
            Shuffle::ByTwo => 4 * count,
        };
        assert!(kept <= self.out_channels, "{kept} of {} channels", self.out_channels);
        let rows = self.weight.chunks_exact(self.out_channels * 16);
        let weight = rows.flat_map(|row| &row[..kept * 16]).copied().collect();
        Self { out_channels: kept, weight, bias: self.bias[..kept].to_vec(), ..*self }
    }

    /// Checks the shapes against each other and an input's channels.
    ///
    /// # Panics
    /// Where they do not fit.
    pub fn check(&self, input_channels: usize) {
        let (i, o) = (self.in_channels, self.out_channels);
        assert_eq!(input_channels, i, "input channels of a transposed convolution");
        assert_eq!(self.weight.len(), i * o * 16, "weights of a {i} to {o} transposed convolution");
        assert_eq!(self.bias.len(), o, "biases of a {i} to {o} transposed convolution");
        let fits = self.shuffle == Shuffle::None || o.is_multiple_of(4);
        assert!(fits, "a pixel shuffle needs channels in fours");
    }
}

/// The definition, in f32. `output` takes the shape that follows from the input.
///
/// # Panics
/// Where shapes do not fit.
pub fn reference(deconv: &DeconvWeights, input: &Tensor, output: &mut Tensor) {
    deconv.check(input.c);
    let (ins, outs) = (deconv.in_channels, deconv.out_channels);
    let (h, w, c) = deconv.output_shape(input.h, input.w);
    output.reshape(h, w, c);
    let by_tap = weights_by_tap(deconv);
    let mut sums = vec![0.0; outs];
    for y in 0..2 * input.h {
        for x in 0..2 * input.w {
            sums.copy_from_slice(&deconv.bias);
            for (iy, ky) in taps(y, input.h) {
                for (ix, kx) in taps(x, input.w) {
                    let tap = 4 * ky + kx;
                    let weights = &by_tap[tap * ins * outs..(tap + 1) * ins * outs];
                    for (value, row) in input.at(iy, ix).iter().zip(weights.chunks_exact(outs)) {
                        sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
                    }
                }
            }
            match deconv.shuffle {
                Shuffle::None => output.at_mut(y, x).copy_from_slice(&sums),
                Shuffle::ByTwo => {
                    for (from, sum) in sums.iter().enumerate() {
                        let (row, column) = (2 * y + from / 2 % 2, 2 * x + from % 2);
                        output.at_mut(row, column)[from / 4] = *sum;
                    }
                }
            }
        }
    }
}

/// The input positions and kernel rows that meet in output position `out` of `2 * n`: at most two.
fn taps(out: usize, n: usize) -> impl Iterator<Item = (usize, usize)> {
    // k = out + 1 - 2 i must lie in 0..4: i is the half of out + 1, or one less.
    let near = out.div_ceil(2);
    [near.checked_sub(1), Some(near)]
        .into_iter()
        .flatten()
        .filter(move |&i| i < n && out + 1 >= 2 * i && out + 1 - 2 * i < 4)
        .map(move |i| (i, out + 1 - 2 * i))
}

/// `[in][out][tap]` to `[tap][in][out]`.
fn weights_by_tap(deconv: &DeconvWeights) -> Vec<f32> {
    let (ins, outs) = (deconv.in_channels, deconv.out_channels);
    let mut by_tap = vec![0.0; deconv.weight.len()];
    for channel in 0..ins {
        for out in 0..outs {
            for tap in 0..16 {
                by_tap[(tap * ins + channel) * outs + out] =
                    deconv.weight[(channel * outs + out) * 16 + tap];
            }
        }
    }
    by_tap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pixel_spreads_over_the_inner_taps() {
        let deconv = DeconvWeights {
            in_channels: 1,
            out_channels: 1,
            weight: (0..16).map(|tap| tap as f32).collect(),
            bias: vec![100.0],
            shuffle: Shuffle::None,
        };
        let mut output = Tensor::default();
        reference(&deconv, &Tensor { h: 1, w: 1, c: 1, data: vec![1.0] }, &mut output);
        assert_eq!((output.h, output.w, output.data), (2, 2, vec![105.0, 106.0, 109.0, 110.0]));
    }

    #[test]
    fn the_first_channels_alone_equal_those_of_the_whole() {
        let count = 2 * 24 * 16;
        let whole = DeconvWeights {
            in_channels: 2,
            out_channels: 24,
            weight: (0..count).map(|i| (i as f32 * 0.7).sin()).collect(),
            bias: (0..24).map(|i| i as f32).collect(),
            shuffle: Shuffle::ByTwo,
        };
        let input = Tensor { h: 2, w: 3, c: 2, data: (0..12).map(|i| i as f32).collect() };
        let (mut all, mut five) = (Tensor::default(), Tensor::default());
        reference(&whole, &input, &mut all);
        reference(&whole.first_channels(5), &input, &mut five);
        assert_eq!((all.h, all.w, all.c), (8, 12, 6));
        assert_eq!(all.channels(0, 5), five);
    }
}
