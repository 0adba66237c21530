//! Makes files, names and folders durable: what was done is there after the power fails.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;

/// What network file systems say that cannot sync a folder; their renames are as durable as they get.
const CANNOT_SYNC: [Errno; 3] = [Errno::INVAL, Errno::NOTSUP, Errno::NOSYS];

/// Waits until the file's content is on the disk.
///
/// # Errors
/// The system's.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Waits until the names in `folder` are, as far as its file system can do that.
///
/// # Errors
/// The system's.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match sync(folder) {
        Err(error) if cannot_sync(&error) => Ok(()),
        other => other,
    }
}

/// The folder that `path` is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn cannot_sync(error: &io::Error) -> bool {
    CANNOT_SYNC.iter().any(|it| error.raw_os_error() == Some(it.raw_os_error()))
}

/// Makes `folder` and all that lead to it, as far as they are not there, and each durable in the one that it is in.
///
/// # Errors
/// The system's.
pub(super) fn create_folders(folder: &Path) -> io::Result<()> {
    let is_missing = |it: &&Path| !it.as_os_str().is_empty() && fs::metadata(it).is_err();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(folder)?;
    // The outermost first: none is durable before the one that it is in.
    for made in missing.into_iter().rev() {
        match sync_folder(folder_of(made)) {
            // It may be written and not read, and so not opened.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_all_that_lead_to_them_and_again_without_an_error() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b/c");
        for _ in 0..2 {
            create_folders(&folder).unwrap();
            assert!(folder.is_dir());
        }
        fs::write(place.path().join("file"), "").unwrap();
        assert!(create_folders(&place.path().join("file/b")).is_err());
    }

    #[test]
    fn file_systems_that_cannot_sync_a_folder_hold_nothing_up() {
        for number in [Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS] {
            assert!(cannot_sync(&number.into()), "{number}");
        }
        assert!(!cannot_sync(&Errno::IO.into()) && !cannot_sync(&Errno::ROFS.into()));
    }
}
