//! Pictures in the layouts that encoders want: fewer bits, repeated chroma, packed, padded.

use crate::frame::{Chroma, Depth, Picture, PictureFormat, Range, Sample};

/// The picture in fewer bits, rounded to the nearest code.
pub(super) fn to_depth(picture: &Picture, depth: Depth) -> Picture {
    let from = picture.format;
    let mut out = Picture::zeroed(PictureFormat { depth, ..from });
    // Limited range ends at a multiple of its end at 8 bits, full range at the largest code.
    let (to, of) = match from.range {
        Range::Limited => (u32::from(depth.steps()), u32::from(from.depth.steps())),
        Range::Full => (u32::from(depth.peak()), u32::from(from.depth.peak())),
    };
    let code =
        |code: u16| ((u32::from(code) * to + of / 2) / of).min(u32::from(depth.peak())) as u16;
    for (out, plane) in out.planes.iter_mut().zip(&picture.planes) {
        match (from.depth, depth) {
            (Depth::Eight, _) => map::<u8, [u8; 2]>(plane, out, code),
            (_, Depth::Eight) => map::<[u8; 2], u8>(plane, out, code),
            _ => map::<[u8; 2], [u8; 2]>(plane, out, code),
        }
    }
    out
}

fn map<A: Sample, B: Sample>(from: &[u8], to: &mut [u8], code: impl Fn(u16) -> u16) {
    for (to, from) in B::of_mut(to).iter_mut().zip(A::of(from)) {
        *to = B::from_code(code(from.code()));
    }
}

/// The same samples in 4:4:4, each chroma sample repeated over the pixels it stands for; gray gets neutral chroma.
pub(super) fn in_444(picture: &Picture) -> Picture {
    let from = picture.format;
    if from.chroma == Chroma::Gray {
        let mut out = Picture::zeroed(PictureFormat { chroma: Chroma::C444, ..from });
        let neutral = (128 * from.depth.steps()).to_le_bytes();
        for plane in &mut out.planes[1..] {
            plane
                .chunks_mut(from.depth.bytes())
                .for_each(|it| it.copy_from_slice(&neutral[..it.len()]));
        }
        out.planes[0].copy_from_slice(&picture.planes[0]);
        return out;
    }
    let out = Picture::zeroed(PictureFormat { chroma: Chroma::C444, ..from });
    let step = |index: usize| {
        let (width, height) = from.plane_size(index);
        (from.width_px.div_ceil(width), from.height_px.div_ceil(height))
    };
    gather(picture, out, |index, x, y| (x / step(index).0, y / step(index).1))
}

/// A picture of 12 bits with codes of 16: black stays black and white white. Its format still says 12.
pub(super) fn widened(picture: &Picture) -> Picture {
    let full = |code: u16| code << 4 | code >> 8;
    codes_of(picture, full, |code| code << 4)
}

/// A picture whose format says 12 bits and whose codes are of 16 with the nearest of 12; undoes [`widened`].
pub(super) fn narrowed(picture: &Picture) -> Picture {
    let full = |code: u16| ((u32::from(code) * 4095 + 32_767) / 65_535) as u16;
    codes_of(picture, full, |code| (code.saturating_add(8) >> 4).min(4095))
}

/// Other codes: by `full` of what has full range, except chroma, whose middle stays there as in limited range.
fn codes_of(picture: &Picture, full: impl Fn(u16) -> u16, limited: impl Fn(u16) -> u16) -> Picture {
    let mut out = Picture::zeroed(picture.format);
    for (index, (to, from)) in out.planes.iter_mut().zip(&picture.planes).enumerate() {
        match picture.format.range {
            Range::Full if index == 0 => map::<[u8; 2], [u8; 2]>(from, to, &full),
            _ => map::<[u8; 2], [u8; 2]>(from, to, &limited),
        }
    }
    out
}

/// The picture at a larger size, its last columns and rows repeated.
pub(super) fn pad(picture: &Picture, width_px: usize, height_px: usize) -> Picture {
    let from = picture.format;
    let out = Picture::zeroed(PictureFormat { width_px, height_px, ..from });
    gather(picture, out, |index, x, y| {
        let (width, height) = from.plane_size(index);
        (x.min(width - 1), y.min(height - 1))
    })
}

/// Fills `out`: `place` says which sample of the same plane of `picture` stands at column `x` of row `y`.
fn gather(
    picture: &Picture,
    mut out: Picture,
    place: impl Fn(usize, usize, usize) -> (usize, usize),
) -> Picture {
    let bytes = picture.format.depth.bytes();
    let format = out.format;
    for (index, plane) in out.planes.iter_mut().enumerate() {
        let (from_row, _) = picture.format.plane_bytes(index);
        let (row_bytes, _) = format.plane_bytes(index);
        for (y, row) in plane.chunks_exact_mut(row_bytes).enumerate() {
            for (x, sample) in row.chunks_exact_mut(bytes).enumerate() {
                let (column, line) = place(index, x, y);
                let at = line * from_row + column * bytes;
                sample.copy_from_slice(&picture.planes[index][at..at + bytes]);
            }
        }
    }
    out
}

/// Planes G, B, R of 8 bits as bytes B, G, R and transparency, or 0 where there is none.
pub(super) fn pack(picture: &Picture, alpha: Option<&Picture>) -> Vec<u8> {
    let [green, blue, red] = [0, 1, 2].map(|index| &picture.planes[index]);
    let pixels = green.iter().zip(blue).zip(red).zip(codes(alpha));
    pixels.flat_map(|(((green, blue), red), alpha)| [*blue, *green, *red, alpha]).collect()
}

/// Luma of 8 bits as bytes Y and transparency.
pub(super) fn pack_gray(picture: &Picture, alpha: Option<&Picture>) -> Vec<u8> {
    picture.planes[0].iter().zip(codes(alpha)).flat_map(|(luma, alpha)| [*luma, alpha]).collect()
}

/// The bytes of a transparency of 8 bits, zeros without one.
fn codes(alpha: Option<&Picture>) -> impl Iterator<Item = u8> {
    let plane = alpha.map_or(&[][..], |it| &it.planes[0]);
    plane.iter().copied().chain(std::iter::repeat(0))
}

/// A picture with every sample at its largest code.
pub(super) fn full(format: PictureFormat) -> Picture {
    let mut out = Picture::zeroed(format);
    let peak = format.depth.peak().to_le_bytes();
    for plane in &mut out.planes {
        plane.chunks_mut(format.depth.bytes()).for_each(|it| it.copy_from_slice(&peak[..it.len()]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Matrix;

    fn gray(depth: Depth, range: Range, codes: &[u16]) -> Picture {
        let format = PictureFormat {
            width_px: codes.len(),
            height_px: 1,
            chroma: Chroma::Gray,
            matrix: Matrix::Bt709,
            range,
            depth,
        };
        let plane = match depth {
            Depth::Eight => codes.iter().map(|code| *code as u8).collect(),
            _ => codes.iter().flat_map(|code| code.to_le_bytes()).collect(),
        };
        Picture { format, planes: vec![plane] }
    }

    #[test]
    fn fewer_bits_are_the_nearest_and_keep_black_and_white() {
        let limited = gray(Depth::Ten, Range::Limited, &[64, 65, 66, 940, 1023]);
        let expected = gray(Depth::Eight, Range::Limited, &[16, 16, 17, 235, 255]);
        assert_eq!(to_depth(&limited, Depth::Eight), expected);
        let full = gray(Depth::Twelve, Range::Full, &[0, 2047, 4095]);
        assert_eq!(to_depth(&full, Depth::Ten), gray(Depth::Ten, Range::Full, &[0, 511, 1023]));
        assert_eq!(to_depth(&full, Depth::Eight), gray(Depth::Eight, Range::Full, &[0, 127, 255]));
    }

    /// V17.
    #[test]
    fn every_code_of_twelve_bits_comes_back_from_sixteen() {
        let codes: Vec<u16> = (0..4096).collect();
        for (range, white, wide) in [(Range::Full, 4095, 65_535), (Range::Limited, 3760, 60_160)] {
            let picture = gray(Depth::Twelve, range, &codes);
            let widened = widened(&picture);
            assert_eq!(<[u8; 2]>::of(&widened.planes[0])[white].code(), wide);
            assert_eq!(narrowed(&widened), picture, "{range:?}");
        }
    }

    #[test]
    fn wide_samples_are_moved_whole() {
        let (width_px, height_px, depth) = (3, 3, Depth::Ten);
        let (matrix, range) = (Matrix::Bt709, Range::Limited);
        let format =
            PictureFormat { width_px, height_px, chroma: Chroma::C420, matrix, range, depth };
        let mut picture = Picture::zeroed(format);
        for (plane, bytes) in picture.planes.iter_mut().enumerate() {
            for (at, sample) in bytes.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                *sample = (300 * plane as u16 + at as u16).to_le_bytes();
            }
        }
        let codes = |picture: &Picture, plane: usize| -> Vec<u16> {
            <[u8; 2]>::of(&picture.planes[plane]).iter().map(|it| it.code()).collect()
        };
        let repeated = in_444(&picture);
        assert_eq!(codes(&repeated, 0), codes(&picture, 0));
        assert_eq!(codes(&repeated, 1), [300, 300, 301, 300, 300, 301, 302, 302, 303]);
        let padded = pad(&picture, 4, 4);
        assert_eq!(codes(&padded, 0)[..8], [0, 1, 2, 2, 3, 4, 5, 5]);
        assert_eq!(codes(&padded, 0)[12..], [6, 7, 8, 8]);
        assert_eq!(codes(&padded, 2), [600, 601, 602, 603]);
    }
}
