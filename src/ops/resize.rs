//! Bilinear resize with half-pixel centres: PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
//!
//! Output position `p` of a resize by `factor` reads the input at `u = (p + 1/2) / factor - 1/2`, clamped to 0 below;
//! the neighbour above the last row is the last row. Scaling down averages nothing but the two rows round `u`.

use crate::ops::tensor::Tensor;

/// The two input positions that an output position reads, and the weight of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// First position.
    pub first: usize,
    /// Second position; equal to the first at the end.
    pub second: usize,
    /// Weight of the second, 0..1.
    pub weight: f32,
}

/// Where output position `p` reads an axis of `n` when `step = 1 / factor` input positions make one output position.
#[must_use]
pub fn tap(p: usize, step: f32, n: usize) -> Tap {
    // The factors are powers of two, so this is exact for every picture f32 can address.
    let u = ((p as f32 + 0.5) * step - 0.5).max(0.0);
    let first = (u as usize).min(n - 1);
    Tap { first, second: (first + 1).min(n - 1), weight: u - u.floor() }
}

/// Channel `channel` of `tensor` at a pair of taps.
#[must_use]
pub fn sample(tensor: &Tensor, row: Tap, column: Tap, channel: usize) -> f32 {
    let along = |y: usize| {
        let (a, b) = (tensor.at(y, column.first)[channel], tensor.at(y, column.second)[channel]);
        a * (1.0 - column.weight) + b * column.weight
    };
    along(row.first) * (1.0 - row.weight) + along(row.second) * row.weight
}

/// `input` resized by `factor` (a power of two): `[h * factor, w * factor, c]`.
#[must_use]
pub fn reference(input: &Tensor, factor: f32) -> Tensor {
    let size = |n: usize| (n as f32 * factor) as usize;
    let mut output = Tensor::zeros(size(input.h), size(input.w), input.c);
    for y in 0..output.h {
        let row = tap(y, 1.0 / factor, input.h);
        for x in 0..output.w {
            let column = tap(x, 1.0 / factor, input.w);
            for (channel, value) in output.at_mut(y, x).iter_mut().enumerate() {
                *value = sample(input, row, column, channel);
            }
        }
    }
    output
}
