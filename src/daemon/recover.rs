//! What a start finds: the lock of the state folder, and what a daemon that died left behind.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::Level;
use rustix::fs::FlockOperation;
use serde::Deserialize;

use crate::config::file::{Collision, Watch};
use crate::daemon::DaemonError;
use crate::daemon::events::Kind;
use crate::daemon::job::{Shop, now_ms};
use crate::daemon::journal::{
    Again, Claim, Count, End, Journal, JournalError, Leftover, Planned, Turn,
};
use crate::daemon::known::report_of;
use crate::daemon::names;
use crate::daemon::no_output;
use crate::daemon::original;
use crate::daemon::output_lock::{Hold, OutputLock, record};
use crate::daemon::publish::{self, Completion, PublishError};
use crate::daemon::said::About;
use crate::daemon::service::{self, Speed};

/// File whose lock says that a daemon works with the state folder.
const LOCK_NAME: &str = "daemon.lock";

/// Held as long as the daemon lives; the system frees it however the daemon ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Makes the state folder if need be and locks it.
///
/// # Errors
/// [`DaemonError::Locked`] where another daemon has it.
pub fn lock(state_dir: &Path) -> Result<StateLock, DaemonError> {
    let io = |action| {
        let path = state_dir.to_owned();
        move |source| DaemonError::Io { path, action, source }
    };
    std::fs::create_dir_all(state_dir).map_err(io("the state folder cannot be created"))?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(state_dir.join(LOCK_NAME))
        .map_err(io("the state folder cannot be written"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(StateLock { _file: file }),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(DaemonError::Locked(state_dir.to_owned())),
        Err(error) => Err(io("the state folder cannot be locked")(error.into())),
    }
}

/// Whether a daemon has the state folder; `None` where that cannot be seen. It lives where this says so, whatever process
/// has its number by now.
#[must_use]
pub fn is_locked(state_dir: &Path) -> Option<bool> {
    let file = File::open(state_dir.join(LOCK_NAME)).ok()?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Some(true),
        Err(_) => None,
    }
}

/// Brings the journal of a dead daemon in order: its running jobs wait again, with the `settings` of their folders as the
/// journal keeps them. The caller holds the lock. What their
/// attempts left is for [`remove_leftovers`], interrupted publications are for [`finish_publications`].
///
/// # Errors
/// [`DaemonError`]; a folder that is offline is none, its part is done later.
pub fn recover(
    journal: &mut Journal,
    settings: &BTreeMap<String, (String, String)>,
    owner: &str,
    now_ms: i64,
) -> Result<(), DaemonError> {
    let requeued = journal.requeue_dead(owner, now_ms)?;
    if requeued > 0 {
        log::info!(MESSAGE_ID = Kind::DaemonNote.id(); "{requeued} interrupted job(s) begin again");
    }
    for (watch, (text, sha256)) in settings {
        journal.update_settings(watch, text, sha256)?;
    }
    Ok(())
}

/// Completes the publications `interrupted` ([`Journal::unpublished`], without that of the running job). It may hash a
/// large output, so it does not keep the journal locked meanwhile.
///
/// # Errors
/// [`DaemonError::Journal`] only; what cannot be completed now stays for the next call.
pub fn finish_publications(
    shop: &Shop,
    watches: &[Watch],
    interrupted: Vec<(Claim, Planned)>,
) -> Result<(), DaemonError> {
    for (claim, planned) in interrupted {
        let watch = watches.iter().find(|it| it.path == Path::new(&claim.watch));
        match finish(shop, watch, &claim, &planned) {
            Ok(None) => shop.said.is_over(About::Publication, claim.job),
            Ok(Some(why)) => waits(shop, Level::Info, &claim, &why),
            Err(PublishError::Record(error)) => return Err(error.into()),
            Err(error) => waits(shop, Level::Warn, &claim, &error.to_string()),
        }
    }
    Ok(())
}

/// Said once as long as it is for the same reason.
fn waits(shop: &Shop, level: Level, claim: &Claim, why: &str) {
    if shop.said.is_news(About::Publication, claim.job, why) {
        service::log_job(level, claim, "publication waits", why);
    }
}

/// Completes a publication; a sentence where it has to wait.
fn finish(
    shop: &Shop,
    watch: Option<&Watch>,
    claim: &Claim,
    planned: &Planned,
) -> Result<Option<String>, PublishError> {
    let Some(watch) = watch else {
        // Nobody holds the lock of its output folder.
        let what =
            "its folder is not configured any more: configure it again, or `slomod cancel` it";
        return Ok(Some(what.to_owned()));
    };
    let lock = match lock_of(shop, watch, planned)? {
        Ok(lock) => lock,
        Err(why) => return Ok(Some(why)),
    };
    let collision = match watch.collision {
        Collision::Overwrite => Collision::Overwrite,
        // The name was free when it was chosen, and the output is whole: it is not thrown away now.
        Collision::Rename | Collision::Skip => Collision::Rename,
    };
    let folder = planned.output.parent().unwrap_or(Path::new("/"));
    // Nothing is concluded from an output folder that is not there.
    std::fs::read_dir(folder).map_err(|source| PublishError::Io {
        path: folder.to_owned(),
        action: "cannot be read",
        source,
    })?;
    // What is visible already is completed, whatever others did in between.
    if !publish::is_visible(planned)?
        && let Some(report) = published_meanwhile(watch, claim, planned)
    {
        end_published(shop, watch, claim, planned, &report)?;
        return Ok(None);
    }
    let mut witness = record(shop, claim, lock, collision);
    match publish::complete(planned, collision, &mut witness)? {
        Completion::Published(published) => {
            // What cannot be removed now is removed with the leftovers.
            let _ = publish::remove_attempts(&planned.temporary);
            no_output::remove_earlier(watch, claim, &planned.output);
            shop.journal().done(claim, original::intent(watch), now_ms())?;
            let message = format!("{} (publication completed)", published.output.display());
            let report = serde_json::from_str(&planned.report).ok();
            let speed = report.as_ref().map(Speed::of).unwrap_or_default();
            service::log_done(claim, &message, &speed);
        }
        Completion::Undone => {
            let again = Again {
                count: Count::Nothing,
                next_try_ms: now_ms(),
                code: "output_lost",
                message: "the output was gone before it was published",
            };
            shop.journal().again(claim, &again)?;
            service::log_job(Level::Warn, claim, "queued", again.message);
        }
    }
    Ok(None)
}

/// The lock under which a publication is completed, or why it has to wait. Where the folder's output is another one since,
/// that of the earlier is taken for this alone.
fn lock_of(
    shop: &Shop,
    watch: &Watch,
    planned: &Planned,
) -> Result<Result<Option<Arc<OutputLock>>, String>, JournalError> {
    let is_as_configured = planned.output.starts_with(&watch.output);
    let output = match is_as_configured {
        true => watch.output.clone(),
        false => match shop.output_around(&planned.output)? {
            Some((output, _)) => output,
            None => {
                let output = planned.output.display();
                return Ok(Err(format!("{output}: its folder is no output any more")));
            }
        },
    };
    let lock = shop.locks.of(&output);
    let lost = lock.as_ref().and_then(|it| match it.hold() {
        Hold::Ours => None,
        Hold::Lost => Some("the lock was lost".to_owned()),
        Hold::Unseen(error) => Some(format!("whether the lock is held cannot be seen: {error}")),
    });
    let trouble = match shop.locks.refusal(&output).or(lost) {
        Some(why) => Some(why),
        None => shop.replaced(&planned.output)?,
    };
    Ok(match (trouble, lock) {
        (Some(why), _) => Err(why),
        // It is not made again for this.
        (None, None) if !is_as_configured && !output.is_dir() => {
            Err(format!("{}: it is not there", output.display()))
        }
        (None, None) if !is_as_configured => OutputLock::take(&output).map(|it| Some(Arc::new(it))),
        (None, lock) => Ok(lock),
    })
}

/// The report of another daemon that had the output folder in between and did the same work.
fn published_meanwhile(watch: &Watch, claim: &Claim, planned: &Planned) -> Option<PathBuf> {
    let name = planned.output.file_name()?;
    let report = report_of(watch, claim, &planned.output.with_file_name(names::unnumbered(name)))?;
    let theirs = publish::read_report(&report).ok()??.report_id;
    let ours = serde_json::from_str::<ReportId>(&planned.report).ok()?.report_id;
    (theirs != ours).then_some(report)
}

#[derive(Deserialize)]
struct ReportId {
    report_id: String,
}

fn end_published(
    shop: &Shop,
    watch: &Watch,
    claim: &Claim,
    planned: &Planned,
    report: &Path,
) -> Result<(), PublishError> {
    publish::remove_attempts(&planned.temporary)?;
    let message = format!("its output and report are there already: {}", report.display());
    let end = End {
        state: "duplicate",
        code: "published_before",
        message: &message,
        report_path: Some(report),
        duplicate_of: None,
        original: original::intent(watch),
        ground: None,
    };
    shop.journal().end(claim, &end, now_ms())?;
    service::log_job(Level::Info, claim, end.state, end.message);
    Ok(())
}

/// Removes the `leftovers` ([`Journal::leftovers`]): what dead attempts left under temporary names, and the segments of
/// jobs that have ended. What is offline now, or lies in an output folder with something else in its place, is removed by
/// a later call. The journal is not kept locked meanwhile.
///
/// # Errors
/// [`DaemonError::Journal`] only.
pub fn remove_leftovers(shop: &Shop, leftovers: Vec<Leftover>) -> Result<(), DaemonError> {
    // Whether their folders are there: each is asked once.
    let mut folders: HashMap<PathBuf, bool> = HashMap::new();
    for leftover in leftovers {
        let Leftover { job, temporary, turn } = &leftover;
        // Whatever became of the journal, nothing but temporary files is removed.
        if !temporary.file_name().is_some_and(names::is_temporary) {
            shop.journal().leftover_removed(*job)?;
            continue;
        }
        let folder = temporary.parent().unwrap_or(Path::new("/"));
        let is_there = match folders.get(folder) {
            Some(is_there) => *is_there,
            None => {
                let is_there = folder.is_dir() && shop.replaced(folder)?.is_none();
                folders.insert(folder.to_owned(), is_there);
                is_there
            }
        };
        // Somebody may have asked for another attempt, whose segments have the same name.
        if !shop.journal().is_left_over(&leftover)? {
            continue;
        }
        let why_not = match turn {
            _ if !is_there => Some(format!("{}: it is not there", folder.display())),
            // Its segments are for the next attempt; with the name they are found.
            Turn::Waits => publish::remove_temporary(temporary).err().map(|it| it.to_string()),
            Turn::Over => publish::remove_attempts(temporary).err().map(|it| it.to_string()),
        };
        let Some(why_not) = why_not else {
            shop.said.is_over(About::Leftover, *job);
            let mut journal = shop.journal();
            if *turn == Turn::Over && journal.is_left_over(&leftover)? {
                journal.leftover_removed(*job)?;
            }
            continue;
        };
        // It is tried again after every job and at every interval.
        if shop.said.is_news(About::Leftover, *job, &why_not) {
            let (path, why_not) =
                (service::plain(&temporary.to_string_lossy()), service::plain(&why_not));
            log::warn!(MESSAGE_ID = Kind::JobNote.id(), SLOMOD_JOB = *job; "{path}: cannot be removed now: {why_not}");
        }
    }
    Ok(())
}
