//! Pictures to RGB and back by bands of rows across the threads: the very definition of `ops::color`, so equal to it.

use std::sync::{Mutex, PoisonError};

use super::threads::Threads;
use crate::frame::{Picture, PictureFormat};
use crate::ops::color;

/// Rows of a band; even, so that bands begin with a chroma row.
const BAND: usize = 32;
/// Rows round a band that its chroma reads, on the way up and down; even as well.
const MARGIN: usize = 2;

/// RGB `[h, w, 3]` of a picture.
///
/// # Panics
/// If a plane is not as long as the format says.
pub(super) fn picture_to_rgb(threads: &Threads, picture: &Picture, rgb: &mut Vec<f32>) {
    let (w, h) = (picture.format.width_px, picture.format.height_px);
    rgb.resize(3 * w * h, 0.0);
    threads.chunks(rgb, (3 * w * BAND).max(1), |index, out| {
        let begin = index * BAND;
        let end = (begin + BAND).min(h);
        let (first, beyond) = (begin.saturating_sub(MARGIN), (end + MARGIN).min(h));
        let mut band = Vec::new();
        color::write_rgb(&rows(picture, first, beyond), &mut band);
        let skip = 3 * w * (begin - first);
        out.copy_from_slice(&band[skip..skip + out.len()]);
    });
}

/// The picture nearest to `rgb` `[h, w, 3]`.
///
/// # Panics
/// If `rgb` is not as long as the format says.
pub(super) fn rgb_to_picture(threads: &Threads, rgb: &[f32], format: PictureFormat) -> Picture {
    let (w, h) = (format.width_px, format.height_px);
    assert_eq!(rgb.len(), 3 * w * h, "rgb of the picture");
    let whole = Mutex::new(Picture::zeroed(format));
    threads.each(h.div_ceil(BAND), |index| {
        let begin = index * BAND;
        let end = (begin + BAND).min(h);
        let (first, beyond) = (begin.saturating_sub(MARGIN), (end + MARGIN).min(h));
        let wide = PictureFormat { height_px: beyond - first, ..format };
        let band = color::rgb_to_picture(&rgb[3 * w * first..3 * w * beyond], wide);
        let part = PictureFormat { height_px: end - begin, ..format };
        let mut whole = whole.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, plane) in band.planes.iter().enumerate() {
            let (row_bytes, row) = bytes_above(format, index, begin);
            let (_, skipped) = bytes_above(format, index, begin - first);
            let (_, count) = part.plane_bytes(index);
            whole.planes[index][row_bytes * row..][..row_bytes * count]
                .copy_from_slice(&plane[row_bytes * skipped..][..row_bytes * count]);
        }
    });
    whole.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Rows `begin..end` of a picture; `begin` is even.
fn rows(picture: &Picture, begin: usize, end: usize) -> Picture {
    let format = PictureFormat { height_px: end - begin, ..picture.format };
    let plane = |(index, plane): (usize, &Vec<u8>)| {
        let (row_bytes, first) = bytes_above(format, index, begin);
        let (_, count) = format.plane_size(index);
        plane[row_bytes * first..row_bytes * (first + count)].to_vec()
    };
    Picture { format, planes: picture.planes.iter().enumerate().map(plane).collect() }
}

/// Bytes of a row of plane `index`, and its rows above luma row `row`, which is even.
fn bytes_above(format: PictureFormat, index: usize, row: usize) -> (usize, usize) {
    PictureFormat { height_px: row, ..format }.plane_bytes(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Chroma, Depth, Matrix, Range};

    #[test]
    fn bands_equal_the_whole_at_odd_sizes() {
        let threads = Threads::new(3).unwrap();
        for chroma in [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr] {
            for (width_px, height_px) in [(1, 1), (5, 31), (4, 32), (7, 33), (3, 34), (6, 101)] {
                for depth in [Depth::Eight, Depth::Ten] {
                    let (matrix, range) = (Matrix::Bt709, Range::Limited);
                    let format =
                        PictureFormat { width_px, height_px, chroma, matrix, range, depth };
                    let mut picture = Picture::zeroed(format);
                    for plane in &mut picture.planes {
                        for (at, value) in plane.iter_mut().enumerate() {
                            // High bytes of 10 bits are below 4.
                            let below = if depth == Depth::Ten && at % 2 == 1 { 4 } else { 251 };
                            *value = (at * 37 % below) as u8;
                        }
                    }
                    let mut rgb = Vec::new();
                    picture_to_rgb(&threads, &picture, &mut rgb);
                    assert_eq!(rgb, color::picture_to_rgb(&picture), "{format:?}");
                    let back = rgb_to_picture(&threads, &rgb, format);
                    assert_eq!(back, color::rgb_to_picture(&rgb, format), "{format:?}");
                }
            }
        }
    }
}
