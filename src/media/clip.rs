//! What a clip is: the values that probing, decoding and writing share.

use std::path::PathBuf;

use crate::config::settings::{Audio, Container, Encoding};
use crate::frame::{PictureFormat, Rate, Seconds};

/// A clip as probed. Counts and rates from headers are hints.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipInfo {
    /// The file.
    pub path: PathBuf,
    /// FFmpeg's name of the container format.
    pub format: String,
    /// The video stream that is worked.
    pub video: VideoInfo,
    /// Every stream, in order.
    pub streams: Vec<StreamInfo>,
    /// What the file says of its recording (name, value), by FFmpeg's names.
    pub tags: Vec<(String, String)>,
    /// What a reader of the report should know (code, sentence), such as `bit_depth_reduced`.
    pub warnings: Vec<(String, String)>,
}

/// The video stream that is worked.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoInfo {
    /// Its index in the container.
    pub stream_index: usize,
    /// Codec name.
    pub codec: String,
    /// What the decoder hands out.
    pub picture: PictureFormat,
    /// Whether its frames have transparency.
    pub alpha: bool,
    /// FFmpeg's name of the stored pixel format.
    pub pixel_format: String,
    /// Clockwise degrees to turn the stored picture for display.
    pub rotation_degrees: i32,
    /// Whether it is mirrored left to right before that.
    pub mirrored: bool,
    /// What says both, as containers keep it: of the container, else of the first picture.
    pub display_matrix: Option<[i32; 9]>,
    /// Sample aspect ratio, 1:1 where unknown.
    pub sample_aspect_ratio: (i32, i32),
    /// Tags as found: matrix, primaries, transfer, range, by FFmpeg's names; `unknown` where untagged.
    pub color: ColorTags,
    /// What a display must know of HDR10 pictures.
    pub hdr: Hdr,
    /// Rate that the header claims, if it is a sane one.
    pub claimed_rate: Option<Rate>,
    /// Lowest rate of whose frames all times are, as FFmpeg guesses it, if it is a sane one.
    pub base_rate: Option<Rate>,
    /// Nominal rate of the frames that are handed out: the claimed one, or twice that where each field becomes one.
    pub rate: Option<Rate>,
    /// Frames by the header, or estimated from duration and rate.
    pub frames_promised: Option<u64>,
    /// Duration by the header.
    pub duration: Option<Seconds>,
    /// Where its last frame ends by the header, in the stream's own clock, if that says so of no other stream with it.
    pub end: Option<Seconds>,
}

/// HDR10's static metadata, in FFmpeg's structures as bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hdr {
    /// The display that the clip was graded on (`AVMasteringDisplayMetadata`).
    pub mastering_display: Option<Vec<u8>>,
    /// Its brightest pixel and frame (`AVContentLightMetadata`).
    pub content_light: Option<Vec<u8>>,
}

/// Color tags by FFmpeg's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColorTags {
    /// Matrix coefficients.
    pub matrix: String,
    /// Primaries.
    pub primaries: String,
    /// Transfer characteristics.
    pub transfer: String,
    /// `tv`, `pc` or `unknown`.
    pub range: String,
}

/// One stream of a clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Index in the container.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data`, `attachment`.
    pub kind: String,
    /// Codec name, `unknown` where there is none.
    pub codec: String,
    /// Its language, as the container writes it.
    pub language: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// What it is for, by FFmpeg's words: `default`, `forced`, `attached_pic`.
    pub disposition: Vec<String>,
    /// By the header.
    pub duration: Option<Seconds>,
    /// Width and height of pictures.
    pub size_px: Option<(usize, usize)>,
    /// Of sound.
    pub sample_rate_hz: Option<u32>,
    /// Of sound.
    pub channels: Option<u32>,
}

/// What the decoder met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodeStats {
    /// Frames handed out.
    pub decoded: u64,
    /// Frames that were decoded with errors or could not be decoded.
    pub corrupt: u64,
    /// First few messages about damage.
    pub errors: Vec<String>,
    /// Whether the file ends before its header says it does (fewer frames than its index, or an earlier time). Where
    /// frames are lost in the middle only `decoded` falls short.
    pub truncated: bool,
    /// Whether anything is seen through any frame that was handed out: formats that could hold transparency often hold none.
    pub seen_through: bool,
    /// What frames carried beside their samples and outputs do not: captions, dynamic HDR metadata.
    pub frame_data: std::collections::BTreeSet<&'static str>,
    /// Interlaced frames that were handed out as they are.
    pub interlaced: u64,
    /// The first interlaced frame, counted as stored from 0, where frames before it are not.
    pub interlaced_from: Option<u64>,
    /// Streams that begin where the headers were read already, so that nothing was decided on them.
    pub late_streams: Vec<StreamInfo>,
    /// Where pictures first say otherwise how they are to be shown than those before: number of the frame as stored from 0,
    /// its time in the source, and what they say.
    pub shown_otherwise: Option<(u64, Option<Seconds>, String)>,
    /// Frames without a time, or with one not after their predecessor's, whose time was repaired.
    pub repaired_times: u64,
}

/// How an output is written.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteSpec {
    /// Encoder.
    pub encoding: Encoding,
    /// Container.
    pub container: Container,
    /// Nominal output rate, for the encoder and the header; frames carry their own times.
    pub rate: Rate,
    /// Whether all times are whole frames of that rate.
    pub constant: bool,
    /// Output seconds for each source second: 4 for four times slower, 1 where the duration is kept.
    pub stretch: Seconds,
    /// Source time that becomes 0 in the output: the first frame's.
    pub origin: Seconds,
    /// What happens to sound.
    pub audio: Audio,
    /// Threads of an encoder whose result depends on their number (x264, x265); `None` is by the processor's cores.
    pub encoder_threads: Option<u32>,
    /// Number of the GPU that encodes, where one does; `None` is the first that can.
    pub encoder_gpu: Option<u32>,
}

/// What became of a stream of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOutcome {
    /// The stream.
    pub stream: StreamInfo,
    /// `interpolated`, `copied`, `retimed`, `stretched`, `resampled`, `reencoded`, `exported` (beside the output) or
    /// `dropped`.
    pub action: &'static str,
    /// Why, where it was dropped or re-encoded.
    pub reason: Option<String>,
}

/// A file beside the output with what its container does not carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sidecar {
    /// Where it is.
    pub path: PathBuf,
    /// Streams of the source in it.
    pub streams: Vec<usize>,
    /// Names of boxes of the source in it, each once.
    pub boxes: Vec<String>,
    /// Samples of all streams, and boxes.
    pub samples: u64,
    /// Size of the file.
    pub size_bytes: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSummary {
    /// FFmpeg's name of the container format.
    pub format: String,
    /// Encoder name.
    pub encoder: String,
    /// Options given to it, as `crf=18 preset=medium`.
    pub options: String,
    /// FFmpeg's name of the pixel format written.
    pub pixel_format: String,
    /// Video frames written.
    pub frames: u64,
    /// What became of every stream of the source.
    pub streams: Vec<StreamOutcome>,
    /// What the container does not carry, beside it.
    pub sidecar: Option<Sidecar>,
    /// What a reader of the report should know (code, sentence).
    pub warnings: Vec<(String, String)>,
}

/// What decoding a finished file showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Video frames decoded.
    pub frames: u64,
    /// From the first frame's time to that of the last.
    pub last: Seconds,
    /// Frames decoded with errors.
    pub corrupt: u64,
    /// What its pictures are.
    pub picture: Option<PictureFormat>,
    /// Whether they have transparency.
    pub alpha: bool,
}

/// An encoder that slomod can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderStatus {
    /// FFmpeg's name, such as `libx264`.
    pub name: &'static str,
    /// Whether it is of a GPU.
    pub on_gpu: bool,
    /// Why it cannot be used; `None` where it opened.
    pub problem: Option<String>,
}
