//! Finds repeated pictures: those that equal the one before but for rounding, or but for what a lossy encoder makes of them.
//!
//! An encoder writes a repeated picture again with other errors, which on average are some hundredths of a code and in single
//! blocks several codes: as much as slow motion. So it is told from motion by the gaps around it. Such a gap is a repeat
//! where the pictures on both sides of it move, it changes by far less than they do, and no block of it changes like what
//! moves there: a small object that goes on is a change, however still all the rest is. Where that cannot be known (at
//! cuts and damage, at the end, in runs longer than [`LONGEST_RUN`]), it is no repeat.

use crate::frame::{Chroma, Depth, Picture, Sample, Seconds};

/// Largest difference of any sample, in codes of 8 bits, between two pictures that count as the same.
const SAME_CODES: u16 = 1;
/// Repeats in a row that are told from a slow part by the gaps around them.
pub const LONGEST_RUN: usize = 2;
/// Side of a block at the least, in pixels.
const BLOCK: usize = 16;
/// Mean difference of a repeat's luma at the most, as a part of each neighboring gap's.
const PART: f32 = 0.125;
/// Mean difference of a block, in codes of 8 bits, that encoders leave in what stands still.
const NOISE: f32 = 2.0;
/// Mean difference of a repeat's block at the most, as a part of what changes round it in each neighboring gap.
const BLOCK_PART: f32 = 0.5;
/// Mean difference that no block of a repeat has.
const LARGEST: f32 = 8.0;
/// Lines of which 16 bits hold the sum of differences, of 12 bits as well.
const NARROW_LINES: usize = 16;
/// A gap shorter than this part of a neighboring one may change less for that reason.
const SHORTEST: Seconds = Seconds::new_raw(1, 2);

/// What changes between two neighboring frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Gap {
    /// Mean difference of the luma (or green), in codes of 8 bits.
    mean: f32,
    /// Mean difference of every block in the plane where it is largest, in codes of 8 bits, row by row.
    blocks: Vec<f32>,
    columns: usize,
    length: Seconds,
}

impl Gap {
    /// Between two pictures of one format, `length` apart.
    #[must_use]
    pub fn between(a: &Picture, b: &Picture, length: Seconds) -> Self {
        assert_eq!(a.format, b.format, "pictures of one clip share a format");
        match a.format.depth {
            Depth::Eight => Self::of_samples::<u8>(a, b, length),
            Depth::Ten | Depth::Twelve => Self::of_samples::<[u8; 2]>(a, b, length),
        }
    }

    fn of_samples<S: Sample>(a: &Picture, b: &Picture, length: Seconds) -> Self {
        let (width, height) = (a.format.width_px, a.format.height_px);
        let (columns, rows) = ((width / BLOCK).max(1), (height / BLOCK).max(1));
        let step = f32::from(a.format.depth.steps());
        let mut blocks = vec![0.0_f32; columns * rows];
        let mut total = 0;
        let (mut sums, mut narrow) = (vec![0_u32; width], vec![0_u16; width]);
        for (index, (a_plane, b_plane)) in a.planes.iter().zip(&b.planes).enumerate() {
            let (width, height) = a.format.plane_size(index);
            let (a_plane, b_plane) = (S::of(a_plane), S::of(b_plane));
            for row in 0..rows {
                let lines = row * height / rows..(row + 1) * height / rows;
                let sums = &mut sums[..width];
                sums.fill(0);
                for band in lines.clone().step_by(NARROW_LINES) {
                    let narrow = &mut narrow[..width];
                    narrow.fill(0);
                    for line in band..(band + NARROW_LINES).min(lines.end) {
                        let line = line * width..(line + 1) * width;
                        let pairs = a_plane[line.clone()].iter().zip(&b_plane[line]);
                        for (sum, (a, b)) in narrow.iter_mut().zip(pairs) {
                            *sum += a.code().abs_diff(b.code());
                        }
                    }
                    for (sum, narrow) in sums.iter_mut().zip(narrow) {
                        *sum += u32::from(*narrow);
                    }
                }
                for column in 0..columns {
                    let span = column * width / columns..(column + 1) * width / columns;
                    let pixels = (lines.len() * span.len()).max(1);
                    let sum: u32 = sums[span].iter().sum();
                    let block = &mut blocks[row * columns + column];
                    *block = block.max(sum as f32 / (pixels as f32 * step));
                    total += if index == 0 { u64::from(sum) } else { 0 };
                }
            }
        }
        let mean = total as f32 / ((width * height) as f32 * step);
        Self { mean, blocks, columns, length }
    }

    /// Whether it may be a repeat for all that the gap before it says.
    fn is_far_below(&self, other: &Self) -> bool {
        self.mean <= PART * other.mean
            && self.length >= SHORTEST * other.length
            && self.blocks.iter().all(|it| *it <= LARGEST)
    }

    /// Whether it is a repeat between two gaps in which something moves.
    fn is_repeat(&self, before: &Self, after: &Self) -> bool {
        let (before_it, behind_it) = (before.surroundings(), after.surroundings());
        let moving = before_it.iter().zip(&behind_it).map(|(a, b)| a.min(*b));
        let is_still = |(block, moving): (&f32, f32)| *block <= NOISE.max(BLOCK_PART * moving);
        self.is_far_below(before)
            && self.is_far_below(after)
            && self.blocks.iter().zip(moving).all(is_still)
    }

    /// For every block, the most that it or one beside it changes.
    fn surroundings(&self) -> Vec<f32> {
        let (columns, rows) = (self.columns, self.blocks.len() / self.columns);
        let near = |at: usize, count: usize| at.saturating_sub(1)..(at + 2).min(count);
        let most = |index: usize| {
            let (x, y) = (index % columns, index / columns);
            let lines = near(y, rows).map(|y| &self.blocks[y * columns..(y + 1) * columns]);
            lines.flat_map(|line| &line[near(x, columns)]).copied().fold(0.0, f32::max)
        };
        (0..self.blocks.len()).map(most).collect()
    }
}

/// How a frame follows the one before.
#[derive(Clone, Debug)]
pub enum Following {
    /// It is the same picture ([`is_same`]).
    Same,
    /// Something changes.
    Changed(Gap),
    /// They cannot be compared: it is the first, or behind a cut or what nobody has seen.
    Apart,
}

/// Decides of frames in order which of them are repeats; it keeps a few back until the gap behind them is known.
#[derive(Debug)]
pub struct Repeats<T> {
    /// The last gap that is no repeat; none where it is not a neighbor.
    last: Option<Gap>,
    /// Since when pictures are the same.
    same: usize,
    /// Frames that are not decided, with the gap before each; none where it is the same picture.
    waiting: Vec<(T, Option<Gap>)>,
}

impl<T> Default for Repeats<T> {
    fn default() -> Self {
        Self { last: None, same: 0, waiting: Vec::new() }
    }
}

impl<T> Repeats<T> {
    /// Takes the next frame; those that are decided, in order, each with whether it repeats the one before.
    pub fn next(&mut self, frame: T, following: Following) -> Vec<(T, bool)> {
        match following {
            Following::Same => {
                self.same += 1;
                if self.same > LONGEST_RUN {
                    self.last = None;
                }
                self.wait(frame, None)
            }
            Following::Changed(gap) => {
                self.same = 0;
                if self.last.as_ref().is_some_and(|last| gap.is_far_below(last)) {
                    return self.wait(frame, Some(gap));
                }
                let mut decided = self.decide(Some(&gap));
                self.last = Some(gap);
                decided.push((frame, false));
                decided
            }
            Following::Apart => {
                self.same = 0;
                let mut decided = self.decide(None);
                self.last = None;
                decided.push((frame, false));
                decided
            }
        }
    }

    /// What is left at the end.
    pub fn end(&mut self) -> Vec<(T, bool)> {
        self.decide(None)
    }

    fn wait(&mut self, frame: T, gap: Option<Gap>) -> Vec<(T, bool)> {
        if gap.is_none() && self.waiting.is_empty() {
            return vec![(frame, true)];
        }
        self.waiting.push((frame, gap));
        if self.waiting.len() > LONGEST_RUN { self.decide(None) } else { Vec::new() }
    }

    /// Decides all that waits, with the gap behind it where that can be one in which something moves.
    fn decide(&mut self, after: Option<&Gap>) -> Vec<(T, bool)> {
        let last = self.last.take();
        let around = last.as_ref().zip(after);
        let mut slow = None;
        let mut decided = Vec::with_capacity(self.waiting.len() + 1);
        for (frame, gap) in self.waiting.drain(..) {
            let is_repeat = gap.as_ref().is_none_or(|gap| {
                around.is_some_and(|(before, after)| gap.is_repeat(before, after))
            });
            if !is_repeat {
                slow = gap;
            }
            decided.push((frame, is_repeat));
        }
        self.last = slow.or(last);
        decided
    }
}

/// Whether two pictures of one format are the same but for rounding.
#[must_use]
pub fn is_same(a: &Picture, b: &Picture) -> bool {
    assert_eq!(a.format, b.format, "pictures of one clip share a format");
    let codes = SAME_CODES * a.format.depth.steps();
    let same = |(one, other): (&Vec<u8>, &Vec<u8>)| match a.format.depth {
        Depth::Eight => within::<u8>(one, other, codes),
        Depth::Ten | Depth::Twelve => within::<[u8; 2]>(one, other, codes),
    };
    debug_assert!(
        a.format.chroma == Chroma::Gray || a.planes.len() == 3,
        "planes follow the format"
    );
    a.planes.iter().zip(&b.planes).all(same)
}

/// Whether no sample of a plane is more than `codes` from the other's.
fn within<S: Sample>(a: &[u8], b: &[u8], codes: u16) -> bool {
    S::of(a).chunks(4096).zip(S::of(b).chunks(4096)).all(|(a, b)| {
        let differences = a.iter().zip(b).map(|(a, b)| a.code().abs_diff(b.code()));
        differences.max().unwrap_or(0) <= codes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Matrix, PictureFormat, Range};

    const WIDTH: usize = 161;
    const HEIGHT: usize = 97;

    fn picture(depth: Depth, paint: impl Fn(f64, f64) -> f64) -> Picture {
        let format = PictureFormat {
            width_px: WIDTH,
            height_px: HEIGHT,
            chroma: Chroma::C420,
            matrix: Matrix::Bt709,
            range: Range::Full,
            depth,
        };
        let mut picture = Picture::zeroed(format);
        let code = |at: usize| {
            let code = paint((at % WIDTH) as f64, (at / WIDTH) as f64).round().clamp(0.0, 255.0);
            code as u16 * depth.steps()
        };
        picture.planes[0] = match depth {
            Depth::Eight => (0..WIDTH * HEIGHT).map(|at| code(at) as u8).collect(),
            _ => (0..WIDTH * HEIGHT).flat_map(|at| code(at).to_le_bytes()).collect(),
        };
        picture
    }

    /// Blotches that are `shift` further to the right.
    fn scene(shift: f64) -> impl Fn(f64, f64) -> f64 {
        move |x, y| {
            let x = x - shift;
            128.0 + 50.0 * (x * 0.19).sin() + 40.0 * (y * 0.23).cos() + 20.0 * ((x - y) * 0.4).sin()
        }
    }

    /// What an encoder adds: noise of some codes in a tenth of the places, another for each frame.
    fn encoded(
        seed: usize,
        codes: usize,
        paint: impl Fn(f64, f64) -> f64,
    ) -> impl Fn(f64, f64) -> f64 {
        move |x, y| {
            let (column, row) = (x as usize + 1, y as usize + 1);
            let mut hash = (column * 7919) ^ (row * 104_729) ^ ((seed + 1) * 1_299_709);
            hash = (hash ^ (hash >> 7)).wrapping_mul(0x9e37_79b1) >> 11;
            let noise = if hash.is_multiple_of(10) { hash / 10 % (2 * codes + 1) } else { codes };
            paint(x, y) + noise as f64 - codes as f64
        }
    }

    /// The frames, by number, that repeat the one before; frames are a thirtieth apart unless `lengths` says otherwise.
    fn repeats_of(pictures: &[Picture], length: impl Fn(usize) -> Seconds) -> Vec<usize> {
        let mut repeats = Repeats::default();
        let mut all = Vec::new();
        for (index, picture) in pictures.iter().enumerate() {
            let following = match index.checked_sub(1).map(|it| &pictures[it]) {
                None => Following::Apart,
                Some(before) if is_same(before, picture) => Following::Same,
                Some(before) => Following::Changed(Gap::between(before, picture, length(index))),
            };
            all.extend(repeats.next(index, following));
        }
        all.extend(repeats.end());
        assert!(all.iter().map(|it| it.0).eq(0..pictures.len()), "every frame once and in order");
        all.into_iter().filter(|it| it.1).map(|it| it.0).collect()
    }

    fn steady(_: usize) -> Seconds {
        Seconds::new(1, 30)
    }

    /// Pictures of the scene at these places, as a lossy encoder leaves them.
    fn lossy(places: &[f64]) -> Vec<Picture> {
        let paint =
            |(seed, place): (usize, &f64)| picture(Depth::Eight, encoded(seed, 8, scene(*place)));
        places.iter().enumerate().map(paint).collect()
    }

    const NONE: [usize; 0] = [];

    #[test]
    fn rounding_is_the_same_and_nothing_more_is() {
        for depth in [Depth::Eight, Depth::Ten, Depth::Twelve] {
            let a = picture(depth, scene(0.0));
            let off = |codes: f64| {
                let there = |x: f64, y: f64| x == 40.0 && y == 31.0;
                picture(depth, move |x, y| {
                    scene(0.0)(x, y).round() + if there(x, y) { codes } else { 0.0 }
                })
            };
            assert!(is_same(&a, &off(1.0)), "{depth:?}");
            assert!(!is_same(&a, &off(2.0)), "{depth:?}");
        }
    }

    /// V09.
    #[test]
    fn a_picture_encoded_again_is_a_repeat_between_pictures_that_move() {
        // Every fifth, as from 24 to 30 a second; then one and two in a row.
        let places =
            [0.0, 3.0, 6.0, 9.0, 9.0, 12.0, 15.0, 18.0, 21.0, 21.0, 24.0, 24.0, 24.0, 27.0];
        assert_eq!(repeats_of(&lossy(&places), steady), [4, 9, 11, 12]);
        // In deeper pictures as well.
        let deep =
            |(seed, place): (usize, &f64)| picture(Depth::Twelve, encoded(seed, 8, scene(*place)));
        let deep: Vec<_> = places.iter().enumerate().map(deep).collect();
        assert_eq!(repeats_of(&deep, steady), [4, 9, 11, 12]);
    }

    #[test]
    fn what_has_no_motion_on_both_sides_is_no_repeat() {
        // The beginning and the end.
        assert_eq!(repeats_of(&lossy(&[0.0, 0.0, 3.0, 6.0, 9.0, 9.0]), steady), NONE);
        // Motion that stops, stays away for three frames, and goes on.
        assert_eq!(repeats_of(&lossy(&[0.0, 3.0, 6.0, 6.0, 6.0, 6.0, 9.0, 12.0]), steady), NONE);
        // Noise over a still picture, and motion that slows down.
        assert_eq!(repeats_of(&lossy(&[0.0; 8]), steady), NONE);
        assert_eq!(repeats_of(&lossy(&[0.0, 4.0, 8.0, 8.25, 8.5, 8.75, 9.0, 9.25]), steady), NONE);
    }

    #[test]
    fn a_slow_pan_and_a_fade_are_no_repeats() {
        let pan: Vec<_> = (0..24).map(|at| f64::from(at) * 0.25).collect();
        assert_eq!(repeats_of(&lossy(&pan), steady), NONE);
        let fading = |at: usize| {
            let gain = 1.0 - at as f64 / 24.0;
            picture(Depth::Eight, encoded(at, 2, move |x, y| scene(0.0)(x, y) * gain))
        };
        assert_eq!(repeats_of(&(0..24).map(fading).collect::<Vec<_>>(), steady), NONE);
    }

    /// The scene moves in every second frame only; before it, or before a still one, a small box moves in every frame.
    #[test]
    fn a_small_object_that_moves_on_is_a_change() {
        let draw = |background: fn(usize) -> f64, speed: f64| {
            let paint = move |at: usize| {
                let (left, behind) = (100.0 + speed * at as f64, scene(background(at)));
                picture(
                    Depth::Eight,
                    encoded(at, 2, move |x, y| {
                        // Only the left half is the scene, the right is flat but for the box.
                        let is_box = x >= left && x < left + 6.0 && (40.0..46.0).contains(&y);
                        if x < 80.0 {
                            behind(x, y)
                        } else if is_box {
                            230.0
                        } else {
                            100.0
                        }
                    }),
                )
            };
            (0..16).map(paint).collect::<Vec<_>>()
        };
        let on_twos = |at: usize| (at / 2) as f64 * 4.0;
        for speed in [1.0, 2.0, 3.0] {
            assert_eq!(repeats_of(&draw(on_twos, speed), steady), NONE, "{speed} a frame");
            assert_eq!(repeats_of(&draw(|_| 0.0, speed), steady), NONE, "{speed}, still");
        }
        // Without it, they are repeats.
        assert_eq!(repeats_of(&draw(on_twos, 0.0), steady), [3, 5, 7, 9, 11, 13]);
    }

    #[test]
    fn a_gap_that_is_far_shorter_changes_less_without_being_a_repeat() {
        let places = [0.0, 4.0, 8.0, 8.2, 12.2, 16.2];
        let length = |of_small: i128| {
            move |index: usize| if index == 3 { Seconds::new(1, of_small) } else { steady(index) }
        };
        assert_eq!(repeats_of(&lossy(&places), length(600)), NONE);
        assert_eq!(repeats_of(&lossy(&[0.0, 4.0, 8.0, 8.0, 12.0, 16.0]), length(30)), [3]);
        assert_eq!(repeats_of(&lossy(&[0.0, 4.0, 8.0, 8.0, 12.0, 16.0]), length(61)), NONE);
    }

    #[test]
    fn frames_that_cannot_be_compared_end_what_is_known() {
        let gap = |shift: f64| {
            let pictures = lossy(&[0.0, shift]);
            Following::Changed(Gap::between(&pictures[0], &pictures[1], steady(1)))
        };
        let told = |following: Vec<Following>| {
            let mut repeats = Repeats::default();
            let mut all: Vec<_> = Vec::new();
            for (index, following) in following.into_iter().enumerate() {
                all.extend(repeats.next(index, following));
            }
            all.extend(repeats.end());
            all.into_iter().map(|it| it.1).collect::<Vec<_>>()
        };
        let (apart, same) = (|| Following::Apart, || Following::Same);
        assert_eq!(told(vec![gap(4.0), gap(0.0), gap(4.0)]), [false, true, false]);
        assert_eq!(told(vec![gap(4.0), gap(0.0), apart(), gap(4.0)]), [false; 4]);
        assert_eq!(told(vec![gap(4.0), apart(), gap(0.0), gap(4.0)]), [false; 4]);
        // What is the same stays so, between others as well; behind a still picture nothing is known.
        let mixed = vec![gap(4.0), same(), gap(0.0), gap(4.0)];
        assert_eq!(told(mixed), [false, true, true, false]);
        let mixed = vec![gap(4.0), gap(0.0), same(), gap(4.0)];
        assert_eq!(told(mixed), [false, true, true, false]);
        let still = vec![gap(4.0), same(), same(), same(), gap(0.0), gap(4.0)];
        assert_eq!(told(still), [false, true, true, true, false, false]);
    }

    #[test]
    fn the_largest_differences_of_every_depth_are_exact() {
        for depth in [Depth::Eight, Depth::Ten, Depth::Twelve] {
            let (dark, light) = (picture(depth, |_, _| 0.0), picture(depth, |_, _| 255.0));
            let gap = Gap::between(&dark, &light, steady(1));
            assert!(gap.mean == 255.0 && gap.blocks.iter().all(|it| *it == 255.0), "{depth:?}");
        }
    }

    #[test]
    fn tiny_pictures_have_gaps() {
        let format =
            PictureFormat { width_px: 1, height_px: 1, ..picture(Depth::Eight, scene(0.0)).format };
        let (dark, mut light) = (Picture::zeroed(format), Picture::zeroed(format));
        light.planes[0][0] = 9;
        let gap = Gap::between(&dark, &light, steady(1));
        assert_eq!((gap.mean, gap.blocks), (9.0, vec![9.0]));
    }
}
