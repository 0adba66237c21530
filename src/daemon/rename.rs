//! Renames that overwrite nothing unless told to, on every file system.

use std::fs;
use std::io;
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
        Err(Errno::EXIST) => return Ok(Placed::NameTaken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        Err(error) => return Err(io_error(to, "cannot be renamed to")(error.into())),
    }
    match fs::hard_link(from, to) {
        Ok(()) => {
            fs::remove_file(from).map_err(io_error(from, "cannot be removed"))?;
            return Ok(Placed::There);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Placed::NameTaken),
        Err(_) => {}
    }
    if is_there(to)? {
        return Ok(Placed::NameTaken);
    }
    fs::rename(from, to).map_err(io_error(to, "cannot be renamed to"))?;
    Ok(Placed::There)
}
