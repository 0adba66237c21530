//! Moves originals away: over file systems where need be, and never onto anything that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::daemon::digest::file_sha256;
use crate::daemon::names;
use crate::daemon::publish::{
    MOST_NAMES, Outcome, PublishError, has_content, io_error, sync, sync_folder_of,
};
use crate::daemon::rename::{Placed, rename_to_free};

/// Moves `from` into `folder`, under a numbered name where its own is taken; across file systems by copy, comparison and removal.
///
/// # Errors
/// [`PublishError::Io`]; `from` is then untouched.
pub fn move_to_free(from: &Path, folder: &Path) -> Outcome<PathBuf> {
    fs::create_dir_all(folder).map_err(io_error(folder, "cannot be created"))?;
    let name = from.file_name().unwrap_or_default();
    for number in 1..=MOST_NAMES {
        let to = folder.join(names::numbered(name, number));
        match rename_to_free(from, &to) {
            Ok(Placed::There) => {
                sync_folder_of(&to)?;
                return Ok(to);
            }
            Ok(Placed::NameTaken) => {}
            Err(PublishError::Io { source, .. })
                if source.kind() == io::ErrorKind::CrossesDevices =>
            {
                let temporary = names::temporary(&to, 0, 0);
                fs::copy(from, &temporary).map_err(io_error(&temporary, "cannot be copied to"))?;
                sync(&temporary)?;
                let size = fs::metadata(from).map_err(io_error(from, "cannot be read"))?.len();
                let hash = file_sha256(from).map_err(io_error(from, "cannot be read"))?;
                if !has_content(&temporary, size, &hash)? {
                    let source = io::Error::other("the copy differs from the original");
                    return Err(io_error(&temporary, "cannot be used")(source));
                }
                if let Placed::There = rename_to_free(&temporary, &to)? {
                    sync_folder_of(&to)?;
                    fs::remove_file(from).map_err(io_error(from, "cannot be removed"))?;
                    return Ok(to);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(PublishError::NoName(folder.join(name)))
}
