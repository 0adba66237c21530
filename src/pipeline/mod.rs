//! Converts one clip: probe, decode, timeline, engine, encode, verify, report.
//!
//! ```text
//! convert     the four threads of a clip; stages are three of them, line is the way from the network to the encoder
//!  ├ plan       from settings to time: how much longer, at which rate; timeline says where each frame lies
//!  ├ looking    what is seen in a source frame before the network gets it
//!  │  ├ scene      cuts; cut_list has somebody else's, changes are flashes and fades
//!  │  ├ repeats    pictures that were there before; line takes them out where they are to be replaced
//!  │  ├ motion     how sure what lies between can be; certainty collects it
//!  │  ├ unrecorded times without frames; timelapse and drives, which times were never recorded; camera reads names
//!  │  └ length     how long a clip may be
//!  ├ masking    what is not made up: masks by configuration, overlays by looking, bars round the picture
//!  ├ ahead      the engine, asked ahead of time
//!  ├ segments   where a clip is divided; parts keeps what is finished, resume goes on behind it
//!  ├ room       whether the result has room
//!  ├ scoring    held-out frames beside the network; holdout is their part of the report, encode_quality that of the encoder
//!  ├ inspect    the finished output read back; checks says what that came to
//!  ├ summary    the report; tally counts for it, known has what a failed one knew, warnings and level warn, korean translates
//!  └ beside     what lies beside the output
//!     ├ ledger     the list of frames
//!     ├ page       what is read in a browser, with its chart
//!     └ comparison original and result; stills are single frames; shown draws both, with font
//! sequence    numbered pictures in place of a clip
//! audit       files held to their report afterwards; audit_frames each frame to the list; repeatable what another run makes
//! fingerprint, pace, column_sums  what several of them need
//! ```

mod ahead;
pub mod audit;
pub mod audit_frames;
pub mod bars;
pub mod beside;
pub mod camera;
pub mod certainty;
pub mod changes;
mod chart;
mod checks;
mod column_sums;
pub mod comparison;
pub mod convert;
pub mod cut_list;
mod drives;
mod encode_quality;
pub mod fingerprint;
pub mod font;
pub mod holdout;
mod inspect;
pub mod known;
pub mod korean;
pub mod ledger;
mod length;
pub mod level;
mod line;
pub mod looking;
mod masking;
pub mod masks;
pub mod motion;
pub mod overlays;
pub mod pace;
pub mod page;
pub mod parts;
pub mod plan;
mod repeatable;
pub mod repeats;
mod resume;
pub mod room;
pub mod scene;
mod scoring;
pub mod segments;
pub mod sequence;
pub mod shown;
mod stages;
mod stills;
mod summary;
pub mod tally;
pub mod timelapse;
pub mod timeline;
mod unrecorded;
mod warnings;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::settings::Settings;
use crate::engine::EngineError;
use crate::error::{Classify, Consequence, ExitCode};
use crate::media::MediaError;
use crate::pipeline::segments::Rule;

/// One clip to convert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The clip; opened read-only.
    pub source: PathBuf,
    /// Where the output is written: a temporary name in the folder of `output`.
    pub temporary: PathBuf,
    /// Folder in which finished segments are kept, so that another try goes on behind them: a temporary name in the
    /// folder of `output`, the same for every try. Without one nothing is kept.
    pub parts: Option<PathBuf>,
    /// Where segments end.
    pub segments: Rule,
    /// The name it will get when published (named in the report; its extension decides the container).
    pub output: PathBuf,
    /// What to do.
    pub settings: Settings,
    /// SHA-256 of what decides the result: the settings, and the content of the weights; for the report, where it is known.
    pub settings_sha256: Option<String>,
}

/// How far a conversion is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Phase: `opening`, `resuming` (behind finished segments), `converting`, `verifying`.
    pub phase: String,
    /// Grows while a phase without source frames advances: bytes hashed, frames passed over or verified.
    pub step: u64,
    /// Source frames done.
    pub frames_in: u64,
    /// Source frames expected, if known.
    pub frames_in_expected: Option<u64>,
    /// Output frames written.
    pub frames_out: u64,
    /// Output frames a second since the start of this run.
    pub fps: f64,
    /// Seconds to go, if known.
    pub eta_s: Option<f64>,
}

/// Why a clip could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// Reading or writing media.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The settings do not fit together or not with this clip.
    #[error("{0}")]
    Settings(String),
    /// The clip changed while it was worked.
    #[error(
        "{}: changed while it was being converted (SHA-256 {before} at the start, {after} at the end); the result was \
         discarded",
        path.display()
    )]
    SourceChanged {
        /// The clip.
        path: PathBuf,
        /// SHA-256 of its content at the start.
        before: String,
        /// The same at the end.
        after: String,
    },
    /// The finished file is not what was written.
    #[error("{}: verification failed: {reason}", path.display())]
    Verify {
        /// The temporary output.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// There is no room for the output.
    #[error("{0}")]
    NoSpace(String),
    /// Asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl ConvertError {
    /// A short stable word for reports and the journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Media(error) => error.code(),
            Self::Engine(_) => "engine",
            Self::Settings(_) => "settings",
            Self::SourceChanged { .. } => "source_changed",
            Self::Verify { .. } => "verification_failed",
            Self::NoSpace(_) => "no_space",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Classify for ConvertError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Media(error) => error.consequence(),
            Self::Engine(error) => error.consequence(),
            Self::Settings(_) => Consequence::Reject,
            Self::SourceChanged { .. }
            | Self::Verify { .. }
            | Self::NoSpace(_)
            | Self::Interrupted => Consequence::Retry,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Media(error) => error.exit_code(),
            Self::Engine(error) => error.exit_code(),
            Self::Settings(_) => ExitCode::Usage,
            Self::SourceChanged { .. } | Self::Interrupted => ExitCode::TempFail,
            Self::Verify { .. } => ExitCode::Software,
            Self::NoSpace(_) => ExitCode::CannotCreate,
        }
    }
}
