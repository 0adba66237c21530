//! Compiled kernels of earlier builds, by what decides their content. Shared by all profiles.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::package::Packed;

/// Entries that no build asked for in this time are removed.
const KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// A folder of entries: eight bytes of the image's length, eight of its length compressed, the compressed image, the log.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(folder: &Path) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<Packed> {
        let path = self.folder.join(key);
        let entry = fs::read(&path).ok()?;
        let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        let image_bytes = number(entry.get(..8)?)?;
        let len = usize::try_from(number(entry.get(8..16)?)?).ok()?;
        let (bytes, log) = entry.get(16..)?.split_at_checked(len)?;
        let log = String::from_utf8(log.to_vec()).ok()?;
        // Only the age at which it is removed depends on this.
        let _ = fs::File::options()
            .append(true)
            .open(&path)
            .and_then(|it| it.set_modified(SystemTime::now()));
        Some(Packed { bytes: bytes.to_vec(), image_bytes, log })
    }

    /// Stores an entry, which appears whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put(&self, key: &str, packed: &Packed) -> Result<(), String> {
        let mut entry = packed.image_bytes.to_le_bytes().to_vec();
        entry.extend_from_slice(&(packed.bytes.len() as u64).to_le_bytes());
        entry.extend_from_slice(&packed.bytes);
        entry.extend_from_slice(packed.log.as_bytes());
        let path = self.folder.join(key);
        let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
        fs::write(&unfinished, entry)
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Removes what was not asked for in a long time. A file that cannot be removed stays.
    pub fn remove_old(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let age = entry
                .metadata()
                .and_then(|it| it.modified())
                .map(|it| it.elapsed().unwrap_or_default());
            if age.is_ok_and(|it| it > KEPT) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
