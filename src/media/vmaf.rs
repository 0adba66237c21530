//! VMAF by FFmpeg's filter `libvmaf`, where this FFmpeg has it: most distributions build it without.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsRawFd as _;

use ffmpeg_next as ffmpeg;

use ffmpeg::filter::Graph;
use ffmpeg::frame::Video;
use serde::Deserialize;

use super::picture::{copy_plane_in, side};

/// The model that the scores are of: the filter's own default, for pictures of about 1080 lines.
pub const MODEL: &str = "vmaf_v0.6.1";

/// Chroma that says nothing: the model looks at luma alone.
const NEUTRAL: u8 = 128;

/// Why there are no scores.
#[derive(Debug, thiserror::Error)]
pub enum VmafError {
    /// No filter of that name.
    #[error("this FFmpeg has no filter `libvmaf`")]
    Missing,
    /// The filter does not take the pictures, as very small ones.
    #[error("FFmpeg's filter `libvmaf`: {0}")]
    Filter(#[from] ffmpeg::Error),
    /// Its log cannot be kept or read.
    #[error("the log of FFmpeg's filter `libvmaf`: {0}")]
    Log(#[from] std::io::Error),
}

/// Whether this FFmpeg has the filter.
#[must_use]
pub fn is_there() -> bool {
    ffmpeg::filter::find("libvmaf").is_some()
}

/// Luma of a frame and of what is compared with it, `[h, w]`, 8 bits.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// What it should be.
    pub truth: &'a [u8],
    /// What it is.
    pub made: &'a [u8],
}

/// VMAF of each frame of a sequence, 0 to 100. A frame's score depends on the motion to its neighbors in `truth`.
///
/// # Errors
/// [`VmafError`]. Frames that do not hold `width_px * height_px` samples are an invalid argument.
pub fn scores(
    frames: &[Pair<'_>],
    width_px: usize,
    height_px: usize,
) -> Result<Vec<f64>, VmafError> {
    if !is_there() {
        return Err(VmafError::Missing);
    }
    let whole =
        |it: &Pair<'_>| [it.truth, it.made].iter().all(|it| it.len() == width_px * height_px);
    if !frames.iter().all(whole) {
        return Err(ffmpeg::Error::InvalidData.into());
    }
    let mut log = File::from(
        rustix::fs::memfd_create("vmaf", rustix::fs::MemfdFlags::CLOEXEC)
            .map_err(std::io::Error::from)?,
    );
    run(frames, (side(width_px)?, side(height_px)?), &log)?;
    log.rewind()?;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    let read: Log = serde_json::from_str(&text).map_err(std::io::Error::from)?;
    if read.frames.len() != frames.len() {
        return Err(ffmpeg::Error::InvalidData.into());
    }
    Ok(read.frames.into_iter().map(|it| it.metrics.vmaf).collect())
}

/// Shows the filter all frames; it writes its log when it ends.
fn run(frames: &[Pair<'_>], (width, height): (u32, u32), log: &File) -> Result<(), ffmpeg::Error> {
    let filter = |name| ffmpeg::filter::find(name).ok_or(ffmpeg::Error::FilterNotFound);
    let source =
        format!("video_size={width}x{height}:pix_fmt=yuv420p:time_base=1/1:pixel_aspect=1/1");
    let mut graph = Graph::new();
    graph.add(&filter("buffer")?, "made", &source)?;
    graph.add(&filter("buffer")?, "truth", &source)?;
    graph.add(&filter("buffersink")?, "out", "")?;
    // The first is what is judged.
    let chain = format!(
        "[made][truth]libvmaf=model=version={MODEL}:log_fmt=json:log_path=/proc/self/fd/{}[out]",
        log.as_raw_fd()
    );
    graph.output("made", 0)?.output("truth", 0)?.input("out", 0)?.parse(&chain)?;
    graph.validate()?;
    for (number, pair) in (0_i64..).zip(frames) {
        for (name, luma) in [("made", pair.made), ("truth", pair.truth)] {
            push(&mut graph, name, &frame(luma, (width, height), number))?;
        }
        drain(&mut graph)?;
    }
    for name in ["made", "truth"] {
        graph.get(name).ok_or(ffmpeg::Error::Bug)?.source().flush()?;
    }
    drain(&mut graph)
}

fn push(graph: &mut Graph, name: &str, frame: &Video) -> Result<(), ffmpeg::Error> {
    graph.get(name).ok_or(ffmpeg::Error::Bug)?.source().add(frame)
}

/// Takes what the filter passes on.
fn drain(graph: &mut Graph) -> Result<(), ffmpeg::Error> {
    let mut out = graph.get("out").ok_or(ffmpeg::Error::Bug)?;
    let mut frame = Video::empty();
    loop {
        match out.sink().frame(&mut frame) {
            Ok(()) => {}
            Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: ffmpeg::error::EAGAIN }) => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

fn frame(luma: &[u8], (width, height): (u32, u32), number: i64) -> Video {
    let mut frame = Video::new(ffmpeg::format::Pixel::YUV420P, width, height);
    copy_plane_in(&mut frame, 0, luma, (width as usize, height as usize));
    for plane in 1..frame.planes() {
        frame.data_mut(plane).fill(NEUTRAL);
    }
    frame.set_pts(Some(number));
    frame
}

/// What is read of the filter's log.
#[derive(Deserialize)]
struct Log {
    frames: Vec<LogFrame>,
}

#[derive(Deserialize)]
struct LogFrame {
    metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    vmaf: f64,
}
