//! The daemon's file as written: every key optional where it has a default, unknown keys refused, places remembered.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::config::beside::Comparison;
use crate::config::content::{Duplicates, Mark, Overlays};
use crate::config::file::{HookState, Ready, SameContent, WatchBy};
use crate::config::settings::{
    Audio, Codec, Container, Device, EncodeOn, Interlaced, Mode, Profile, Sampling, Timelapse,
};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFile {
    /// `[daemon]`.
    #[serde(default)]
    pub daemon: RawDaemon,
    /// `[[watch]]`, one for each folder.
    #[serde(default)]
    pub watch: Vec<Spanned<RawWatch>>,
    /// `[[hook]]`, one for each program or address that hears of ended jobs.
    #[serde(default)]
    pub hook: Vec<Spanned<RawHook>>,
}

/// `[daemon]`: what holds for all folders. The keys are explained in `config/slomod.toml`.
#[expect(
    missing_docs,
    reason = "config/slomod.toml explains every key, and a test holds it to that"
)]
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDaemon {
    pub state_dir: Option<Spanned<String>>,
    pub device: Option<Spanned<Device>>,
    pub model: Option<Spanned<String>>,
    pub threads: Option<Spanned<Scalar>>,
    pub settle: Option<Spanned<String>>,
    pub network_settle: Option<Spanned<String>>,
    pub unsized_settle: Option<Spanned<String>>,
    pub scan_interval: Option<Spanned<String>>,
    pub poll_interval: Option<Spanned<String>>,
    pub grace: Option<Spanned<String>>,
    pub stall_timeout: Option<Spanned<String>>,
    pub stop_timeout: Option<Spanned<String>>,
    pub reserve: Option<Spanned<Scalar>>,
    pub extensions: Option<Spanned<Vec<String>>>,
    pub control: Option<Spanned<String>>,
    pub metrics: Option<Spanned<String>>,
}

/// `[[hook]]`: who hears of ended jobs. The keys are explained in `config/slomod.toml`.
#[expect(
    missing_docs,
    reason = "config/slomod.toml explains every key, and a test holds it to that"
)]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHook {
    pub command: Option<Spanned<Vec<String>>>,
    pub url: Option<Spanned<String>>,
    pub on: Option<Spanned<Vec<HookState>>>,
    pub timeout: Option<Spanned<String>>,
}

/// `[[watch]]`: one folder. The keys are explained in `config/slomod.toml`.
#[expect(
    missing_docs,
    reason = "config/slomod.toml explains every key, and a test holds it to that"
)]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWatch {
    pub path: Spanned<String>,
    pub output: Spanned<String>,
    pub mode: Option<Spanned<Mode>>,
    pub factor: Option<Spanned<Scalar>>,
    pub fps: Option<Spanned<Scalar>>,
    pub speed: Option<Spanned<Scalar>>,
    pub model: Option<Spanned<String>>,
    pub scale: Option<Spanned<Scalar>>,
    pub sampling: Option<Sampling>,
    pub refine: Option<bool>,
    pub passes: Option<Spanned<Scalar>>,
    pub audio: Option<Spanned<Audio>>,
    pub interlaced: Option<Spanned<Interlaced>>,
    pub timelapse: Option<Spanned<Timelapse>>,
    pub codec: Option<Spanned<Codec>>,
    pub encode_on: Option<Spanned<EncodeOn>>,
    pub container: Option<Spanned<OrAuto<Container>>>,
    pub crf: Option<Spanned<Scalar>>,
    pub preset: Option<Spanned<Scalar>>,
    pub quality_samples: Option<Spanned<u32>>,
    pub vmaf: Option<Spanned<bool>>,
    pub frame_list: Option<Spanned<bool>>,
    pub comparison: Option<Spanned<Comparison>>,
    pub page: Option<Spanned<bool>>,
    pub stills: Option<Spanned<Vec<Spanned<Scalar>>>>,
    pub find_cuts: Option<Spanned<bool>>,
    pub cut_list: Option<Spanned<String>>,
    pub duplicates: Option<Spanned<Duplicates>>,
    pub hold_below: Option<Spanned<Scalar>>,
    pub masks: Option<Spanned<Vec<Spanned<String>>>>,
    pub overlays: Option<Spanned<Overlays>>,
    pub mark: Option<Spanned<Mark>>,
    pub profile: Option<Spanned<Profile>>,
    pub settle: Option<Spanned<String>>,
    pub recursive: Option<Spanned<bool>>,
    pub priority: Option<Spanned<i32>>,
    pub watch_by: Option<Spanned<WatchBy>>,
    pub ready: Option<Spanned<Ready>>,
    pub marker: Option<Spanned<String>>,
    pub links_to: Option<Spanned<Vec<Spanned<String>>>>,
    pub collision: Option<Spanned<RawCollision>>,
    pub same_content: Option<Spanned<SameContent>>,
    pub on_success: Option<Spanned<RawOnSuccess>>,
    pub originals: Option<Spanned<String>>,
}

/// What happens where the output's name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawCollision {
    /// The new output takes another name.
    Rename,
    /// The new output replaces the old.
    Overwrite,
    /// There is no new output.
    Skip,
}

/// What happens to the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawOnSuccess {
    /// It stays.
    Keep,
    /// It goes into the folder `originals`.
    Move,
    /// It goes into the hidden folder `.slomod-trash` of the watched folder.
    Trash,
}

/// The word `auto`, or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrAuto<T> {
    /// `auto`.
    Auto,
    /// A value.
    Value(T),
}

impl<'de> Deserialize<'de> for OrAuto<Container> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "auto" => Ok(Self::Auto),
            "mp4" => Ok(Self::Value(Container::Mp4)),
            "mkv" => Ok(Self::Value(Container::Mkv)),
            "mov" => Ok(Self::Value(Container::Mov)),
            other => Err(D::Error::custom(format!(
                "`{other}` is no container: use auto, mp4, mkv or mov"
            ))),
        }
    }
}

/// A number or a word, as text: `25`, `59.94`, `"60000/1001"`, `"auto"` are all natural ways to write a rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;
        impl Visitor<'_> for AnyScalar {
            type Value = Scalar;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
            fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }
        deserializer.deserialize_any(AnyScalar)
    }
}
