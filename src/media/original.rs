//! Opens originals so that reading them leaves no trace: where the system allows it (to their owner), the time of their last
//! reading stays as it was, so that a watched folder does not look used to whoever backs it up or tidies it.

use std::ffi::CStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::plain_file;

/// Where the kernel lists what this process has open.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Opens the original at `path` for reading.
///
/// # Errors
/// The system's; `InvalidInput` where it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    match plain_file::open(path, OFlags::NOATIME) {
        // Only whoever owns the file may ask for it; missing rights to read it are another error.
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            plain_file::open(path, OFlags::empty())
        }
        opened => opened,
    }
}

/// The same for what FFmpeg opened itself, which takes a name and no flags: sets them where it is open for reading. What
/// cannot be set is left, as where somebody else owns the file.
pub(super) fn leave_no_trace(url: &CStr) {
    let name = url.to_bytes();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.strip_prefix(b"file:").unwrap_or(name)));
    let Ok(original) = fs::metadata(path) else { return };
    let is_it = |it: Metadata| (it.dev(), it.ino()) == (original.dev(), original.ino());
    for entry in fs::read_dir(DESCRIPTORS).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|it| it.parse().ok());
        if let Some(number) = number
            && fs::metadata(PathBuf::from(DESCRIPTORS).join(entry.file_name())).is_ok_and(is_it)
        {
            set_flag(number);
        }
    }
}

#[expect(unsafe_code, reason = "the descriptor is FFmpeg's")]
fn set_flag(number: RawFd) {
    // SAFETY: it was open just now. Should another thread close it meanwhile and open something else under its number, that
    // one is not closed here either, and for what is only read or written the flag means nothing else.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    let Ok(flags) = rustix::fs::fcntl_getfl(descriptor) else { return };
    if flags & OFlags::ACCMODE == OFlags::RDONLY {
        let _ = rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NOATIME);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::time::{Duration, SystemTime};

    /// A file that was read long before it was written: reading it changes that, where the file system keeps such times.
    fn old(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "content").unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let times = fs::FileTimes::new().set_accessed(long_ago);
        File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
        path
    }

    fn accessed(path: &Path) -> i64 {
        fs::metadata(path).unwrap().atime()
    }

    #[test]
    fn reading_an_original_leaves_the_time_of_its_last_reading() {
        let folder = tempfile::tempdir().unwrap();
        let usual = old(folder.path(), "usual");
        fs::read(&usual).unwrap();
        if accessed(&usual) == 1_000_000_000 {
            println!("skipped: this file system does not keep when files were read");
            return;
        }
        let read = old(folder.path(), "read");
        open(&read).unwrap().read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(accessed(&read), 1_000_000_000);
        let foreign = old(folder.path(), "foreign");
        let mut file = File::open(&foreign).unwrap();
        let url = format!("file:{}", foreign.display());
        leave_no_trace(&std::ffi::CString::new(url).unwrap());
        file.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(accessed(&foreign), 1_000_000_000);
    }

    #[test]
    fn what_somebody_else_owns_is_opened_all_the_same() {
        // Everybody may read it, and its owner is root.
        let mut content = String::new();
        open(Path::new("/etc/passwd")).unwrap().read_to_string(&mut content).unwrap();
        assert!(content.contains("root"));
        let error = open(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
