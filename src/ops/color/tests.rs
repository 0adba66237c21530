//! Colors there and back, in every format.

use super::*;
use crate::frame::Range;

const CHROMAS: [Chroma; 5] = [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr];
const MATRICES: [Matrix; 3] = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020];
const RANGES: [Range; 2] = [Range::Limited, Range::Full];
const DEPTHS: [Depth; 3] = [Depth::Eight, Depth::Ten, Depth::Twelve];
/// f32 rounding of a handful of operations near 1.
const RGB_TOLERANCE: f32 = 1e-5;

fn format(width_px: usize, height_px: usize, chroma: Chroma) -> PictureFormat {
    let (matrix, range, depth) = (Matrix::Bt709, Range::Limited, Depth::Eight);
    PictureFormat { width_px, height_px, chroma, matrix, range, depth }
}

fn all_formats(width_px: usize, height_px: usize) -> Vec<PictureFormat> {
    let mut formats = vec![];
    for chroma in CHROMAS {
        for matrix in MATRICES {
            for range in RANGES {
                let format =
                    |depth| PictureFormat { width_px, height_px, chroma, matrix, range, depth };
                formats.extend(DEPTHS.map(format));
            }
        }
    }
    formats
}

fn assert_rgb(picture: &Picture, expected: [f32; 3]) {
    for pixel in picture_to_rgb(picture).chunks_exact(3) {
        for (found, expected) in pixel.iter().zip(expected) {
            assert!((found - expected).abs() < RGB_TOLERANCE, "{pixel:?}, want {expected:?}");
        }
    }
}

/// Sets every sample by plane and position, in codes of 8 bits, to be scaled.
fn paint(format: PictureFormat, code: impl Fn(usize, usize) -> f32) -> Picture {
    let mut picture = Picture::zeroed(format);
    let steps = f32::from(format.depth.steps());
    for (index, plane) in picture.planes.iter_mut().enumerate() {
        let bytes = format.depth.bytes();
        for (at, sample) in plane.chunks_exact_mut(bytes).enumerate() {
            let code = (code(index, at) * steps) as u16;
            sample.copy_from_slice(&code.to_le_bytes()[..bytes]);
        }
    }
    picture
}

fn codes(picture: &Picture, plane: usize) -> Vec<u16> {
    let samples = picture.planes[plane].chunks_exact(picture.format.depth.bytes());
    samples.map(|it| it.iter().rev().fold(0, |code, byte| code << 8 | u16::from(*byte))).collect()
}

fn constant(format: PictureFormat, codes: [u8; 3]) -> Picture {
    paint(format, |plane, _| f32::from(codes[plane]))
}

#[test]
fn known_codes_give_known_colors() {
    let limited = format(3, 3, Chroma::C420);
    assert_rgb(&constant(limited, [235, 128, 128]), [1.0; 3]);
    assert_rgb(&constant(limited, [16, 128, 128]), [0.0; 3]);
    let full = PictureFormat { range: Range::Full, ..limited };
    assert_rgb(&constant(full, [255, 128, 128]), [1.0; 3]);
    // Cr 40 codes up: red gains 2 (1 - kr) of it, green pays for red's share of luma, blue stays.
    let (gray, cr) = (110.0_f32 / 219.0, 40.0 / 224.0);
    let expected = [gray + 2.0 * 0.7874 * cr, gray - 2.0 * 0.7874 * 0.2126 / 0.7152 * cr, gray];
    assert_rgb(&constant(limited, [126, 128, 168]), expected);
    let gbr = PictureFormat { chroma: Chroma::Gbr, ..full };
    assert_rgb(&constant(gbr, [51, 102, 204]), [0.8, 0.2, 0.4]);
    let gray_full = PictureFormat { chroma: Chroma::Gray, ..full };
    assert_rgb(&constant(gray_full, [51, 0, 0]), [0.2; 3]);
}

#[test]
fn known_codes_of_more_bits_give_the_same_colors() {
    let limited = PictureFormat { depth: Depth::Ten, ..format(3, 3, Chroma::C420) };
    assert_eq!(codes(&constant(limited, [235, 128, 128]), 0)[0], 940, "white at 10 bits");
    for depth in [Depth::Ten, Depth::Twelve] {
        let limited = PictureFormat { depth, ..limited };
        assert_rgb(&constant(limited, [235, 128, 128]), [1.0; 3]);
        assert_rgb(&constant(limited, [16, 128, 128]), [0.0; 3]);
    }
    // Full range ends at 1023, which is no multiple of 255.
    let gray = PictureFormat { range: Range::Full, chroma: Chroma::Gray, ..limited };
    let white = rgb_to_picture(&[1.0; 27], gray);
    assert!(codes(&white, 0).iter().all(|code| *code == 1023));
    assert_rgb(&white, [1.0; 3]);
}

#[test]
fn more_bits_keep_what_eight_would_round_away() {
    let gray = PictureFormat { depth: Depth::Ten, ..format(64, 1, Chroma::Gray) };
    let ramp = paint(gray, |_, at| 100.0 + at as f32 / 4.0);
    let back = rgb_to_picture(&picture_to_rgb(&ramp), gray);
    assert_eq!(codes(&back, 0), (400..464).collect::<Vec<u16>>());
}

#[test]
fn constant_colors_return_within_a_code_in_every_format() {
    for format in all_formats(5, 3) {
        for codes in [[16, 128, 128], [126, 120, 133], [180, 140, 118], [235, 128, 128]] {
            let picture = constant(format, codes);
            let back = rgb_to_picture(&picture_to_rgb(&picture), format);
            assert_within(&picture, &back, 1);
        }
    }
}

/// A camera's whites above 235 and colors outside of RGB's cube; a clamp anywhere would pulse beside the real frames.
#[test]
fn all_codes_return() {
    let codes = [0, 1, 8, 16, 50, 90, 128, 200, 235, 240, 252, 254, 255];
    for format in all_formats(4, 4) {
        for luma in codes {
            for (cb, cr) in codes.into_iter().flat_map(|cb| codes.map(|cr| (cb, cr))) {
                let picture = constant(format, [luma, cb, cr]);
                let back = rgb_to_picture(&picture_to_rgb(&picture), format);
                assert_eq!(picture.planes, back.planes, "{format:?}, {luma} {cb} {cr}");
            }
        }
    }
}

/// Colored text and edges that stand still would shimmer else: made frames' beside real ones'.
#[test]
fn any_chroma_returns() {
    for (w, h) in [(2, 2), (7, 2), (8, 4), (9, 12), (40, 32)] {
        for format in all_formats(w, h) {
            let picture = paint(format, |plane, at| ((at * 97 + 41 * plane) % 251) as f32);
            let back = rgb_to_picture(&picture_to_rgb(&picture), format);
            assert_eq!(picture.planes, back.planes, "{format:?}");
        }
    }
}

fn assert_within(picture: &Picture, back: &Picture, most: u16) {
    for plane in 0..picture.planes.len() {
        let pairs = codes(picture, plane).into_iter().zip(codes(back, plane));
        for (at, (a, b)) in pairs.enumerate() {
            assert!(a.abs_diff(b) <= most, "{:?} plane {plane} at {at}: {a} {b}", picture.format);
        }
    }
}

/// Planes that vary slowly, well inside the RGB cube.
fn smooth(format: PictureFormat) -> Picture {
    paint(format, |index, at| {
        let (w, _) = format.plane_size(index);
        let (x, y) = ((at % w) as f32, (at / w) as f32);
        120.0 + 8.0 * ((0.11 * x + 0.3 * index as f32).sin() + (0.13 * y).cos())
    })
}

#[test]
fn smooth_pictures_return_within_a_code_of_eight_bits_at_odd_sizes() {
    for (w, h) in [(1, 1), (2, 2), (1, 5), (7, 1), (41, 33), (40, 32)] {
        for format in all_formats(w, h) {
            let picture = smooth(format);
            let back = rgb_to_picture(&picture_to_rgb(&picture), format);
            // What resampling of chroma changes is the same at every depth.
            assert_within(&picture, &back, format.depth.steps());
        }
    }
}

#[test]
fn chroma_ramps_are_not_shifted() {
    // A horizontal ramp in Cr: chroma column i sits on luma column 2 i, so red must be linear in x.
    let format = PictureFormat { range: Range::Full, ..format(32, 4, Chroma::C420) };
    let mut picture = constant(format, [128, 128, 0]);
    for (at, value) in picture.planes[2].iter_mut().enumerate() {
        *value = 100 + 2 * (at % 16) as u8;
    }
    let rgb = picture_to_rgb(&picture);
    let step = 2.0 * (1.0 - 0.2126) / 255.0;
    for x in 0..30 {
        let expected = 128.0 / 255.0 + step * (x as f32 - 28.0);
        assert!((rgb[3 * x] - expected).abs() < RGB_TOLERANCE, "column {x}: {}", rgb[3 * x]);
    }
    // A vertical ramp: chroma row j sits at luma row 2 j + 1/2.
    let format = PictureFormat { range: Range::Full, ..format_tall() };
    let mut picture = constant(format, [128, 128, 0]);
    for (at, value) in picture.planes[2].iter_mut().enumerate() {
        *value = 100 + 2 * (at / 2) as u8;
    }
    let rgb = picture_to_rgb(&picture);
    for y in 1..30 {
        let expected = 128.0 / 255.0 + step * (y as f32 - 28.5);
        assert!((rgb[12 * y] - expected).abs() < RGB_TOLERANCE, "row {y}: {}", rgb[12 * y]);
    }
}

fn format_tall() -> PictureFormat {
    format(4, 32, Chroma::C420)
}

#[test]
fn out_of_range_and_nan_values_saturate() {
    let wild = [f32::NAN, 7.0, -3.0, f32::INFINITY, f32::NEG_INFINITY, 0.5];
    assert_eq!(rgb8(&wild), [0, 255, 0, 255, 0, 128]);
    let format = PictureFormat { range: Range::Full, ..format(2, 1, Chroma::Gbr) };
    let picture = rgb_to_picture(&wild, format);
    assert_eq!(picture.planes, [[255, 0], [0, 128], [0, 255]]);
}
