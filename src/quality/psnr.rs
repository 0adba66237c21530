//! Peak signal-to-noise ratio of 8-bit samples.

use serde::{Deserialize, Serialize};

use crate::ops::metrics::squared_error;

/// Largest value of a sample.
const PEAK: f64 = 255.0;

/// The sum of squared differences, exact, and over how many samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SquaredError {
    /// Sum of `(a - b)²`, in codes.
    pub sum: u64,
    /// Number of samples.
    pub samples: u64,
}

impl SquaredError {
    /// Of two runs of samples.
    ///
    /// # Panics
    /// If the lengths differ.
    #[must_use]
    pub fn between(a: &[u8], b: &[u8]) -> Self {
        Self { sum: squared_error(a, b), samples: a.len() as u64 }
    }

    /// Mean squared error, in codes squared; 0 where there is no sample.
    #[must_use]
    pub fn mean(self) -> f64 {
        if self.samples == 0 { 0.0 } else { self.sum as f64 / self.samples as f64 }
    }

    /// PSNR in dB; `None` where the samples are identical.
    #[must_use]
    pub fn psnr_db(self) -> Option<f64> {
        psnr_of_mean(self.mean())
    }
}

/// PSNR in dB of a mean squared error in codes squared; `None` where that is 0.
#[must_use]
pub fn psnr_of_mean(mean_squared_error: f64) -> Option<f64> {
    (mean_squared_error > 0.0).then(|| 10.0 * (PEAK * PEAK / mean_squared_error).log10())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough for sums of 32 bits to overflow, were they used.
    const CHUNK: usize = 1 << 16;

    #[test]
    fn sums_do_not_overflow_on_large_opposite_pictures() {
        let (black, white) = (vec![0; 5 * CHUNK + 3], vec![255; 5 * CHUNK + 3]);
        let error = SquaredError::between(&black, &white);
        assert_eq!(error.sum, 65025 * (5 * CHUNK as u64 + 3));
        assert_eq!(error.psnr_db(), Some(0.0));
    }
}
