//! Fields of the report that say where a clip and every frame of an output come from.

use serde::{Deserialize, Serialize};

use crate::report::Notice;

/// What the source says of how it was recorded. Nothing of it is checked: cameras have wrong clocks, and names are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capture {
    /// Whose names of files look like this one, such as `viofo`; absent where none of the known ones do.
    pub name_pattern: Option<String>,
    /// Why the camera recorded, by the name: `normal`, `event`, `parking` or `manual`; `timelapse` is for
    /// names of later versions.
    pub kind: Option<String>,
    /// Which camera, by the name: `front`, `rear`, `interior`, `telephoto`, `left`, `right`.
    pub view: Option<String>,
    /// Number of the recording, by the name.
    pub sequence: Option<String>,
    /// Start by the name and the camera's clock, as `2026-01-31T12:34:56`.
    pub started_local: Option<String>,
    /// Whether that time is known to be UTC. Otherwise nobody knows its zone.
    pub utc: bool,
    /// What the file itself says (creation time, maker, model, software), by FFmpeg's names.
    pub tags: Vec<Tag>,
}

/// A stream of the source, as the container describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceStream {
    /// Its index.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data`, `attachment`.
    pub kind: String,
    /// FFmpeg's name of the codec; `unknown` where there is none.
    pub codec: String,
    /// Its language, as the container writes it.
    pub language: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// What it is for, by FFmpeg's words: `default`, `forced`, `attached_pic`.
    pub disposition: Vec<String>,
    /// By the header, where that says so of the stream.
    pub duration_s: Option<f64>,
    /// Of pictures, as stored.
    pub width_px: Option<usize>,
    /// Of pictures, as stored.
    pub height_px: Option<usize>,
    /// Of sound.
    pub sample_rate_hz: Option<u32>,
    /// Of sound.
    pub channels: Option<u32>,
}

/// A tag of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Its name, such as `creation_time`.
    pub name: String,
    /// Its value as it is in the file.
    pub value: String,
}

/// A file that was made with the output and lies beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// What it is: `streams`, `frame_list`, `still`, `comparison`, `page`; `other` for what this version does not name.
    pub kind: String,
    /// Path, with what is not UTF-8 replaced: that of the output, a dot, and more.
    pub path: String,
    /// The path's bytes in base64, where `path` is not exact.
    #[serde(default)]
    pub path_b64: Option<String>,
    /// Size of the file.
    pub size_bytes: u64,
    /// Of the whole file.
    pub sha256: String,
    /// Streams of the source in one of `streams`, which no container carries.
    #[serde(default)]
    pub streams: Vec<usize>,
    /// Names of the source's boxes in it that are no part of a track, as `free/gps `: each once, and the first hundred.
    #[serde(default)]
    pub boxes: Vec<String>,
    /// Samples of all of them.
    #[serde(default)]
    pub samples: u64,
}

/// Whether another run makes the same output, frame for frame: the hashes of a list of frames say so. (Of the whole file
/// they need not be the same: Matroska numbers each by chance.)
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeatable {
    /// Whether the same source, settings and weights give the same frames again, under the conditions that follow.
    pub same_frames: bool,
    /// What else has to be the same.
    pub given: Vec<Condition>,
    /// Why another run may make others even so; empty where `same_frames`.
    pub reasons: Vec<Notice>,
}

/// Something that has to be the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What: `slomod`, `ffmpeg` (and the encoder's library in it), `instructions` and `network_threads` (of the processor that the network ran on),
    /// `device` (that it ran on, with its driver), `encoder_cores` (by which the encoder chose its number of threads).
    pub what: String,
    /// What it was here.
    pub value: String,
}

/// How the real frames of the finished output compare with the source's, by the SHA-256 of their samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealFrames {
    /// Real and held frames that were compared.
    pub compared: u64,
    /// Those that were the same, bit for bit. All are where the encoder is lossless.
    pub identical: u64,
}
