//! Structural similarity: Wang et al. 2004 on luma, and the 3-D variant of RIFE's benchmarks on RGB.
//!
//! Both take local means, variances and the covariance under a Gaussian window and average
//! `(2 μa μb + C1)(2 σab + C2) / ((μa² + μb² + C1)(σa² + σb² + C2))` over all positions. The windows are separable:
//! each row is filtered along x once and kept in a ring of as many rows as the window is high.

use rayon::prelude::*;

use crate::ops::metrics::{CENTER, Filter, MOMENTS, similarity};

/// Output rows of one parallel piece of work.
const BAND: usize = 64;

/// SSIM of Wang, Bovik, Sheikh and Simoncelli (2004) on 8-bit luma, `[h, w]`: Gaussian 11x11, sigma 1.5, only where
/// the window lies inside the picture, L = 255, K = 0.01 and 0.03, population (not sample) covariance.
///
/// Where the picture is under 11 pixels wide or high, the window shrinks to the largest odd side that fits.
///
/// # Panics
/// If a picture does not hold `width_px * height_px` samples, or none.
#[must_use]
pub fn ssim_y(a: &[u8], b: &[u8], width_px: usize, height_px: usize) -> f64 {
    let shape = Shape { width: width_px, height: height_px, channels: 1 };
    mean_ssim(a, b, shape, &Filter::of_luma(width_px, height_px))
}

/// SSIM as in RIFE's benchmarks (`ssim_matlab` in hzwer/ECCV2022-RIFE) on 8-bit RGB, `[h, w, 3]`: one 3-D Gaussian
/// 11x11x11, sigma 1.5, over channel, row and column, each axis padded by 5 with its edge; L = 1 on samples / 255.
///
/// As there, a picture under 11 pixels wide or high takes a window of its shorter side, still padded by 5.
///
/// # Panics
/// If a picture does not hold `3 * width_px * height_px` samples, or none.
#[must_use]
pub fn ssim_rife(a: &[u8], b: &[u8], width_px: usize, height_px: usize) -> f64 {
    let shape = Shape { width: width_px, height: height_px, channels: 3 };
    mean_ssim(a, b, shape, &Filter::of_rgb(width_px, height_px))
}

#[derive(Clone, Copy)]
struct Shape {
    width: usize,
    height: usize,
    channels: usize,
}

fn mean_ssim(a: &[u8], b: &[u8], shape: Shape, filter: &Filter) -> f64 {
    let samples = shape.width * shape.height * shape.channels;
    assert!(samples > 0, "a picture has at least one sample");
    assert_eq!((a.len(), b.len()), (samples, samples), "samples of one size");
    let (rows, columns) = (filter.outputs(shape.height), filter.outputs(shape.width));
    let mix = filter.mixes(shape.channels);
    let band = |first: usize| {
        let mut ring = Ring::new(a, b, shape, filter);
        let mut map = vec![0.0; columns];
        let last = (first + BAND).min(rows);
        (first..last).map(|y| row_sum(ring.moments(y), columns, &mix, &mut map)).sum::<f64>()
    };
    let firsts: Vec<usize> = (0..rows).step_by(BAND).collect();
    // Collected in order before the sum, so that the result does not depend on the threads.
    let sums: Vec<f64> = firsts.into_par_iter().map(band).collect();
    // Rounding in f32 can step over 1 by a few 1e-9.
    (sums.iter().sum::<f64>() / (rows * columns * mix.len()) as f64).min(1.0)
}

/// Rows filtered along x, as many as the window is high.
struct Ring<'a> {
    a: &'a [u8],
    b: &'a [u8],
    shape: Shape,
    filter: &'a Filter,
    /// By padded row modulo the window's height: `[channel][moment][x]`.
    rows: Vec<Vec<f32>>,
    /// Padded rows below this one have been filtered.
    filled: Option<usize>,
    /// Window sums of the current row: `[channel][moment][x]`.
    sums: Vec<f32>,
    /// One padded row of each moment.
    scratch: [Vec<f32>; MOMENTS],
}

impl<'a> Ring<'a> {
    fn new(a: &'a [u8], b: &'a [u8], shape: Shape, filter: &'a Filter) -> Self {
        let len = shape.channels * MOMENTS * filter.outputs(shape.width);
        let padded = shape.width + 2 * filter.padding;
        Self {
            a,
            b,
            shape,
            filter,
            rows: vec![vec![0.0; len]; filter.taps.len()],
            filled: None,
            sums: vec![0.0; len],
            scratch: std::array::from_fn(|_| vec![0.0; padded]),
        }
    }

    /// Window sums of output row `y`; rows are asked for in order.
    fn moments(&mut self, y: usize) -> &[f32] {
        let side = self.filter.taps.len();
        for padded in self.filled.unwrap_or(y).max(y)..y + side {
            self.fill(padded);
        }
        self.filled = Some(y + side);
        self.sums.fill(0.0);
        for (k, &tap) in self.filter.taps.iter().enumerate() {
            add_scaled(&mut self.sums, &self.rows[(y + k) % side], tap);
        }
        &self.sums
    }

    fn fill(&mut self, padded_row: usize) {
        let Shape { width, height, channels } = self.shape;
        let columns = self.filter.outputs(width);
        let slot = padded_row % self.filter.taps.len();
        let start = self.filter.source(padded_row, height) * width * channels;
        for channel in 0..channels {
            self.load(start + channel);
            for (moment, scratch) in self.scratch.iter().enumerate() {
                let at = (channel * MOMENTS + moment) * columns;
                let out = &mut self.rows[slot][at..at + columns];
                out.fill(0.0);
                for (k, &tap) in self.filter.taps.iter().enumerate() {
                    add_scaled(out, &scratch[k..k + columns], tap);
                }
            }
        }
    }

    /// One channel of one row, and its products, with the border on both sides.
    fn load(&mut self, start: usize) {
        let Shape { width, channels, .. } = self.shape;
        let padding = self.filter.padding;
        let [row_a, row_b, squares, products] = &mut self.scratch;
        for (row, samples) in [(&mut *row_a, self.a), (&mut *row_b, self.b)] {
            let inner = samples[start..].iter().step_by(channels).take(width);
            for (out, &sample) in row[padding..].iter_mut().zip(inner) {
                *out = f32::from(sample) - CENTER;
            }
            let (first, last) = (row[padding], row[padding + width - 1]);
            row[..padding].fill(first);
            row[padding + width..].fill(last);
        }
        for (((square, product), a), b) in
            squares.iter_mut().zip(products.iter_mut()).zip(&*row_a).zip(&*row_b)
        {
            *square = a * a + b * b;
            *product = a * b;
        }
    }
}

fn add_scaled(out: &mut [f32], values: &[f32], factor: f32) {
    for (out, value) in out.iter_mut().zip(values) {
        *out += value * factor;
    }
}

/// Sum of the SSIM map over one row of positions and all outputs of `mix`.
fn row_sum(moments: &[f32], columns: usize, mix: &[[f32; 3]], map: &mut [f32]) -> f64 {
    let mut sum = 0.0;
    let channels = moments.len() / (columns * MOMENTS);
    for weights in mix {
        let weights = &weights[..channels];
        for (x, out) in map.iter_mut().enumerate() {
            let mut m = [0.0; MOMENTS];
            for (channel, weight) in weights.iter().enumerate() {
                for (moment, value) in m.iter_mut().enumerate() {
                    *value += weight * moments[(channel * MOMENTS + moment) * columns + x];
                }
            }
            *out = similarity(m);
        }
        sum += map.iter().map(|&value| f64::from(value)).sum::<f64>();
    }
    sum
}
