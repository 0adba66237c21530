//! Watches folders, keeps the journal, runs the jobs, publishes the results.
//!
//! ```text
//! run       the one loop: hints and scans in, jobs out, signals; ending is its end
//!  ├ hints    change events (watcher has the kernel's), and which directories get none: they say where to look again
//!  ├ watch    what lies in the watched folders; scan reads them, looks asks what is due beside the loop
//!  ├ errands  what file systems are being asked; answers leaves out those that do not answer
//!  ├ settle   when a file is complete: the only code that decides it
//!  ├ arrivals from hint to queued job
//!  ├ order    which file and which job comes next
//!  ├ intake   probe and hash of a settled file
//!  ├ journal  the only durable state
//!  ├ dispatch which job is worked now, and what follows from its end
//!  ├ job      one job from claim to the end
//!  │  ├ known    whether there is anything to do; refusal is what was refused before
//!  │  ├ worker   the conversion, in a process of its own (they talk by protocol)
//!  │  ├ surroundings whether its source is the one that was queued, and its folders answer
//!  │  ├ verdict  what follows from an attempt that did not work; no_output writes the report
//!  │  ├ hand_over the end of a job that went well
//!  │  ├ publish  the only code that makes a final name visible
//!  │  └ original what happens to the source afterwards: moving moves it, moves has what waits, companions goes with it
//!  ├ recover  what a daemon that died left behind; house does it, place by place; said keeps it from saying all again
//!  ├ output_lock one daemon at a time writes to an output folder
//!  ├ folders  which of the watched folders are there; folder is one of them
//!  ├ dropin   what systemd must be told about the folders
//!  ├ engines  whether device and weights open, which weights asks for; late whether a driver came that only a new start can use
//!  ├ reload   a changed configuration, taken over whole or not at all
//!  ├ control  the socket behind `slomod status` and its like; asked and live answer, metrics are for machines
//!  ├ hooks    who hears of ended jobs; webhook posts to addresses
//!  ├ events   the kinds of events that the log tells apart
//!  ├ notifier what the service manager is told: READY, STATUS, WATCHDOG
//!  └ service  the status line, and the log with its fields; describe says how the daemon is
//! names      what is written is called so, and rename, links, durable and small_file put it there
//! snapshot   what a file was like at one instant; digest is its content, filesystem what it lies on, ignore what is no clip
//! ```

use std::path::PathBuf;

use crate::error::{Classify, Consequence, ExitCode, read_only_hint};

mod after;
mod answers;
mod arrivals;
mod asked;
mod attempts;
mod beside;
mod clock;
pub mod companions;
pub mod control;
mod describe;
pub mod digest;
pub mod directories;
mod dispatch;
pub mod dropin;
mod durable;
mod ending;
mod engines;
pub mod errands;
pub mod events;
pub mod filesystem;
pub mod folder;
pub mod folders;
mod hand_over;
pub mod hints;
mod hooks;
mod house;
pub mod ignore;
pub mod intake;
pub mod job;
pub mod journal;
pub mod known;
mod known_files;
pub mod late;
pub mod links;
pub mod live;
mod looks;
mod metrics;
pub mod moves;
pub mod moving;
pub mod names;
mod no_output;
pub mod notifier;
pub mod order;
pub mod original;
pub mod output_lock;
mod pause;
pub mod protocol;
pub mod publish;
mod pulse;
pub mod recover;
pub mod refusal;
mod reload;
mod rename;
pub mod run;
pub mod said;
pub mod scan;
pub mod service;
pub mod settle;
mod small_file;
pub mod snapshot;
mod surroundings;
mod trouble;
pub mod verdict;
pub mod watch;
pub mod watcher;
mod webhook;
mod weights;
pub mod worker;

/// Why the daemon cannot go on. What goes wrong with one clip is no such error: it ends up in the journal.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A folder or file of the daemon's own cannot be used.
    #[error("{}: {action}: {source}{}", path.display(), read_only_hint(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, such as `cannot be created`.
        action: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// Another daemon has the state folder.
    #[error("{}: another slomod daemon works with this state folder; stop it, or set another `state_dir`", .0.display())]
    Locked(PathBuf),
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
    /// A worker cannot be started, or could not open device and weights.
    #[error("{reason}")]
    Engine {
        /// What the worker said, and what to do.
        reason: String,
        /// What follows from it.
        consequence: Consequence,
        /// How the program ends.
        exit_code: ExitCode,
    },
}

impl Classify for DaemonError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Io { .. } | Self::Locked(_) => Consequence::Stop,
            Self::Journal(error) => error.consequence(),
            Self::Engine { consequence, .. } => *consequence,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Io { .. } => ExitCode::CannotCreate,
            Self::Locked(_) => ExitCode::TempFail,
            Self::Journal(error) => error.exit_code(),
            Self::Engine { exit_code, .. } => *exit_code,
        }
    }
}
