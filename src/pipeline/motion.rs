//! How sure the frames between two others can be: motion is estimated on small pictures, there and back.
//!
//! The network's own flows stay on its device, so this is an estimate of its own, the same on every device. Luma is averaged
//! down to at most 192 samples a side. Each block of 8x8 samples is looked for in the other picture, first coarsely over a
//! pyramid and then finer, and the place where it was found is looked for back in the first. A block is *sure* where it does
//! not change, or where the way back ends within a sample and a half (and a tenth of the motion) of where it began and what
//! was found there is like it. The score falls with the share of blocks that are not sure, and with the motion: where
//! things move by more than a network is trained for, it invents.

use crate::frame::{Depth, Picture, Sample};

/// Longest side of the small pictures.
const SIDE_LIMIT: usize = 192;
/// Side of a block.
const BLOCK: usize = 8;
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

/// Motion of a block, in samples of the finest level.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    x: isize,
    y: isize,
    /// Mean difference, in codes.
    difference: u32,
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
        let forward = self.motion_to(next);
        let backward = next.motion_to(self);
        let first = &self.levels[0];
        let (columns, rows) = first.blocks();
        let (mut unsure, mut motions) = (0_u32, Vec::with_capacity(forward.len()));
        for (index, found) in forward.iter().enumerate() {
            let (column, row) = (index % columns, index / columns);
            let length = (found.x as f32).hypot(found.y as f32);
            if self.stays(next, column, row) {
                motions.push(0.0);
                continue;
            }
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
        let side = first.width.max(first.height) as f32;
        motions.sort_by(f32::total_cmp);
        let at = (motions.len() as f32 * MOTION_PERCENTILE) as usize;
        // Blocks that were not found may have gone anywhere.
        let motion = motions.get(at).or(motions.last()).map_or(1.0, |it| it / side);
        let share = unsure as f32 / forward.len() as f32;
        let consistency = (1.0 - share / UNSURE_SHARE).max(0.0);
        let ease = ((MOTION.1 - motion) / (MOTION.1 - MOTION.0)).clamp(0.0, 1.0);
        Confidence { score: f64::from(consistency * ease), motion: f64::from(motion) }
    }

    /// Whether a block is where it was, as it was.
    fn stays(&self, next: &Self, column: usize, row: usize) -> bool {
        let (a, b) = (&self.levels[0], &next.levels[0]);
        let (x, y) = a.corner(column, row);
        let sum = a.difference(b, ((x, y), (x, y)), next.mean - self.mean, u32::MAX);
        sum <= UNCHANGED * a.area()
    }

    /// Where each block went.
    fn motion_to(&self, next: &Self) -> Vec<Found> {
        let (columns, rows) = self.levels[0].blocks();
        let mut found = vec![Found::default(); columns * rows];
        let lighter = next.mean - self.mean;
        for number in (0..self.levels.len()).rev() {
            let (a, b) = (&self.levels[number], &next.levels[number]);
            let coarsest = number + 1 == self.levels.len();
            let (scale, reach) = (1 << number, if coarsest { SEARCH } else { REFINE });
            for index in 0..found.len() {
                let (column, row) = (index % columns, index / columns);
                let at = a.block_at(column, row, scale);
                // From where it was seen coarsely, and from where its neighbors went.
                let own = (found[index].x / scale as isize, found[index].y / scale as isize);
                let beside = |other: usize| {
                    let it = found[other];
                    (it.x / scale as isize, it.y / scale as isize)
                };
                let mut starts = vec![own];
                if !coarsest {
                    starts.push((0, 0));
                    starts.extend((column > 0).then(|| beside(index - 1)));
                    starts.extend((row > 0).then(|| beside(index - columns)));
                }
                let best = a.search(b, at, &starts, reach, lighter);
                let area = a.area();
                found[index] = Found {
                    x: best.0 * scale as isize,
                    y: best.1 * scale as isize,
                    difference: best.2 / area,
                };
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
            for x in 0..width {
                let at = (2 * y + PAD) * stride + 2 * x + PAD;
                let four = [at, at + 1, at + stride, at + stride + 1];
                let sum: u16 = four.iter().map(|it| u16::from(self.samples[*it])).sum();
                samples.push(((sum + 2) / 4) as u8);
            }
        }
        Self { width, height, samples }
    }

    fn stride(&self) -> usize {
        self.width + 2 * PAD
    }

    fn blocks(&self) -> (usize, usize) {
        ((self.width / BLOCK).max(1), (self.height / BLOCK).max(1))
    }

    /// Samples that a block is compared by.
    fn area(&self) -> u32 {
        (BLOCK * BLOCK) as u32
    }

    fn corner(&self, column: usize, row: usize) -> (isize, isize) {
        self.block_at(column, row, 1)
    }

    /// Upper left sample of a block whose center is that of the finest level's, which is `scale` times as large.
    fn block_at(&self, column: usize, row: usize, scale: usize) -> (isize, isize) {
        let corner = |at: usize| ((at * BLOCK + BLOCK / 2) / scale) as isize - (BLOCK / 2) as isize;
        (corner(column), corner(row))
    }

    /// The motion from one of `starts`, within `reach`, at which the block at `at` is most like: with the sum of differences.
    fn search(
        &self,
        other: &Self,
        at: (isize, isize),
        starts: &[(isize, isize)],
        reach: isize,
        lighter: i32,
    ) -> (isize, isize, u32) {
        let mut best = (0, 0, u32::MAX);
        let mut lowest = u32::MAX;
        for (number, start) in starts.iter().enumerate() {
            // Neighbors mostly went the same way.
            if starts[..number].contains(start) {
                continue;
            }
            for y in start.1 - reach..=start.1 + reach {
                for x in start.0 - reach..=start.0 + reach {
                    let there = (at.0 + x, at.1 + y);
                    let sum = self.difference(other, (at, there), lighter, lowest);
                    let cost = sum + STILLNESS * (x.unsigned_abs() + y.unsigned_abs()) as u32;
                    if cost < lowest {
                        (lowest, best) = (cost, (x, y, sum));
                    }
                }
            }
        }
        best
    }

    /// Sum of differences between a block here and one there, which is `lighter` by that many codes everywhere; at least
    /// `limit` where it is no less.
    fn difference(
        &self,
        other: &Self,
        (here, there): ((isize, isize), (isize, isize)),
        lighter: i32,
        limit: u32,
    ) -> u32 {
        let place = |level: &Self, at: (isize, isize)| {
            let inside = |at: isize, length: usize| {
                let last = (length + 2 * PAD - BLOCK) as isize;
                (at + PAD as isize).clamp(0, last) as usize
            };
            inside(at.1, level.height) * level.stride() + inside(at.0, level.width)
        };
        let (a, b) = (place(self, here), place(other, there));
        // Eight sums of eight differences of at most 510 each.
        let (mut sums, lighter) = ([0_u16; BLOCK], lighter as i16);
        let total = |sums: &[u16; BLOCK]| sums.iter().map(|it| u32::from(*it)).sum::<u32>();
        for row in 0..BLOCK {
            let one = self.samples[a + row * self.stride()..].first_chunk::<BLOCK>();
            let two = other.samples[b + row * other.stride()..].first_chunk::<BLOCK>();
            let (Some(one), Some(two)) = (one, two) else { continue };
            for ((sum, one), two) in sums.iter_mut().zip(one).zip(two) {
                *sum += (i16::from(*two) - i16::from(*one) - lighter).unsigned_abs();
            }
            if row + 1 == BLOCK / 2 && total(&sums) >= limit {
                return limit;
            }
        }
        total(&sums)
    }
}

/// Luma of a picture, averaged down.
fn averaged<S: Sample>(picture: &Picture) -> Level {
    let (width, height) = (picture.format.width_px, picture.format.height_px);
    let factor = width.max(height).div_ceil(SIDE_LIMIT);
    let (columns, rows) = ((width / factor).max(1), (height / factor).max(1));
    let (across, down) = (factor.min(width), factor.min(height));
    let luma = S::of(&picture.planes[0]);
    let steps = u32::from(picture.format.depth.steps());
    let area = (across * down) as u32 * steps;
    let mut samples = Vec::with_capacity(columns * rows);
    let mut sums = vec![0_u32; columns];
    for row in 0..rows {
        sums.fill(0);
        for y in row * down..(row + 1) * down {
            let line = &luma[y * width..y * width + columns * across];
            for (sum, cell) in sums.iter_mut().zip(line.chunks_exact(across)) {
                *sum += cell.iter().map(|it| u32::from(it.code())).sum::<u32>();
            }
        }
        samples.extend(sums.iter().map(|sum| (sum / area).min(255) as u8));
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
