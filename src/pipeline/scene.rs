//! Finds hard cuts, so that nothing is made across one.
//!
//! A cut is a loss of structure that the frames before did not show: the luma of both frames is averaged over a coarse
//! grid, and the score is one minus the correlation of the grids, less the same for the pair before. Brightness and
//! contrast drop out of a correlation, so flashes and fades do not count; steady fast motion loses structure in every
//! pair, so it does not count either.

use crate::frame::{Depth, Picture, Sample};
use crate::pipeline::column_sums::ColumnSums;

/// Score from which a pair is a cut.
pub const CUT_THRESHOLD: f64 = 0.4;
/// Cells of the grid across and down.
const GRID: (usize, usize) = (32, 18);
/// Mean difference of the grids (of full scale) below which nothing is a cut: noise has no correlation either.
const LEAST_DIFFERENCE: f64 = 0.02;
/// A grid whose standard deviation is below this (of full scale) is flat: a cut to or from black or white.
const FLAT_DEVIATION: f64 = 0.008;
/// Mean difference from which a change between a flat picture and another is a cut (a fade takes smaller steps).
const FLAT_DIFFERENCE: f64 = 0.1;

/// The coarse luma of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    cells: Vec<f64>,
}

/// How two neighbouring frames compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// One minus the correlation of the grids, in 0..=1.
    pub lost_structure: f64,
    /// Mean difference of the grids, in 0..=1.
    pub difference: f64,
}

/// Watches the frames of a clip in order.
#[derive(Clone, Debug, Default)]
pub struct CutDetector {
    before: Option<Signature>,
    lost_before: f64,
}

impl CutDetector {
    /// The structure that the picture looked at last has lost.
    #[must_use]
    pub fn lost_structure(&self) -> f64 {
        self.lost_before
    }

    /// The cut score (0..=1) of this picture against the one before, 0 for the first; and its coarse luma.
    pub fn look(&mut self, picture: &Picture) -> (f64, Signature) {
        let now = Signature::of(picture);
        let Some(before) = self.before.replace(now.clone()) else { return (0.0, now) };
        let lost = before.compare(&now).lost_structure;
        let score = (lost - self.lost_before).clamp(0.0, 1.0);
        self.lost_before = lost;
        (score, now)
    }
}

impl Signature {
    /// Mean luma (or green) over each cell, 0..=1.
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        match picture.format.depth {
            Depth::Eight => Self::of_samples::<u8>(picture),
            Depth::Ten | Depth::Twelve => Self::of_samples::<[u8; 2]>(picture),
        }
    }

    fn of_samples<S: Sample>(picture: &Picture) -> Self {
        let (width, height) = (picture.format.width_px, picture.format.height_px);
        let peak = f64::from(picture.format.depth.peak());
        let (columns, rows) = (GRID.0.min(width), GRID.1.min(height));
        let luma = S::of(&picture.planes[0]);
        let mut cells = Vec::with_capacity(columns * rows);
        let mut sums = ColumnSums::new(picture.format);
        for row in 0..rows {
            let lines = row * height / rows..(row + 1) * height / rows;
            let sums = sums.of(&luma[lines.start * width..lines.end * width]);
            for column in 0..columns {
                let span = column * width / columns..(column + 1) * width / columns;
                let pixels = (lines.len() * span.len()) as f64;
                let sum: u64 = sums[span].iter().map(|it| u64::from(*it)).sum();
                cells.push(sum as f64 / (peak * pixels));
            }
        }
        Self { cells }
    }

    /// Mean luma, 0..=1.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.cells.iter().sum::<f64>() / self.cells.len() as f64
    }

    /// Standard deviation of the cells, of full scale.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.cells.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
        (squares / self.cells.len() as f64).sqrt()
    }

    /// Compares with the signature of a picture of the same size.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Comparison {
        assert_eq!(self.cells.len(), other.cells.len(), "signatures of pictures of one size");
        let count = self.cells.len() as f64;
        let pairs = || self.cells.iter().zip(&other.cells);
        let difference = pairs().map(|(a, b)| (a - b).abs()).sum::<f64>() / count;
        let (mean_a, mean_b) = (self.mean(), other.mean());
        let covariance = pairs().map(|(a, b)| (a - mean_a) * (b - mean_b)).sum::<f64>() / count;
        let (a, b) = (self.deviation(), other.deviation());
        let lost_structure = if difference < LEAST_DIFFERENCE {
            0.0
        } else if a < FLAT_DEVIATION || b < FLAT_DEVIATION {
            f64::from(u8::from(difference >= FLAT_DIFFERENCE))
        } else {
            (1.0 - covariance / (a * b)).clamp(0.0, 1.0)
        };
        Comparison { lost_structure, difference }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Matrix, PictureFormat, Range};

    fn picture(paint: impl Fn(usize, usize) -> f64) -> Picture {
        let format = PictureFormat {
            width_px: 321,
            height_px: 181,
            chroma: Chroma::Gray,
            matrix: Matrix::Bt709,
            range: Range::Full,
            depth: Depth::Eight,
        };
        let mut picture = Picture::zeroed(format);
        for y in 0..181 {
            for x in 0..321 {
                picture.planes[0][y * 321 + x] =
                    (paint(x, y) * 255.0).clamp(0.0, 255.0).round() as u8;
            }
        }
        picture
    }

    /// Smooth blotches; `seed` picks the scene, `shift` moves it.
    fn scene(seed: f64, shift: f64) -> impl Fn(usize, usize) -> f64 {
        move |x, y| {
            let (x, y) = (x as f64 + shift, y as f64);
            0.5 + 0.2 * (x * (0.031 + seed * 0.013) + seed).sin()
                + 0.2 * (y * (0.043 + seed * 0.017) - seed).cos()
                + 0.1 * ((x - y) * 0.07 * (1.0 + seed)).sin()
        }
    }

    fn scores(pictures: &[Picture]) -> Vec<f64> {
        let mut detector = CutDetector::default();
        pictures.iter().map(|it| detector.look(it).0).collect()
    }

    fn cuts(pictures: &[Picture]) -> Vec<usize> {
        let found = scores(pictures).into_iter().enumerate().filter(|(_, it)| *it >= CUT_THRESHOLD);
        found.map(|(index, _)| index).collect()
    }

    #[test]
    fn a_hard_cut_is_found_where_it_is() {
        let clip: Vec<_> = (0..10)
            .map(|i| picture(scene(if i < 6 { 0.3 } else { 1.7 }, f64::from(i) * 4.0)))
            .collect();
        assert_eq!(cuts(&clip), [6]);
    }

    #[test]
    fn motion_up_to_a_sixteenth_of_the_width_is_no_cut() {
        let clip: Vec<_> = (0..8).map(|i| picture(scene(0.3, f64::from(i) * 20.0))).collect();
        assert_eq!(cuts(&clip), [0_usize; 0], "{:?}", scores(&clip));
    }

    #[test]
    fn a_flash_and_a_fade_are_no_cuts() {
        let light = [1.0, 1.0, 1.8, 1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.0, 0.0];
        let clip: Vec<_> =
            light.iter().map(|gain| picture(move |x, y| scene(0.3, 0.0)(x, y) * gain)).collect();
        assert_eq!(cuts(&clip), [0_usize; 0], "{:?}", scores(&clip));
    }

    #[test]
    fn a_cut_from_black_is_a_cut() {
        let clip = [
            picture(|_, _| 0.0),
            picture(|_, _| 0.0),
            picture(scene(0.3, 0.0)),
            picture(scene(0.3, 3.0)),
        ];
        assert_eq!(cuts(&clip), [2]);
    }

    #[test]
    fn noise_on_black_is_no_cut() {
        let noise = |seed: usize| {
            move |x: usize, y: usize| {
                ((x * 7919 + y * 104_729 + seed * 1_299_709) % 97) as f64 / 2000.0
            }
        };
        let clip: Vec<_> = (0..5).map(|i| picture(noise(i))).collect();
        assert_eq!(cuts(&clip), [0_usize; 0]);
    }

    /// The same picture in 10 bits.
    fn widened(picture: &Picture) -> Picture {
        let wide = |plane: &Vec<u8>| {
            plane.iter().flat_map(|code| (4 * u16::from(*code)).to_le_bytes()).collect()
        };
        Picture {
            format: PictureFormat { depth: Depth::Ten, ..picture.format },
            planes: picture.planes.iter().map(wide).collect(),
        }
    }

    #[test]
    fn ten_bits_are_judged_as_eight_are() {
        let clip: Vec<_> = (0..10)
            .map(|i| widened(&picture(scene(if i < 6 { 0.3 } else { 1.7 }, f64::from(i) * 4.0))))
            .collect();
        assert_eq!(cuts(&clip), [6]);
    }

    #[test]
    fn tiny_pictures_have_signatures() {
        let mut one = Picture::zeroed(PictureFormat {
            width_px: 1,
            height_px: 1,
            ..picture(|_, _| 0.0).format
        });
        one.planes[0][0] = 255;
        assert_eq!(Signature::of(&one).cells, [1.0]);
    }
}
