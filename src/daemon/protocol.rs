//! What daemon and worker say to each other: one request line in, then lines of [`Message`] out. The daemon holds the
//! worker's standard input open; its end asks the worker to stop.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::settings::Settings;
use crate::engine::{DeviceMemory, EngineDescription};
use crate::error::{Consequence, ExitCode};
use crate::media::complete::Extent;
use crate::pipeline::segments::Rule;
use crate::pipeline::{Progress, Task};
use crate::report::Report;

/// What a worker is asked to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Convert a clip.
    Convert(Box<WireTask>),
    /// Open the container, look for a video, and whether all of it is there.
    Probe(WirePath),
    /// Open device and weights.
    Open(Box<Settings>),
}

/// What a worker answers: any number of `Engine`, `Memory` and `Progress`, then one of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// What the network runs on.
    Engine(Box<EngineNow>),
    /// How full the memory of its device is.
    Memory(DeviceMemory),
    /// How far the conversion is.
    Progress(Progress),
    /// The output is verified and waits under its temporary name.
    Report(Box<Report>),
    /// The container opens and holds a video, and this is whether it says how much belongs to it.
    Probed(Extent),
    /// Device and weights work.
    Opened(Box<EngineDescription>),
    /// It did not work.
    Failed(Box<Failure>),
}

/// An engine that was opened for a clip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EngineNow {
    /// What it is.
    pub description: EngineDescription,
    /// The memory of its device, where that has memory of its own.
    pub memory: Option<DeviceMemory>,
}

/// What a worker says before its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// What the network runs on.
    Engine(Box<EngineNow>),
    /// How full the memory of its device is.
    Memory(DeviceMemory),
    /// How far the conversion is.
    Progress(Progress),
}

/// [`Failure::code`] where other programs have the device, or its memory.
pub const DEVICE_BUSY: &str = "device_busy";
/// Code of the failure where weights cannot be read.
pub const WEIGHTS_UNREAD: &str = "weights_unread";

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What follows.
    pub consequence: Consequence,
    /// What the command line would end with; it tells the output's troubles from the source's.
    pub exit_code: ExitCode,
    /// A short stable word.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// The report to publish, where a conversion failed.
    pub report: Option<Box<Report>>,
}

/// [`Task`], for any file name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireTask {
    source: WirePath,
    temporary: WirePath,
    parts: Option<WirePath>,
    segments: Rule,
    output: WirePath,
    settings: Settings,
    settings_sha256: Option<String>,
    /// Bytes that stay free beside the output.
    pub reserve_bytes: u64,
}

impl WireTask {
    /// `task`, which begins only where its output leaves `reserve_bytes` free.
    #[must_use]
    pub fn new(task: &Task, reserve_bytes: u64) -> Self {
        Self {
            source: WirePath::from(task.source.as_path()),
            temporary: WirePath::from(task.temporary.as_path()),
            parts: task.parts.as_deref().map(WirePath::from),
            segments: task.segments,
            output: WirePath::from(task.output.as_path()),
            settings: task.settings.clone(),
            settings_sha256: task.settings_sha256.clone(),
            reserve_bytes,
        }
    }
}

impl From<WireTask> for Task {
    fn from(task: WireTask) -> Self {
        Self {
            source: task.source.into(),
            temporary: task.temporary.into(),
            parts: task.parts.map(PathBuf::from),
            segments: task.segments,
            output: task.output.into(),
            settings: task.settings,
            settings_sha256: task.settings_sha256,
        }
    }
}

/// A path, exact also where it is no UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WirePath {
    /// UTF-8.
    Text(String),
    /// Anything.
    Bytes(Vec<u8>),
}

impl From<&Path> for WirePath {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes(path.as_os_str().as_bytes().to_owned()),
        }
    }
}

impl From<WirePath> for PathBuf {
    fn from(path: WirePath) -> Self {
        match path {
            WirePath::Text(text) => text.into(),
            WirePath::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_file_name_arrives_as_it_was_sent() {
        for bytes in [&b"/in/a b'\"\n$(x).mp4"[..], b"/in/\xff\xfe.mp4", "/in/한글.mp4".as_bytes()]
        {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let line = serde_json::to_string(&Request::Probe(path.as_path().into())).unwrap();
            assert!(!line.contains('\n'), "a request is one line");
            match serde_json::from_str(&line).unwrap() {
                Request::Probe(arrived) => assert_eq!(PathBuf::from(arrived), path),
                other => panic!("{other:?}"),
            }
        }
    }
}
