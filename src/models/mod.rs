//! Weights files → checked networks.

use std::path::PathBuf;

use crate::error::{Classify, Consequence, ExitCode};

pub mod import;
pub mod pickle;
pub mod pyramid;
pub mod rife_v4;
pub mod torch_zip;
pub mod versions;
pub mod weights;

/// Why weights cannot be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which tensor, what was found, what was expected.
        reason: String,
    },
    /// A file cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Classify for ModelError {
    fn consequence(&self) -> Consequence {
        Consequence::Stop
    }

    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Read { .. } | Self::Invalid { .. } => ExitCode::Config,
            Self::Write { .. } => ExitCode::CannotCreate,
        }
    }
}
