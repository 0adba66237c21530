//! What a command says. Nothing else in `src/cli` writes to standard output or standard error.
//!
//! `println!` and `eprintln!` panic where that cannot be written, and take a finished conversion with them.

use std::fmt::Display;
use std::io::{self, Write as _};

use crate::cli::CliError;
use crate::error::ExitCode;

/// Writes what was asked for to standard output. Whoever closed it has read enough.
///
/// # Errors
/// Exit code 74 where it cannot be written, as on a full disk.
pub fn print(text: impl Display) -> Result<(), CliError> {
    is_read(text).map(|_| ())
}

/// [`print`]; whether whoever reads it wants more.
///
/// # Errors
/// As [`print`].
pub fn is_read(text: impl Display) -> Result<bool, CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.to_string().as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) => unwritable(error).map_or(Ok(false), Err),
    }
}

/// Why standard output cannot be written; `None` where whoever reads it has read enough.
pub fn unwritable(error: io::Error) -> Option<CliError> {
    let message = format!("standard output: cannot be written: {error}");
    let is_read = error.kind() == io::ErrorKind::BrokenPipe;
    (!is_read).then(|| CliError::new(ExitCode::IoError, message))
}

/// [`print`] with an end of line.
///
/// # Errors
/// As [`print`].
pub fn line(text: impl Display) -> Result<(), CliError> {
    print(format_args!("{text}\n"))
}

/// Writes a line to standard error, in one piece. Where nobody can read it there is nothing to be done: how the command
/// ends does not depend on it.
pub fn note(text: impl Display) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
