//! Transparency of decoded frames: their last component, wherever its samples lie.

use ffmpeg_next as ffmpeg;

use ffmpeg::ffi;
use ffmpeg::frame::Video;

use super::raw;
use crate::frame::{Depth, Picture, PictureFormat, Sample};

/// Where a pixel format has its transparency.
#[derive(Clone, Copy)]
pub(super) struct AlphaPlace {
    plane: usize,
    /// Bytes from pixel to pixel, and from the beginning of the first.
    step: usize,
    offset: usize,
    /// The code's lowest bit, and how many there are.
    shift: u32,
    depth: u32,
    big_endian: bool,
    in_palette: bool,
}

impl AlphaPlace {
    /// Bytes that hold a code.
    fn bytes(self) -> usize {
        if self.depth + self.shift > 8 { 2 } else { 1 }
    }
}

/// The transparency of a frame whose pictures are handed out as `format`; `None` where it cannot be read.
pub(super) fn read(frame: &Video, format: PictureFormat) -> Option<Picture> {
    let place = raw::frame_format(frame).and_then(raw::pixel_facts)?.alpha?;
    let mut out = Picture::zeroed(format.alpha());
    let (columns, rows) = (format.width_px, format.height_px);
    let inside = frame.width() as usize >= columns && frame.height() as usize >= rows;
    let plane = out.planes.first_mut().filter(|_| inside)?;
    for y in 0..rows {
        let row = row(frame, place, y, columns)?;
        let codes = row.chunks(place.step).map(|pixel| code(frame, place, pixel, format.depth));
        match format.depth {
            Depth::Eight => put::<u8>(plane, y * columns, codes),
            Depth::Ten | Depth::Twelve => put::<[u8; 2]>(plane, y * columns, codes),
        }
    }
    Some(out)
}

/// Whether anything is seen through a picture of that transparency.
pub(super) fn is_seen_through(alpha: &Picture) -> bool {
    let (codes, peak) = (&alpha.planes[0], alpha.format.depth.peak());
    match alpha.format.depth {
        Depth::Eight => codes.iter().any(|it| it.code() < peak),
        Depth::Ten | Depth::Twelve => <[u8; 2]>::of(codes).iter().any(|it| it.code() < peak),
    }
}

fn put<S: Sample>(plane: &mut [u8], from: usize, codes: impl Iterator<Item = u16>) {
    for (sample, code) in S::of_mut(plane)[from..].iter_mut().zip(codes) {
        *sample = S::from_code(code);
    }
}

/// The bytes of a row, from the component in its first pixel to that in its last.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn row(frame: &Video, place: AlphaPlace, y: usize, columns: usize) -> Option<&[u8]> {
    let length = (columns - 1) * place.step + place.bytes();
    // SAFETY: the frame is alive.
    let raw = unsafe { &*frame.as_ptr() };
    let (data, stride) = (*raw.data.get(place.plane)?, *raw.linesize.get(place.plane)? as isize);
    let fits = stride.unsigned_abs() >= place.offset + length && !data.is_null();
    let at = isize::try_from(y).ok().filter(|_| fits)? * stride;
    // SAFETY: the plane has a row for each of the frame's, `stride` (which may be negative) apart, and a row its bytes.
    Some(unsafe { std::slice::from_raw_parts(data.offset(at).add(place.offset), length) })
}

/// The code of a pixel's transparency, in the bits of `depth`.
#[expect(unsafe_code, reason = "FFmpeg's C interface")]
fn code(frame: &Video, place: AlphaPlace, pixel: &[u8], depth: Depth) -> u16 {
    let stored = match pixel {
        [index, ..] if place.in_palette => {
            // SAFETY: the frame is alive, and one with a palette has its 256 colors of 4 bytes in the second plane.
            let color = unsafe {
                let raw = &*frame.as_ptr();
                raw.data[1].cast::<u32>().add(usize::from(*index)).read_unaligned()
            };
            color >> 24
        }
        [high, low, ..] if place.big_endian && place.bytes() > 1 => {
            u32::from(u16::from_be_bytes([*high, *low]))
        }
        [low, high, ..] if place.bytes() > 1 => u32::from(u16::from_le_bytes([*low, *high])),
        [byte, ..] => u32::from(*byte),
        [] => 0,
    };
    let (of, to) = ((1_u32 << place.depth) - 1, u32::from(depth.peak()));
    let stored = (stored >> place.shift) & of;
    ((stored * to + of / 2) / of) as u16
}

/// Where [`read`] finds transparency in frames of a format; `None` where it has none, or none that is read (floats).
pub(super) fn place(descriptor: &ffi::AVPixFmtDescriptor) -> Option<AlphaPlace> {
    const UNREAD: i32 =
        ffi::AV_PIX_FMT_FLAG_FLOAT | ffi::AV_PIX_FMT_FLAG_BITSTREAM | ffi::AV_PIX_FMT_FLAG_HWACCEL;
    let flags = i32::try_from(descriptor.flags).unwrap_or(i32::MAX);
    if flags & ffi::AV_PIX_FMT_FLAG_ALPHA == 0 || flags & UNREAD != 0 {
        return None;
    }
    let in_palette = flags & ffi::AV_PIX_FMT_FLAG_PAL != 0;
    let last = usize::from(descriptor.nb_components).checked_sub(1)?;
    let component = descriptor.comp.get(last)?;
    let size = |it: i32| usize::try_from(it).ok();
    let place = AlphaPlace {
        plane: size(component.plane)?,
        step: size(component.step)?.max(1),
        offset: size(component.offset)?,
        shift: if in_palette { 0 } else { u32::try_from(component.shift).ok()? },
        depth: if in_palette { 8 } else { u32::try_from(component.depth).ok()? },
        big_endian: flags & ffi::AV_PIX_FMT_FLAG_BE != 0,
        in_palette,
    };
    (place.depth + place.shift <= 16 && place.depth > 0).then_some(place)
}
