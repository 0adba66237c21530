//! What the quality measures add up over two 8-bit pictures: squared error, and the map of structural similarity.
//!
//! SSIM takes local means, variances and the covariance under a Gaussian window and averages
//! `(2 μa μb + C1)(2 σab + C2) / ((μa² + μb² + C1)(σa² + σb² + C2))` over all positions. Sources: Wang, Bovik, Sheikh and
//! Simoncelli (2004) for luma; `ssim_matlab` of hzwer/ECCV2022-RIFE for the 3-D window on RGB.

/// Side of the window where the picture is large enough.
pub const WINDOW: usize = 11;
/// Standard deviation of the window, in pixels.
const SIGMA: f64 = 1.5;
/// Replicated border of RIFE's variant, in pixels (and channels).
const RIFE_PADDING: usize = 5;
/// `(0.01 * 255)²` and `(0.03 * 255)²`.
const C1: f32 = 6.5025;
/// See [`C1`].
const C2: f32 = 58.5225;
/// Taken off every sample before squaring: variances do not see it, and f32 keeps its digits.
pub const CENTER: f32 = 128.0;
/// Window sums kept for each channel: a, b, a² + b², ab.
pub const MOMENTS: usize = 4;

/// How near a predicted picture is to the true one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measures {
    /// Sum of squared differences over all 8-bit RGB samples.
    pub rgb_squared_error: u64,
    /// Sum of squared differences over 8-bit luma.
    pub luma_squared_error: u64,
    /// Mean SSIM of luma, at most 1.
    pub ssim_luma: f64,
    /// Mean SSIM of RGB with RIFE's window, at most 1.
    pub ssim_rgb: f64,
}

/// Sum of `(a - b)²` over two runs of samples, exact.
///
/// # Panics
/// If the lengths differ.
#[must_use]
pub fn squared_error(a: &[u8], b: &[u8]) -> u64 {
    /// Samples added up in 32 bits before they go to 64: 255² times this stays below 2³².
    const CHUNK: usize = 1 << 16;
    assert_eq!(a.len(), b.len(), "samples of one size");
    let square = |(a, b): (&u8, &u8)| {
        let difference = u32::from(a.abs_diff(*b));
        difference * difference
    };
    let chunk = |(a, b): (&[u8], &[u8])| u64::from(a.iter().zip(b).map(square).sum::<u32>());
    a.chunks(CHUNK).zip(b.chunks(CHUNK)).map(chunk).sum()
}

/// Luma of an RGB pixel: BT.601, full range, rounded to 8 bit.
#[must_use]
pub fn luma_of_rgb([r, g, b]: [u8; 3]) -> u8 {
    // Thousandths, so that the rounding is exact.
    ((u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114 + 500) / 1000) as u8
}

/// Luma of more bits rounded to 8: `steps` codes to one.
#[must_use]
pub fn luma8(code: u16, steps: u16) -> u8 {
    ((code + steps / 2) / steps).min(255) as u8
}

/// A 1-D Gaussian for each axis and the replicated border it is used with.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The window along a row or column; sums to 1.
    pub taps: Vec<f32>,
    /// Samples that each edge is repeated by.
    pub padding: usize,
}

impl Filter {
    /// The window of Wang et al. on luma of `width` x `height`: 11x11, only where it lies inside the picture. Where the
    /// picture is under 11 pixels wide or high, it shrinks to the largest odd side that fits.
    #[must_use]
    pub fn of_luma(width: usize, height: usize) -> Self {
        let fitting = WINDOW.min(width).min(height);
        Self::new(fitting - usize::from(fitting.is_multiple_of(2)), 0)
    }

    /// The window of RIFE's benchmarks on RGB: 11x11x11 over channel, row and column, each axis padded by 5 with its edge.
    /// As there, a picture under 11 pixels wide or high takes a window of its shorter side, still padded by 5.
    #[must_use]
    pub fn of_rgb(width: usize, height: usize) -> Self {
        Self::new(WINDOW.min(width).min(height), RIFE_PADDING)
    }

    fn new(side: usize, padding: usize) -> Self {
        let tap = |k: usize| {
            let x = k as f64 - (side / 2) as f64;
            (-x * x / (2.0 * SIGMA * SIGMA)).exp()
        };
        let taps: Vec<f64> = (0..side).map(tap).collect();
        let sum: f64 = taps.iter().sum();
        Self { taps: taps.iter().map(|tap| (tap / sum) as f32).collect(), padding }
    }

    /// Positions of the window along an axis of `n` samples.
    #[must_use]
    pub fn outputs(&self, n: usize) -> usize {
        n + 2 * self.padding + 1 - self.taps.len()
    }

    /// The sample that stands at `padded` of an axis of `n` samples with its border.
    #[must_use]
    pub fn source(&self, padded: usize, n: usize) -> usize {
        padded.saturating_sub(self.padding).min(n - 1)
    }

    /// What the window and the padding do along `channels` (1 or 3): weights of the channels for each output. One channel
    /// is luma and has no window along the channels.
    #[must_use]
    pub fn mixes(&self, channels: usize) -> Vec<[f32; 3]> {
        if channels == 1 {
            return vec![[1.0, 0.0, 0.0]];
        }
        let mix = |out: usize| {
            let mut weights = [0.0; 3];
            for (k, tap) in self.taps.iter().enumerate() {
                weights[self.source(out + k, channels)] += tap;
            }
            weights
        };
        (0..self.outputs(channels)).map(mix).collect()
    }
}

/// SSIM of one window from the mean of a, b, a² + b² and ab, all of samples less [`CENTER`].
#[must_use]
#[inline(always)]
pub fn similarity([a, b, squares, product]: [f32; MOMENTS]) -> f32 {
    let variances = squares - a * a - b * b;
    let covariance = product - a * b;
    let (a, b) = (a + CENTER, b + CENTER);
    (2.0 * a * b + C1) * (2.0 * covariance + C2) / ((a * a + b * b + C1) * (variances + C2))
}

/// The definition, in f64: sum of the SSIM map of `a` and `b` `[height, width, channels]` over all positions and all
/// outputs along the channels, and how many those are.
///
/// # Panics
/// If a picture does not hold that many samples, or none.
#[must_use]
pub fn ssim_reference(a: &[u8], b: &[u8], shape: [usize; 3], filter: &Filter) -> (f64, usize) {
    let [height, width, channels] = shape;
    assert_eq!((a.len(), b.len()), (shape.iter().product(), a.len()), "samples of one size");
    let (rows, columns) = (filter.outputs(height), filter.outputs(width));
    let mixes = filter.mixes(channels);
    let mut sum = 0.0;
    for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
        let mut moments = [[0.0_f64; MOMENTS]; 3];
        for (i, row_tap) in filter.taps.iter().enumerate() {
            for (j, column_tap) in filter.taps.iter().enumerate() {
                let at = filter.source(y + i, height) * width + filter.source(x + j, width);
                let weight = f64::from(row_tap * column_tap);
                for (channel, sums) in moments.iter_mut().enumerate().take(channels) {
                    let (a, b) = (
                        f64::from(a[at * channels + channel]),
                        f64::from(b[at * channels + channel]),
                    );
                    let (a, b) = (a - f64::from(CENTER), b - f64::from(CENTER));
                    for (sum, value) in sums.iter_mut().zip([a, b, a * a + b * b, a * b]) {
                        *sum += weight * value;
                    }
                }
            }
        }
        for weights in &mixes {
            let mean = |moment: usize| {
                (0..channels).map(|c| f64::from(weights[c]) * moments[c][moment]).sum::<f64>()
                    as f32
            };
            sum += f64::from(similarity(std::array::from_fn(mean)));
        }
    }
    (sum, rows * columns * mixes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_sum_to_one_at_every_size() {
        for (w, h) in [(1, 1), (2, 9), (10, 11), (40, 30)] {
            for (filter, channels) in [(Filter::of_luma(w, h), 1), (Filter::of_rgb(w, h), 3)] {
                let sum: f32 = filter.taps.iter().sum();
                assert!((sum - 1.0).abs() < 1e-6, "{w}x{h}: {sum}");
                for mix in filter.mixes(channels) {
                    assert!((mix.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{w}x{h}: {mix:?}");
                }
            }
        }
    }

    #[test]
    fn equal_pictures_are_similar_everywhere() {
        let picture: Vec<u8> = (0..3 * 7 * 5).map(|i| (i * 37 % 251) as u8).collect();
        let (sum, positions) = ssim_reference(&picture, &picture, [5, 7, 3], &Filter::of_rgb(7, 5));
        assert!((sum / positions as f64 - 1.0).abs() < 1e-6, "{sum} of {positions}");
    }
}
