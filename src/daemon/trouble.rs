//! Why an attempt at a job broke off where the clip is not at fault.

use crate::daemon::DaemonError;
use crate::daemon::journal::JournalError;
use crate::daemon::publish::PublishError;

/// Why an attempt broke off.
pub(super) enum Trouble {
    /// The folder's fault, or the system's: it may pass.
    Passing(String),
    /// The daemon cannot go on.
    Fatal(DaemonError),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<DaemonError> for Trouble {
    fn from(error: DaemonError) -> Self {
        Self::Fatal(error)
    }
}

impl From<PublishError> for Trouble {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Record(error) => Self::Fatal(error.into()),
            error => Self::Passing(error.to_string()),
        }
    }
}
