//! Finds what is burnt into a clip: a clock, a logo, a line of text that stands still while the picture moves.
//!
//! The picture is divided into blocks of 16x16 samples. Of two frames between which much of the picture moves, a block
//! with edges in it that hardly changes is *still*. A block that is still in nearly all such pairs is part of an overlay:
//! of a clock the digits change from time to time, and between two changes it is still. Digits that change with every frame
//! are not found, and neither is what is half transparent over what moves; they can be configured. A part of the camera's
//! own car is found too, which does no harm: nothing has to be made up there.

use crate::config::content::Rectangle;
use crate::frame::{Depth, Picture, Sample};

/// Side of a block.
const BLOCK: usize = 16;
/// Mean difference of neighboring samples, in codes of 8 bits, from which a block has edges in it.
const EDGES: f64 = 6.0;
/// Mean difference between two frames up to which a block is still.
const STILL: f64 = 2.0;
/// And from which it moves.
const MOVES: f64 = 5.0;
/// Part of the blocks with edges that must move for a pair to count.
const MOVING_PART: f64 = 0.5;
/// Pairs that must count before anything is concluded.
pub const PAIRS: u32 = 12;
/// Part of those pairs in which a block of an overlay is still.
const STILL_PART: f64 = 0.85;
/// Part of the picture above which what stands still is no overlay.
const LARGEST_PART: f64 = 0.3;
/// Rectangles at the most.
const MOST: usize = 16;

/// Watches the first frames of a clip.
#[derive(Default)]
pub struct Detector {
    before: Option<Vec<Block>>,
    still: Vec<u32>,
    size: (usize, usize),
    pairs: u32,
}

/// What the first frames showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlays {
    /// Too little of the picture moved to tell.
    Undecided,
    /// These; there may be none.
    Found(Vec<Rectangle>),
}

#[derive(Clone)]
struct Block {
    samples: Vec<u8>,
    edges: f64,
}

impl Detector {
    /// The next frame.
    pub fn look(&mut self, picture: &Picture) {
        let now = match picture.format.depth {
            Depth::Eight => blocks::<u8>(picture),
            Depth::Ten | Depth::Twelve => blocks::<[u8; 2]>(picture),
        };
        self.size = (picture.format.width_px, picture.format.height_px);
        self.still.resize(now.len(), 0);
        if let Some(before) = &self.before {
            self.compare(before.clone(), &now);
        }
        self.before = Some(now);
    }

    fn compare(&mut self, before: Vec<Block>, now: &[Block]) {
        let difference: Vec<f64> =
            before.iter().zip(now).map(|(a, b)| mean_difference(&a.samples, &b.samples)).collect();
        let has_edges = |at: usize| before[at].edges.min(now[at].edges) >= EDGES;
        let edged: Vec<usize> = (0..now.len()).filter(|at| has_edges(*at)).collect();
        let moving = edged.iter().filter(|at| difference[**at] >= MOVES).count();
        if edged.is_empty() || (moving as f64) < MOVING_PART * edged.len() as f64 {
            return;
        }
        self.pairs += 1;
        for at in edged.into_iter().filter(|at| difference[*at] <= STILL) {
            self.still[at] += 1;
        }
    }

    /// Whether enough was seen.
    #[must_use]
    pub fn has_enough(&self) -> bool {
        self.pairs >= 4 * PAIRS
    }

    /// What stands still.
    #[must_use]
    pub fn finish(self) -> Overlays {
        if self.pairs < PAIRS {
            return Overlays::Undecided;
        }
        let least = STILL_PART * f64::from(self.pairs);
        let still: Vec<bool> = self.still.iter().map(|it| f64::from(*it) >= least).collect();
        let count = still.iter().filter(|it| **it).count();
        if count as f64 > LARGEST_PART * still.len() as f64 {
            return Overlays::Undecided;
        }
        Overlays::Found(rectangles(still, self.size))
    }
}

fn grid((width, height): (usize, usize)) -> (usize, usize) {
    (width.div_ceil(BLOCK), height.div_ceil(BLOCK))
}

fn blocks<S: Sample>(picture: &Picture) -> Vec<Block> {
    let (width, height) = (picture.format.width_px, picture.format.height_px);
    let luma = S::of(&picture.planes[0]);
    let steps = picture.format.depth.steps();
    let (columns, rows) = grid((width, height));
    let block = |at: usize| {
        let (left, top) = (at % columns * BLOCK, at / columns * BLOCK);
        let (right, bottom) = ((left + BLOCK).min(width), (top + BLOCK).min(height));
        let mut samples = Vec::with_capacity(BLOCK * BLOCK);
        let (mut edges, mut pairs) = (0_u32, 0_u32);
        for y in top..bottom {
            let line = &luma[y * width + left..y * width + right];
            samples.extend(line.iter().map(|it| (it.code() / steps) as u8));
            for pair in line.windows(2) {
                edges += u32::from(pair[0].code().abs_diff(pair[1].code()) / steps);
                pairs += 1;
            }
        }
        Block { samples, edges: f64::from(edges) / f64::from(pairs.max(1)) }
    };
    (0..columns * rows).map(block).collect()
}

fn mean_difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u32 = a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
    f64::from(sum) / a.len() as f64
}

/// Rectangles round blocks that touch or have one block between them, with half a block on every side.
fn rectangles(still: Vec<bool>, size: (usize, usize)) -> Vec<Rectangle> {
    let (columns, rows) = grid(size);
    let mut left = still;
    let mut found = Vec::new();
    for start in 0..left.len() {
        if !left[start] {
            continue;
        }
        let (mut pending, mut span) = (vec![start], (columns, rows, 0, 0));
        left[start] = false;
        while let Some(at) = pending.pop() {
            let (column, row) = (at % columns, at / columns);
            span = (span.0.min(column), span.1.min(row), span.2.max(column), span.3.max(row));
            for y in row.saturating_sub(1)..=(row + 1).min(rows - 1) {
                for x in column.saturating_sub(2)..=(column + 2).min(columns - 1) {
                    if std::mem::replace(&mut left[y * columns + x], false) {
                        pending.push(y * columns + x);
                    }
                }
            }
        }
        let start = |block: usize| (block * BLOCK).saturating_sub(BLOCK / 2);
        let end = |block: usize, of: usize| ((block + 1) * BLOCK + BLOCK / 2).min(of);
        let (left_px, top_px) = (start(span.0), start(span.1));
        found.push(Rectangle {
            left_px,
            top_px,
            width_px: end(span.2, size.0) - left_px,
            height_px: end(span.3, size.1) - top_px,
        });
    }
    // The largest are kept.
    found.sort_by_key(|it| std::cmp::Reverse(it.width_px * it.height_px));
    found.truncate(MOST);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Matrix, PictureFormat, Range};

    const SIZE: (usize, usize) = (320, 192);

    /// Where the clock is: four digits of 16 samples.
    const CLOCK: (std::ops::Range<usize>, std::ops::Range<usize>) = (208..272, 160..176);

    fn frame(number: usize, pan: usize, clock: Option<usize>) -> Picture {
        let (chroma, matrix, range) = (Chroma::Gray, Matrix::Bt709, Range::Full);
        let (width_px, height_px) = SIZE;
        let format =
            PictureFormat { width_px, height_px, chroma, matrix, range, depth: Depth::Eight };
        let mut picture = Picture::zeroed(format);
        for (at, sample) in picture.planes[0].iter_mut().enumerate() {
            let (x, y) = (at % width_px, at / width_px);
            let moved = x + number * pan;
            *sample = (((moved / 5) * 37 + (y / 5) * 91) % 7 * 30 + 20) as u8;
            if let Some(second) = clock.filter(|_| CLOCK.0.contains(&x) && CLOCK.1.contains(&y)) {
                let digit = if x >= 256 { second } else { x / 16 };
                *sample =
                    if (x % 16 / 3 + y % 16 / 3 + digit).is_multiple_of(2) { 235 } else { 16 };
            }
        }
        picture
    }

    fn found(frames: impl Iterator<Item = Picture>) -> Overlays {
        let mut detector = Detector::default();
        frames.for_each(|it| detector.look(&it));
        detector.finish()
    }

    /// V23.
    #[test]
    fn a_clock_over_a_moving_picture_is_found_though_its_digits_change() {
        let Overlays::Found(found) = found((0..60).map(|i| frame(i, 3, Some(i / 15)))) else {
            panic!("the picture moves")
        };
        let [it] = found[..] else { panic!("{found:?}") };
        assert!(it.left_px <= CLOCK.0.start && it.left_px + it.width_px >= CLOCK.0.end, "{it:?}");
        assert!(it.top_px <= CLOCK.1.start && it.top_px + it.height_px >= CLOCK.1.end, "{it:?}");
        assert!(it.width_px * it.height_px < SIZE.0 * SIZE.1 / 10, "{it:?}");
    }

    #[test]
    fn a_moving_picture_without_a_clock_has_none() {
        assert_eq!(found((0..60).map(|i| frame(i, 3, None))), Overlays::Found(Vec::new()));
    }

    #[test]
    fn nothing_is_concluded_of_a_picture_that_stands_still() {
        assert_eq!(found((0..60).map(|i| frame(i, 0, Some(i / 15)))), Overlays::Undecided);
        assert_eq!(found((0..5).map(|i| frame(i, 3, Some(0)))), Overlays::Undecided);
    }
}
