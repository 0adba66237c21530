//! What can be asked of a running daemon, and how: one line of JSON in, one out, over a socket in the runtime directory.
//!
//! The socket belongs to the daemon's group (`slomod` where there is one); whoever may write to it may ask anything here.
//! An HTTP `GET /metrics` is understood as well, for programs that read metrics.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::file::Daemon;
use crate::daemon::journal::history::History;
use crate::daemon::live::Live;
use crate::daemon::protocol::WirePath;
use crate::error::ExitCode;

pub mod client;
pub mod server;

/// File name of the socket.
pub const SOCKET_NAME: &str = "control.sock";
/// Where the packaged service has its runtime directory.
pub const PACKAGED: &str = "/run/slomod";
/// Most jobs of a kind that one answer lists.
pub const MOST_LISTED: u32 = 10_000;

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// State folder of the daemon that is meant; another daemon refuses. Without it whoever listens is meant.
    pub state_dir: Option<WirePath>,
    /// What is asked.
    pub ask: Ask,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// How things are, with the first `queued` jobs that wait and the last `ended` of those that are over.
    Status {
        /// Waiting jobs listed.
        queued: u32,
        /// Ended jobs listed.
        ended: u32,
    },
    /// One job and its history.
    Job(i64),
    /// No other clip is begun.
    Pause,
    /// Clips are begun again.
    Resume,
    /// A waiting or running job is not to be worked.
    Cancel(i64),
    /// An ended job is to be tried again.
    Retry(i64),
    /// All jobs in this state are.
    RetryAll(Ended),
    /// All folders are read now.
    Rescan,
    /// The configuration is read again.
    Reload,
    /// Figures as OpenMetrics text.
    Metrics,
}

/// States whose jobs can be tried again together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Given up.
    Failed,
    /// Not usable.
    Refused,
}

impl Ended {
    /// As the journal has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// One line from the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How things are.
    Status(Box<Live>),
    /// A job and its history.
    Job(Box<History>),
    /// It was done: a sentence.
    Done(String),
    /// Figures.
    Metrics(String),
    /// It was not done.
    Refused(Refusal),
    /// The question is for a daemon with another state folder.
    NotMeant,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// How the command line ends with it.
    pub exit_code: ExitCode,
    /// A sentence, and what to do.
    pub message: String,
}

impl Answer {
    /// It was not done, and `exit_code` says what kind of reason there is.
    pub fn refused(exit_code: ExitCode, message: impl Into<String>) -> Self {
        Self::Refused(Refusal { exit_code, message: message.into() })
    }
}

/// Where the daemon of this configuration listens: as configured, else in the runtime directory that the service manager
/// made, else in the state folder.
#[must_use]
pub fn socket_of(daemon: &Daemon) -> PathBuf {
    if let Some(path) = &daemon.control {
        return path.clone();
    }
    runtime_directory().unwrap_or_else(|| daemon.state_dir.clone()).join(SOCKET_NAME)
}

/// Where a client looks for it: a client is not told of the runtime directory.
#[must_use]
pub fn sockets_of(daemon: &Daemon) -> Vec<PathBuf> {
    if let Some(path) = &daemon.control {
        return vec![path.clone()];
    }
    let folders = [runtime_directory(), Some(daemon.state_dir.clone()), Some(PACKAGED.into())];
    folders.into_iter().flatten().map(|folder| folder.join(SOCKET_NAME)).collect()
}

/// The first of the directories that systemd made for the service.
fn runtime_directory() -> Option<PathBuf> {
    let list = std::env::var("RUNTIME_DIRECTORY").ok()?;
    list.split(':').map(Path::new).find(|it| it.is_absolute()).map(Path::to_owned)
}
