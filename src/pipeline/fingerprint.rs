//! What a file was when it was looked at: size, time, inode and content hash.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use crate::hex::hex;
use crate::media::{MediaError, original};
use crate::pipeline::ConvertError;

/// Bytes hashed at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Size.
    pub size_bytes: u64,
    /// Modification time, where the file system has one.
    pub modified: Option<SystemTime>,
    /// Inode number.
    pub inode: u64,
    /// SHA-256 in hex.
    pub sha256: String,
}

impl Fingerprint {
    /// Reads the whole file, read-only, telling `advanced` the number of bytes so far.
    ///
    /// # Errors
    /// [`MediaError::Read`]; [`ConvertError::Interrupted`] where `stop` was set.
    pub fn take(
        path: &Path,
        stop: &Arc<AtomicBool>,
        advanced: &mut dyn FnMut(u64),
    ) -> Result<Self, ConvertError> {
        let fault =
            |source| ConvertError::Media(MediaError::Read { path: path.to_owned(), source });
        let mut file = original::open(path).map_err(fault)?;
        let metadata = file.metadata().map_err(fault)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(ConvertError::Interrupted);
            }
            match file.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    hash.update(&chunk[..count]);
                    done += count as u64;
                    advanced(done);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fault(error)),
            }
        }
        let sha256 = hex(&hash.finalize());
        let modified = metadata.modified().ok();
        Ok(Self { size_bytes: metadata.len(), modified, inode: metadata.ino(), sha256 })
    }

    /// Whether the file still holds what it held.
    #[must_use]
    pub fn same_content(&self, later: &Self) -> bool {
        self.size_bytes == later.size_bytes && self.sha256 == later.sha256
    }
}
