//! Backward warp: each output position reads the image where its flow points, bilinear, clamped to the image.
//!
//! `out(x, y) = image(x + flow_x, y + flow_y)` in plain pixel coordinates. Source: RIFE's `warplayer` (`grid_sample`,
//! bilinear, border, `align_corners=True`, a grid normalised by `(size - 1) / 2`), which is that.

use crate::ops::tensor::Tensor;

/// Where a warp reads: four pixels and their weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corners {
    /// Rows.
    pub y: [usize; 2],
    /// Columns.
    pub x: [usize; 2],
    /// Weight of the second row.
    pub weight_y: f32,
    /// Weight of the second column.
    pub weight_x: f32,
}

/// Where position `(y, x)` of an image of `h` x `w` points with `flow` (x, y) added. NaN reads the first pixel.
#[must_use]
pub fn corners(y: usize, x: usize, flow: [f32; 2], h: usize, w: usize) -> Corners {
    let axis = |p: usize, by: f32, n: usize| {
        // `max` first: it takes NaN to 0.
        let u = (p as f32 + by).max(0.0).min((n - 1) as f32);
        let first = u as usize;
        ([first, (first + 1).min(n - 1)], u - u.floor())
    };
    let (y, weight_y) = axis(y, flow[1], h);
    let (x, weight_x) = axis(x, flow[0], w);
    Corners { y, x, weight_y, weight_x }
}

/// Adds `scale` times the warped channels at `corners` to `out`; reads as many channels as `out` holds.
pub fn accumulate(image: &Tensor, at: Corners, scale: f32, out: &mut [f32]) {
    let (a, b) = (image.at(at.y[0], at.x[0]), image.at(at.y[0], at.x[1]));
    let (c, d) = (image.at(at.y[1], at.x[0]), image.at(at.y[1], at.x[1]));
    for (channel, value) in out.iter_mut().enumerate() {
        let top = a[channel] * (1.0 - at.weight_x) + b[channel] * at.weight_x;
        let bottom = c[channel] * (1.0 - at.weight_x) + d[channel] * at.weight_x;
        *value += scale * (top * (1.0 - at.weight_y) + bottom * at.weight_y);
    }
}

/// Weights of the taps -1, 0, 1 and 2 for a place `t` (0 to 1) behind tap 0: cubic convolution with a = -1/2. Source:
/// R. Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE TASSP 29(6), 1981.
#[must_use]
#[inline(always)]
pub fn cubic_weights(t: f32) -> [f32; 4] {
    [
        ((1.0 - 0.5 * t) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((2.0 - 1.5 * t) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    ]
}

/// [`accumulate`] by cubic convolution: sixteen pixels, clamped to the first `size` (rows, columns) of the image, which those of
/// `at` lie in.
pub fn accumulate_cubic(
    image: &Tensor,
    size: (usize, usize),
    at: Corners,
    scale: f32,
    out: &mut [f32],
) {
    let taps = |[first, second]: [usize; 2], n: usize| {
        [first.saturating_sub(1), first, second, (first + 2).min(n - 1)]
    };
    let (rows, columns) = (taps(at.y, size.0), taps(at.x, size.1));
    let (weights_y, weights_x) = (cubic_weights(at.weight_y), cubic_weights(at.weight_x));
    for (row, weight_y) in rows.into_iter().zip(weights_y) {
        for (column, weight_x) in columns.into_iter().zip(weights_x) {
            let pixel = image.at(row, column);
            for (value, sample) in out.iter_mut().zip(pixel) {
                *value += scale * weight_y * weight_x * sample;
            }
        }
    }
}

/// `image` `[h, w, c]` warped by channels `first` (x) and `first + 1` (y) of `flow` `[h, w, ..]`.
///
/// # Panics
/// If the sizes differ.
#[must_use]
pub fn reference(image: &Tensor, flow: &Tensor, first: usize) -> Tensor {
    assert_eq!((image.h, image.w), (flow.h, flow.w), "image and flow of one size");
    let mut output = Tensor::zeros(image.h, image.w, image.c);
    for y in 0..image.h {
        for x in 0..image.w {
            let by = flow.at(y, x);
            let at = corners(y, x, [by[first], by[first + 1]], image.h, image.w);
            accumulate(image, at, 1.0, output.at_mut(y, x));
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What makes the cubic what it is: whole places are pixels, and a quadratic is found again exactly.
    #[test]
    fn the_cubic_finds_pixels_and_quadratics_again() {
        assert_eq!(cubic_weights(0.0), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(cubic_weights(1.0), [0.0, 0.0, 1.0, 0.0]);
        let quadratic = |x: f32| 3.0 - 0.25 * x + 0.125 * x * x;
        let row = (0..8).map(|x| quadratic(x as f32)).collect();
        let image = Tensor { h: 1, w: 8, c: 1, data: row };
        for by in [0.125, 0.5, 0.875] {
            let mut found = [0.0];
            accumulate_cubic(&image, (1, 8), corners(0, 3, [by, 0.0], 1, 8), 1.0, &mut found);
            assert!((found[0] - quadratic(3.0 + by)).abs() < 1e-6, "{by}: {found:?}");
        }
        // Beyond the border its pixels repeat.
        let mut found = [0.0];
        accumulate_cubic(&image, (1, 8), corners(0, 7, [9.0, 0.0], 1, 8), 1.0, &mut found);
        assert_eq!(found[0], quadratic(7.0));
    }

    #[test]
    fn wild_flows_read_inside_the_image() {
        let image = Tensor { h: 2, w: 2, c: 1, data: vec![1.0, 2.0, 3.0, 4.0] };
        for (by, expected) in
            [(f32::INFINITY, 4.0), (f32::NEG_INFINITY, 1.0), (f32::NAN, 1.0), (1e30, 4.0)]
        {
            let flow = Tensor { h: 2, w: 2, c: 2, data: vec![by; 8] };
            assert_eq!(reference(&image, &flow, 0).data, [expected; 4], "{by}");
        }
    }
}
