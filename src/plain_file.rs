//! Opens and reads regular files where anybody may put anything: a pipe of that name would be waited for without an end, and
//! a device or a huge file has more than fits in memory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Bytes of the longest file that is read whole: no report, segment's description or list of slomod's is longer.
pub const LONGEST_BYTES: u64 = 64 << 20;

/// Opens the regular file at `path` for reading, links followed, with the further `flags`.
///
/// # Errors
/// The system's; `InvalidInput` where it is no regular file.
pub fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let opened = |flags: OFlags| {
        let flags = flags.bits().cast_signed();
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    let file = match opened(flags | OFlags::NONBLOCK) {
        // Another program, as a file server for its clients, has to let go of a regular file first; a pipe never says so.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => opened(flags),
        // A socket.
        Err(error) if is(&error, Errno::NXIO) => return Err(no_regular_file()),
        other => other,
    }?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_regular_file()) }
}

/// All of the regular file at `path`; `None` where something else is there, as a link, or more than [`LONGEST_BYTES`].
///
/// # Errors
/// The system's; `NotFound` where there is nothing.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match open(path, OFlags::NOFOLLOW) {
        Err(error) if is(&error, Errno::LOOP) || error.kind() == io::ErrorKind::InvalidInput => {
            Ok(None)
        }
        other => bounded(other?),
    }
}

/// The same for a file that a person named: links are followed.
///
/// # Errors
/// As there.
pub fn read_linked(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match open(path, OFlags::empty()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        other => bounded(other?),
    }
}

fn bounded(file: File) -> io::Result<Option<Vec<u8>>> {
    if file.metadata()?.len() > LONGEST_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // It may grow meanwhile.
    file.take(LONGEST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= LONGEST_BYTES).then_some(bytes))
}

fn is(error: &io::Error, number: Errno) -> bool {
    error.raw_os_error() == Some(number.raw_os_error())
}

fn no_regular_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_regular_files_of_a_bounded_length_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("report"), "{}").unwrap();
        assert_eq!(read(&path("report")).unwrap().unwrap(), b"{}");
        assert_eq!(read(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink(path("report"), path("link")).unwrap();
        File::create(path("huge")).unwrap().set_len(LONGEST_BYTES + 1).unwrap();
        for other in ["pipe", "socket", "link", "huge", "."] {
            assert!(read(&path(other)).unwrap().is_none(), "{other}");
        }
        assert_eq!(read_linked(&path("link")).unwrap().unwrap(), b"{}");
        for other in ["pipe", "socket", "huge", "."] {
            assert!(read_linked(&path(other)).unwrap().is_none(), "{other}");
        }
        assert!(open(&path("link"), OFlags::empty()).is_ok(), "clips may be links");
        for other in ["pipe", "socket", "."] {
            let error = open(&path(other), OFlags::empty()).unwrap_err();
            assert!(error.to_string().contains("no regular file"), "{other}: {error}");
        }
    }
}
