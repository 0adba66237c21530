//! Codes of samples and the values that they stand for (ITU-T H.273, at 8, 10 and 12 bits).

use crate::frame::{PictureFormat, Range, Sample};

/// Linear maps between codes and nominal values: `code = value * span + zero`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantisation {
    pub(crate) luma_zero: f32,
    pub(crate) luma_span: f32,
    pub(crate) chroma_zero: f32,
    pub(crate) chroma_span: f32,
    /// The largest code.
    pub(crate) peak: f32,
}

impl Quantisation {
    pub(crate) fn of(format: PictureFormat) -> Self {
        let (steps, peak) = (f32::from(format.depth.steps()), f32::from(format.depth.peak()));
        let chroma_zero = 128.0 * steps;
        let (luma_zero, luma_span, chroma_span) = match format.range {
            Range::Limited => (16.0 * steps, 219.0 * steps, 224.0 * steps),
            Range::Full => (0.0, peak, peak),
        };
        Self { luma_zero, luma_span, chroma_zero, chroma_span, peak }
    }

    pub(crate) fn luma(self, code: u16) -> f32 {
        (f32::from(code) - self.luma_zero) / self.luma_span
    }

    /// Nominal values of luma, or of samples as coded.
    pub(crate) fn nominal<S: Sample>(self, samples: &[S], out: &mut [f32]) {
        for (out, sample) in out.iter_mut().zip(samples) {
            *out = self.luma(sample.code());
        }
    }

    pub(crate) fn luma_sample<S: Sample>(self, value: f32) -> S {
        self.sample(value * self.luma_span + self.luma_zero)
    }

    pub(crate) fn chroma_sample<S: Sample>(self, value: f32) -> S {
        self.sample(value * self.chroma_span + self.chroma_zero)
    }

    /// The nearest code, saturating; NaN is 0.
    fn sample<S: Sample>(self, value: f32) -> S {
        // The cast rounds down, saturates and takes NaN to 0.
        S::from_code(((value + 0.5) as u16).min(self.peak as u16))
    }
}
