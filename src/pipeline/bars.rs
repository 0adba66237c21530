//! Black bars round the picture: the network sees picture in their place, and they come out as they went in.
//!
//! A flow that sees the edge of a bar follows it, as it stands still, and bends what moves beside it. So the bars of both
//! frames are filled with the nearest line of the picture before the network gets them, as its own border is, and put back
//! into what it makes.

use serde::{Deserialize, Serialize};

use crate::frame::{Chroma, Depth, Picture, PictureFormat, Range, Sample};
use crate::report::findings;

/// How far, in codes of 8 bits, black may be from black; more is picture.
const BLACK_CODES: u16 = 3;
/// Thinner bars are let be.
const LEAST_PX: usize = 4;
/// Bars that leave less than this part of a side are a dark picture.
const LEAST_PICTURE: f64 = 0.4;

/// Lines and columns of black at each border; whole chroma samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bars {
    /// Lines.
    pub top: usize,
    /// Lines.
    pub bottom: usize,
    /// Columns.
    pub left: usize,
    /// Columns.
    pub right: usize,
}

impl Bars {
    /// The bars of a picture; `None` for one that is all black, which says nothing.
    #[must_use]
    pub fn of(picture: &Picture) -> Option<Self> {
        match picture.format.depth {
            Depth::Eight => Look::<u8>::new(picture).bars(),
            Depth::Ten | Depth::Twelve => Look::<[u8; 2]>::new(picture).bars(),
        }
    }

    /// What is black in both.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self {
            top: self.top.min(other.top),
            bottom: self.bottom.min(other.bottom),
            left: self.left.min(other.left),
            right: self.right.min(other.right),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn are_none(self) -> bool {
        self == Self::default()
    }

    /// For the report.
    #[must_use]
    pub fn reported(self) -> Option<findings::Bars> {
        let Self { top, bottom, left, right } = self;
        let bars =
            findings::Bars { top_px: top, bottom_px: bottom, left_px: left, right_px: right };
        (!self.are_none()).then_some(bars)
    }

    /// Bars that are wide enough, and leave enough, in whole chroma samples.
    fn sensible(self, format: PictureFormat) -> Self {
        let (across, down) = match format.chroma {
            Chroma::C420 => (2, 2),
            Chroma::C422 => (2, 1),
            Chroma::C444 | Chroma::Gbr | Chroma::Gray => (1, 1),
        };
        let whole = |px: usize, step: usize| if px < LEAST_PX { 0 } else { px / step * step };
        let pair = |(a, b): (usize, usize), side: usize, step: usize| {
            let leaves = side.saturating_sub(a + b) as f64;
            let enough = leaves >= LEAST_PICTURE * side as f64;
            if enough { (whole(a, step), whole(b, step)) } else { (0, 0) }
        };
        let (top, bottom) = pair((self.top, self.bottom), format.height_px, down);
        let (left, right) = pair((self.left, self.right), format.width_px, across);
        Self { top, bottom, left, right }
    }

    /// The part of plane `index` that is picture: columns and rows from, and up to.
    fn picture(self, format: PictureFormat, index: usize) -> [usize; 4] {
        let (columns, rows) = format.plane_size(index);
        let across = |px: usize| px * columns / format.width_px;
        let down = |px: usize| px * rows / format.height_px;
        let (left, right) = (across(self.left), columns - across(self.right));
        [left, right, down(self.top), rows - down(self.bottom)]
    }

    /// The picture with its nearest line or column in place of the bars.
    #[must_use]
    pub fn fill(self, picture: &Picture) -> Picture {
        let (format, bytes) = (picture.format, picture.format.depth.bytes());
        let mut out = picture.clone();
        for (index, plane) in out.planes.iter_mut().enumerate() {
            let [left, right, top, bottom] = self.picture(format, index);
            let (row_bytes, rows) = format.plane_bytes(index);
            for row in plane.chunks_exact_mut(row_bytes).take(bottom).skip(top) {
                let first: Vec<u8> = row[left * bytes..(left + 1) * bytes].to_vec();
                let last: Vec<u8> = row[(right - 1) * bytes..right * bytes].to_vec();
                row[..left * bytes]
                    .chunks_exact_mut(bytes)
                    .for_each(|it| it.copy_from_slice(&first));
                row[right * bytes..]
                    .chunks_exact_mut(bytes)
                    .for_each(|it| it.copy_from_slice(&last));
            }
            for y in (0..top).chain(bottom..rows) {
                let from = y.clamp(top, bottom - 1) * row_bytes;
                plane.copy_within(from..from + row_bytes, y * row_bytes);
            }
        }
        out
    }

    /// Puts the bars of `real` into `made`.
    pub fn put_back(self, real: &Picture, made: &mut Picture) {
        let (format, bytes) = (real.format, real.format.depth.bytes());
        for (index, plane) in made.planes.iter_mut().enumerate() {
            let [left, right, top, bottom] = self.picture(format, index);
            let (row_bytes, _) = format.plane_bytes(index);
            let rows =
                plane.chunks_exact_mut(row_bytes).zip(real.planes[index].chunks_exact(row_bytes));
            for (y, (row, real)) in rows.enumerate() {
                if y < top || y >= bottom {
                    row.copy_from_slice(real);
                } else {
                    row[..left * bytes].copy_from_slice(&real[..left * bytes]);
                    row[right * bytes..].copy_from_slice(&real[right * bytes..]);
                }
            }
        }
    }
}

/// The bars that all frames so far have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct BarWatch(Option<Bars>);

impl BarWatch {
    /// Looks at the next frame.
    pub fn see(&mut self, picture: &Picture) -> Bars {
        if self.0.is_none_or(|it| !it.are_none())
            && let Some(now) = Bars::of(picture)
        {
            self.0 = Some(self.0.map_or(now, |it| it.common(now)));
        }
        self.so_far()
    }

    /// What all frames had.
    pub fn so_far(self) -> Bars {
        self.0.unwrap_or_default()
    }
}

/// Looks at samples of one width.
struct Look<'a, S> {
    format: PictureFormat,
    planes: Vec<&'a [S]>,
    /// Largest code that is black, and what chroma is off neutral at the most.
    black: u16,
    neutral: (u16, u16),
}

impl<'a, S: Sample> Look<'a, S> {
    fn new(picture: &'a Picture) -> Self {
        let format = picture.format;
        let steps = format.depth.steps();
        let floor =
            if format.range == Range::Limited && format.chroma != Chroma::Gbr { 16 } else { 0 };
        Self {
            format,
            planes: picture.planes.iter().map(|plane| S::of(plane)).collect(),
            black: (floor + BLACK_CODES) * steps,
            neutral: ((128 - BLACK_CODES) * steps, (128 + BLACK_CODES) * steps),
        }
    }

    /// The samples of plane `index` in line `y` of the picture, and whether one of them is black.
    fn line(&self, index: usize, y: usize) -> (&'a [S], impl Fn(&S) -> bool + use<S>) {
        let (columns, rows) = self.format.plane_size(index);
        let at = y * rows / self.format.height_px * columns;
        let is_light = index == 0 || self.format.chroma == Chroma::Gbr;
        let (least, most) = if is_light { (0, self.black) } else { self.neutral };
        (&self.planes[index][at..at + columns], move |it: &S| {
            it.code() >= least && it.code() <= most
        })
    }

    fn is_black_line(&self, y: usize) -> bool {
        (0..self.planes.len()).all(|index| {
            let (line, is_black) = self.line(index, y);
            line.iter().all(is_black)
        })
    }

    /// Columns that are black at both ends of a line, `most` of each at the most.
    fn black_ends(&self, y: usize, most: (usize, usize)) -> (usize, usize) {
        let width = self.format.width_px;
        (0..self.planes.len()).fold(most, |(left, right), index| {
            let (line, is_black) = self.line(index, y);
            let pixels = |samples: usize| samples * width / line.len();
            let reach = |px: usize| (px * line.len()).div_ceil(width);
            let first = line.iter().take(reach(left)).take_while(|it| is_black(it)).count();
            let last = line.iter().rev().take(reach(right)).take_while(|it| is_black(it)).count();
            (left.min(pixels(first)), right.min(pixels(last)))
        })
    }

    fn bars(&self) -> Option<Bars> {
        let (width, height) = (self.format.width_px, self.format.height_px);
        let top = (0..height).take_while(|y| self.is_black_line(*y)).count();
        if top == height {
            return None;
        }
        let bottom = (top..height).rev().take_while(|y| self.is_black_line(*y)).count();
        let mut ends = (width, width);
        for y in top..height - bottom {
            ends = self.black_ends(y, ends);
            if ends == (0, 0) {
                break;
            }
        }
        Some(Bars { top, bottom, left: ends.0, right: ends.1 }.sensible(self.format))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Matrix;

    /// A 4:2:0 picture of a texture within bars of black.
    fn barred(bars: Bars, depth: Depth) -> Picture {
        let (matrix, range) = (Matrix::Bt709, Range::Limited);
        let format = PictureFormat {
            width_px: 64,
            height_px: 48,
            chroma: Chroma::C420,
            matrix,
            range,
            depth,
        };
        let mut picture = Picture::zeroed(format);
        for index in 0..3 {
            let (columns, rows) = format.plane_size(index);
            let [left, right, top, bottom] = bars.picture(format, index);
            for at in 0..columns * rows {
                let (x, y) = (at % columns, at / columns);
                let inside = x >= left && x < right && y >= top && y < bottom;
                let code = match inside {
                    true => 40 + (7 * x + 13 * y + 5 * index) % 150,
                    false if index == 0 => 16,
                    false => 128,
                };
                let code = code as u16 * depth.steps();
                match depth {
                    Depth::Eight => picture.planes[index][at] = code as u8,
                    _ => picture.planes[index][2 * at..2 * at + 2]
                        .copy_from_slice(&code.to_le_bytes()),
                }
            }
        }
        picture
    }

    #[test]
    fn bars_are_found_filled_and_put_back() {
        for depth in [Depth::Eight, Depth::Ten] {
            for bars in [
                Bars { top: 6, bottom: 8, left: 0, right: 0 },
                Bars { top: 0, bottom: 0, left: 10, right: 12 },
                Bars { top: 4, bottom: 4, left: 8, right: 8 },
            ] {
                let picture = barred(bars, depth);
                assert_eq!(Bars::of(&picture), Some(bars));
                let mut filled = bars.fill(&picture);
                assert_eq!(Bars::of(&filled), Some(Bars::default()), "no bar is left");
                bars.put_back(&picture, &mut filled);
                assert!(filled == picture, "the picture itself was not touched");
            }
        }
    }

    #[test]
    fn what_is_no_bar_is_let_be() {
        let none = Some(Bars::default());
        assert_eq!(Bars::of(&barred(Bars::default(), Depth::Eight)), none);
        let thin = Bars { top: 2, bottom: 2, left: 2, right: 0 };
        assert_eq!(Bars::of(&barred(thin, Depth::Eight)), none, "thin");
        let most = Bars { top: 20, bottom: 20, left: 0, right: 0 };
        assert_eq!(Bars::of(&barred(most, Depth::Eight)), none, "a dark picture");
        let all = Bars { top: 48, bottom: 0, left: 0, right: 0 };
        assert_eq!(Bars::of(&barred(all, Depth::Eight)), None, "a black one says nothing");
    }

    #[test]
    fn only_what_is_black_in_every_frame_counts() {
        let mut watch = BarWatch::default();
        let black = barred(Bars { top: 48, bottom: 0, left: 0, right: 0 }, Depth::Eight);
        assert_eq!(watch.see(&black), Bars::default());
        let wide = Bars { top: 8, bottom: 8, left: 0, right: 0 };
        assert_eq!(watch.see(&barred(wide, Depth::Eight)), wide);
        let less = Bars { top: 8, bottom: 4, left: 0, right: 0 };
        assert_eq!(watch.see(&barred(less, Depth::Eight)), less);
        assert_eq!(watch.see(&barred(wide, Depth::Eight)), less);
    }
}
