//! What a start finds: the lock of the state folder, and what a daemon that died left behind.

use std::fs::File;
use std::path::{Path, PathBuf};

use log::Level;
use rustix::fs::FlockOperation;
use serde::Deserialize;

use crate::config::file::{Collision, Config, Watch};
use crate::daemon::DaemonError;
use crate::daemon::intake::Identities;
use crate::daemon::job::{Shop, now_ms};
use crate::daemon::journal::{
    Again, Claim, Count, End, Journal, Leftover, Original, Planned, Turn,
};
use crate::daemon::known::report_of;
use crate::daemon::names;
use crate::daemon::original;
use crate::daemon::output_lock::record;
use crate::daemon::publish::{self, Completion, PublishError};
use crate::daemon::service;

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

/// Brings the journal of a dead daemon in order: its running jobs wait again, and what their attempts left is removed.
/// The caller holds the lock. Interrupted publications are for [`finish_publications`].
///
/// # Errors
/// [`DaemonError`]; a folder that is offline is none, its part is done later.
pub fn recover(
    journal: &mut Journal,
    config: &Config,
    owner: &str,
    now_ms: i64,
) -> Result<(), DaemonError> {
    let requeued = journal.requeue_dead(owner, now_ms)?;
    if requeued > 0 {
        log::info!("{requeued} interrupted job(s) begin again");
    }
    remove_leftovers(journal)?;
    let mut identities = Identities::default();
    for watch in &config.watches {
        let identity = identities.of(&watch.settings()).map_err(|source| {
            let path = watch.settings.model.clone().unwrap_or_default();
            DaemonError::Io { path, action: "the weights cannot be read", source }
        })?;
        journal.update_settings(&watch.path.to_string_lossy(), &identity.0, &identity.1)?;
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
            Ok(()) => {}
            Err(PublishError::Record(error)) => return Err(error.into()),
            Err(error) => {
                service::log_job(Level::Warn, &claim, "publication waits", &error.to_string());
            }
        }
    }
    Ok(())
}

fn finish(
    shop: &Shop,
    watch: Option<&Watch>,
    claim: &Claim,
    planned: &Planned,
) -> Result<(), PublishError> {
    if let Some(why) = watch.and_then(|it| shop.locks.refusal(&it.output)) {
        service::log_job(Level::Info, claim, "publication waits", &why);
        return Ok(());
    }
    let collision = match watch.map(|it| it.collision) {
        Some(Collision::Overwrite) => Collision::Overwrite,
        // The name was free when it was chosen, and the output is whole: it is not thrown away now.
        Some(Collision::Rename | Collision::Skip) | None => Collision::Rename,
    };
    let folder = planned.output.parent().unwrap_or(Path::new("/"));
    // Nothing is concluded from an output folder that is not there.
    std::fs::read_dir(folder).map_err(|source| PublishError::Io {
        path: folder.to_owned(),
        action: "cannot be read",
        source,
    })?;
    if let Some(report) = published_meanwhile(claim, planned) {
        return end_published(shop, claim, planned, &report);
    }
    let lock = watch.and_then(|it| shop.locks.of(&it.output));
    let mut witness = record(shop, claim, lock, collision);
    match publish::complete(planned, collision, &mut witness)? {
        Completion::Published(published) => {
            // What cannot be removed now is removed with the leftovers.
            let _ = publish::remove_attempts(&planned.temporary);
            let original = watch.map_or(Original::Kept, original::intent);
            shop.journal().done(claim, original, now_ms())?;
            let message = format!("{} (publication completed)", published.output.display());
            service::log_job(Level::Info, claim, "done", &message);
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
    Ok(())
}

/// The report of another daemon that had the output folder in between and did the same work.
fn published_meanwhile(claim: &Claim, planned: &Planned) -> Option<PathBuf> {
    let name = planned.output.file_name()?;
    let report = report_of(claim, &planned.output.with_file_name(names::unnumbered(name)))?;
    let id = |text: &str| serde_json::from_str::<ReportId>(text).ok().map(|it| it.report_id);
    let theirs = id(&std::fs::read_to_string(&report).ok()?);
    (theirs != id(&planned.report)).then_some(report)
}

#[derive(PartialEq, Deserialize)]
struct ReportId {
    report_id: String,
}

fn end_published(
    shop: &Shop,
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
        original: Original::Kept,
    };
    shop.journal().end(claim, &end, now_ms())?;
    service::log_job(Level::Info, claim, end.state, end.message);
    Ok(())
}

/// Removes what dead attempts left under temporary names, and the segments of jobs that have ended; what is offline now
/// is removed by a later call.
///
/// # Errors
/// [`DaemonError::Journal`] only.
pub fn remove_leftovers(journal: &mut Journal) -> Result<(), DaemonError> {
    for Leftover { job, temporary, turn } in journal.leftovers()? {
        // Whatever became of the journal, nothing but temporary files is removed.
        if !temporary.file_name().is_some_and(names::is_temporary) {
            journal.leftover_removed(job)?;
            continue;
        }
        let folder_is_there = temporary.parent().is_some_and(Path::is_dir);
        let removed = match turn {
            _ if !folder_is_there => false,
            // Its segments are for the next attempt; with the name they are found.
            Turn::Waits => publish::remove_temporary(&temporary).is_ok(),
            Turn::Over => publish::remove_attempts(&temporary).is_ok(),
        };
        match (removed, turn) {
            (true, Turn::Over) => journal.leftover_removed(job)?,
            (true, Turn::Waits) => {}
            (false, _) => {
                let path = service::plain(&temporary.to_string_lossy());
                log::warn!("{path}: cannot be removed now");
            }
        }
    }
    Ok(())
}
