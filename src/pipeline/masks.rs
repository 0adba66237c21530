//! Parts of the picture in which nothing is made up: a made frame shows the nearest real one there, sample by sample.
//!
//! And the mark that tells made frames from real ones on screen.

use crate::config::content::Rectangle;
use crate::frame::{Picture, PictureFormat};

/// The mark's side in parts of the picture's shorter one, and its least in pixels.
const MARK_PART: usize = 24;
const MARK_LEAST_PX: usize = 8;

/// Copies `rectangles` of `real` into `made`, which has its format: every sample that has a part in them.
pub fn cover(made: &mut Picture, real: &Picture, rectangles: &[Rectangle]) {
    assert_eq!(made.format, real.format, "pictures of one clip share a format");
    let format = made.format;
    for (index, (made, real)) in made.planes.iter_mut().zip(&real.planes).enumerate() {
        let (row_bytes, _) = format.plane_bytes(index);
        for rectangle in rectangles {
            let Span { columns, rows } = span(format, index, rectangle);
            let bytes = format.depth.bytes();
            for row in rows {
                let place =
                    row * row_bytes + columns.start * bytes..row * row_bytes + columns.end * bytes;
                made[place.clone()].copy_from_slice(&real[place]);
            }
        }
    }
}

/// Luma samples of a picture that [`cover`] copies, each once.
#[must_use]
pub fn covered_px(format: PictureFormat, rectangles: &[Rectangle]) -> u64 {
    let mut covered = vec![false; format.width_px * format.height_px];
    for rectangle in rectangles {
        let Span { columns, rows } = span(format, 0, rectangle);
        for row in rows {
            covered[row * format.width_px + columns.start..row * format.width_px + columns.end]
                .fill(true);
        }
    }
    covered.iter().filter(|it| **it).count() as u64
}

/// The square of the mark.
fn marked(format: PictureFormat) -> Rectangle {
    let short = format.width_px.min(format.height_px);
    let side = (short / MARK_PART).max(MARK_LEAST_PX).min(short);
    Rectangle { left_px: 0, top_px: 0, width_px: side, height_px: side }
}

/// Makes the mark seen in the transparency of a picture.
pub fn uncover_mark(alpha: &mut Picture) {
    fill(alpha, &marked(alpha.format), Shade::White);
}

/// Draws the mark into the upper left corner: a black square with a white one in it.
pub fn mark(made: &mut Picture) {
    let outer = marked(made.format);
    let side = outer.width_px;
    let edge = (side / 4).max(1);
    let inner_px = side.saturating_sub(2 * edge);
    let inner = Rectangle { left_px: edge, top_px: edge, width_px: inner_px, height_px: inner_px };
    fill(made, &outer, Shade::Black);
    if inner_px > 0 {
        fill(made, &inner, Shade::White);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shade {
    Black,
    White,
}

fn fill(made: &mut Picture, rectangle: &Rectangle, shade: Shade) {
    use crate::frame::{Chroma, Range};
    let format = made.format;
    let (depth, chroma) = (format.depth, format.chroma);
    let limited = format.range == Range::Limited && chroma != Chroma::Gbr;
    let steps = depth.steps();
    let light = match (shade, limited) {
        (Shade::Black, true) => 16 * steps,
        (Shade::White, true) => 235 * steps,
        (Shade::Black, false) => 0,
        (Shade::White, false) => depth.peak(),
    };
    for (index, plane) in made.planes.iter_mut().enumerate() {
        let (row_bytes, _) = format.plane_bytes(index);
        let is_color = index > 0 && chroma != Chroma::Gbr;
        let code = if is_color { 128 * steps } else { light };
        let Span { columns, rows } = span(format, index, rectangle);
        let bytes = depth.bytes();
        for row in rows {
            let line = &mut plane
                [row * row_bytes + columns.start * bytes..row * row_bytes + columns.end * bytes];
            let low = code.to_le_bytes();
            line.chunks_exact_mut(bytes).for_each(|it| it.copy_from_slice(&low[..bytes]));
        }
    }
}

struct Span {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

/// The samples of a plane that have a part in a rectangle of the picture.
fn span(format: PictureFormat, plane: usize, rectangle: &Rectangle) -> Span {
    let (columns, rows) = format.plane_size(plane);
    let scaled = |start: usize, length: usize, of: usize, count: usize| {
        let ratio = of.div_ceil(count).max(1);
        // Where chroma has half the samples, a sample that is covered in part is covered, and all luma under it too.
        let (start, end) = (start.min(of), (start + length).min(of));
        start / ratio..end.div_ceil(ratio).min(count)
    };
    let Rectangle { left_px, top_px, width_px, height_px } = *rectangle;
    Span {
        columns: scaled(left_px, width_px, format.width_px, columns),
        rows: scaled(top_px, height_px, format.height_px, rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Depth, Matrix, Range};

    fn picture(chroma: Chroma, depth: Depth, code: u16) -> Picture {
        let (matrix, range) = (Matrix::Bt709, Range::Limited);
        let format = PictureFormat { width_px: 65, height_px: 33, chroma, matrix, range, depth };
        let mut picture = Picture::zeroed(format);
        let bytes = depth.bytes();
        for plane in &mut picture.planes {
            plane
                .chunks_exact_mut(bytes)
                .for_each(|it| it.copy_from_slice(&code.to_le_bytes()[..bytes]));
        }
        picture
    }

    const RECTANGLE: Rectangle = Rectangle { left_px: 11, top_px: 7, width_px: 20, height_px: 9 };

    /// V23.
    #[test]
    fn what_is_covered_is_the_real_picture_bit_for_bit_and_nothing_else_is() {
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr] {
            for depth in [Depth::Eight, Depth::Ten, Depth::Twelve] {
                let (mut made, real) = (picture(chroma, depth, 100), picture(chroma, depth, 201));
                cover(&mut made, &real, &[RECTANGLE]);
                let format = made.format;
                for (index, plane) in made.planes.iter().enumerate() {
                    let (columns, _) = format.plane_size(index);
                    let (x_ratio, y_ratio) = match (chroma, index) {
                        (Chroma::C420, 1..) => (2, 2),
                        (Chroma::C422, 1..) => (2, 1),
                        _ => (1, 1),
                    };
                    for (at, sample) in plane.chunks_exact(depth.bytes()).enumerate() {
                        let (x, y) = (at % columns * x_ratio, at / columns * y_ratio);
                        let touches = x < 31 && x + x_ratio > 11 && y < 16 && y + y_ratio > 7;
                        let expected = if touches { 201 } else { 100 };
                        assert_eq!(u16::from(sample[0]), expected, "{chroma:?} {index} {x},{y}");
                    }
                }
            }
        }
    }

    #[test]
    fn overlapping_rectangles_count_once_and_those_at_the_edge_are_cut() {
        let format = picture(Chroma::C420, Depth::Eight, 0).format;
        assert_eq!(covered_px(format, &[RECTANGLE, RECTANGLE]), 180);
        let edge = Rectangle { left_px: 60, top_px: 30, width_px: 50, height_px: 50 };
        assert_eq!(covered_px(format, &[edge]), 15);
        let (mut made, real) =
            (picture(Chroma::C420, Depth::Eight, 1), picture(Chroma::C420, Depth::Eight, 2));
        cover(&mut made, &real, &[edge]);
    }

    #[test]
    fn the_mark_is_black_and_white_in_any_format() {
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::Gbr] {
            for depth in [Depth::Eight, Depth::Ten] {
                let mut made = picture(chroma, depth, 60);
                mark(&mut made);
                let code = |at: usize| {
                    let bytes = &made.planes[0][at * depth.bytes()..(at + 1) * depth.bytes()];
                    bytes.iter().rev().fold(0_u16, |sum, byte| (sum << 8) | u16::from(*byte))
                };
                let steps = depth.steps();
                let (black, white) = match chroma {
                    Chroma::Gbr => (0, depth.peak()),
                    _ => (16 * steps, 235 * steps),
                };
                assert_eq!((code(0), code(3 * 65 + 3), code(20)), (black, white, 60), "{chroma:?}");
            }
        }
        let mut one = Picture::zeroed(PictureFormat {
            width_px: 1,
            height_px: 1,
            ..picture(Chroma::Gray, Depth::Eight, 0).format
        });
        mark(&mut one);
    }
}
