//! What a file looked like at one instant: the values that must stay the same for it to count as still.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One look at a regular file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes.
    pub size_bytes: u64,
    /// Modification time in nanoseconds since 1970; may lie anywhere, also in the future.
    pub mtime_ns: i64,
    /// Status change time, likewise; it cannot be set by `touch`.
    pub ctime_ns: i64,
    /// File number in its file system.
    pub inode: u64,
}

impl Snapshot {
    /// From what the system says of an open or named file.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| s.saturating_mul(1_000_000_000).saturating_add(ns);
        Self {
            size_bytes: meta.size(),
            mtime_ns: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: nanoseconds(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }

    /// Looks at `path`, which may be a symbolic link to a file.
    ///
    /// # Errors
    /// The system's; `InvalidInput` where it is no regular file.
    pub fn take(path: &Path) -> io::Result<Self> {
        let meta = std::fs::metadata(path)?;
        if meta.is_file() {
            Ok(Self::of(&meta))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
        }
    }

    /// Whether both are the same content as far as the file system tells. The status change time is left out: a
    /// `chmod` or a new hard link changes it and nothing else.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        (self.size_bytes, self.mtime_ns, self.inode)
            == (other.size_bytes, other.mtime_ns, other.inode)
    }

    /// The same without the inode, which a file does not keep where it is copied back with its times, and on some file
    /// systems not even over a mount. Only where the content is compared as well.
    #[must_use]
    pub fn same_size_and_time(&self, other: &Self) -> bool {
        (self.size_bytes, self.mtime_ns) == (other.size_bytes, other.mtime_ns)
    }
}
