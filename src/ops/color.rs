//! Decoded pictures to RGB and back: matrix, range and chroma sampling of every [`PictureFormat`].
//!
//! RGB here is `[h, w, 3]`, row-major, f32, nominal 0..1 and clamped to it. Equations: ITU-T H.273 (non-constant
//! luminance, `MatrixCoefficients` 1, 5/6 and 9; quantisation of limited and full range at 8 bit).
//!
//! Subsampled chroma is sited as in MPEG-2 (and as H.264 and HEVC default to): horizontally on every second luma
//! column, vertically (4:2:0) half way between two luma rows. Up: bilinear at those positions. Down: `[1 2 1] / 4`
//! along rows, centred on the chroma column; the mean of two rows. Both keep constants and linear ramps, so nothing
//! shifts and no mean moves. Edges repeat.

use crate::frame::{Chroma, Matrix, Picture, PictureFormat, Range};

/// Linear maps between 8-bit codes and nominal values.
#[derive(Clone, Copy, Debug)]
struct Quantisation {
    luma_zero: f32,
    luma_span: f32,
    chroma_span: f32,
}

const CHROMA_ZERO: f32 = 128.0;

impl Quantisation {
    fn of(range: Range) -> Self {
        match range {
            Range::Limited => Self { luma_zero: 16.0, luma_span: 219.0, chroma_span: 224.0 },
            Range::Full => Self { luma_zero: 0.0, luma_span: 255.0, chroma_span: 255.0 },
        }
    }

    fn luma(self, code: u8) -> f32 {
        (f32::from(code) - self.luma_zero) / self.luma_span
    }

    /// Nominal values of luma, or of samples as coded, clamped to 0..1.
    fn nominal(self, codes: &[u8], out: &mut [f32]) {
        for (out, &code) in out.iter_mut().zip(codes) {
            *out = self.luma(code).clamp(0.0, 1.0);
        }
    }

    fn luma_code(self, value: f32) -> u8 {
        code(value * self.luma_span + self.luma_zero)
    }

    fn chroma_code(self, value: f32) -> u8 {
        code(value * self.chroma_span + CHROMA_ZERO)
    }
}

/// Rounded to the nearest code, saturating.
fn code(value: f32) -> u8 {
    // The cast rounds down, saturates and takes NaN to 0.
    (value + 0.5) as u8
}

/// Weights of red and blue in luma.
pub(crate) fn kr_kb(matrix: Matrix) -> (f32, f32) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    }
}

/// RGB of a picture: `[h, w, 3]`, row-major, 0..1, clamped.
///
/// # Panics
/// If a plane is not as long as the format says.
#[must_use]
pub fn picture_to_rgb(picture: &Picture) -> Vec<f32> {
    let mut rgb = Vec::new();
    write_rgb(picture, &mut rgb);
    rgb
}

/// [`picture_to_rgb`] into a buffer that is used again.
///
/// # Panics
/// If a plane is not as long as the format says.
pub fn write_rgb(picture: &Picture, rgb: &mut Vec<f32>) {
    rgb.resize(3 * picture.format.width_px * picture.format.height_px, 0.0);
    write_rgb_rows(picture, 0, rgb);
}

/// The rows of [`picture_to_rgb`] from `first` on, as many as `rgb` holds.
///
/// # Panics
/// If a plane is not as long as the format says, or there are not that many rows.
pub fn write_rgb_rows(picture: &Picture, first: usize, rgb: &mut [f32]) {
    let mut rows = Rows::new(picture);
    for (row, out) in rgb.chunks_exact_mut(3 * picture.format.width_px).enumerate() {
        let [red, green, blue] = rows.row(first + row);
        let (pixels, _) = out.as_chunks_mut::<3>();
        for (((pixel, r), g), b) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [*r, *g, *b];
        }
    }
}

/// The picture nearest to `rgb` (`[h, w, 3]`, 0..1; values outside saturate) in `format`.
///
/// # Panics
/// If `rgb` does not hold `3 * width_px * height_px` values.
#[must_use]
pub fn rgb_to_picture(rgb: &[f32], format: PictureFormat) -> Picture {
    let (w, h) = (format.width_px, format.height_px);
    assert_eq!(rgb.len(), 3 * w * h, "rgb of {w}x{h}");
    let levels = Quantisation::of(format.range);
    let (kr, kb) = kr_kb(format.matrix);
    let luma = |p: &[f32; 3]| kr * p[0] + (1.0 - kr - kb) * p[1] + kb * p[2];
    let (pixels, _) = rgb.as_chunks::<3>();
    let plane = |channel: usize| pixels.iter().map(|p| levels.luma_code(p[channel])).collect();
    let planes = match format.chroma {
        Chroma::Gray => vec![pixels.iter().map(|p| levels.luma_code(luma(p))).collect()],
        Chroma::Gbr => vec![plane(1), plane(2), plane(0)],
        Chroma::C420 | Chroma::C422 | Chroma::C444 => {
            let y = pixels.iter().map(|p| levels.luma_code(luma(p))).collect();
            let blue = |p: &[f32; 3]| (p[2] - luma(p)) / (2.0 * (1.0 - kb));
            let red = |p: &[f32; 3]| (p[0] - luma(p)) / (2.0 * (1.0 - kr));
            let down = |difference: &dyn Fn(&[f32; 3]) -> f32| {
                let full: Vec<f32> = pixels.iter().map(difference).collect();
                down_chroma(&full, format).into_iter().map(|c| levels.chroma_code(c)).collect()
            };
            vec![y, down(&blue), down(&red)]
        }
    };
    Picture { format, planes }
}

/// RGB in 8 bit: each value times 255, rounded, saturating.
#[must_use]
pub fn rgb8(rgb: &[f32]) -> Vec<u8> {
    rgb.iter().copied().map(code8).collect()
}

/// A nominal value in 8 bit: times 255, rounded, saturating.
#[must_use]
pub fn code8(value: f32) -> u8 {
    code(value * 255.0)
}

fn check_planes(picture: &Picture) {
    let format = picture.format;
    assert_eq!(picture.planes.len(), format.chroma.planes(), "planes of {:?}", format.chroma);
    for (index, plane) in picture.planes.iter().enumerate() {
        let (w, h) = format.chroma.plane_size(index, format.width_px, format.height_px);
        assert_eq!(plane.len(), w * h, "samples of plane {index}");
    }
}

/// A picture's RGB row by row.
#[derive(Debug)]
pub struct Rows<'a> {
    picture: &'a Picture,
    levels: Quantisation,
    /// Chroma of a row, one value a luma column, in codes above [`CHROMA_ZERO`].
    chroma: [Vec<f32>; 2],
    /// The same, one value a chroma column.
    narrow: Vec<f32>,
    rgb: [Vec<f32>; 3],
}

impl<'a> Rows<'a> {
    /// Of a picture.
    ///
    /// # Panics
    /// If a plane is not as long as the format says.
    #[must_use]
    pub fn new(picture: &'a Picture) -> Self {
        check_planes(picture);
        let row = || vec![0.0; picture.format.width_px];
        Self {
            picture,
            levels: Quantisation::of(picture.format.range),
            chroma: [row(), row()],
            narrow: vec![],
            rgb: [row(), row(), row()],
        }
    }

    /// Red, green and blue of a row: those of [`picture_to_rgb`].
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&mut self, row: usize) -> &[Vec<f32>; 3] {
        let (levels, w) = (self.levels, self.picture.format.width_px);
        let stored = |plane: usize| &self.picture.planes[plane][row * w..(row + 1) * w];
        match self.picture.format.chroma {
            Chroma::Gray => {
                for out in &mut self.rgb {
                    levels.nominal(stored(0), out);
                }
            }
            Chroma::Gbr => {
                for (out, plane) in self.rgb.iter_mut().zip([2, 0, 1]) {
                    levels.nominal(stored(plane), out);
                }
            }
            Chroma::C420 | Chroma::C422 | Chroma::C444 => self.ycbcr_row(row),
        }
        &self.rgb
    }

    fn ycbcr_row(&mut self, row: usize) {
        let Self { picture, levels, chroma, narrow, rgb } = self;
        let format = picture.format;
        let w = format.width_px;
        let (kr, kb) = kr_kb(format.matrix);
        let kg = 1.0 - kr - kb;
        // Green from the definition of luma: y = kr r + kg g + kb b.
        let (to_red, to_blue) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let (green_cb, green_cr) = (to_blue * kb / kg, to_red * kr / kg);
        for (plane, out) in picture.planes[1..].iter().zip(chroma.iter_mut()) {
            up_chroma_row(plane, format, row, narrow, out);
        }
        let luma = &picture.planes[0][row * w..(row + 1) * w];
        let ([cb, cr], [red, green, blue]) = (chroma, rgb);
        let out = red.iter_mut().zip(green).zip(blue);
        for (((&luma, cb), cr), ((red, green), blue)) in luma.iter().zip(cb).zip(cr).zip(out) {
            let y = levels.luma(luma);
            let (cb, cr) = (*cb / levels.chroma_span, *cr / levels.chroma_span);
            *red = (y + to_red * cr).clamp(0.0, 1.0);
            *green = (y - green_cb * cb - green_cr * cr).clamp(0.0, 1.0);
            *blue = (y + to_blue * cb).clamp(0.0, 1.0);
        }
    }
}

/// Chroma at luma row `row`, one value a luma column, in codes above [`CHROMA_ZERO`]; `narrow` is memory.
fn up_chroma_row(
    plane: &[u8],
    format: PictureFormat,
    row: usize,
    narrow: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (w, h) = format.chroma.plane_size(1, format.width_px, format.height_px);
    let (near, far, far_weight) = match format.chroma {
        Chroma::C420 => {
            let near = row / 2;
            let far =
                if row.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(h - 1) };
            (near, far, 0.25)
        }
        _ => (row, row, 0.0),
    };
    let (near, far) = (&plane[near * w..(near + 1) * w], &plane[far * w..(far + 1) * w]);
    let at = |(near, far): (&u8, &u8)| {
        f32::from(*near) * (1.0 - far_weight) + f32::from(*far) * far_weight - CHROMA_ZERO
    };
    narrow.clear();
    narrow.extend(near.iter().zip(far).map(at));
    if format.chroma == Chroma::C444 {
        out.copy_from_slice(narrow);
        return;
    }
    narrow.push(narrow[w - 1]);
    for (pair, values) in out.chunks_mut(2).zip(narrow.windows(2)) {
        pair[0] = values[0];
        if let Some(between) = pair.get_mut(1) {
            *between = 0.5 * (values[0] + values[1]);
        }
    }
}

/// A full-size plane at the chroma positions of `format`.
fn down_chroma(full: &[f32], format: PictureFormat) -> Vec<f32> {
    let (w, h) = (format.width_px, format.height_px);
    if format.chroma == Chroma::C444 {
        return full.to_vec();
    }
    let (cw, ch) = format.chroma.plane_size(1, w, h);
    let mut out = Vec::with_capacity(cw * ch);
    for row in 0..ch {
        let (top, bottom) = match format.chroma {
            Chroma::C420 => (2 * row, (2 * row + 1).min(h - 1)),
            _ => (row, row),
        };
        let (top, bottom) = (&full[top * w..(top + 1) * w], &full[bottom * w..(bottom + 1) * w]);
        let mean = |x: usize| 0.5 * (top[x] + bottom[x]);
        out.extend((0..cw).map(|column| {
            let x = 2 * column;
            0.25 * (mean(x.saturating_sub(1)) + mean((x + 1).min(w - 1))) + 0.5 * mean(x)
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMAS: [Chroma; 5] =
        [Chroma::Gray, Chroma::C420, Chroma::C422, Chroma::C444, Chroma::Gbr];
    const MATRICES: [Matrix; 3] = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020];
    const RANGES: [Range; 2] = [Range::Limited, Range::Full];
    /// f32 rounding of a handful of operations near 1.
    const RGB_TOLERANCE: f32 = 1e-5;

    fn format(width_px: usize, height_px: usize, chroma: Chroma) -> PictureFormat {
        PictureFormat { width_px, height_px, chroma, matrix: Matrix::Bt709, range: Range::Limited }
    }

    fn all_formats(width_px: usize, height_px: usize) -> Vec<PictureFormat> {
        let mut formats = vec![];
        for chroma in CHROMAS {
            for matrix in MATRICES {
                for range in RANGES {
                    formats.push(PictureFormat { width_px, height_px, chroma, matrix, range });
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

    fn constant(format: PictureFormat, codes: [u8; 3]) -> Picture {
        let mut picture = Picture::zeroed(format);
        picture.planes.iter_mut().zip(codes).for_each(|(plane, code)| plane.fill(code));
        picture
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
    fn constant_colors_return_within_a_code_in_every_format() {
        for format in all_formats(5, 3) {
            for codes in [[16, 128, 128], [126, 120, 133], [180, 140, 118], [235, 128, 128]] {
                let picture = constant(format, codes);
                let back = rgb_to_picture(&picture_to_rgb(&picture), format);
                assert_within_a_code(&picture, &back);
            }
        }
    }

    fn assert_within_a_code(picture: &Picture, back: &Picture) {
        for (plane, (a, b)) in picture.planes.iter().zip(&back.planes).enumerate() {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                assert!(a.abs_diff(*b) <= 1, "{:?} plane {plane} at {at}: {a} {b}", picture.format);
            }
        }
    }

    /// Planes that vary slowly, well inside the RGB cube.
    fn smooth(format: PictureFormat) -> Picture {
        let mut picture = Picture::zeroed(format);
        for (index, plane) in picture.planes.iter_mut().enumerate() {
            let (w, _) = format.chroma.plane_size(index, format.width_px, format.height_px);
            for (at, value) in plane.iter_mut().enumerate() {
                let (x, y) = ((at % w) as f32, (at / w) as f32);
                let wave = (0.11 * x + 0.3 * index as f32).sin() + (0.13 * y).cos();
                *value = (120.0 + 8.0 * wave) as u8;
            }
        }
        picture
    }

    #[test]
    fn smooth_pictures_return_within_a_code_at_odd_sizes() {
        for (w, h) in [(1, 1), (2, 2), (1, 5), (7, 1), (41, 33), (40, 32)] {
            for format in all_formats(w, h) {
                let picture = smooth(format);
                let back = rgb_to_picture(&picture_to_rgb(&picture), format);
                assert_within_a_code(&picture, &back);
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
}
