//! Moves originals away: over file systems where need be, and never onto anything that is there.
//!
//! First the original gets a hidden name in its own folder ([`names::parked`]), which nobody else gives or takes. What has
//! that name is looked at, and only then moved or, where it was copied, removed: by its own name it could be another file by
//! then. A move that is interrupted is healed by [`restore`].

use std::cell::OnceCell;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::daemon::digest::file_sha256;
use crate::daemon::durable;
use crate::daemon::links;
use crate::daemon::names;
use crate::daemon::publish::{
    MOST_NAMES, Outcome, PublishError, has_content, io_error, is_there, sync, sync_folder_of,
};
use crate::daemon::rename::{Placed, rename_to_free};
use crate::daemon::snapshot::Snapshot;

/// [`move_as`] with its own name in `folder`.
///
/// # Errors
/// As there.
pub fn move_to_free(
    from: &Path,
    folder: &Path,
    of: (&str, i64),
    is_meant: &dyn Fn(&Path) -> bool,
) -> Outcome<PathBuf> {
    move_as(from, &folder.join(from.file_name().unwrap_or_default()), of, is_meant)
}

/// Moves `from` to `wanted`, or a numbered name where that is taken; across file systems by copy, comparison and
/// removal. `tag` and `job` are in the names that it has meanwhile, and in that of the copy until it is whole. `is_meant`
/// looks whether the file of a name is the one that is meant: another may be put in its place at any moment.
///
/// # Errors
/// [`PublishError`]; `from` then has its name again, or another file has it that is not the one that is meant. No part of a
/// copy is left. What could not get its name back, [`restore`] gives it.
pub fn move_as(
    from: &Path,
    wanted: &Path,
    (tag, job): (&str, i64),
    is_meant: &dyn Fn(&Path) -> bool,
) -> Outcome<PathBuf> {
    let folder = wanted.parent().unwrap_or(Path::new("/"));
    durable::create_folders(folder).map_err(io_error(folder, "cannot be created"))?;
    restore(from, (tag, job))?;
    let original = Original { path: from, parked: names::parked(from, tag, job), is_meant };
    if !is_of_another_mount(from, folder) {
        if !original.park()? {
            return Err(original.replaced());
        }
        let moved = match links::led_from(&original.parked, folder) {
            Ok(None) => rename_to_some(&original.parked, wanted),
            Ok(Some(target)) => link_to_some(&original.parked, wanted, &target),
            Err(error) => Err(io_error(from, "where this link leads cannot be seen")(error)),
        };
        match moved {
            Ok(to) => {
                sync_folder_of(&original.parked)?;
                return Ok(to);
            }
            Err(error) => {
                original.put_back()?;
                if !crosses(&error) {
                    return Err(error);
                }
            }
        }
    }
    original.copy_to_free(wanted, (tag, job))
}

/// Gives a file the name `from` back whose move was interrupted; a numbered one where another file has taken that.
///
/// # Errors
/// [`PublishError`]; it can be called again.
pub fn restore(from: &Path, (tag, job): (&str, i64)) -> Outcome<()> {
    let parked = names::parked(from, tag, job);
    if is_there(&parked)? {
        rename_to_some(&parked, from)?;
    }
    Ok(())
}

/// Renames `from` to `wanted`, numbered where that is taken.
fn rename_to_some(from: &Path, wanted: &Path) -> Outcome<PathBuf> {
    let name = wanted.file_name().unwrap_or_default();
    for number in 1..=MOST_NAMES {
        let to = wanted.with_file_name(names::numbered(name, number));
        if rename_to_free(from, &to)? == Placed::There {
            sync_folder_of(&to)?;
            return Ok(to);
        }
    }
    Err(PublishError::NoName(wanted.to_owned()))
}

/// Makes `wanted` a link to `target`, numbered where that is taken, and removes the link `from`. One that is there already,
/// of a move that was interrupted, is taken for it.
fn link_to_some(from: &Path, wanted: &Path, target: &Path) -> Outcome<PathBuf> {
    let name = wanted.file_name().unwrap_or_default();
    for number in 1..=MOST_NAMES {
        let to = wanted.with_file_name(names::numbered(name, number));
        match symlink(target, &to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::read_link(&to).is_ok_and(|it| it == target) {
                    continue;
                }
            }
            made => made.map_err(io_error(&to, "cannot be made a link"))?,
        }
        sync_folder_of(&to)?;
        fs::remove_file(from).map_err(io_error(from, "cannot be removed"))?;
        return Ok(to);
    }
    Err(PublishError::NoName(wanted.to_owned()))
}

fn crosses(error: &PublishError) -> bool {
    matches!(error, PublishError::Io { source, .. } if source.kind() == io::ErrorKind::CrossesDevices)
}

/// Whether the system says that `folder` is of another mount than `from`, over which nothing is renamed.
fn is_of_another_mount(from: &Path, folder: &Path) -> bool {
    let mount = |folder: &Path| {
        let found = rustix::fs::statx(CWD, folder, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
        (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
    };
    let (own, other) = (from.parent().and_then(mount), mount(folder));
    own.is_some() && other.is_some() && own != other
}

/// What is to be moved.
struct Original<'a> {
    path: &'a Path,
    /// Its hidden name, which nothing has.
    parked: PathBuf,
    /// Whether what has a name is the file that is meant.
    is_meant: &'a dyn Fn(&Path) -> bool,
}

impl Original<'_> {
    /// Gives it its hidden name; not so where another file took its place, which gets its name back.
    fn park(&self) -> Outcome<bool> {
        fs::rename(self.path, &self.parked).map_err(io_error(self.path, "cannot be renamed"))?;
        if (self.is_meant)(&self.parked) {
            return Ok(true);
        }
        self.put_back()?;
        Ok(false)
    }

    fn put_back(&self) -> Outcome<()> {
        rename_to_some(&self.parked, self.path).map(|_| ())
    }

    fn replaced(&self) -> PublishError {
        let source = io::Error::other("the file that is there now stays");
        io_error(self.path, "was replaced while it was moved")(source)
    }

    /// Moves it where the folder is of another file system, or of another mount.
    fn copy_to_free(&self, wanted: &Path, (tag, job): (&str, i64)) -> Outcome<PathBuf> {
        let unreadable = || io_error(self.path, "cannot be read");
        let meta = fs::metadata(self.path).map_err(unreadable())?;
        let name = wanted.file_name().unwrap_or_default();
        // One name for all tries: what a move that was killed left is overwritten by the next.
        let temporary = names::temporary_of(wanted, tag, job, 0);
        if is_own_folder(self.path, &temporary)? {
            return Err(io_error(wanted.parent().unwrap_or(wanted), "cannot take the original")(
                io::Error::other(
                    "it is the original's own folder, seen through another mount: set another folder for `originals`",
                ),
            ));
        }
        let known = OnceCell::new();
        let hash = || -> Outcome<String> {
            match known.get() {
                Some(hash) => Ok(String::clone(hash)),
                None => {
                    let hash = file_sha256(self.path).map_err(unreadable())?;
                    if !(self.is_meant)(self.path) {
                        return Err(self.replaced());
                    }
                    Ok(known.get_or_init(|| hash).clone())
                }
            }
        };
        let mut is_copied = false;
        for number in 1..=MOST_NAMES {
            let to = wanted.with_file_name(names::numbered(name, number));
            if is_there(&to)? {
                if is_other(&to, &meta) && has_content(&to, meta.len(), &hash()?)? {
                    // A move that was interrupted before the original was removed.
                    discard(&temporary);
                    sync(&to)?;
                    let is_kept = || has_content(&to, meta.len(), &hash()?);
                    let is_left = self.leave_to(&to, &is_kept)?;
                    return if is_left { Ok(to) } else { Err(self.replaced()) };
                }
                continue;
            }
            if !is_copied {
                room_for(&temporary, meta.len())?;
                let hash = hash()?;
                copy(self.path, &temporary, &meta, &hash).inspect_err(|_| discard(&temporary))?;
                is_copied = true;
            }
            let copied = Snapshot::take(&temporary).map_err(io_error(&temporary, "is gone"))?;
            if rename_to_free(&temporary, &to).inspect_err(|_| discard(&temporary))?
                == Placed::There
            {
                // Its content was read back under its temporary name.
                let is_copied = || Snapshot::take(&to).is_ok_and(|it| it.same_content(&copied));
                let is_kept = || Ok(is_copied() || has_content(&to, meta.len(), &hash()?)?);
                if !self.leave_to(&to, &is_kept)? {
                    discard(&to);
                    return Err(self.replaced());
                }
                return Ok(to);
            }
        }
        discard(&temporary);
        Err(PublishError::NoName(wanted.to_owned()))
    }

    /// Removes it, whose copy is `to`, as long as that `is_kept` when the original has its hidden name: what goes with its
    /// name is the original itself, seen through another mount. Not so where another file took the original's place.
    fn leave_to(&self, to: &Path, is_kept: &dyn Fn() -> Outcome<bool>) -> Outcome<bool> {
        sync_folder_of(to)?;
        if !(self.is_meant)(self.path) || !self.park()? {
            return Ok(false);
        }
        let removed = match is_kept() {
            Ok(true) => {
                fs::remove_file(&self.parked).map_err(io_error(&self.parked, "cannot be removed"))
            }
            Ok(false) => Err(io_error(to, "is no copy of the original")(io::Error::other(
                "it is gone or another since the original has a hidden name: if it is the original itself, seen through \
                 another mount, set another folder for `originals`",
            ))),
            Err(error) => Err(error),
        };
        if removed.is_err() {
            self.put_back()?;
        }
        removed?;
        sync_folder_of(&self.parked)?;
        Ok(true)
    }
}

/// Whether what is made at `temporary` shows beside `from` as well: both folders are one, seen through two mounts.
fn is_own_folder(from: &Path, temporary: &Path) -> Outcome<bool> {
    let beside = from.with_file_name(temporary.file_name().unwrap_or_default());
    discard(temporary);
    let made = File::options().write(true).create_new(true).open(temporary);
    made.map_err(io_error(temporary, "cannot be copied to"))?;
    let shows = is_there(&beside);
    discard(temporary);
    Ok(shows? && !is_there(&beside)?)
}

/// Whether the file `to` may be a copy of the original that looks like `meta`. Another mount can show the original itself, as
/// of another device and with another number: then the time of its last change, which nobody can set, is the same.
fn is_other(to: &Path, meta: &fs::Metadata) -> bool {
    let original = Snapshot::of(meta);
    fs::symlink_metadata(to).is_ok_and(|it| {
        let found = Snapshot::of(&it);
        let is_itself = (it.dev(), it.ino()) == (meta.dev(), meta.ino())
            || (found.mtime_ns, found.ctime_ns) == (original.mtime_ns, original.ctime_ns);
        it.len() == meta.len() && !is_itself
    })
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

/// What cannot be removed now is overwritten by the next try.
fn discard(temporary: &Path) {
    let _ = fs::remove_file(temporary);
}
