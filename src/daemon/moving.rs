//! Moves originals away: over file systems where need be, and never onto anything that is there.

use std::cell::OnceCell;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::daemon::digest::file_sha256;
use crate::daemon::names;
use crate::daemon::publish::{
    MOST_NAMES, Outcome, PublishError, has_content, io_error, is_there, sync, sync_folder_of,
};
use crate::daemon::rename::{Placed, rename_to_free};

/// Moves `from` into `folder`, under a numbered name where its own is taken; across file systems by copy, comparison and
/// removal. `tag` and `job` are in the name of that copy until it is whole. `is_same` looks whether `from` is still the file
/// that is meant: a copy takes long, and another file may be put in its place meanwhile.
///
/// # Errors
/// [`PublishError`]; `from` is then untouched, and no part of a copy is left.
pub fn move_to_free(
    from: &Path,
    folder: &Path,
    (tag, job): (&str, i64),
    is_same: &dyn Fn() -> bool,
) -> Outcome<PathBuf> {
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
                return copy_to_free(from, folder, (tag, job), is_same);
            }
            Err(error) => return Err(error),
        }
    }
    Err(PublishError::NoName(folder.join(name)))
}

/// The same where the folder is of another file system.
fn copy_to_free(
    from: &Path,
    folder: &Path,
    (tag, job): (&str, i64),
    is_same: &dyn Fn() -> bool,
) -> Outcome<PathBuf> {
    let unreadable = || io_error(from, "cannot be read");
    let meta = fs::metadata(from).map_err(unreadable())?;
    let name = from.file_name().unwrap_or_default();
    // One name for all tries: what a move that was killed left is overwritten by the next.
    let temporary = names::temporary_of(&folder.join(name), tag, job, 0);
    let still = || match is_same() {
        true => Ok(()),
        false => Err(io_error(from, "was replaced while it was moved")(io::Error::other(
            "the file that is there now stays",
        ))),
    };
    let known = OnceCell::new();
    let hash = || -> Outcome<String> {
        match known.get() {
            Some(hash) => Ok(String::clone(hash)),
            None => {
                let hash = file_sha256(from).map_err(unreadable())?;
                still()?;
                Ok(known.get_or_init(|| hash).clone())
            }
        }
    };
    let mut is_copied = false;
    for number in 1..=MOST_NAMES {
        let to = folder.join(names::numbered(name, number));
        if is_there(&to)? {
            // The same folder mounted twice shows the original itself.
            let is_candidate = fs::symlink_metadata(&to).is_ok_and(|it| {
                it.len() == meta.len() && (it.dev(), it.ino()) != (meta.dev(), meta.ino())
            });
            if is_candidate && has_content(&to, meta.len(), &hash()?)? {
                // A move that was interrupted before the original was removed.
                discard(&temporary);
                still()?;
                remove_original(from)?;
                return Ok(to);
            }
            continue;
        }
        if !is_copied {
            room_for(&temporary, meta.len())?;
            copy(from, &temporary, &meta, &hash()?).inspect_err(|_| discard(&temporary))?;
            is_copied = true;
        }
        match rename_to_free(&temporary, &to).inspect_err(|_| discard(&temporary))? {
            Placed::NameTaken => {}
            Placed::There => {
                sync_folder_of(&to)?;
                still().inspect_err(|_| discard(&to))?;
                remove_original(from)?;
                return Ok(to);
            }
        }
    }
    discard(&temporary);
    Err(PublishError::NoName(folder.join(name)))
}

/// A long copy is not begun that cannot come to its end.
fn room_for(to: &Path, size_bytes: u64) -> Outcome<()> {
    let space = to.parent().and_then(|it| rustix::fs::statvfs(it).ok());
    match space.is_some_and(|it| it.f_bavail.saturating_mul(it.f_frsize) < size_bytes) {
        true => Err(io_error(to, "cannot be copied to")(io::ErrorKind::StorageFull.into())),
        false => Ok(()),
    }
}

/// A durable copy with the original's times, which is read back.
fn copy(from: &Path, to: &Path, meta: &fs::Metadata, hash: &str) -> Outcome<()> {
    let uncopied = || io_error(to, "cannot be copied to");
    fs::copy(from, to).map_err(uncopied())?;
    if let Ok(modified) = meta.modified() {
        let times = FileTimes::new().set_modified(modified);
        let times = meta.accessed().map_or(times, |it| times.set_accessed(it));
        // A read-only original has a read-only copy, whose owner may set its times all the same.
        File::open(to).and_then(|it| it.set_times(times)).map_err(uncopied())?;
    }
    sync(to)?;
    if has_content(to, meta.len(), hash)? {
        return Ok(());
    }
    let source = io::Error::other("the copy differs from the original");
    Err(io_error(to, "cannot be used")(source))
}

fn remove_original(from: &Path) -> Outcome<()> {
    fs::remove_file(from).map_err(io_error(from, "cannot be removed"))
}

/// What cannot be removed now is overwritten by the next try.
fn discard(temporary: &Path) {
    let _ = fs::remove_file(temporary);
}
