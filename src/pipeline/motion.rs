//! How sure the frames between two others can be: motion is estimated on small pictures, there and back.
//!
//! The network's own flows stay on its device, so this is an estimate of its own, the same on every device. Luma is averaged
//! down to at most 192 samples a side. Each block of 8x8 samples that changes is looked for in the other picture, first
//! coarsely over a pyramid and then finer, and the place where it was found is looked for back in the first. A block is
//! *sure* where it does not change, or where the way back ends within a sample and a half (and a tenth of the motion) of
//! where it began and what was found there is like it. The score falls with the share of blocks that are not sure, and with
//! the motion: where things move by more than a network is trained for, it invents.

use crate::frame::{Depth, Picture, Sample};
use crate::pipeline::column_sums::ColumnSums;

/// Longest side of the small pictures.
const SIDE_LIMIT: usize = 192;
/// Side of a block.
const BLOCK: usize = 8;
/// Samples of a block.
const AREA: u32 = (BLOCK * BLOCK) as u32;
/// Levels of the pyramid; each halves the one before.
const LEVELS: usize = 3;
/// Samples searched to each side at the coarsest level: with the finer ones 30 of 192, a sixth of the picture.
const SEARCH: isize = 6;
/// Samples searched to each side at each finer level.
const REFINE: isize = 2;
/// Samples round a picture that repeat its edge.
const PAD: usize = 40;
/// Cost of a sample of motion, so that flat blocks stay where they are.
const STILLNESS: u32 = 3;
/// Mean difference, in codes of 8 bits, up to which a block does not change.
const UNCHANGED: u32 = 3;
/// Mean difference up to which a block counts as found.
const FOUND: u32 = 12;
/// Samples that the way back may end from where it began, and that part of the motion.
const ROUND_TRIP: (f32, f32) = (1.5, 0.1);
/// Share of blocks that are not sure at which the score is 0.
const UNSURE_SHARE: f32 = 0.25;
/// Motion, in parts of the picture's longer side, up to which it takes nothing from the score, and where it takes all.
const MOTION: (f32, f32) = (0.04, 0.16);
/// The motion of a pair is that of this part of its blocks, or less.
const MOTION_PERCENTILE: f32 = 0.95;

/// What is estimated of the gap between two frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// 1 is sure, 0 is not at all.
    pub score: f64,
    /// Motion of most blocks, in parts of the picture's longer side.
    pub motion: f64,
}

/// A picture made small, with its pyramid.
#[derive(Clone, Debug)]
pub struct Small {
    levels: Vec<Level>,
    mean: i32,
}

#[derive(Clone, Debug)]
struct Level {
    width: usize,
    height: usize,
    /// With [`PAD`] samples on every side.
    samples: Vec<u8>,
}

/// Samples of a block, row by row.
type Block = [u8; BLOCK * BLOCK];

/// Motion of a block, in samples of the finest level.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    x: isize,
    y: isize,
    /// Mean difference, in codes.
    difference: u32,
}

/// The best place for a block so far: its motion, the sum of differences, and what both cost.
struct Match {
    motion: (isize, isize),
    difference: u32,
    cost: u32,
}

impl Match {
    const NONE: Self = Self { motion: (0, 0), difference: u32::MAX, cost: u32::MAX };
}

impl Small {
    /// Of a picture's luma (or green).
    #[must_use]
    pub fn of(picture: &Picture) -> Self {
        let first = match picture.format.depth {
            Depth::Eight => averaged::<u8>(picture),
            Depth::Ten | Depth::Twelve => averaged::<[u8; 2]>(picture),
        };
        let sum: u64 = first.samples.iter().map(|it| u64::from(*it)).sum();
        let mean = (sum / first.samples.len() as u64) as i32;
        let mut levels = vec![first.padded()];
        while levels.len() < LEVELS {
            let last = &levels[levels.len() - 1];
            if last.width.min(last.height) < 2 * BLOCK {
                break;
            }
            levels.push(last.halved().padded());
        }
        Self { levels, mean }
    }

    /// Compares with the next picture, of the same size.
    #[must_use]
    pub fn confidence(&self, next: &Self) -> Confidence {
        let (columns, rows) = self.levels[0].blocks();
        let still = self.still(next);
        let forward = self.motion_to(next, &still);
        let backward = next.motion_to(self, &still);
        let (mut unsure, mut motions) = (0_u32, Vec::with_capacity(forward.len()));
        for (index, found) in forward.iter().enumerate() {
            if still[index] {
                motions.push(0.0);
                continue;
            }
            let (column, row) = (index % columns, index / columns);
            let length = (found.x as f32).hypot(found.y as f32);
            let landed = |at: usize, by: isize, count: usize| {
                let center = (at * BLOCK + BLOCK / 2) as isize + by;
                (center.max(0) as usize / BLOCK).min(count - 1)
            };
            let there = landed(row, found.y, rows) * columns + landed(column, found.x, columns);
            let back = backward[there];
            let off = ((found.x + back.x) as f32).hypot((found.y + back.y) as f32);
            if off > ROUND_TRIP.0 + ROUND_TRIP.1 * length || found.difference > FOUND {
                unsure += 1;
            } else {
                motions.push(length);
            }
        }
        let first = &self.levels[0];
        let side = first.width.max(first.height) as f32;
        motions.sort_unstable_by(f32::total_cmp);
        let at = (motions.len() as f32 * MOTION_PERCENTILE) as usize;
        // Blocks that were not found may have gone anywhere.
        let motion = motions.get(at).or(motions.last()).map_or(1.0, |it| it / side);
        let share = unsure as f32 / forward.len() as f32;
        let consistency = (1.0 - share / UNSURE_SHARE).max(0.0);
        let ease = ((MOTION.1 - motion) / (MOTION.1 - MOTION.0)).clamp(0.0, 1.0);
        Confidence { score: f64::from(consistency * ease), motion: f64::from(motion) }
    }

    /// Which blocks are where they were, as they were.
    fn still(&self, next: &Self) -> Vec<bool> {
        let (a, b) = (&self.levels[0], &next.levels[0]);
        let (columns, rows) = a.blocks();
        let lighter = next.mean - self.mean;
        let stays = |index: usize| {
            let at = a.block_at(index % columns, index / columns, 1);
            b.difference(&a.block(at, lighter), at) <= UNCHANGED * AREA
        };
        (0..columns * rows).map(stays).collect()
    }

    /// Where each block went; those that are still are not looked for.
    fn motion_to(&self, next: &Self, still: &[bool]) -> Vec<Found> {
        let (columns, rows) = self.levels[0].blocks();
        let mut found = vec![Found::default(); columns * rows];
        let lighter = next.mean - self.mean;
        for number in (0..self.levels.len()).rev() {
            let (a, b) = (&self.levels[number], &next.levels[number]);
            let scale = 1 << number;
            let seen = |it: Found| (it.x / scale, it.y / scale);
            let coarsest = number + 1 == self.levels.len();
            for index in (0..found.len()).filter(|it| !still[*it]) {
                let (column, row) = (index % columns, index / columns);
                let at = a.block_at(column, row, scale as usize);
                let block = a.block(at, lighter);
                let mut best = Match::NONE;
                if coarsest {
                    b.search(&block, at, ((0, 0), SEARCH), &mut best);
                } else {
                    // From where it was seen coarsely, and from where its neighbors went, which is mostly the same way.
                    let left = index.checked_sub(1).filter(|_| column > 0).unwrap_or(index);
                    let above = index.checked_sub(columns).unwrap_or(index);
                    let starts = [index, left, above].map(|it| seen(found[it]));
                    let starts = [starts[0], (0, 0), starts[1], starts[2]];
                    for (number, start) in starts.iter().enumerate() {
                        if !starts[..number].contains(start) {
                            b.search(&block, at, (*start, REFINE), &mut best);
                        }
                    }
                }
                let (x, y) = best.motion;
                found[index] =
                    Found { x: x * scale, y: y * scale, difference: best.difference / AREA };
            }
        }
        found
    }
}

impl Level {
    fn padded(self) -> Self {
        let Self { width, height, samples } = &self;
        let stride = width + 2 * PAD;
        let mut out = Vec::with_capacity(stride * (height + 2 * PAD));
        for y in 0..height + 2 * PAD {
            let row = y.saturating_sub(PAD).min(height - 1) * width;
            let row = &samples[row..row + width];
            out.extend(std::iter::repeat_n(row[0], PAD));
            out.extend(row);
            out.extend(std::iter::repeat_n(row[width - 1], PAD));
        }
        Self { width: *width, height: *height, samples: out }
    }

    /// Of a padded level, not padded.
    fn halved(&self) -> Self {
        let (width, height, stride) = (self.width / 2, self.height / 2, self.stride());
        let mut samples = Vec::with_capacity(width * height);
        for y in 0..height {
            let at = (2 * y + PAD) * stride + PAD;
            let upper = self.samples[at..at + 2 * width].as_chunks::<2>().0;
            let lower = self.samples[at + stride..at + stride + 2 * width].as_chunks::<2>().0;
            samples.extend(upper.iter().zip(lower).map(|(upper, lower)| {
                let four = upper.iter().chain(lower);
                ((four.map(|it| u16::from(*it)).sum::<u16>() + 2) / 4) as u8
            }));
        }
        Self { width, height, samples }
    }

    fn stride(&self) -> usize {
        self.width + 2 * PAD
    }

    fn blocks(&self) -> (usize, usize) {
        ((self.width / BLOCK).max(1), (self.height / BLOCK).max(1))
    }

    /// Upper left sample of a block whose center is that of the finest level's, which is `scale` times as large.
    fn block_at(&self, column: usize, row: usize, scale: usize) -> (isize, isize) {
        let corner = |at: usize| ((at * BLOCK + BLOCK / 2) / scale) as isize - (BLOCK / 2) as isize;
        (corner(column), corner(row))
    }

    /// The samples of a block, `lighter` by that many codes.
    fn block(&self, at: (isize, isize), lighter: i32) -> Block {
        let mut block = self.read(at);
        let step = lighter.unsigned_abs().min(255) as u8;
        for sample in &mut block {
            *sample = match lighter {
                0.. => sample.saturating_add(step),
                _ => sample.saturating_sub(step),
            };
        }
        block
    }

    /// The block whose upper left sample is at `at`, or at the nearest place that is there.
    #[inline]
    fn read(&self, at: (isize, isize)) -> Block {
        let inside = |at: isize, length: usize| {
            let last = (length + 2 * PAD - BLOCK) as isize;
            (at + PAD as isize).clamp(0, last) as usize
        };
        let (stride, mut block) = (self.stride(), [0; BLOCK * BLOCK]);
        let first = inside(at.1, self.height) * stride + inside(at.0, self.width);
        let lines = &self.samples[first..first + (BLOCK - 1) * stride + BLOCK];
        for (number, row) in block.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            row.copy_from_slice(&lines[number * stride..number * stride + BLOCK]);
        }
        block
    }

    /// Sum of differences between a block and the one at `at`.
    #[inline]
    fn difference(&self, block: &Block, at: (isize, isize)) -> u32 {
        let there = self.read(at);
        block.iter().zip(&there).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
    }

    /// Finds the motion within some reach of a start at which the block of `at` is most like, if it is better than `best`.
    fn search(
        &self,
        block: &Block,
        at: (isize, isize),
        (start, reach): ((isize, isize), isize),
        best: &mut Match,
    ) {
        for y in start.1 - reach..=start.1 + reach {
            for x in start.0 - reach..=start.0 + reach {
                let difference = self.difference(block, (at.0 + x, at.1 + y));
                let cost = difference + STILLNESS * (x.unsigned_abs() + y.unsigned_abs()) as u32;
                if cost < best.cost {
                    *best = Match { motion: (x, y), difference, cost };
                }
            }
        }
    }
}

/// Luma of a picture, averaged down.
fn averaged<S: Sample>(picture: &Picture) -> Level {
    let (width, height) = (picture.format.width_px, picture.format.height_px);
    let factor = width.max(height).div_ceil(SIDE_LIMIT);
    let (columns, rows) = ((width / factor).max(1), (height / factor).max(1));
    let (across, down) = (factor.min(width), factor.min(height));
    let luma = S::of(&picture.planes[0]);
    let steps = u64::from(picture.format.depth.steps());
    // Divides as a product, rounded down: exact while a cell's sum and its area are less than 2^44 together.
    let part = (1_u64 << 44).div_ceil((across * down) as u64 * steps);
    let mut samples = Vec::with_capacity(columns * rows);
    let mut sums = ColumnSums::new(picture.format);
    for row in 0..rows {
        let lines = &luma[row * down * width..(row + 1) * down * width];
        let cells = sums.of(lines)[..columns * across].chunks_exact(across);
        let mean = |sum: u32| ((u64::from(sum) * part) >> 44).min(255) as u8;
        samples.extend(cells.map(|cell| mean(cell.iter().sum())));
    }
    Level { width: columns, height: rows, samples }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Matrix, PictureFormat, Range};

    fn picture(width_px: usize, height_px: usize, paint: impl Fn(f64, f64) -> f64) -> Picture {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let format =
            PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight };
        let mut picture = Picture::zeroed(format);
        for y in 0..height_px {
            for x in 0..width_px {
                let value = paint(x as f64, y as f64);
                picture.planes[0][y * width_px + x] = (value * 255.0).clamp(0.0, 255.0) as u8;
            }
        }
        picture
    }

    /// Blotches of many sizes that repeat nowhere in a picture.
    fn texture(x: f64, y: f64) -> f64 {
        0.5 + 0.15 * (x * 0.021 + 0.4 * (y * 0.017).sin()).sin()
            + 0.15 * (y * 0.033 - 0.7 * (x * 0.013).cos()).cos()
            + 0.1 * ((x * 0.11 + y * 0.053).sin() * (y * 0.097 - x * 0.031).cos())
    }

    fn moved(by: f64) -> Small {
        Small::of(&picture(640, 360, |x, y| texture(x - by, y)))
    }

    fn noise(seed: u64) -> Small {
        let mix = move |x: f64, y: f64| {
            let mut z =
                (x as u64 / 9) * 0x9E37_79B9 + (y as u64 / 9) * 0x85EB_CA6B + seed * 0xC2B2_AE35;
            z = (z ^ (z >> 15)).wrapping_mul(0x2C1B_3C6D);
            ((z ^ (z >> 12)) % 256) as f64 / 255.0
        };
        Small::of(&picture(640, 360, mix))
    }

    #[test]
    fn a_still_picture_and_a_slow_pan_are_sure_and_their_motion_is_known() {
        let still = moved(0.0).confidence(&moved(0.0));
        assert_eq!((still.score, still.motion), (1.0, 0.0));
        let slow = moved(0.0).confidence(&moved(16.0));
        assert!(slow.score > 0.9, "{slow:?}");
        assert!((slow.motion - 16.0 / 640.0).abs() < 0.006, "{slow:?}");
    }

    #[test]
    fn the_faster_the_less_sure() {
        let scores = [10.0, 45.0, 70.0, 130.0].map(|by| moved(0.0).confidence(&moved(by)).score);
        assert!(scores.is_sorted_by(|a, b| a > b) || scores[3] == 0.0, "{scores:?}");
        assert!(scores[0] > 0.9 && scores[2] < 0.6 && scores[3] < 0.2, "{scores:?}");
    }

    #[test]
    fn what_has_nothing_to_do_with_each_other_is_not_sure() {
        let found = noise(1).confidence(&noise(2));
        assert!(found.score < 0.1, "{found:?}");
    }

    #[test]
    fn something_small_that_appears_takes_a_little() {
        let before = moved(0.0);
        let blob = |x: f64, y: f64| {
            let inside = (200.0..290.0).contains(&x) && (100.0..190.0).contains(&y);
            if inside { ((x * 0.5).sin() * (y * 0.4).cos()).abs() } else { texture(x, y) }
        };
        let found = before.confidence(&Small::of(&picture(640, 360, blob)));
        assert!((0.5..0.95).contains(&found.score), "{found:?}");
    }

    #[test]
    fn a_flash_changes_nothing_about_motion() {
        let lit = Small::of(&picture(640, 360, |x, y| texture(x, y) + 0.15));
        assert!(moved(0.0).confidence(&lit).score > 0.9);
    }

    #[test]
    fn any_size_and_depth_has_a_score() {
        for (width, height) in [(1, 1), (2, 2), (7, 300), (641, 361), (8, 8), (193, 17)] {
            let small = Small::of(&picture(width, height, texture));
            assert_eq!(small.confidence(&small).score, 1.0, "{width}x{height}");
        }
        let mut wide = picture(64, 64, texture);
        let codes = wide.planes[0].iter().flat_map(|it| (u16::from(*it) * 4).to_le_bytes());
        wide.planes = vec![codes.collect()];
        wide.format.depth = Depth::Ten;
        let narrow = Small::of(&picture(64, 64, texture));
        assert_eq!(Small::of(&wide).levels[0].samples, narrow.levels[0].samples);
    }
}
