//! Real frames round an instant, as PNG: of 8 bits where the source has 8, else of 16.

use std::path::Path;

use image::ImageFormat;

use crate::frame::{Depth, Frame, Seconds};
use crate::media::clip::VideoInfo;
use crate::media::decode::Decoder;
use crate::pipeline::pace::Beat;
use crate::pipeline::shown;
use crate::pipeline::{ConvertError, Task, beside};

/// Frames before an instant, and behind it.
const EACH_SIDE: usize = 3;

/// Of a picture, where nothing in it can be pressed, and of a file whatever it holds.
const PNG_GROWTH: f64 = 1.02;
const PNG_BYTES: f64 = 4096.0;

/// Bytes that the frames round `instants` instants take at the most.
#[must_use]
pub fn most_bytes(video: &VideoInfo, instants: usize) -> u64 {
    (2 * EACH_SIDE * instants) as u64
        * png_bytes(video, shown::square_size(stored(video), video.sample_aspect_ratio))
}

/// Bytes of a PNG picture of the video at the most, its samples as they are.
#[must_use]
pub fn picture_bytes(video: &VideoInfo) -> u64 {
    png_bytes(video, stored(video))
}

fn stored(video: &VideoInfo) -> (u32, u32) {
    let side = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    (side(video.picture.width_px), side(video.picture.height_px))
}

fn png_bytes(video: &VideoInfo, (width_px, height_px): (u32, u32)) -> u64 {
    let sample_bytes = if video.picture.depth == Depth::Eight { 1 } else { 2 };
    let channels = if video.alpha { 4 } else { 3 };
    let pixels = f64::from(width_px) * f64::from(height_px);
    (pixels * f64::from(sample_bytes * channels) * PNG_GROWTH + PNG_BYTES) as u64
}

/// Writes the frames round each of `instants` (in seconds from the first frame) as `frame-NNNNNN.png` beside the temporary output,
/// turned and with square pixels, as they are shown.
///
/// # Errors
/// Those of reading and writing; [`ConvertError::Interrupted`].
pub fn write(
    task: &Task,
    video: &VideoInfo,
    mut instants: Vec<Seconds>,
    beat: &mut Beat<'_>,
) -> Result<(), ConvertError> {
    instants.sort_unstable();
    let mut decoder = Decoder::open_as(&task.source, task.settings.interlaced)?;
    let temporary = &task.temporary;
    let mut before: Vec<Frame> = Vec::new();
    let mut origin = None;
    let mut behind = 0;
    let mut left = instants.into_iter().peekable();
    while left.peek().is_some() || behind > 0 {
        beat.step()?;
        let Some(frame) = decoder.next_frame()? else { break };
        let time = frame.pts - *origin.get_or_insert(frame.pts);
        while left.next_if(|it| *it <= time).is_some() {
            for frame in before.drain(..) {
                save(&frame, temporary, video)?;
            }
            behind = EACH_SIDE;
        }
        if behind > 0 {
            save(&frame, temporary, video)?;
            behind -= 1;
        } else {
            before.push(frame);
            if before.len() > EACH_SIDE {
                before.remove(0);
            }
        }
    }
    // An instant behind the end means the last frames.
    if left.peek().is_some() {
        for frame in before {
            save(&frame, temporary, video)?;
        }
    }
    Ok(())
}

/// Whether it is the end of the name of such a file.
pub fn is_name(end: &str) -> bool {
    let number = end.strip_prefix("frame-").and_then(|it| it.strip_suffix(".png"));
    number.is_some_and(|it| it.len() >= 6 && it.bytes().all(|byte| byte.is_ascii_digit()))
}

fn save(frame: &Frame, temporary: &Path, video: &VideoInfo) -> Result<(), ConvertError> {
    let path = beside::prepare(temporary, &format!("frame-{:06}.png", frame.index))?;
    let image = shown::turned(shown::square(shown::frame(frame), video), video);
    let saved = image.save_with_format(&path, ImageFormat::Png);
    saved.map_err(|error| beside::write_error(&path, std::io::Error::other(error)))?;
    Ok(())
}
