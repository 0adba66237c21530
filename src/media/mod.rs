//! Decoding, encoding and muxing: the only module that names FFmpeg.

pub mod clip;

use std::path::PathBuf;

use crate::error::{Classify, Consequence, ExitCode};

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
    /// No encoder of that name in this FFmpeg, or it does not open with these settings.
    #[error("encoder `{encoder}`: {reason}")]
    Encoder {
        /// The encoder's name.
        encoder: String,
        /// What was wrong and what to do.
        reason: String,
    },
}

impl Classify for MediaError {
    fn consequence(&self) -> Consequence {
        match self {
            Self::Read { source, .. } => crate::error::io_consequence(source),
            Self::Unusable { .. } => Consequence::Reject,
            Self::Write { .. } => Consequence::Retry,
            Self::Encoder { .. } => Consequence::Stop,
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { .. } => ExitCode::IoError,
            Self::Unusable { .. } => ExitCode::DataError,
            Self::Write { .. } => ExitCode::CannotCreate,
            Self::Encoder { .. } => ExitCode::Config,
        }
    }
}
