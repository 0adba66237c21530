//! Decoding, encoding and muxing: the only module that names FFmpeg.

mod alpha;
mod audio;
mod audio_graph;
mod boxes;
mod budget;
pub mod clip;
mod clock;
pub mod complete;
mod copied;
pub mod damage;
pub mod decode;
mod deinterlace;
mod drift;
mod encoder;
mod feed;
mod hdr;
mod labels;
mod left_out;
mod mux;
mod nvenc;
mod open_encoder;
mod options;
mod orientation;
pub mod original;
pub mod packets;
mod picture;
pub mod pictures;
mod planes;
mod probe;
mod programs;
mod raw;
mod raw_audio;
mod raw_input;
mod raw_output;
mod shown_as;
pub mod sidecar;
mod splices;
mod stream_info;
mod streams;
mod stretch;
pub mod synth;
mod tags;
mod ticks;
mod unfilled;
pub mod verify;
mod view;
pub mod vmaf;
mod webm_alpha;
pub mod write;

use std::path::{Path, PathBuf};
use std::sync::Once;

use ffmpeg_next as ffmpeg;

use self::clip::{ClipInfo, EncoderStatus};
use crate::error::{Classify, Consequence, ExitCode};

/// Prepares FFmpeg: call first thing in `main`, before any thread is started. Everything works without, but then SVT-AV1
/// writes to standard error.
pub fn init() {
    quiet();
    if std::env::var_os("SVT_LOG").is_none() && is_single_threaded() {
        #[expect(unsafe_code, reason = "SVT-AV1's log has no other switch")]
        // SAFETY: this is the only thread, so that none reads the environment meanwhile.
        unsafe {
            std::env::set_var("SVT_LOG", "0");
        }
    }
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Silences FFmpeg's own log: what matters comes back as errors, counts and warnings. Those of FFmpeg's own have no text
/// before they are registered.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
        ffmpeg::error::register_all();
    });
}

/// What a clip is, from its headers and the first packets.
///
/// # Errors
/// [`MediaError::Read`] where the system cannot read it. [`MediaError::Unusable`] with the codes `empty`,
/// `not_video`, `moov_missing`, `playlist_refused`, `too_large`, `too_many_frames`, `not_decodable`, `pixel_format`.
pub fn probe(path: &Path) -> Result<ClipInfo, MediaError> {
    probe::open(path).map(|it| it.info)
}

/// [`probe`] for content that nobody vouches for: headers that ask for memory without end are refused. The limit holds
/// for the whole process meanwhile, so this is for a process that does nothing else just then.
///
/// # Errors
/// As [`probe`].
pub fn probe_untrusted(path: &Path) -> Result<ClipInfo, MediaError> {
    budget::within(|| probe(path))
}

/// Which encoders can be used, found by opening each for a small picture.
#[must_use]
pub fn encoders() -> Vec<EncoderStatus> {
    quiet();
    let mut all = open_encoder::statuses();
    all.push(EncoderStatus { name: "aac", on_gpu: false, problem: audio::encoder_problem() });
    all
}

/// Version of the libavcodec in use, as `59.37.100`.
#[must_use]
pub fn libavcodec_version() -> String {
    let version = ffmpeg::codec::version();
    format!("{}.{}.{}", version >> 16, (version >> 8) & 0xff, version & 0xff)
}

/// Cores that encoders go by: those that this process may run on.
#[must_use]
pub fn cores() -> u32 {
    options::cores()
}

/// Version of FFmpeg, as its makers or packagers name it: `5.1.6-0+deb12u1`.
#[must_use]
pub fn ffmpeg_version() -> String {
    raw::library_version()
}

/// Why a clip cannot be read or written. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The content cannot be used.
    #[error("{}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// A short stable word, such as `not_video`, `moov_missing`, `too_few_frames`.
        code: &'static str,
        /// What was wrong and what to do.
        reason: String,
    },
    /// The output cannot be written.
    #[error("{}: cannot be written: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was wrong and what to do.
        reason: String,
        /// The system's reason, if it gave one.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The encoder opens with these settings, and not for pictures as this clip has them.
    #[error("encoder `{encoder}`: {reason}")]
    Unencodable {
        /// The encoder's name.
        encoder: String,
        /// What was wrong and what to do.
        reason: String,
    },
    /// No encoder of that name in this FFmpeg, or it does not open with these settings.
    #[error("encoder `{encoder}`: {reason}")]
    Encoder {
        /// The encoder's name.
        encoder: String,
        /// What was wrong and what to do.
        reason: String,
    },
}

impl MediaError {
    /// A short stable word for reports and the journal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } => "source_unreadable",
            Self::Unusable { code, .. } => code,
            Self::Write { .. } => "output_unwritable",
            Self::Encoder { .. } => "encoder",
            Self::Unencodable { .. } => "not_encodable",
        }
    }
}

impl Classify for MediaError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Read { source, .. } => crate::error::io_consequence(source),
            Self::Unusable { .. } => Consequence::Reject,
            Self::Write { source: Some(source), .. } => crate::error::io_consequence(source),
            // No fault of the disk's: the clip leads to something that cannot be written.
            Self::Write { source: None, .. } => Consequence::Reject,
            Self::Encoder { .. } => Consequence::Stop,
            Self::Unencodable { .. } => Consequence::Reject,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { .. } => ExitCode::IoError,
            Self::Unusable { .. } | Self::Unencodable { .. } => ExitCode::DataError,
            Self::Write { .. } => ExitCode::CannotCreate,
            Self::Encoder { .. } => ExitCode::Config,
        }
    }
}
