//! The JSON report beside every output: what went in, what came out, how well and how fast.
//!
//! The published schema is `config/report.schema.json`. Additive changes only within a major version of [`SCHEMA`].
//! Numbers are finite or `null`: identical pictures have a PSNR of `null` and `identical: true`.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::settings::Settings;
use crate::hex::hex;
use crate::report::content::{Change, Confidence, Cut, Masked};
use crate::report::findings::{Barrier, Bars, Unrecorded};
use crate::report::machine::Host;
use crate::report::measured::{Encode, HeldOutFrame, Scores};
use crate::report::provenance::{Capture, RealFrames, Repeatable, Sidecar, SourceStream};
use crate::report::timing::{Attempt, Timing};

pub mod base64;
pub mod content;
pub mod findings;
pub mod json;
pub mod machine;
pub mod measured;
pub mod provenance;
pub mod timing;

/// Identifier of the report's format.
pub const SCHEMA: &str = "slomod-report/1";

/// Said in every report.
pub const DISCLAIMER: &str = "Synthesised frames are a viewing aid. They are computed, not recorded: do not read \
positions, distances, speeds or moments of contact from them. The original clip is the record.";

/// How the job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The output is there and was verified.
    Done,
    /// An error that another try may pass.
    Failed,
    /// The clip cannot be used.
    Refused,
    /// The same content was worked before; `warnings` names that report.
    Duplicate,
    /// The clip stays as it is; `warnings` says why.
    Skipped,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Unique to this report.
    pub report_id: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// How it ended.
    pub status: Status,
    /// The program.
    pub tool: Tool,
    /// The machine.
    pub host: Host,
    /// The clip that went in.
    pub source: Source,
    /// Settings in effect.
    pub settings: Settings,
    /// SHA-256 of the settings that decide the result, of the weights and, in a watched folder, of the
    /// clip's list of cuts; absent where the weights cannot be read.
    #[serde(default)]
    pub settings_sha256: Option<String>,
    /// What the network ran on; absent where it never started.
    pub device: Option<Device>,
    /// The network; absent where it never started.
    pub model: Option<Model>,
    /// The clip that came out; absent where none did.
    pub output: Option<Output>,
    /// What was done between the frames; absent where it never started.
    pub interpolation: Option<Interpolation>,
    /// How well; absent where nothing was measured.
    pub quality: Option<Quality>,
    /// How fast.
    pub timing: Timing,
    /// The daemon's tries at the job, in order, the last of them the one that wrote the report; none by hand.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// What a reader should know.
    pub warnings: Vec<Notice>,
    /// Why it failed or was refused.
    pub errors: Vec<Notice>,
    /// [`DISCLAIMER`].
    pub disclaimer: String,
}

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// A short stable word, such as `stream_dropped`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// The program that wrote the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// `slomod`.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Version of libavcodec, as `59.37.100`.
    pub libavcodec: String,
    /// Version of FFmpeg, as its makers or packagers name it.
    #[serde(default)]
    pub ffmpeg: String,
    /// What its builder called this build, such as the hash of the commit (`SLOMOD_BUILD` at build time); absent where
    /// nobody did.
    #[serde(default)]
    pub build: Option<String>,
}

/// The clip that went in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Path, with what is not UTF-8 replaced.
    pub path: String,
    /// The path's bytes in base64, where `path` is not exact.
    pub path_b64: Option<String>,
    /// Size of the file.
    pub size_bytes: u64,
    /// RFC 3339, UTC.
    pub modified: Option<String>,
    /// Before the work; absent where it could not be read, or the command was interrupted before.
    pub sha256: Option<String>,
    /// After the work; absent where that ended before the file was read again.
    pub sha256_after: Option<String>,
    /// Name of the container format.
    pub format: Option<String>,
    /// Name of the video codec.
    pub codec: Option<String>,
    /// As stored, before rotation.
    pub width_px: Option<usize>,
    /// As stored, before rotation.
    pub height_px: Option<usize>,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: Option<String>,
    /// Degrees clockwise to turn the picture for display.
    pub rotation_degrees: Option<i32>,
    /// Whether the stored picture is mirrored left to right for display, before it is turned.
    #[serde(default)]
    pub mirrored: Option<bool>,
    /// `num:den`.
    pub sample_aspect_ratio: Option<String>,
    /// Color tags as found.
    pub color: Option<Color>,
    /// Measured from timestamps, `num/den`.
    pub fps: Option<String>,
    /// As the container claims, `num/den`.
    #[serde(default)]
    pub fps_claimed: Option<String>,
    /// Lowest rate in whose steps all times lie, as FFmpeg guesses it (`r_frame_rate`), `num/den`.
    #[serde(default)]
    pub fps_base: Option<String>,
    /// Whether the gaps between frames differ by more than a time-base tick.
    pub variable_rate: Option<bool>,
    /// From the first frame to the end of the last.
    pub duration_s: Option<f64>,
    /// Frame counts.
    pub frames: SourceFrames,
    /// Every stream; none where the file was not opened.
    #[serde(default)]
    pub streams: Vec<SourceStream>,
    /// How it was recorded, as far as its name and its tags say.
    #[serde(default)]
    pub capture: Capture,
}

/// Color tags (FFmpeg's names; `unknown` where untagged).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Color {
    /// Matrix coefficients.
    pub matrix: String,
    /// Primaries.
    pub primaries: String,
    /// Transfer characteristics.
    pub transfer: String,
    /// `tv`, `pc` or `unknown`.
    pub range: String,
}

/// Frame counts of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceFrames {
    /// As the container promises.
    pub promised: Option<u64>,
    /// As decoded.
    pub decoded: u64,
    /// Decoded with errors, or lost.
    pub corrupt: u64,
    /// Same picture as the one before, but for rounding and what a lossy encoder makes of it.
    pub duplicates: u64,
    /// Ranges without frames, where nothing is damaged: nothing is synthesised across them.
    #[serde(default)]
    pub gaps: Vec<Unrecorded>,
}

/// What the network ran on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu` or `cuda`.
    pub kind: String,
    /// Human name.
    pub name: String,
    /// `f32`, `f16`.
    pub precision: String,
    /// `avx2`, `avx512`, `sm_90`.
    pub instructions: String,
    /// Threads of the CPU backend.
    pub threads: usize,
    /// Version of NVIDIA's driver, where it ran on a GPU.
    #[serde(default)]
    pub driver: Option<String>,
    /// The GPU's own number, as `nvidia-smi -L` prints it.
    #[serde(default)]
    pub uuid: Option<String>,
    /// Newest version of CUDA that the driver knows, such as `12.2`, where it ran on a GPU.
    #[serde(default)]
    pub cuda: Option<String>,
    /// PSNR in dB of a GPU's pictures of a drawn pair from the processor's, found when it was opened.
    #[serde(default)]
    pub psnr_from_cpu_db: Option<f64>,
    /// Whether `auto` did not get a GPU.
    pub fallback: bool,
    /// Why not.
    pub fallback_reason: Option<String>,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Layout, such as `rife v4.26`.
    pub name: String,
    /// Of the weights file.
    pub sha256: Option<String>,
    /// Flow scale.
    pub scale: f32,
    /// Version of the layout, such as `4.26` (`4.25/4.26` where the weights fit both); absent for an engine without
    /// weights.
    #[serde(default)]
    pub version: Option<String>,
    /// Whether each frame is the mean of several passes; their number is in the settings.
    #[serde(default)]
    pub ensemble: bool,
}

/// The clip that came out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Path, with what is not UTF-8 replaced.
    pub path: String,
    /// The path's bytes in base64, where `path` is not exact.
    #[serde(default)]
    pub path_b64: Option<String>,
    /// Size of the file.
    pub size_bytes: u64,
    /// Of the whole file.
    pub sha256: String,
    /// Name of the container format.
    pub format: String,
    /// Name of the video codec, as FFmpeg calls it, such as `hevc`; of numbered pictures `png`.
    #[serde(default)]
    pub codec: Option<String>,
    /// Encoder, such as `libx264`.
    pub encoder: String,
    /// Options given to it.
    pub encoder_options: String,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: String,
    /// Average rate `num/den`.
    pub fps: String,
    /// From the first frame to the end of the last.
    pub duration_s: f64,
    /// Frame counts, as verified by decoding.
    pub frames: OutputFrames,
    /// What became of every stream of the source.
    pub streams: Vec<Stream>,
    /// The lowest level of its codec that holds its size and rate, such as `5.2`; absent for codecs without such levels.
    #[serde(default)]
    pub level: Option<String>,
    /// Files that were made with it and lie beside it.
    #[serde(default)]
    pub sidecars: Vec<Sidecar>,
    /// Whether its real frames are the source's; absent where that was not looked at (`settings.beside.frame_list`).
    #[serde(default)]
    pub real_frames: Option<RealFrames>,
    /// Whether another run makes the same frames; absent in reports of earlier versions.
    #[serde(default)]
    pub repeatable: Option<Repeatable>,
}

/// Frame counts of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFrames {
    /// All.
    pub total: u64,
    /// Taken from the source as decoded; a lossy encoder makes near ones of them, not equal ones ([`Quality::encode`],
    /// [`Output::real_frames`]).
    pub real: u64,
    /// Made by the network.
    pub synthesised: u64,
    /// A real frame shown again (at cuts, duplicates, in gaps that are too unsure or have no frames, and at the end).
    pub held: u64,
    /// Made by the network in place of a repeated picture.
    #[serde(default)]
    pub repaired: u64,
}

/// What became of a stream of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Index in the source.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data`, `attachment`.
    pub kind: String,
    /// Codec in the source.
    pub codec: String,
    /// `interpolated`, `copied`, `retimed`, `stretched`, `resampled`, `reencoded`, `exported` or `dropped`.
    pub action: String,
    /// Why, where it was dropped or exported; what it became, where it was encoded anew.
    pub reason: Option<String>,
}

/// What was done between the frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interpolation {
    /// Output frames for each source frame; absent where they lie on a grid of their own rate.
    pub factor: Option<u32>,
    /// Source seconds a second of output shows.
    pub speed: f64,
    /// Threshold of `cuts[].score`.
    pub cut_threshold: f64,
    /// Hard cuts: nothing is synthesised across them.
    pub cuts: Vec<Cut>,
    /// Ranges of the source that cannot be decoded: nothing is synthesised across them either.
    #[serde(default)]
    pub barriers: Vec<Barrier>,
    /// Black bars round all source frames, where there are some: the network does not see them.
    #[serde(default)]
    pub black_bars: Option<Bars>,
    /// Flashes and fades, which are no barriers.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// How sure the gaps are.
    #[serde(default)]
    pub confidence: Confidence,
    /// Parts of the picture in which nothing was made up, of the stored picture.
    #[serde(default)]
    pub masks: Vec<Masked>,
    /// What every output frame is, in order.
    pub frame_map: Vec<Section>,
}

/// A few runs of output frames, several times over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Once, in order.
    pub runs: Vec<Run>,
    /// How many times.
    pub repeat: u64,
    /// Source frame with which the first time begins.
    #[serde(default)]
    pub source_frame: u64,
    /// Source frames that each further time is ahead of the one before.
    #[serde(default)]
    pub source_frames: u64,
}

/// A run of output frames of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `real`, `synthesised`, `held` or `repaired`.
    pub kind: String,
    /// How many in a row.
    pub count: u64,
    /// Source frames that the first frame of the run lies behind the beginning of this time of the section: the frame that
    /// is shown (the further ones of a `real` run follow), that is held, or the earlier of the two it was made from (the
    /// later is the next source frame that is not a repaired one).
    #[serde(default)]
    pub source_frame: u64,
    /// Of synthesised and repaired frames, where between the two each is: 0 is the earlier, 1 the later.
    #[serde(default)]
    pub timesteps: Vec<f32>,
}

/// How well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Held-out measurement of the network; of no samples and without figures where nothing could be held out.
    pub holdout: Holdout,
    /// What the encoder does to real frames, apart from the network; absent where none could be compared.
    #[serde(default)]
    pub encode: Option<Encode>,
}

/// Real frames predicted from their neighbours and compared with what they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Holdout {
    /// `holdout-2x`: the network sees twice the motion of the real job, so this is pessimistic.
    pub protocol: String,
    /// Triplets measured.
    pub samples: u64,
    /// Those of them that were measured on the device of the network; the others were on the processor.
    #[serde(default)]
    pub samples_on_device: u64,
    /// Triplets that could have been measured.
    pub candidates: u64,
    /// Source frames from one that was to be measured to the next, on average: 1 where all were; absent where none was
    /// measured.
    #[serde(default)]
    pub stride: Option<f64>,
    /// Of the network.
    pub network: Scores,
    /// Of repeating the earlier frame.
    pub repeat: Scores,
    /// Of blending both neighbours.
    pub blend: Scores,
    /// Source time of the frame with the lowest PSNR.
    pub worst_pts_s: Option<f64>,
    /// Every triplet, in order.
    #[serde(default)]
    pub frames: Vec<HeldOutFrame>,
}

/// Now, in RFC 3339, UTC, to the millisecond.
#[must_use]
pub fn now_rfc3339() -> String {
    format!("{:.3}", Timestamp::now())
}

/// A time in RFC 3339, UTC, to the millisecond; `None` outside the years -9999 to 9999.
#[must_use]
pub fn rfc3339(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| format!("{time:.3}"))
}

/// A path as text, and its bytes in base64 where the text is not exact.
#[must_use]
pub fn path_fields(path: &Path) -> (String, Option<String>) {
    let text = path.to_string_lossy().into_owned();
    let exact = path.to_str().is_some();
    (text, (!exact).then(|| base64::encode(path.as_os_str().as_bytes())))
}

/// A new identifier, 32 hex digits: a hash of the machine, the process, the time and a counter.
#[must_use]
pub fn report_id() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let seed =
        format!("{boot} {} {count} {}", std::process::id(), Timestamp::now().as_nanosecond());
    let hash = Sha256::digest(seed.as_bytes());
    hex(&hash[..16])
}
