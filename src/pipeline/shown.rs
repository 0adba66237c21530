//! Pictures as they are shown: in RGB, mirrored and turned as their container says.

use image::{DynamicImage, ImageBuffer, RgbImage};

use crate::frame::{Depth, Picture};
use crate::media::clip::VideoInfo;
use crate::ops::color;

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

/// A stored picture as a player shows it.
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
