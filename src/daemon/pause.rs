//! Whether clips are begun at all. It is a file in the state folder, so that a restart does not begin what a person paused.

use std::io;
use std::path::Path;

use crate::daemon::{DaemonError, small_file};
use crate::report;

/// The file; it holds since when.
const FILE_NAME: &str = "paused";
/// Longest text that is taken for a time.
const LONGEST_TEXT: usize = 40;

/// Since when no clip is begun, in RFC 3339; `None` where clips are.
///
/// # Errors
/// [`DaemonError::Io`].
pub fn read(state_dir: &Path) -> Result<Option<String>, DaemonError> {
    match std::fs::read_to_string(state_dir.join(FILE_NAME)) {
        Ok(text) => Ok(Some(text.trim().chars().take(LONGEST_TEXT).collect())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(state_dir, "cannot be read", source)),
    }
}

/// From now on no clip is begun. Returns since when.
///
/// # Errors
/// [`DaemonError::Io`].
pub fn set(state_dir: &Path) -> Result<String, DaemonError> {
    let since = report::now_rfc3339();
    small_file::write(&state_dir.join(FILE_NAME), &format!("{since}\n"))
        .map_err(|source| failed(state_dir, "cannot be written", source))?;
    Ok(since)
}

/// Clips are begun again.
///
/// # Errors
/// [`DaemonError::Io`].
pub fn clear(state_dir: &Path) -> Result<(), DaemonError> {
    match std::fs::remove_file(state_dir.join(FILE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed(state_dir, "cannot be removed", error))
        }
        _ => Ok(()),
    }
}

fn failed(state_dir: &Path, action: &'static str, source: io::Error) -> DaemonError {
    DaemonError::Io { path: state_dir.join(FILE_NAME), action, source }
}
