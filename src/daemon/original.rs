//! What happens to the source once its output is published: it stays, or is moved. Never before, never over a file.

use std::io;
use std::path::{Path, PathBuf};

use log::Level;

use crate::config::file::{OnSuccess, Watch};
use crate::daemon::filesystem;
use crate::daemon::job::Shop;
use crate::daemon::journal::{Claim, JournalError, Original};
use crate::daemon::moving;
use crate::daemon::service;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::leads_out;

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

/// Moves what is to be moved of the watched folder that was configured as `of`; what cannot be moved now stays noted for the next call. A move to another file system is a
/// copy, so the journal is not kept locked meanwhile.
///
/// # Errors
/// [`JournalError`] only.
pub fn move_pending(shop: &Shop, watches: &[Watch], of: &str) -> Result<(), JournalError> {
    let pending = shop.journal().originals_pending(of)?;
    let watch = watches.iter().find(|it| it.path == Path::new(of));
    for claim in pending {
        let place = watch.and_then(|it| Some((it, folder(it, &claim.relative)?)));
        match place {
            Some((watch, folder)) => move_one(shop, watch, &claim, &folder)?,
            // The configuration has changed and does not want it moved any more.
            None => shop.journal().original_kept(claim.job)?,
        }
    }
    Ok(())
}

/// Whether the watched folder is there, and is the one in which the job was queued.
fn is_there(shop: &Shop, watch: &Watch, claim: &Claim) -> Result<bool, JournalError> {
    let queued_in = shop.journal().root_of(claim.job)?.filter(|it| !it.is_empty());
    let identity = filesystem::identify(watch);
    Ok(identity.is_ok_and(|it| queued_in.is_none_or(|queued_in| queued_in == it.lasting)))
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

fn move_one(shop: &Shop, watch: &Watch, claim: &Claim, folder: &Path) -> Result<(), JournalError> {
    let source = watch.path.join(&claim.relative);
    if let Some(link) = link_on_the_way(watch, claim, folder) {
        let message = format!("{} is a link, and may lead anywhere: remove it", link.display());
        service::log_job(Level::Warn, claim, "original not moved", &message);
        return Ok(());
    }
    let worked = Snapshot {
        size_bytes: claim.size_bytes,
        mtime_ns: claim.mtime_ns,
        ctime_ns: 0,
        inode: claim.inode,
    };
    match Snapshot::take(&source) {
        // It was moved before the daemon could note it, or by somebody else.
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_there(shop, watch, claim)? => {
            shop.journal().original_moved(claim.job)
        }
        Err(error) => {
            service::log_job(Level::Warn, claim, "original not moved", &error.to_string());
            Ok(())
        }
        // Of something else that is mounted there just now.
        Ok(now) if !now.same_content(&worked) && !is_there(shop, watch, claim)? => Ok(()),
        Ok(now) if !now.same_content(&worked) => {
            service::log_job(Level::Warn, claim, "original kept", "it was replaced meanwhile");
            shop.journal().original_kept(claim.job)
        }
        Ok(_) => match moving::move_to_free(&source, folder) {
            Ok(to) => {
                let message = format!("to {}", to.display());
                service::log_job(Level::Info, claim, "original moved", &message);
                shop.journal().original_moved(claim.job)
            }
            Err(error) => {
                service::log_job(Level::Warn, claim, "original not moved", &error.to_string());
                Ok(())
            }
        },
    }
}
