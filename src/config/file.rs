//! The daemon's configuration file, checked once at load: whoever holds a [`Config`] need not check again.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::check;
use crate::config::settings::{Device, Settings};
use crate::error::{Classify, Consequence, ExitCode};

/// Where the packaged service looks.
pub const DEFAULT_PATH: &str = "/etc/slomod/slomod.toml";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}{}", path.display(), hint(path, source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A key or a value is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What was found and what to write instead.
        message: String,
    },
}

/// What to do where there is no file yet.
fn hint(path: &Path, source: &std::io::Error) -> String {
    match source.kind() {
        std::io::ErrorKind::NotFound if path == Path::new(DEFAULT_PATH) => {
            "; `slomod init` writes one, or name another with --config FILE".into()
        }
        std::io::ErrorKind::NotFound => {
            format!("; `slomod init --config {}` writes one", path.display())
        }
        _ => String::new(),
    }
}

impl Classify for ConfigError {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }

    fn exit_code(&self) -> ExitCode {
        ExitCode::Config
    }
}

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What holds for all folders.
    pub daemon: Daemon,
    /// The folders, at least one; their paths differ and no output lies in a watched folder.
    pub watches: Vec<Watch>,
    /// Who hears of ended jobs.
    pub hooks: Vec<Hook>,
}

/// What holds for all folders.
#[derive(Clone, Debug, PartialEq)]
pub struct Daemon {
    /// Journal and lock.
    pub state_dir: PathBuf,
    /// Where the network runs.
    pub device: Device,
    /// Weights; `None` is the built-in starter weights.
    pub model: Option<PathBuf>,
    /// Threads of the CPU backend; 0 is all cores.
    pub threads: usize,
    /// How long a file must be still on a local file system.
    pub settle: Duration,
    /// How long a file must be still on a network file system.
    pub network_settle: Duration,
    /// How long a file must be still whose container does not say how much belongs to it.
    pub unsized_settle: Duration,
    /// How often a folder with change events is read whole all the same.
    pub scan_interval: Duration,
    /// How often a folder without change events (network file systems) is read, and a missing folder looked for.
    pub poll_interval: Duration,
    /// How long a still file that does not open as a video is waited for before it is refused.
    pub grace: Duration,
    /// A worker without progress for this long is ended.
    pub stall_timeout: Duration,
    /// How long a worker may take to stop.
    pub stop_timeout: Duration,
    /// Bytes that stay free in the output's file system.
    pub reserve_bytes: u64,
    /// Lower-case file name extensions that are taken; empty takes every file.
    pub extensions: Vec<String>,
    /// The control socket; `None` is in the service manager's runtime directory, or in `state_dir` where there is none.
    pub control: Option<PathBuf>,
    /// Loopback address at which metrics can be fetched over HTTP, besides the control socket.
    pub metrics: Option<SocketAddr>,
}

impl Default for Daemon {
    fn default() -> Self {
        let extensions = [
            "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg", "3gp",
            "wmv", "flv", "ogv", "mxf",
        ];
        Self {
            state_dir: "/var/lib/slomod".into(),
            device: Device::Auto,
            model: None,
            threads: 0,
            settle: Duration::from_secs(5),
            network_settle: Duration::from_secs(30),
            unsized_settle: Duration::from_secs(60),
            scan_interval: Duration::from_secs(5 * 60),
            poll_interval: Duration::from_secs(30),
            grace: Duration::from_secs(10 * 60),
            stall_timeout: Duration::from_secs(10 * 60),
            stop_timeout: Duration::from_secs(90),
            reserve_bytes: 1 << 30,
            extensions: extensions.map(str::to_owned).into(),
            control: None,
            metrics: None,
        }
    }
}

/// One folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Where clips are dropped; absolute.
    pub path: PathBuf,
    /// Where outputs and reports appear; absolute, outside every watched folder.
    pub output: PathBuf,
    /// What happens to a clip.
    pub settings: Settings,
    /// How long a file must be still; `None` by file system, from [`Daemon`].
    pub settle: Option<Duration>,
    /// Which folders below it are watched.
    pub depth: Depth,
    /// Clips of a folder with a higher number come first.
    pub priority: i32,
    /// How changes are noticed.
    pub watch_by: WatchBy,
    /// When a file counts as complete.
    pub ready: Ready,
    /// A file or folder below `path` without which the folder counts as not there; relative.
    pub marker: Option<PathBuf>,
    /// Folders, besides `path`, that links to files may lead into; absolute.
    pub links_to: Vec<PathBuf>,
    /// What happens where the output's name is taken.
    pub collision: Collision,
    /// What becomes of a file whose content was worked before.
    pub same_content: SameContent,
    /// What happens to the original after its output is published.
    pub on_success: OnSuccess,
}

impl Watch {
    /// The settings a clip of this folder is converted with.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.clone()
    }
}

/// Somebody who hears of ended jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// Who.
    pub target: HookTarget,
    /// Of which ends.
    pub on: Vec<HookState>,
    /// How long it may take; then it is ended.
    pub timeout: Duration,
}

/// Who hears of ended jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookTarget {
    /// A program, by its absolute path, and its arguments. No shell looks at them. It gets the report on standard input.
    Command(Vec<String>),
    /// An `http` or `https` address, which gets the report as the body of a POST.
    Url(String),
}

/// An end of a job that hooks can hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookState {
    /// With output and report.
    Done,
    /// Given up.
    Failed,
    /// Not usable.
    Refused,
}

impl HookState {
    /// The state as the journal has it; `None` for a state that hooks do not hear of.
    #[must_use]
    pub fn of(state: &str) -> Option<Self> {
        match state {
            "done" => Some(Self::Done),
            "failed" => Some(Self::Failed),
            "refused" => Some(Self::Refused),
            _ => None,
        }
    }
}

/// Which folders below a watched one count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// None.
    Flat,
    /// All; the output folder gets the same folders.
    Recursive,
}

/// How changes in a folder are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WatchBy {
    /// Each directory by its file system: polling on network file systems, else events.
    Auto,
    /// By change events, whatever the file system.
    Events,
    /// By reading the folder at `poll_interval`.
    Polling,
}

/// When a file counts as complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// When it is still for `settle` and opens as a video.
    Settle,
    /// The same, and not before `clip.mp4.done` or `clip.done` lies beside it.
    Sentinel,
    /// At once where it is moved to its name and opens as a video; else as with `Settle`.
    Rename,
}

/// What happens where the output's name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collision {
    /// The new output becomes `name~2`, `name~3`, ….
    Rename,
    /// The new output replaces the old.
    Overwrite,
    /// The clip is not converted, and a report says so.
    Skip,
}

/// What becomes of a file under another name whose content was worked with the same settings before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameContent {
    /// It is not worked: a report of its own refers to the earlier one.
    Refer,
    /// It is worked as any other.
    Work,
}

/// Hidden folder of the watched folder that `on_success = "trash"` moves to.
pub const TRASH: &str = ".slomod-trash";

/// What happens to an original after its output is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnSuccess {
    /// It stays.
    Keep,
    /// It moves into this folder, which lies outside every watched folder.
    Move(PathBuf),
    /// It moves into the hidden folder `.slomod-trash` of the watched folder.
    Trash,
}

/// Reads and checks the file.
///
/// # Errors
/// [`ConfigError`], with line and column of the first thing wrong.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Where the daemon of a file is that may be wrong otherwise: its state folder and its control socket, as far as the file
/// can be read at all.
#[must_use]
pub fn place(path: &Path) -> Option<Daemon> {
    let text = std::fs::read_to_string(path).ok()?;
    let table: toml::Table = toml::from_str(&text).ok()?;
    let key = |name: &str| {
        let value = table.get("daemon")?.get(name)?.as_str().map(PathBuf::from);
        value.filter(|it| it.is_absolute())
    };
    let default = Daemon::default();
    let state_dir = key("state_dir").unwrap_or(default.state_dir);
    Some(Daemon { state_dir, control: key("control"), ..Daemon::default() })
}

/// Checks `text`, naming it `path` in errors.
///
/// # Errors
/// [`ConfigError::Invalid`], with line and column of the first thing wrong.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let invalid = |offset: usize, message: String| {
        let (line, column) = line_and_column(text, offset);
        ConfigError::Invalid { path: path.to_owned(), line, column, message }
    };
    let raw = toml::from_str(text).map_err(|error| {
        invalid(error.span().map_or(0, |span| span.start), error.message().trim().to_owned())
    })?;
    check::check(raw).map_err(|problem| invalid(problem.offset, problem.message))
}

/// Place of a byte offset: line and column in characters, both from 1.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
