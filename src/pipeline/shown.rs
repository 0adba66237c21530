//! Pictures as they are shown: in RGB, with square pixels, mirrored and turned as their container says.

use image::imageops::FilterType;
use image::{DynamicImage, ImageBuffer, RgbImage};

use crate::frame::{Depth, Frame, Picture, Sample};
use crate::media::clip::VideoInfo;
use crate::ops::color;

/// Most samples of a plane of a picture that is stretched, which is as many as one that is read may have.
const MOST_PIXELS: u64 = 1 << 27;

/// The stored picture in RGB, of 8 bits where it has 8, else of 16.
#[must_use]
pub fn rgb(picture: &Picture) -> DynamicImage {
    let format = picture.format;
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (width, height) = (side(format.width_px), side(format.height_px));
    let rgb = color::picture_to_rgb(picture);
    let image = match format.depth {
        Depth::Eight => {
            RgbImage::from_raw(width, height, color::rgb8(&rgb)).map(DynamicImage::ImageRgb8)
        }
        Depth::Ten | Depth::Twelve => {
            ImageBuffer::from_raw(width, height, color::rgb16(&rgb)).map(DynamicImage::ImageRgb16)
        }
    };
    image.unwrap_or_else(|| DynamicImage::new_rgb8(1, 1))
}

/// [`rgb`] of a frame, with its transparency where it has any.
#[must_use]
pub fn frame(frame: &Frame) -> DynamicImage {
    let image = rgb(&frame.picture);
    let Some(alpha) = &frame.alpha else { return image };
    let codes = &alpha.planes[0];
    match image {
        DynamicImage::ImageRgb8(_) => {
            let mut image = image.into_rgba8();
            for (pixel, alpha) in image.pixels_mut().zip(codes) {
                pixel.0[3] = *alpha;
            }
            DynamicImage::ImageRgba8(image)
        }
        _ => {
            let peak = u32::from(alpha.format.depth.peak());
            let mut image = image.into_rgba16();
            for (pixel, alpha) in image.pixels_mut().zip(<[u8; 2]>::of(codes)) {
                let code = (u32::from(alpha.code()) * u32::from(u16::MAX) + peak / 2) / peak;
                pixel.0[3] = code as u16;
            }
            DynamicImage::ImageRgba16(image)
        }
    }
}

/// The stored picture with square pixels: one side is stretched, none is made smaller.
#[must_use]
pub fn square(image: DynamicImage, video: &VideoInfo) -> DynamicImage {
    let size = (image.width(), image.height());
    match square_size(size, video.sample_aspect_ratio) {
        same if same == size => image,
        (width, height) => image.resize_exact(width, height, FilterType::Triangle),
    }
}

/// Size of a picture of that size and shape of pixels that is made [`square`]. One that would be larger than [`MOST_PIXELS`] stays as it is: a
/// header can claim pixels of any shape.
#[must_use]
pub fn square_size((width, height): (u32, u32), (num, den): (i32, i32)) -> (u32, u32) {
    if num <= 0 || den <= 0 || num == den {
        return (width, height);
    }
    let shape = f64::from(num) / f64::from(den);
    let stretched = |side: u32, by: f64| (f64::from(side) * by).round() as u32;
    let (wide, high) = match shape > 1.0 {
        true => (stretched(width, shape), height),
        false => (width, stretched(height, shape.recip())),
    };
    let is_sane = u64::from(wide) * u64::from(high) <= MOST_PIXELS;
    if is_sane { (wide, high) } else { (width, height) }
}

/// Width of a pixel to its height in a picture that is [`turned`].
#[must_use]
pub fn pixel_shape(video: &VideoInfo) -> (i32, i32) {
    let (num, den) = video.sample_aspect_ratio;
    if video.rotation_degrees.rem_euclid(180) == 90 { (den, num) } else { (num, den) }
}

/// A stored picture as a player shows it, but for the shape of its pixels ([`square`]).
#[must_use]
pub fn turned(image: DynamicImage, video: &VideoInfo) -> DynamicImage {
    let image = if video.mirrored { image.fliph() } else { image };
    match video.rotation_degrees.rem_euclid(360) {
        90 => image.rotate90(),
        180 => image.rotate180(),
        270 => image.rotate270(),
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers can claim pixels of any shape.
    #[test]
    fn pixels_of_no_screen_stretch_nothing() {
        for (shape, expected) in [
            ((4, 3), (80, 48)),
            ((3, 4), (60, 64)),
            ((1, 1), (60, 48)),
            ((0, 1), (60, 48)),
            ((i32::MAX, 1), (60, 48)),
            ((1, i32::MAX), (60, 48)),
        ] {
            assert_eq!(square_size((60, 48), shape), expected, "{shape:?}");
        }
    }
}
