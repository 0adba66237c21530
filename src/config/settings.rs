//! The settings of one conversion, shared by `slomod convert` and every `[[watch]]`.

use std::path::{Path, PathBuf};

use num_rational::Ratio;
use serde::{Deserialize, Serialize};

use crate::config::beside::{Beside, Comparison, Still};
use crate::config::content::{Content, Mark, Overlays};
use crate::frame::{Rate, rational_text};

/// What the new frames are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Longer: the new frames are played at the source's rate.
    Slow,
    /// Same duration: more frames per second.
    Smooth,
}

/// How many passes may make a picture.
pub const PASSES: [u32; 3] = [1, 2, 4];

/// Reads one of [`PASSES`].
///
/// # Errors
/// What to write, where it is none.
pub fn parse_passes(text: &str) -> Result<u32, String> {
    let passes = text.parse().ok().filter(|it| PASSES.contains(it));
    passes.ok_or_else(|| "use 1, 2 or 4".into())
}

/// Most threads that can be asked for: no processor has more, and a system stops under many times as many.
pub const THREADS_MAX: u16 = 1024;

/// Reads a number of threads, up to [`THREADS_MAX`].
///
/// # Errors
/// What to write, where it is none.
pub fn parse_threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|it| *it <= usize::from(THREADS_MAX));
    threads.ok_or_else(|| format!("use 0 (all cores) to {THREADS_MAX}"))
}

/// Fewest and most output frames for each frame of the source.
pub const FACTOR_RANGE: std::ops::RangeInclusive<u32> = 2..=16;
/// Lowest and highest output rate that can be asked for.
pub const FPS_RANGE: std::ops::RangeInclusive<i128> = 10..=320;

impl Mode {
    /// Output frames for each frame of the source, where nothing says how many.
    #[must_use]
    pub fn default_factor(self) -> u32 {
        match self {
            Self::Slow => 4,
            Self::Smooth => 2,
        }
    }
}

/// What happens to sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Audio {
    /// Made as long as the picture, with its pitch kept. Where the duration does not change, copied.
    Stretch,
    /// Made as long as the picture by playing it slower, so that it sounds lower. Where the duration does not change,
    /// copied.
    Resample,
    /// Copied as it is.
    Keep,
    /// Left out.
    Drop,
}

/// What happens to interlaced pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Interlaced {
    /// Each frame is made whole, at the source's rate.
    #[default]
    Deinterlace,
    /// Each field is made a whole picture, at twice the source's rate.
    Fields,
    /// Worked as they are.
    Keep,
    /// The clip is refused.
    Refuse,
}

/// What happens to a clip that looks like a time-lapse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Timelapse {
    /// It is converted, and the report says what it looks like.
    #[default]
    Flag,
    /// It is refused.
    Refuse,
}

/// Where the network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The first GPU that works and has half its memory free, or of those that work the one with the most; else the CPU (and
    /// the report says so).
    Auto,
    /// That GPU or none.
    Cuda(u32),
    /// The CPU.
    Cpu,
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("`{text}` is no device: use auto, cpu, cuda or cuda:N")),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// How much of full resolution the flow is computed at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scale {
    /// 0.25, 0.5, 1 or 2.
    Fixed(f32),
    /// By resolution: 1 up to 2560x1440, 0.5 up to 3840x2160, 0.25 above.
    #[serde(with = "auto_word")]
    Auto,
}

/// How a new picture reads both frames between their pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// As RIFE's program does it, which blurs what moves by parts of a pixel.
    Bilinear,
    /// By Keys' cubic, which keeps it sharp.
    #[default]
    Bicubic,
}

/// Output video encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264 by libx264.
    H264,
    /// H.265 by libx265.
    H265,
    /// AV1 by SVT-AV1.
    Av1,
    /// FFV1, lossless.
    Ffv1,
}

impl Codec {
    /// FFmpeg's name of what it makes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "hevc",
            Self::Av1 => "av1",
            Self::Ffv1 => "ffv1",
        }
    }
}

/// Where the output is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum EncodeOn {
    /// The processor: the best picture for its size.
    #[default]
    Cpu,
    /// The encoder of an NVIDIA GPU (NVENC): faster.
    Gpu,
}

/// Output container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// MP4.
    Mp4,
    /// Matroska.
    Mkv,
    /// QuickTime.
    Mov,
}

impl Container {
    /// The container that a file name's extension says, in any case of letters.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_lowercase().as_str() {
            "mp4" | "m4v" => Some(Self::Mp4),
            "mkv" => Some(Self::Mkv),
            "mov" => Some(Self::Mov),
            _ => None,
        }
    }

    /// File name extension, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mkv => "mkv",
            Self::Mov => "mov",
        }
    }
}

/// How the output is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// Which encoder.
    pub codec: Codec,
    /// On the processor, or on a GPU. Left out where it is the processor, as reports and journals of earlier versions do.
    #[serde(default, skip_serializing_if = "Encoding::is_usual_place")]
    pub encode_on: EncodeOn,
    /// Constant rate factor in the encoder's own scale, or what a GPU's encoder aims at in its own; `None` takes 18 (H.264),
    /// 20 (H.265), 24 (AV1). FFV1 has none.
    pub crf: Option<u8>,
    /// Preset by the encoder's own name; `None` takes `medium` (x264, x265), `8` (SVT-AV1) or `p5` (on a GPU).
    pub preset: Option<String>,
    /// Container; if absent by the output's extension, or [`Settings::usual_container`].
    pub container: Option<Container>,
}

impl Default for Encoding {
    fn default() -> Self {
        let (codec, encode_on) = (Codec::H264, EncodeOn::Cpu);
        Self { codec, encode_on, crf: None, preset: None, container: None }
    }
}

impl Encoding {
    /// FFmpeg's name of the encoder.
    #[must_use]
    pub fn encoder(&self) -> &'static str {
        match (self.codec, self.encode_on) {
            (Codec::H264, EncodeOn::Cpu) => "libx264",
            (Codec::H265, EncodeOn::Cpu) => "libx265",
            (Codec::Av1, EncodeOn::Cpu) => "libsvtav1",
            (Codec::H264, EncodeOn::Gpu) => "h264_nvenc",
            (Codec::H265, EncodeOn::Gpu) => "hevc_nvenc",
            (Codec::Av1, EncodeOn::Gpu) => "av1_nvenc",
            (Codec::Ffv1, _) => "ffv1",
        }
    }

    fn is_usual_place(place: &EncodeOn) -> bool {
        *place == EncodeOn::default()
    }
}

/// Held-out frames of profile evidence at the most: all of a clip of some minutes.
const EVIDENCE_SAMPLES: u32 = 10_000;

/// Confidence below which profile evidence makes nothing.
const EVIDENCE_CONFIDENCE: f64 = 0.3;

/// A named set of defaults; what is set besides has precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Those of slomod.
    #[default]
    Standard,
    /// For whoever has to answer for the result: lossless, every frame accounted for, nothing made where it is uncertain.
    Evidence,
    /// For clips of dash-cams: what is burnt into the picture is looked for and never made up, and time-lapses are flagged.
    Dashcam,
}

impl Profile {
    /// The settings that it stands for.
    #[must_use]
    pub fn settings(self) -> Settings {
        match self {
            Self::Standard => Settings::default(),
            Self::Evidence => Settings {
                profile: self,
                encoding: Encoding { codec: Codec::Ffv1, ..Encoding::default() },
                quality_samples: EVIDENCE_SAMPLES,
                content: Content {
                    hold_below: Some(EVIDENCE_CONFIDENCE),
                    overlays: Overlays::Detect,
                    mark: Mark::Corner,
                    ..Content::default()
                },
                beside: Beside {
                    frame_list: true,
                    comparison: Comparison::Side,
                    page: true,
                    stills: vec![Still::Motion],
                },
                ..Settings::default()
            },
            Self::Dashcam => Settings {
                profile: self,
                timelapse: Timelapse::Flag,
                content: Content { overlays: Overlays::Detect, ..Content::default() },
                ..Settings::default()
            },
        }
    }
}

/// Everything that decides what comes out of a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Where the defaults came from.
    #[serde(default)]
    pub profile: Profile,
    /// Slow motion or a higher rate.
    pub mode: Mode,
    /// Output frames for each frame of the source, and in slow motion how many times slower, 2..=16. `None` where `fps` or `speed` say enough.
    pub factor: Option<u32>,
    /// Output rate; `None` is auto (source rate in slow motion, source rate times factor when smooth).
    #[serde(with = "rational_text")]
    pub fps: Option<Rate>,
    /// Playback speed, 1/16..1, slow motion only; instead of `factor`.
    #[serde(with = "rational_text")]
    pub speed: Option<Ratio<i128>>,
    /// Weights file; `None` is the built-in starter weights.
    pub model: Option<PathBuf>,
    /// Flow scale.
    pub scale: Scale,
    /// How the new pictures read the frames.
    #[serde(default)]
    pub sampling: Sampling,
    /// Whether flows are refined where both moved frames still differ by a shift.
    #[serde(default = "on")]
    pub refine: bool,
    /// Passes that make each picture, one of [`PASSES`]; it is their mean.
    #[serde(default = "one")]
    pub passes: u32,
    /// Where the network runs.
    pub device: Device,
    /// Threads of the CPU backend; 0 is all cores.
    pub threads: usize,
    /// What happens to sound.
    pub audio: Audio,
    /// What happens to interlaced pictures.
    #[serde(default)]
    pub interlaced: Interlaced,
    /// What happens to a clip that looks like a time-lapse.
    #[serde(default)]
    pub timelapse: Timelapse,
    /// Encoder and container.
    pub encoding: Encoding,
    /// Held-out frames measured at the most; 0 switches the measurement off.
    pub quality_samples: u32,
    /// Whether they are measured by VMAF as well, where FFmpeg has it.
    #[serde(default)]
    pub vmaf: bool,
    /// What is done with what a clip shows.
    #[serde(default)]
    pub content: Content,
    /// What is made beside the output.
    #[serde(default)]
    pub beside: Beside,
}

impl Settings {
    /// The container where neither the settings nor an output's name say one. Profile evidence takes MOV, which keeps
    /// rotation and exact times, where FFmpeg's Matroska has no rotation and rounds to a millisecond.
    #[must_use]
    pub fn usual_container(&self) -> Container {
        match self.encoding.codec {
            Codec::Ffv1 if self.profile == Profile::Evidence => Container::Mov,
            Codec::Ffv1 => Container::Mkv,
            Codec::H264 | Codec::H265 | Codec::Av1 => Container::Mp4,
        }
    }
}

/// What is so unless it is told otherwise.
fn on() -> bool {
    true
}

/// How often it is so.
fn one() -> u32 {
    1
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: Profile::Standard,
            mode: Mode::Slow,
            factor: None,
            fps: None,
            speed: None,
            model: None,
            scale: Scale::Auto,
            sampling: Sampling::default(),
            refine: on(),
            passes: one(),
            device: Device::Auto,
            threads: 0,
            audio: Audio::Stretch,
            interlaced: Interlaced::default(),
            timelapse: Timelapse::default(),
            encoding: Encoding::default(),
            quality_samples: 200,
            vmaf: false,
            content: Content::default(),
            beside: Beside::default(),
        }
    }
}

mod auto_word {
    //! `Scale::Auto` is the word `auto` in files.
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("auto")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(()),
            other => {
                Err(D::Error::custom(format!("`{other}` is no scale: use auto, 0.25, 0.5, 1 or 2")))
            }
        }
    }
}
