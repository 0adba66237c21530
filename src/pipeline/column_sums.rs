//! Sums lines of a plane column by column: what averages over parts of a picture are made of, at the speed of memory.

use crate::frame::{PictureFormat, Sample};

/// The sums of one band of lines at a time.
pub struct ColumnSums {
    /// Lines that 16 bits can hold the sum of.
    lines: usize,
    narrow: Vec<u16>,
    sums: Vec<u32>,
}

impl ColumnSums {
    /// For planes as wide as the pictures of a format.
    #[must_use]
    pub fn new(format: PictureFormat) -> Self {
        let lines = usize::from(u16::MAX / format.depth.peak());
        Self { lines, narrow: vec![0; format.width_px], sums: vec![0; format.width_px] }
    }

    /// The sum of every column over whole lines.
    pub fn of<S: Sample>(&mut self, lines: &[S]) -> &[u32] {
        let width = self.sums.len();
        self.sums.fill(0);
        for band in lines.chunks(self.lines * width) {
            self.narrow.fill(0);
            for line in band.chunks_exact(width) {
                for (sum, sample) in self.narrow.iter_mut().zip(line) {
                    *sum += sample.code();
                }
            }
            for (sum, narrow) in self.sums.iter_mut().zip(&self.narrow) {
                *sum += u32::from(*narrow);
            }
        }
        &self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Depth, Matrix, Range};

    #[test]
    fn the_sums_of_the_largest_codes_over_many_lines_are_exact() {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        for (depth, height_px) in [(Depth::Eight, 700), (Depth::Ten, 131), (Depth::Twelve, 50)] {
            let format = PictureFormat { width_px: 5, height_px, chroma, matrix, range, depth };
            let peak = depth.peak();
            let expected = vec![u32::from(peak) * height_px as u32; 5];
            let mut sums = ColumnSums::new(format);
            for _ in 0..2 {
                let found = match depth {
                    Depth::Eight => sums.of(&vec![peak as u8; 5 * height_px]),
                    _ => sums.of(&vec![peak.to_le_bytes(); 5 * height_px]),
                };
                assert_eq!(found, expected);
            }
        }
    }
}
