//! What an error means to the caller: every library error answers with one [`Consequence`].

/// What the daemon does about an error. Nobody matches on message text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// The cause may go away by itself (busy, no space, no rights, device gone): try again later.
    Retry,
    /// This clip cannot be used as it is: refuse it, with a reason, until its content changes.
    Reject,
    /// Nothing can be done until a person acts (configuration, weights): stop.
    Stop,
}

/// Process exit codes, as in BSD `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ExitCode {
    /// All is well.
    Ok = 0,
    /// Wrong arguments.
    Usage = 64,
    /// The clip cannot be used.
    DataError = 65,
    /// No device (or another needed service) to work with.
    Unavailable = 69,
    /// A fault of slomod's own.
    Software = 70,
    /// The output cannot be written.
    CannotCreate = 73,
    /// The input cannot be read, or standard output not be written.
    IoError = 74,
    /// Try again later.
    TempFail = 75,
    /// The configuration or the weights are wrong.
    Config = 78,
}

/// Implemented by every error enum of the library.
pub trait Classify: std::error::Error {
    /// What the daemon does about it.
    fn consequence(&self) -> Consequence;
    /// How the command line ends with it.
    fn exit_code(&self) -> ExitCode;
}

/// Retry or reject for an operating-system error met while reading a source or writing an output.
#[must_use]
pub fn io_consequence(error: &std::io::Error) -> Consequence {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::InvalidData | Kind::InvalidInput | Kind::UnexpectedEof => Consequence::Reject,
        // No pause makes a file smaller than its file system allows, or a name shorter.
        Kind::FileTooLarge | Kind::InvalidFilename => Consequence::Reject,
        _ => Consequence::Retry,
    }
}

/// What to do about a read-only file system, to be put behind the error; empty for other errors.
#[must_use]
pub fn read_only_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::ReadOnlyFilesystem => {
            "; it is mounted read-only, or the unit does not let slomod write there: `slomod systemd-dropin` prints what \
             opens it"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W23, W24, W25, W26. The class of every error that may pass by itself.
    #[test]
    fn errors_of_disks_and_shares_are_retried_and_errors_of_the_content_are_not() {
        // ENOENT, EIO, EACCES, EBUSY, ENODEV, ENOSPC, EROFS, ETIMEDOUT, ESTALE, EDQUOT
        for number in [2, 5, 13, 16, 19, 28, 30, 110, 116, 122] {
            let error = std::io::Error::from_raw_os_error(number);
            assert_eq!(io_consequence(&error), Consequence::Retry, "{error}");
        }
        // EFBIG, ENAMETOOLONG: of this clip's size and name.
        for number in [27, 36] {
            let error = std::io::Error::from_raw_os_error(number);
            assert_eq!(io_consequence(&error), Consequence::Reject, "{error}");
        }
        let damaged = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert_eq!(io_consequence(&damaged), Consequence::Reject);
    }
}
