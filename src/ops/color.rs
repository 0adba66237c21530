//! Decoded pictures to RGB and back: matrix, range and chroma sampling of every [`PictureFormat`].
//!
//! RGB here is `[h, w, 3]`, row-major, f32, nominal 0..1. Codes beyond it (whiter than white in limited range, colors that no
//! screen has) are values beyond 0..1, at most -1.2 to 2.2, and come back as they were: only a code's range limits. Equations: ITU-T H.273 (non-constant
//! luminance, `MatrixCoefficients` 1, 5/6 and 9; quantisation of limited and full range at 8, 10 and 12 bits).
//!
//! Subsampled chroma is sited as in MPEG-2 (and as H.264 and HEVC default to): horizontally on every second luma
//! column, vertically (4:2:0) half way between two luma rows. Up: bilinear at those positions. Down: the shortest smooth
//! filters that undo it, `[-1 2 6 2 -1] / 8` along rows, centred on the chroma column, and `[-1 3 3 -1] / 4` over four rows
//! (both are the duals of bilinear interpolation in A. Cohen, I. Daubechies, J.-C. Feauveau: Biorthogonal bases of compactly
//! supported wavelets, Comm. Pure Appl. Math. 45, 1992; the first is JPEG 2000's 5/3). So chroma that nothing moves comes back
//! as it was, but in the last chroma row of an odd height. All keep constants and linear ramps, so nothing shifts and no mean
//! moves. Edges repeat.

use crate::frame::{Chroma, Depth, Matrix, Picture, PictureFormat, Sample};
use crate::ops::levels::Quantisation;

/// Weights of red and blue in luma.
pub(crate) fn kr_kb(matrix: Matrix) -> (f32, f32) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    }
}

/// RGB of a picture: `[h, w, 3]`, row-major, nominal 0..1.
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

/// The picture nearest to `rgb` (`[h, w, 3]`, nominal 0..1) in `format`; what is outside of its codes saturates.
///
/// # Panics
/// If `rgb` does not hold `3 * width_px * height_px` values.
#[must_use]
pub fn rgb_to_picture(rgb: &[f32], format: PictureFormat) -> Picture {
    let (w, h) = (format.width_px, format.height_px);
    assert_eq!(rgb.len(), 3 * w * h, "rgb of {w}x{h}");
    match format.depth {
        Depth::Eight => planes_of::<u8>(rgb, format),
        Depth::Ten | Depth::Twelve => planes_of::<[u8; 2]>(rgb, format),
    }
}

fn planes_of<S: Sample>(rgb: &[f32], format: PictureFormat) -> Picture {
    let mut picture = Picture::zeroed(format);
    let levels = Quantisation::of(format);
    let (kr, kb) = kr_kb(format.matrix);
    let luma = |p: &[f32; 3]| kr * p[0] + (1.0 - kr - kb) * p[1] + kb * p[2];
    let (pixels, _) = rgb.as_chunks::<3>();
    let [first, rest @ ..] = picture.planes.as_mut_slice() else { return picture };
    match (format.chroma, rest) {
        (Chroma::Gbr, [blue, red]) => {
            for (plane, channel) in [(first, 1), (blue, 2), (red, 0)] {
                fill(plane, pixels, |pixel| levels.luma_sample::<S>(pixel[channel]));
            }
        }
        (_, rest) => {
            fill(first, pixels, |pixel| levels.luma_sample::<S>(luma(pixel)));
            // The first difference is blue's, the second red's.
            for (plane, (channel, weight)) in rest.iter_mut().zip([(2, kb), (0, kr)]) {
                let difference = |p: &[f32; 3]| (p[channel] - luma(p)) / (2.0 * (1.0 - weight));
                let full: Vec<f32> = pixels.iter().map(difference).collect();
                let narrow = down_chroma(&full, format);
                fill(plane, &narrow, |value| levels.chroma_sample::<S>(*value));
            }
        }
    }
    picture
}

/// Makes each sample of a plane from a value.
fn fill<S: Sample, V>(plane: &mut [u8], values: &[V], sample: impl Fn(&V) -> S) {
    for (to, value) in S::of_mut(plane).iter_mut().zip(values) {
        *to = sample(value);
    }
}

/// RGB in 8 bit: each value times 255, rounded, saturating.
#[must_use]
pub fn rgb8(rgb: &[f32]) -> Vec<u8> {
    rgb.iter().copied().map(code8).collect()
}

/// RGB in 16 bit: each value times 65535, rounded, saturating.
#[must_use]
pub fn rgb16(rgb: &[f32]) -> Vec<u16> {
    rgb.iter().map(|value| (value * 65535.0 + 0.5) as u16).collect()
}

/// A nominal value in 8 bit: times 255, rounded, saturating.
#[must_use]
pub fn code8(value: f32) -> u8 {
    // The cast rounds down, saturates and takes NaN to 0.
    (value * 255.0 + 0.5) as u8
}

fn check_planes(picture: &Picture) {
    let format = picture.format;
    assert_eq!(picture.planes.len(), format.chroma.planes(), "planes of {:?}", format.chroma);
    for (index, plane) in picture.planes.iter().enumerate() {
        let (row_bytes, rows) = format.plane_bytes(index);
        assert_eq!(plane.len(), row_bytes * rows, "bytes of plane {index}");
    }
}

/// A picture's RGB row by row.
#[derive(Debug)]
pub struct Rows<'a> {
    picture: &'a Picture,
    levels: Quantisation,
    /// Chroma of a row, one value a luma column, in codes above zero.
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
            levels: Quantisation::of(picture.format),
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
        match self.picture.format.depth {
            Depth::Eight => self.row_of::<u8>(row),
            Depth::Ten | Depth::Twelve => self.row_of::<[u8; 2]>(row),
        }
        &self.rgb
    }

    fn row_of<S: Sample>(&mut self, row: usize) {
        let (levels, w) = (self.levels, self.picture.format.width_px);
        let stored = |plane: usize| &S::of(&self.picture.planes[plane])[row * w..(row + 1) * w];
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
            Chroma::C420 | Chroma::C422 | Chroma::C444 => self.ycbcr_row::<S>(row),
        }
    }

    fn ycbcr_row<S: Sample>(&mut self, row: usize) {
        let Self { picture, levels, chroma, narrow, rgb } = self;
        let format = picture.format;
        let w = format.width_px;
        let (kr, kb) = kr_kb(format.matrix);
        let kg = 1.0 - kr - kb;
        // Green from the definition of luma: y = kr r + kg g + kb b.
        let (to_red, to_blue) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
        let (green_cb, green_cr) = (to_blue * kb / kg, to_red * kr / kg);
        for (plane, out) in picture.planes[1..].iter().zip(chroma.iter_mut()) {
            up_chroma_row(S::of(plane), (format, levels.chroma_zero), row, narrow, out);
        }
        let luma = &S::of(&picture.planes[0])[row * w..(row + 1) * w];
        let ([cb, cr], [red, green, blue]) = (chroma, rgb);
        let out = red.iter_mut().zip(green).zip(blue);
        for (((luma, cb), cr), ((red, green), blue)) in luma.iter().zip(cb).zip(cr).zip(out) {
            let y = levels.luma(luma.code());
            let (cb, cr) = (*cb / levels.chroma_span, *cr / levels.chroma_span);
            *red = y + to_red * cr;
            *green = y - green_cb * cb - green_cr * cr;
            *blue = y + to_blue * cb;
        }
    }
}

/// Chroma at luma row `row`, one value a luma column, in codes above zero; `narrow` is memory.
fn up_chroma_row<S: Sample>(
    plane: &[S],
    (format, zero): (PictureFormat, f32),
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
    let value = |sample: &S| f32::from(sample.code());
    let at = |(near, far)| value(near) * (1.0 - far_weight) + value(far) * far_weight - zero;
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
    let at = |row: usize| &full[row * w..(row + 1) * w];
    let (mut out, mut rows) = (Vec::with_capacity(cw * ch), vec![]);
    for row in 0..ch {
        let row = match format.chroma {
            Chroma::C420 => {
                let y = 2 * row;
                let [above, top] = [at(y.saturating_sub(1)), at(y)];
                let [bottom, below] = [at((y + 1).min(h - 1)), at((y + 2).min(h - 1))];
                let inner = top.iter().zip(bottom);
                rows.clear();
                rows.extend(inner.zip(above.iter().zip(below)).map(
                    |((top, bottom), (above, below))| {
                        0.75 * (top + bottom) - 0.25 * (above + below)
                    },
                ));
                &rows
            }
            _ => at(row),
        };
        out.extend((0..cw).map(|column| {
            let x = 2 * column;
            let [far_left, left] = [row[x.saturating_sub(2)], row[x.saturating_sub(1)]];
            let [right, far_right] = [row[(x + 1).min(w - 1)], row[(x + 2).min(w - 1)]];
            0.75 * row[x] + 0.25 * (left + right) - 0.125 * (far_left + far_right)
        }));
    }
    out
}

#[cfg(test)]
mod tests;
