//! What happens to the source once its output is published: it stays, or is moved. Never before, never over a file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::Level;

use crate::config::apart::{self, Places};
use crate::config::file::{OnSuccess, TRASH, Watch};
use crate::daemon::companions::{List, take_list, take_sentinels};
use crate::daemon::digest::file_sha256;
use crate::daemon::durable;
use crate::daemon::filesystem;
use crate::daemon::job::Shop;
use crate::daemon::journal::{Claim, JournalError, Original};
use crate::daemon::moves::NotMoved;
use crate::daemon::moving;
use crate::daemon::names;
use crate::daemon::output_lock::{self, LOCK_NAME};
use crate::daemon::publish::{self, MOST_NAMES, has_content, io_error};
use crate::daemon::service;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::leads_out;

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
        let end = match place {
            Some((watch, folder)) => move_one(shop, (watches, watch, extensions), &claim, &folder)?,
            // The configuration has changed and does not want it moved any more.
            None => keep(shop, &claim)?,
        };
        match end {
            End::Over => shop.moves.over(claim.job),
            End::NotNow => {}
            End::Waits(why) => {
                service::log_job(Level::Warn, &claim, "original not moved", &why.message);
                shop.moves.failed(&claim, why, Instant::now());
            }
        }
    }
    Ok(())
}

/// The original stays where it is, with its name.
fn keep(shop: &Shop, claim: &Claim) -> Result<End, JournalError> {
    let tag = shop.journal().tag();
    let root = Path::new(&claim.watch);
    if !leads_out(root, &claim.relative)
        && let Err(error) = moving::restore(&root.join(&claim.relative), (&tag, claim.job))
    {
        let why = NotMoved::from(error);
        let message = format!("it has a hidden name, and cannot get its own back: {}", why.message);
        return Ok(End::Waits(NotMoved { message, ..why }));
    }
    shop.journal().original_kept(claim.job)?;
    Ok(End::Over)
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

/// Where the source of the job went that is not there any more, if that can be told: a move may have been interrupted before
/// it was noted.
fn moved_to(claim: &Claim, folder: &Path) -> Option<PathBuf> {
    let name = claim.relative.file_name()?;
    for number in 1..=MOST_NAMES {
        let path = folder.join(names::numbered(name, number));
        // What cannot be read tells nothing.
        if !publish::is_there(&path).ok()? {
            return None;
        }
        if has_content(&path, claim.size_bytes, &claim.sha256).is_ok_and(|it| it) {
            return Some(path);
        }
    }
    None
}

/// What came of an original for now.
enum End {
    /// It was moved, or stays for good.
    Over,
    /// Nothing is concluded.
    NotNow,
    /// It is tried again.
    Waits(NotMoved),
}

/// `watch` is the one of `watches` that the source lies in.
fn move_one(
    shop: &Shop,
    (watches, watch, extensions): (&[Watch], &Watch, &[String]),
    claim: &Claim,
    folder: &Path,
) -> Result<End, JournalError> {
    let source = watch.path.join(&claim.relative);
    let waits = |why: String| Ok(End::Waits(NotMoved::because(why)));
    if let Some(link) = link_on_the_way(watch, claim, folder) {
        return waits(format!("{} is a link, and may lead anywhere: remove it", link.display()));
    }
    let tag = shop.journal().tag();
    if let Err(error) = moving::restore(&source, (&tag, claim.job)) {
        return Ok(End::Waits(error.into()));
    }
    let look = Snapshot::take(&source).and_then(|it| Ok((it, is_worked(&it, claim, &source)?)));
    match look {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_there(shop, watch, claim)? => {
            if source.is_symlink() {
                return kept(shop, claim, "it is a link that leads nowhere any more");
            }
            if let Some(why) = refused(shop, watch)? {
                return waits(why);
            }
            // It was moved before the daemon could note it, or by somebody else.
            moved(shop, (watch, extensions), claim, moved_to(claim, folder))
        }
        Err(error) => Ok(End::Waits(io_error(&source, "cannot be looked at")(error).into())),
        Ok((_, false)) => {
            // Of something else that is mounted there just now, nothing is said.
            if !is_there(shop, watch, claim)? {
                return Ok(End::NotNow);
            }
            // Another file may have come after a move that could not be noted, or whose list of cuts could not follow.
            match moved_to(claim, folder) {
                Some(to) => noted(shop, claim, &format!("to {}", to.display())),
                None => kept(shop, claim, "it was replaced meanwhile"),
            }
        }
        Ok(_) if let Some(fed) = fed(watches, watch, folder) => waits(format!(
            "{} lies in the watched folder {}, links followed: set another folder for `originals`",
            folder.display(),
            fed.display()
        )),
        Ok(_) if let Some(why) = refused(shop, watch)? => waits(why),
        Ok((now, true)) => {
            let taken = take_sentinels(watch, claim, (folder, extensions), &tag);
            let result = taken.and_then(|()| {
                let looks = |it: Snapshot| looks_the_same(&it, &now, &source);
                let is_meant = |path: &Path| Snapshot::take(path).is_ok_and(looks);
                moving::move_to_free(&source, folder, (&tag, claim.job), &is_meant)
            });
            match result {
                Ok(to) => moved(shop, (watch, extensions), claim, Some(to)),
                Err(error) => Ok(End::Waits(error.into())),
            }
        }
    }
}

/// The original stays where it is for good.
fn kept(shop: &Shop, claim: &Claim, why: &str) -> Result<End, JournalError> {
    service::log_job(Level::Warn, claim, "original kept", why);
    shop.journal().original_kept(claim.job)?;
    Ok(End::Over)
}

/// The original went to `to`, and its list of cuts goes there as well; or nobody knows where, and then it stays.
fn moved(
    shop: &Shop,
    (watch, extensions): (&Watch, &[String]),
    claim: &Claim,
    to: Option<PathBuf>,
) -> Result<End, JournalError> {
    let Some(to) = to else {
        return noted(shop, claim, "by somebody else: it is not there any more");
    };
    let mut whither = format!("to {}", to.display());
    let tag = shop.journal().tag();
    match take_list(watch, claim, (&to, extensions), &tag) {
        // Its name is free for another clip, which must not be taken for cut like this one: it is not over yet.
        Err(error) => {
            let why = NotMoved::from(error);
            let message = format!("it went {whither}, but not its list of cuts: {}", why.message);
            return Ok(End::Waits(NotMoved { message, ..why }));
        }
        Ok(List::None) => {}
        Ok(List::Moved(list)) => whither += &format!(", its list of cuts to {}", list.display()),
        Ok(List::Kept(list)) => {
            let message = format!(
                "{}: the clip was worked with another, and was moved {whither}: remove it unless it is for the next clip",
                list.display()
            );
            service::log_job(Level::Warn, claim, "list of cuts kept", &message);
        }
    }
    noted(shop, claim, &whither)
}

/// The original is away, and the history says where.
fn noted(shop: &Shop, claim: &Claim, whither: &str) -> Result<End, JournalError> {
    service::log_job(Level::Info, claim, "original moved", whither);
    shop.journal().original_moved(claim.job, whither)?;
    Ok(End::Over)
}
