//! A short clip that shows original and result beside each other, round the strongest motion, small enough to mail.
//!
//! Both sides show the same instants. The original has a frame only now and then: between two of them it shows the earlier,
//! as a player would that slowed it down.

use std::path::Path;

use image::imageops::{self, FilterType};
use image::{DynamicImage, Rgb, RgbImage};
use num_rational::Ratio;

use crate::config::beside::Comparison;
use crate::frame::{Chroma, Depth, Frame, Matrix, Picture, PictureFormat, Range, Rate, Seconds};
use crate::media::decode::Decoder;
use crate::media::synth;
use crate::media::{MediaError, clip::VideoInfo};
use crate::ops::color;
use crate::pipeline::ConvertError;
use crate::pipeline::font;
use crate::pipeline::pace::Beat;
use crate::pipeline::plan::Plan;
use crate::pipeline::shown;

/// Length, in seconds.
const LENGTH_S: i128 = 5;
/// Frames a second at the most; of faster outputs every second, third, … frame is shown.
const FASTEST: i128 = 60;
/// Longest side of a picture: of one half, or of the divided picture.
const HALF_PX: u32 = 640;
const SPLIT_PX: u32 = 960;
/// Largest file.
pub const LARGEST_BYTES: u64 = 8 << 20;
/// Qualities, each with the part of the longest side, that are tried until one fits.
const TRIES: [(u8, u32); 5] = [(20, 1), (28, 1), (36, 1), (36, 2), (42, 2)];
/// Bytes of a pixel at the most: noise takes 0.73 at the first of them.
const PIXEL_BYTES: f64 = 0.75;
/// Height of the line with the labels, and side of a dot of them.
const LABEL_PX: u32 = 28;
const DOT_PX: u32 = 2;
/// Between the two, in pixels.
const SPACE_PX: u32 = 4;

const BACKGROUND: Rgb<u8> = Rgb([24, 26, 30]);
const ORIGINAL: Rgb<u8> = Rgb([200, 204, 210]);
const RESULT: Rgb<u8> = Rgb([240, 170, 70]);
const DIVIDER: Rgb<u8> = Rgb([255, 255, 255]);

/// What is compared.
pub struct Compared<'a> {
    /// The source.
    pub source: &'a Path,
    /// The finished output.
    pub output: &'a Path,
    /// The source's video.
    pub video: &'a VideoInfo,
    /// What was done to time.
    pub plan: Plan,
    /// Source time that is in the middle, from the first frame.
    pub middle: Seconds,
    /// Length of the source, from its first frame.
    pub length: Seconds,
    /// How it is laid out.
    pub layout: Comparison,
}

/// Writes the clip as MP4 (H.264), if it can be of `largest` bytes at the most; how many it has.
///
/// # Errors
/// Those of reading and writing; [`ConvertError::Interrupted`].
pub fn write(
    path: &Path,
    compared: &Compared<'_>,
    largest: u64,
    beat: &mut Beat<'_>,
) -> Result<u64, ConvertError> {
    let mut size = 0;
    for (crf, part) in TRIES {
        let mut frames = Frames::open(compared, longest(compared.layout) / part)?;
        let mut fault = None;
        let pictures = std::iter::from_fn(|| match frames.next(beat) {
            Ok(picture) => picture,
            Err(error) => {
                fault = Some(error);
                None
            }
        });
        let written = synth::write_silent(path, pictures, frames_rate(compared.plan).0, crf);
        if let Some(error) = fault {
            return Err(error);
        }
        written?;
        size = std::fs::metadata(path).map_or(0, |it| it.len());
        if size <= largest {
            break;
        }
    }
    Ok(size)
}

/// Longest side of a picture as it is drawn.
fn longest(layout: Comparison) -> u32 {
    if layout == Comparison::Split { SPLIT_PX } else { HALF_PX }
}

/// Bytes that the clip takes at the most, of an output of `frames` frames.
#[must_use]
pub fn most_bytes(video: &VideoInfo, plan: Plan, layout: Comparison, frames: f64) -> u64 {
    let format = video.picture;
    let (width, height) =
        small(video, format.width_px as f64, format.height_px as f64, longest(layout));
    let (width, height) = match video.rotation_degrees.rem_euclid(180) {
        0 => (width, height),
        _ => (height, width),
    };
    let width = match layout {
        Comparison::Off => return 0,
        Comparison::Split => width,
        Comparison::Side => 2 * width + SPACE_PX,
    };
    let shown = frames.min(number(frames_rate(plan).0 * LENGTH_S)).max(1.0);
    (shown * f64::from(width) * f64::from(height + LABEL_PX) * PIXEL_BYTES) as u64
}

/// Frames a second that are shown, and which part of the output's frames that is: every n-th.
fn frames_rate(plan: Plan) -> (Rate, u64) {
    let every = (plan.rate / Ratio::from_integer(FASTEST)).ceil().to_integer().max(1);
    (plan.rate / every, u64::try_from(every).unwrap_or(1))
}

/// Frames of one of the two, and the newest that was reached.
struct Side {
    decoder: Decoder,
    origin: Option<Seconds>,
    shown: Option<Frame>,
    next: Option<Frame>,
}

impl Side {
    fn open(path: &Path) -> Result<Self, MediaError> {
        Ok(Self { decoder: Decoder::open(path)?, origin: None, shown: None, next: None })
    }

    /// The last frame that begins at `time` or before, in seconds from the first.
    fn at(&mut self, time: Seconds, beat: &mut Beat<'_>) -> Result<Option<&Frame>, ConvertError> {
        loop {
            beat.step()?;
            if self.next.is_none() {
                self.next = self.decoder.next_frame()?;
            }
            let Some(next) = self.next.take() else { break };
            let origin = *self.origin.get_or_insert(next.pts);
            // Containers round to a millisecond.
            if next.pts - origin > time + Ratio::new(1, 500) && self.shown.is_some() {
                self.next = Some(next);
                break;
            }
            self.shown = Some(next);
        }
        Ok(self.shown.as_ref())
    }
}

/// The pictures of the comparison, in order.
struct Frames<'a> {
    compared: &'a Compared<'a>,
    /// Longest side of what is drawn.
    longest_px: u32,
    source: Side,
    output: Side,
    /// In output time from its first frame.
    start: Seconds,
    number: i128,
    count: i128,
    rate: Rate,
    labels: [String; 2],
    /// The original's picture as it is drawn, by frame number: it is shown many times.
    drawn: Option<(u64, RgbImage)>,
}

impl<'a> Frames<'a> {
    fn open(compared: &'a Compared<'a>, longest_px: u32) -> Result<Self, ConvertError> {
        let Plan { stretch, .. } = compared.plan;
        let (rate, _) = frames_rate(compared.plan);
        let whole = compared.length * stretch;
        let length = whole.min(Ratio::from_integer(LENGTH_S));
        let middle = compared.middle * stretch;
        let start = (middle - length / 2).min(whole - length).max(Ratio::from_integer(0));
        let what = match stretch.is_integer() && stretch > Ratio::from_integer(1) {
            true => format!("slomod {stretch}x slower"),
            false => format!("slomod {:.4} fps", number(compared.plan.rate)).replace(".0000", ""),
        };
        Ok(Self {
            compared,
            longest_px,
            source: Side::open(compared.source)?,
            output: Side::open(compared.output)?,
            start,
            number: 0,
            count: (length * rate).floor().to_integer().max(1),
            rate,
            labels: ["original".to_owned(), what],
            drawn: None,
        })
    }

    fn next(&mut self, beat: &mut Beat<'_>) -> Result<Option<Picture>, ConvertError> {
        if self.number >= self.count {
            return Ok(None);
        }
        let time = self.start + Ratio::from_integer(self.number) / self.rate;
        self.number += 1;
        let Some(right) = self.output.at(time, beat)? else { return Ok(None) };
        let (layout, video) = (self.compared.layout, self.compared.video);
        let right = draw(&right.picture, video, self.longest_px);
        let Some(left) = self.source.at(time / self.compared.plan.stretch, beat)? else {
            return Ok(None);
        };
        if self.drawn.as_ref().is_none_or(|it| it.0 != left.index) {
            self.drawn = Some((left.index, draw(&left.picture, video, self.longest_px)));
        }
        let Some((_, left)) = &self.drawn else { return Ok(None) };
        Ok(Some(in_yuv(&together(left, &right, &self.labels, layout))))
    }
}

/// A picture as it is shown: turned, with square pixels, and small.
fn draw(picture: &Picture, video: &VideoInfo, longest_px: u32) -> RgbImage {
    let format = picture.format;
    let rgb = color::rgb8(&color::picture_to_rgb(picture));
    let side = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (width, height) = (side(format.width_px), side(format.height_px));
    let image = RgbImage::from_raw(width, height, rgb).unwrap_or_else(|| RgbImage::new(1, 1));
    let (wide, high) = small(video, f64::from(width), f64::from(height), longest_px);
    let small = imageops::resize(&image, wide, high, FilterType::Triangle);
    shown::turned(DynamicImage::ImageRgb8(small), video).into_rgb8()
}

/// Width and height of a stored picture as it is drawn, before it is turned: with square pixels, and small.
fn small(video: &VideoInfo, width: f64, height: f64, longest_px: u32) -> (u32, u32) {
    let (num, den) = video.sample_aspect_ratio;
    let shape = if num > 0 && den > 0 { f64::from(num) / f64::from(den) } else { 1.0 };
    let wide = width * shape;
    let scale = (f64::from(longest_px) / wide.max(height)).min(1.0);
    let even = |length: f64| ((length * scale / 2.0).round() as u32 * 2).max(2);
    (even(wide), even(height))
}

fn together(
    left: &RgbImage,
    right: &RgbImage,
    labels: &[String; 2],
    layout: Comparison,
) -> RgbImage {
    let (width, height) = left.dimensions();
    let right = match right.dimensions() == left.dimensions() {
        true => right.clone(),
        // An encoder may have padded it.
        false => imageops::resize(right, width, height, FilterType::Triangle),
    };
    let (whole, second) = match layout {
        Comparison::Split => (width, width / 2),
        Comparison::Side | Comparison::Off => (2 * width + SPACE_PX, width + SPACE_PX),
    };
    let mut out = RgbImage::from_pixel(whole, height + LABEL_PX, BACKGROUND);
    imageops::replace(&mut out, left, 0, i64::from(LABEL_PX));
    match layout {
        Comparison::Split => {
            let half = imageops::crop_imm(&right, second, 0, width - second, height).to_image();
            imageops::replace(&mut out, &half, i64::from(second), i64::from(LABEL_PX));
            for y in LABEL_PX..height + LABEL_PX {
                out.put_pixel(second, y, DIVIDER);
            }
        }
        Comparison::Side | Comparison::Off => {
            imageops::replace(&mut out, &right, i64::from(second), i64::from(LABEL_PX));
        }
    }
    label(&mut out, &labels[0], 6, second, ORIGINAL);
    label(&mut out, &labels[1], second + 6, whole, RESULT);
    out
}

/// Writes a label from `left`, up to `right`.
fn label(out: &mut RgbImage, text: &str, left: u32, right: u32, color: Rgb<u8>) {
    let top = (LABEL_PX - DOT_PX * font::GLYPH_HEIGHT as u32) / 2;
    for y in 0..font::GLYPH_HEIGHT as u32 * DOT_PX {
        for x in left..right.min(out.width()) {
            let (column, row) = ((x - left) / DOT_PX, y / DOT_PX);
            if font::dot(text, column as usize, row as usize) {
                out.put_pixel(x, top + y, color);
            }
        }
    }
}

fn in_yuv(image: &RgbImage) -> Picture {
    let format = PictureFormat {
        width_px: image.width() as usize,
        height_px: image.height() as usize,
        chroma: Chroma::C420,
        matrix: Matrix::Bt709,
        range: Range::Limited,
        depth: Depth::Eight,
    };
    let rgb: Vec<f32> = image.as_raw().iter().map(|it| f32::from(*it) / 255.0).collect();
    color::rgb_to_picture(&rgb, format)
}

fn number(value: Rate) -> f64 {
    *value.numer() as f64 / *value.denom() as f64
}
