//! What happens to the source once its output is published: it stays, or is moved. Never before, never over a file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use crate::config::apart::{self, Places};
use crate::config::file::{OnSuccess, Ready, Watch};
use crate::daemon::digest::file_sha256;
use crate::daemon::durable;
use crate::daemon::filesystem;
use crate::daemon::ignore;
use crate::daemon::job::Shop;
use crate::daemon::journal::{Claim, JournalError, Original};
use crate::daemon::moving;
use crate::daemon::output_lock::{self, LOCK_NAME};
use crate::daemon::publish::{PublishError, io_error};
use crate::daemon::service;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::verdict;
use crate::daemon::watch::{leads_out, spoken_of};

/// Hidden folder of the watched folder that `on_success = "trash"` moves to.
const TRASH: &str = ".slomod-trash";

/// What is to be noted about the source of a job of `watch` that ended well.
#[must_use]
pub fn intent(watch: &Watch) -> Original {
    match watch.on_success {
        OnSuccess::Keep => Original::Kept,
        OnSuccess::Move(_) | OnSuccess::Trash => Original::Pending,
    }
}

fn folder(watch: &Watch, relative: &Path) -> Option<PathBuf> {
    let below = relative.parent().unwrap_or(Path::new(""));
    match &watch.on_success {
        OnSuccess::Keep => None,
        OnSuccess::Move(folder) => Some(folder.join(below)),
        OnSuccess::Trash => Some(watch.path.join(TRASH).join(below)),
    }
}

/// Moves what is to be moved of the watched folder that was configured as `of`; what cannot be moved now stays noted for the
/// next call. Clips have one of `extensions`. A move to another file system is a copy, so the journal is not kept locked
/// meanwhile.
///
/// # Errors
/// [`JournalError`] only.
pub fn move_pending(
    shop: &Shop,
    (watches, extensions): (&[Watch], &[String]),
    of: &str,
) -> Result<(), JournalError> {
    let now = Instant::now();
    let pending = shop.journal().originals_pending(of, |job| shop.moves.is_due(job, now))?;
    let watch = watches.iter().find(|it| it.path == Path::new(of));
    for claim in pending {
        let place = watch.and_then(|it| Some((it, folder(it, &claim.relative)?)));
        match place {
            Some((watch, folder)) => {
                move_one(shop, (watches, watch, extensions), &claim, &folder)?;
            }
            // The configuration has changed and does not want it moved any more.
            None => keep(shop, &claim)?,
        }
    }
    Ok(())
}

/// The original stays where it is, with its name.
fn keep(shop: &Shop, claim: &Claim) -> Result<(), JournalError> {
    let tag = shop.journal().tag();
    let root = Path::new(&claim.watch);
    if !leads_out(root, &claim.relative)
        && let Err(error) = moving::restore(&root.join(&claim.relative), (&tag, claim.job))
    {
        shop.moves.failed(claim.job, Instant::now());
        service::log_job(Level::Warn, claim, "original without its name", &error.to_string());
        return Ok(());
    }
    shop.journal().original_kept(claim.job)
}

/// The watched folder that would find again what is moved to `folder`, links followed: the configuration knows folders by
/// their spelling. The trash lies in its folder and is not looked into.
fn fed(watches: &[Watch], own: &Watch, folder: &Path) -> Option<PathBuf> {
    if own.on_success == OnSuccess::Trash {
        return None;
    }
    let folder = apart::resolved(folder);
    // Other folders' links are not followed, as they may not answer.
    let own_place = Places::of(own).resolved();
    let fed = watches.iter().find(|it| Places::of(it).feeds(&folder));
    let fed = fed.or_else(|| own_place.feeds(&folder).then_some(own));
    fed.map(|it| it.path.clone())
}

/// Whether the watched folder is there, and is the one in which the job was queued.
fn is_there(shop: &Shop, watch: &Watch, claim: &Claim) -> Result<bool, JournalError> {
    let queued_in = shop.journal().root_of(claim.job)?.filter(|it| !it.is_empty());
    let identity = filesystem::identify(watch);
    let is_it =
        |it: &str| queued_in.is_none_or(|queued_in| filesystem::is_same_folder(&queued_in, it));
    Ok(identity.is_ok_and(|it| is_it(&it.lasting)))
}

/// A folder of the watched one, where everybody may put things, on the way to the source or to where it is moved that is
/// a link.
fn link_on_the_way(watch: &Watch, claim: &Claim, folder: &Path) -> Option<PathBuf> {
    if leads_out(&watch.path, &claim.relative) {
        return watch.path.join(&claim.relative).parent().map(Path::to_owned);
    }
    let trash = folder.strip_prefix(&watch.path).ok()?;
    leads_out(&watch.path, &trash.join("any")).then(|| folder.to_owned())
}

/// Whether the file looks as it did `then`, as far as its file system tells.
fn looks_the_same(now: &Snapshot, then: &Snapshot, source: &Path) -> bool {
    let keeps = || filesystem::root_identity(source.parent()?).ok().map(|it| it.lasting);
    now.same_content(then)
        || (now.same_size_and_time(then)
            && keeps().is_some_and(|it| !filesystem::keeps_inodes(&it)))
}

/// Whether the file at `source`, which looks like `now`, is the one that was worked. Where it only has another time, as
/// after a `touch`, its content tells.
fn is_worked(now: &Snapshot, claim: &Claim, source: &Path) -> io::Result<bool> {
    let worked = Snapshot {
        size_bytes: claim.size_bytes,
        mtime_ns: claim.mtime_ns,
        ctime_ns: 0,
        inode: claim.inode,
    };
    if looks_the_same(now, &worked, source) {
        return Ok(true);
    }
    if now.size_bytes != worked.size_bytes || file_sha256(source)? != claim.sha256 {
        return Ok(false);
    }
    Ok(looks_the_same(&Snapshot::take(source)?, now, source))
}

/// Makes sure that the folder configured as `originals` is the one that it was at the first move; a sentence where something
/// else lies there, as below a share that is not mounted. An empty lock file says that it was replaced for good, as in an
/// output folder.
fn refused(shop: &Shop, watch: &Watch) -> Result<Option<String>, JournalError> {
    // The trash lies in the watched folder, where the source was just seen.
    let OnSuccess::Move(folder) = &watch.on_success else { return Ok(None) };
    let known = shop.journal().originals_of(folder)?;
    let why = known.as_ref().and_then(|it| filesystem::replaced(folder, it));
    if let Some(why) = why {
        if !output_lock::is_accepted(folder) {
            let what = "folder of originals";
            return Ok(Some(output_lock::refusal_of_another(folder, what, &why)));
        }
        // It has said so. Where it stays, it says so again.
        let _ = std::fs::remove_file(folder.join(LOCK_NAME));
    }
    let made = durable::create_folders(folder).and_then(|()| filesystem::root_identity(folder));
    match made {
        Err(error) => Ok(Some(format!("{}: cannot be made or read: {error}", folder.display()))),
        Ok(root) => {
            if known.as_ref() != Some(&root.lasting) {
                shop.journal().remember_originals(folder, &root.lasting)?;
            }
            Ok(None)
        }
    }
}

/// The sentinels that speak of the clip `relative` and of no other that is there: of `clip.done`, all clips of that stem.
fn own_sentinels(watch: &Watch, relative: &Path, extensions: &[String]) -> Vec<PathBuf> {
    if watch.ready != Ready::Sentinel {
        return Vec::new();
    }
    let is_other = |it: &PathBuf| it != relative && ignore::reason(it, extensions).is_none();
    let is_own = |it: &PathBuf| !spoken_of(&watch.path, it).iter().any(is_other);
    ignore::sentinels(relative).into_iter().filter(is_own).collect()
}

/// Takes the sentinels of a clip away that is about to leave, so that they say nothing of the next file of its name. Empty
/// ones are removed, and others are moved to `folder` like the clip.
fn take_sentinels(
    watch: &Watch,
    claim: &Claim,
    (folder, extensions): (&Path, &[String]),
    tag: &str,
) -> Result<(), PublishError> {
    for sentinel in own_sentinels(watch, &claim.relative, extensions) {
        let path = watch.path.join(sentinel);
        moving::restore(&path, (tag, claim.job))?;
        let Ok(before) = std::fs::symlink_metadata(&path) else { continue };
        if before.is_file() && before.len() > 0 {
            let before = Snapshot::of(&before);
            let is_meant =
                |path: &Path| Snapshot::take(path).is_ok_and(|it| it.same_content(&before));
            moving::move_to_free(&path, folder, (tag, claim.job), &is_meant)?;
        } else if !before.is_dir() {
            std::fs::remove_file(&path).map_err(io_error(&path, "cannot be removed"))?;
        }
    }
    Ok(())
}

/// `watch` is the one of `watches` that the source lies in.
fn move_one(
    shop: &Shop,
    (watches, watch, extensions): (&[Watch], &Watch, &[String]),
    claim: &Claim,
    folder: &Path,
) -> Result<(), JournalError> {
    let source = watch.path.join(&claim.relative);
    if let Some(link) = link_on_the_way(watch, claim, folder) {
        let message = format!("{} is a link, and may lead anywhere: remove it", link.display());
        shop.moves.failed(claim.job, Instant::now());
        service::log_job(Level::Warn, claim, "original not moved", &message);
        return Ok(());
    }
    let tag = shop.journal().tag();
    let not_moved = |why: &str| {
        shop.moves.failed(claim.job, Instant::now());
        service::log_job(Level::Warn, claim, "original not moved", why);
        Ok(())
    };
    if let Err(error) = moving::restore(&source, (&tag, claim.job)) {
        return not_moved(&error.to_string());
    }
    let look = Snapshot::take(&source).and_then(|it| Ok((it, is_worked(&it, claim, &source)?)));
    match look {
        // It was moved before the daemon could note it, or by somebody else.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_there(shop, watch, claim)? => {
            shop.journal().original_moved(claim.job)
        }
        Err(error) => not_moved(&error.to_string()),
        Ok((_, false)) => {
            // Of something else that is mounted there just now, nothing is said.
            if !is_there(shop, watch, claim)? {
                return Ok(());
            }
            service::log_job(Level::Warn, claim, "original kept", "it was replaced meanwhile");
            shop.journal().original_kept(claim.job)
        }
        Ok(_) if let Some(fed) = fed(watches, watch, folder) => not_moved(&format!(
            "{} lies in the watched folder {}, links followed: set another folder for `originals`",
            folder.display(),
            fed.display()
        )),
        Ok(_) if let Some(why) = refused(shop, watch)? => not_moved(&why),
        Ok((now, true)) => {
            match take_sentinels(watch, claim, (folder, extensions), &tag).and_then(|()| {
                let looks = |it: Snapshot| looks_the_same(&it, &now, &source);
                let is_meant = |path: &Path| Snapshot::take(path).is_ok_and(looks);
                moving::move_to_free(&source, folder, (&tag, claim.job), &is_meant)
            }) {
                Ok(to) => {
                    let message = format!("to {}", to.display());
                    service::log_job(Level::Info, claim, "original moved", &message);
                    shop.journal().original_moved(claim.job)
                }
                Err(error) => not_moved(&error.to_string()),
            }
        }
    }
}

/// When originals that could not be moved are tried again: a move to a full disk may be a long copy each time.
#[derive(Debug, Default)]
pub struct Moves(Mutex<BTreeMap<i64, (i64, Instant)>>);

impl Moves {
    fn is_due(&self, job: i64, now: Instant) -> bool {
        self.open().get(&job).is_none_or(|(_, due)| *due <= now)
    }

    /// Pauses grow, as those of jobs do.
    fn failed(&self, job: i64, now: Instant) {
        let mut open = self.open();
        let (tries, due) = open.entry(job).or_insert((0, now));
        let pause = u64::try_from(verdict::pause_ms(*tries)).unwrap_or_default();
        (*tries, *due) = (*tries + 1, now + Duration::from_millis(pause));
    }

    // A thread that panicked while it held this left whole entries behind.
    fn open(&self) -> MutexGuard<'_, BTreeMap<i64, (i64, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::file::parse;

    /// W17. `clip.done` stays as long as another clip of that stem is there.
    #[test]
    fn only_sentinels_of_no_other_clip_leave_with_a_clip() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().display();
        let text = format!(
            "[[watch]]\npath = \"{root}\"\noutput = \"/out\"\nfactor = 2\nready = \"sentinel\"\n"
        );
        let mut watch = parse(Path::new("a.toml"), &text).unwrap().watches.remove(0);
        let extensions = ["mp4".to_owned(), "mov".to_owned()];
        for name in ["a.mp4", "a.srt", "a.mp4.done", "a.done", "b.mp4", "b.mov", "b.done"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let own = |watch: &Watch, clip| {
            let own = own_sentinels(watch, Path::new(clip), &extensions).into_iter();
            own.map(|it| it.into_os_string().into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(own(&watch, "a.mp4"), ["a.mp4.done", "a.done"]);
        assert_eq!(own(&watch, "b.mp4"), ["b.mp4.done"]);
        fs::remove_file(folder.path().join("b.mov")).unwrap();
        assert_eq!(own(&watch, "b.mp4"), ["b.mp4.done", "b.done"]);
        watch.ready = Ready::Settle;
        assert!(own(&watch, "a.mp4").is_empty(), "they mean nothing there");
    }

    #[test]
    fn an_original_that_cannot_be_moved_is_tried_again_after_growing_pauses() {
        let (moves, start) = (Moves::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(moves.is_due(1, start));
        moves.failed(1, at(0));
        assert!(!moves.is_due(1, at(1)) && moves.is_due(2, at(1)));
        assert!(moves.is_due(1, at(2)));
        moves.failed(1, at(2));
        assert!(!moves.is_due(1, at(5)) && moves.is_due(1, at(6)));
    }
}
