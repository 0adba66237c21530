//! Whether a folder has room for an output before it is begun: what the output will take, its segments, which are kept
//! until it is published, and what is made beside it (`pipeline/beside`), which counts with what it can be at the most.
//!
//! A lossy output is as large as its source for each frame. How large a lossless one is, its pictures tell, and they are
//! asked: what a lossless codec has left to write of a picture is what neighboring samples do not tell of each other (the
//! median predictor of LOCO-I, which FFV1 has as well; M. Weinberger, G. Seroussi, G. Sapiro, IEEE Trans. Image Processing
//! 9, 2000).

use std::path::Path;

use crate::config::settings::{Codec, Encoding};
use crate::frame::{Depth, Frame, Picture, Rate, Sample};
use crate::media;
use crate::media::clip::VideoInfo;
use crate::media::decode::Decoder;
use crate::pipeline::plan::{self, Plan, Sampling};
use crate::pipeline::{ConvertError, Task, beside, parts, stills};

/// A lossy output is expected to be at the most this many times the size of its source for each frame of that.
const GROWTH: f64 = 1.3;
/// The same of a lossless one and what its first pictures say: those that come may be busier.
const LOSSLESS_GROWTH: f64 = 1.2;
/// Pictures at the start that are looked at,
const PICTURES: usize = 5;
/// and how many lie between them: a clip may begin with a black one.
const STRIDE: usize = 5;

/// Pictures that are written for a lossless output are expected to be at the most this many times as large as it: they are
/// in RGB, of twice the samples, and PNG knows neighbors less well.
const PNG_GROWTH: u64 = 3;
/// A frame is taken to have so many bytes where a container tells neither their number nor its length: few have less.
const LEAST_FRAME_BYTES: f64 = 1000.0;

/// What an output is expected to be.
#[derive(Debug)]
pub struct Expected {
    /// The source's video.
    pub video: VideoInfo,
    /// What happens to time.
    pub plan: Plan,
    /// Frames of the output.
    pub frames: f64,
    /// Its size at the most. With the source's sound, subtitles and telemetry in it for each frame, it is also enough for
    /// those of these that are written beside the output.
    pub output_bytes: u64,
    /// Of all that is made beside it.
    pub beside_bytes: u64,
}

/// Sees whether there is room in `folder` for the output of `task`, its segments, what lies beside it, and
/// `reserve_bytes` besides.
///
/// # Errors
/// [`ConvertError::NoSpace`] where there is none, and what is wrong with the clip where it cannot be read.
pub fn check(task: &Task, folder: &Path, reserve_bytes: u64) -> Result<(), ConvertError> {
    let expected = expected(task)?;
    let kept = task.parts.as_deref().map(parts::size_bytes);
    let with_reserve = reserve_bytes.saturating_add(expected.beside_bytes);
    let needed_bytes = needed(expected.output_bytes, kept, with_reserve);
    trouble(folder, needed_bytes, reserve_bytes)
        .map_or(Ok(()), |why| Err(ConvertError::NoSpace(why)))
}

/// As [`check`], for an output that becomes numbered pictures.
///
/// # Errors
/// As of [`check`].
pub fn check_pictures(task: &Task, folder: &Path) -> Result<(), ConvertError> {
    let expected = expected(task)?;
    let stored = stills::picture_bytes(&expected.video) as f64 * expected.frames;
    let pictures = expected.output_bytes.saturating_mul(PNG_GROWTH).min(stored as u64);
    let needed_bytes = expected.output_bytes.saturating_add(pictures);
    trouble(folder, needed_bytes, 0).map_or(Ok(()), |why| Err(ConvertError::NoSpace(why)))
}

/// What is expected of the output of `task`.
///
/// # Errors
/// What is wrong with the clip.
pub fn expected(task: &Task) -> Result<Expected, ConvertError> {
    let source_bytes = std::fs::metadata(&task.source).map_or(0, |it| it.len());
    let mut decoder = Decoder::open_as(&task.source, task.settings.interlaced)?;
    let video = decoder.info().video.clone();
    let rate = video.rate.unwrap_or(plan::FALLBACK_RATE);
    let plan = plan::plan(&task.settings, rate).map_err(ConvertError::Settings)?;
    let number = |it: Rate| *it.numer() as f64 / *it.denom() as f64;
    let frames_of_each = match plan.sampling {
        Sampling::Steps(steps) => f64::from(steps),
        Sampling::Grid(grid) => number(plan.stretch) * number(grid) / number(rate),
    };
    let by_source = source_bytes as f64 * frames_of_each * GROWTH;
    let by_duration = || video.duration.map(|it| number(it) * number(rate));
    let frames = video.frames_promised.map(|it| it as f64).or_else(by_duration);
    let bytes = match frames.filter(|_| is_lossless(&task.settings.encoding)) {
        Some(frames) => {
            let picture = picture_bytes(&mut decoder)?;
            by_source.max(picture * frames * frames_of_each * LOSSLESS_GROWTH)
        }
        None => by_source,
    };
    let frames = frames.unwrap_or(source_bytes as f64 / LEAST_FRAME_BYTES) * frames_of_each;
    let beside_bytes = beside::most_bytes(&task.settings.beside, &video, plan, frames);
    Ok(Expected { video, plan, frames, output_bytes: bytes as u64, beside_bytes })
}

fn is_lossless(encoding: &Encoding) -> bool {
    encoding.codec == Codec::Ffv1 || encoding.crf == Some(0)
}

/// What the busiest of the first pictures takes without loss, bytes.
fn picture_bytes(decoder: &mut Decoder) -> Result<f64, ConvertError> {
    media::init();
    let mut most = 0.0_f64;
    for number in 0..PICTURES * STRIDE {
        let Some(frame) = decoder.next_frame()? else { break };
        if number % STRIDE == 0 {
            most = most.max(frame_bits(&frame) / 8.0);
        }
    }
    Ok(most)
}

fn frame_bits(frame: &Frame) -> f64 {
    let alpha = frame.alpha.as_ref().map_or(0.0, |it| picture_bits(it));
    picture_bits(&frame.picture) + alpha
}

fn picture_bits(picture: &Picture) -> f64 {
    let format = picture.format;
    let planes = picture.planes.iter().enumerate();
    let bits = planes.map(|(index, plane)| {
        let columns = format.plane_size(index).0;
        match format.depth {
            Depth::Eight => plane_bits::<u8>(plane, columns, format.depth),
            Depth::Ten | Depth::Twelve => plane_bits::<[u8; 2]>(plane, columns, format.depth),
        }
    });
    bits.sum()
}

/// Bits of a plane, by how often each difference to the prediction is met.
fn plane_bits<S: Sample>(plane: &[u8], columns: usize, depth: Depth) -> f64 {
    let codes = usize::from(depth.peak()) + 1;
    let mut counts = vec![0_u32; codes];
    let mut above: Option<&[S]> = None;
    for row in S::of(plane).chunks_exact(columns) {
        let (mut left, mut corner) = (0, 0);
        for (column, sample) in row.iter().enumerate() {
            let top = above.map_or(left, |it| i32::from(it[column].code()));
            if column == 0 {
                (left, corner) = (top, top);
            }
            let median = (left + top - corner).clamp(left.min(top), left.max(top));
            let code = i32::from(sample.code());
            counts[(code - median).rem_euclid(codes as i32) as usize] += 1;
            (left, corner) = (code, top);
        }
        above = Some(row);
    }
    let all = f64::from(counts.iter().sum::<u32>());
    let met = counts.into_iter().filter(|it| *it > 0).map(f64::from);
    met.map(|count| count * (all / count).log2()).sum()
}

/// Bytes that must be free: the output, its segments where they are kept (of which `kept_bytes` are there already), and
/// `reserve_bytes`.
#[must_use]
pub fn needed(output_bytes: u64, kept_bytes: Option<u64>, reserve_bytes: u64) -> u64 {
    let segments = kept_bytes.map_or(0, |kept| output_bytes.saturating_sub(kept));
    output_bytes.saturating_add(segments).saturating_add(reserve_bytes)
}

/// What to say where fewer than `needed_bytes` are free in `folder`, of which `reserve_bytes` are to stay so; a folder that
/// does not say has room.
#[must_use]
pub fn trouble(folder: &Path, needed_bytes: u64, reserve_bytes: u64) -> Option<String> {
    let space = rustix::fs::statvfs(folder).ok()?;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    (free_bytes < needed_bytes).then(|| {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let (free, needed) = (free_bytes >> 20, mib(needed_bytes));
        let with = if reserve_bytes > 0 { " with the reserve" } else { "" };
        format!("{}: {free} MiB free, {needed} MiB needed{with}", folder.display())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_needed_for_the_output_and_for_segments_that_are_not_there_yet() {
        assert_eq!(needed(5200, Some(0), 100), 10_500);
        assert_eq!(needed(5200, Some(5000), 100), 5500);
        assert_eq!(needed(5200, None, 100), 5300, "no segments are kept");
        assert_eq!(
            needed(5200, Some(6000), 0),
            5200,
            "segments that turned out larger count for nothing"
        );
        assert_eq!(needed(5200, Some(0), u64::MAX), u64::MAX);
    }

    #[test]
    fn a_folder_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(trouble(folder.path(), 0, 0), None);
        let all = trouble(folder.path(), u64::MAX, 0).unwrap();
        assert!(all.ends_with(" MiB needed"), "{all}");
        let all = trouble(folder.path(), u64::MAX, 1).unwrap();
        assert!(all.ends_with(" MiB needed with the reserve"), "{all}");
    }

    #[test]
    fn what_neighbors_tell_takes_no_bits_and_what_they_do_not_takes_all() {
        let plane = |code: fn(usize, usize) -> u16| -> Vec<u8> {
            (0..64 * 64).map(|at| code(at % 64, at / 64) as u8).collect()
        };
        let flat = plane(|_, _| 7);
        // But for the first sample.
        assert!(plane_bits::<u8>(&flat, 64, Depth::Eight) < 16.0);
        let slope = plane(|x, y| (x + y) as u16);
        assert!(plane_bits::<u8>(&slope, 64, Depth::Eight) < 64.0 * 64.0 / 4.0);
        // A generator by Lehmer, modulus 2^31 - 1.
        let mut state = 1_u64;
        let mut chance = || {
            state = state * 48_271 % 0x7fff_ffff;
            (state >> 8) as u16
        };
        let noise: Vec<u8> = (0..64 * 64).map(|_| chance() as u8).collect();
        let bits = plane_bits::<u8>(&noise, 64, Depth::Eight) / (64.0 * 64.0);
        assert!((7.8..=8.0).contains(&bits), "{bits}");
        let deep: Vec<u8> = (0..64 * 64).flat_map(|_| (chance() & 1023).to_le_bytes()).collect();
        let bits = plane_bits::<[u8; 2]>(&deep, 64, Depth::Ten) / (64.0 * 64.0);
        assert!((9.4..=10.0).contains(&bits), "{bits}");
    }
}
