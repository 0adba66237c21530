//! Renames that overwrite nothing unless told to, on every file system.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

use crate::config::file::Collision;
use crate::daemon::publish::{Outcome, io_error, is_there};

/// What became of a renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// The file has the name.
    There,
    /// Something else has it.
    NameTaken,
}

/// Renames `from`; what has the name `to` is replaced only where `collision` says so.
pub(super) fn rename(from: &Path, to: &Path, collision: Collision) -> Outcome<Placed> {
    match collision {
        Collision::Rename | Collision::Skip => rename_to_free(from, to),
        Collision::Overwrite => {
            fs::rename(from, to).map_err(io_error(to, "cannot be renamed to"))?;
            Ok(Placed::There)
        }
    }
}

/// Renames without overwriting. File systems that cannot do it in one step get a hard link and a removal; those without
/// links (FAT, some network shares) a look and a rename, which another program could slip between.
pub(super) fn rename_to_free(from: &Path, to: &Path) -> Outcome<Placed> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(Placed::There),
        Err(Errno::EXIST) => return taken(from, to),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        Err(error) => return Err(io_error(to, "cannot be renamed to")(error.into())),
    }
    match fs::hard_link(from, to) {
        Ok(()) => {
            fs::remove_file(from).map_err(io_error(from, "cannot be removed"))?;
            return Ok(Placed::There);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return taken(from, to),
        Err(_) => {}
    }
    if is_there(to)? {
        return Ok(Placed::NameTaken);
    }
    fs::rename(from, to).map_err(io_error(to, "cannot be renamed to"))?;
    Ok(Placed::There)
}

/// There is something of the name `to`: where it is `from` itself by a second link, an earlier call was interrupted between
/// its two steps, and the second is done now.
fn taken(from: &Path, to: &Path) -> Outcome<Placed> {
    let (Ok(one), Ok(other)) = (fs::symlink_metadata(from), fs::symlink_metadata(to)) else {
        return Ok(Placed::NameTaken);
    };
    // With one link alone both would be one name, as where case does not count.
    let is_second_link = (one.dev(), one.ino()) == (other.dev(), other.ino()) && one.nlink() > 1;
    if !is_second_link || one.is_dir() {
        return Ok(Placed::NameTaken);
    }
    fs::remove_file(from).map_err(io_error(from, "cannot be removed"))?;
    Ok(Placed::There)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_link_that_an_interruption_left_is_taken_for_moved() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join(".hidden"), folder.path().join("a.mp4"));
        fs::write(&from, "content").unwrap();
        fs::write(&to, "content").unwrap();
        assert_eq!(rename_to_free(&from, &to).unwrap(), Placed::NameTaken, "another file");
        fs::remove_file(&to).unwrap();
        fs::hard_link(&from, &to).unwrap();
        assert_eq!(rename_to_free(&from, &to).unwrap(), Placed::There);
        assert!(!from.exists() && fs::read_to_string(&to).unwrap() == "content");
    }
}
