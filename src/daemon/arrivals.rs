//! From a hint or a scan to a queued job: the part of the loop that deals with files that are not jobs yet.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use log::Level;

use crate::daemon::DaemonError;
use crate::daemon::ignore;
use crate::daemon::intake::{self, Checked, settings_identity};
use crate::daemon::job::now_ms;
use crate::daemon::journal::NewJob;
use crate::daemon::run::{Daemon, Event, FileKey};
use crate::daemon::service::log_watch;
use crate::daemon::settle::Doubt;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::{Look, ScanProblems, look, scan};

impl Daemon {
    /// Something happened to `path`.
    pub(super) fn hint(&mut self, path: &Path) -> Result<(), DaemonError> {
        let Some(folder) = self.folders.of(path) else { return Ok(()) };
        let root = self.folders.list[folder].watch.path.clone();
        let Ok(relative) = path.strip_prefix(&root) else { return Ok(()) };
        if relative.as_os_str().is_empty() || !ignore::enters(relative) {
            return Ok(());
        }
        let key = (folder, relative.to_owned());
        self.settler.touch(&key, Instant::now());
        match look(&root, relative) {
            Ok(Look::Folder) => self.start_scan(folder, key.1),
            Ok(Look::File(snapshot)) => self.seen(key, snapshot)?,
            Ok(Look::Nothing) => self.forget(&key),
            Ok(Look::Outside) => {
                let message =
                    format!("{}: a link that leads out is not followed", relative.display());
                log_watch(Level::Warn, &root.to_string_lossy(), &message);
            }
            // A scan meets it again.
            Err(_) => self.folders.scan_soon(folder, Instant::now()),
        }
        Ok(())
    }

    fn forget(&mut self, key: &FileKey) {
        self.settler.forget(key);
        self.overdue.remove(key);
    }

    /// A look at a file: it settles, unless the journal knows it as it is.
    pub(super) fn seen(&mut self, key: FileKey, snapshot: Snapshot) -> Result<(), DaemonError> {
        if ignore::reason(&key.1, &self.config.daemon.extensions).is_some() {
            return Ok(());
        }
        let watch = self.folders.list[key.0].watch.path.to_string_lossy().into_owned();
        if self.shop.journal().knows(&watch, &key.1, &snapshot)? {
            self.forget(&key);
            return Ok(());
        }
        let times = self.folders.times(key.0);
        self.settler.observe(&key, snapshot, times, Instant::now());
        Ok(())
    }

    pub(super) fn start_scan(&mut self, folder: usize, below: PathBuf) {
        let watch = &self.folders.list[folder].watch;
        let (root, depth) = (watch.path.clone(), watch.depth);
        let extensions = self.config.daemon.extensions.clone();
        let events = self.events.clone();
        tokio::task::spawn_blocking(move || {
            let mut sink = |page| {
                // The receiver is gone only where the daemon ends.
                let _ = events.blocking_send(Event::Found(folder, page));
            };
            let result = scan(&root, &below, depth, &extensions, &mut sink);
            let whole = below.as_os_str().is_empty();
            let _ = events.blocking_send(Event::Scanned { folder, whole, result });
        });
    }

    pub(super) fn scanned(
        &mut self,
        folder: usize,
        whole: bool,
        result: std::io::Result<ScanProblems>,
    ) {
        let folder = &mut self.folders.list[folder];
        if whole {
            folder.scanning = false;
        }
        match result {
            Err(error) if whole => folder.lose(&error.to_string()),
            Ok(ScanProblems { count: 1.., first }) => {
                let message = format!("some of it cannot be read: {}", first.unwrap_or_default());
                log_watch(Level::Warn, &folder.watch.path.to_string_lossy(), &message);
            }
            _ => {}
        }
    }

    /// A file was still long enough: one more look, then into it.
    pub(super) fn start_check(
        &mut self,
        key: FileKey,
        snapshot: Snapshot,
        now: Instant,
    ) -> Result<(), DaemonError> {
        let root = &self.folders.list[key.0].watch.path;
        let path = root.join(&key.1);
        match look(root, &key.1) {
            Ok(Look::File(again)) => self.seen(key.clone(), again)?,
            Ok(_) => self.forget(&key),
            Err(_) => self.settler.postpone(&key, now),
        }
        if !self.settler.confirmed(&key, &snapshot) {
            return Ok(());
        }
        let look = match self.overdue.get(&key) {
            Some(overdue) if *overdue == snapshot => intake::Look::ContentOnly,
            _ => intake::Look::Inside,
        };
        self.checks += 1;
        let (shop, events, stop) =
            (Arc::clone(&self.shop), self.events.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            let checked = intake::check(&shop.command, &path, snapshot, look, stop).await;
            let _ = events.send(Event::Checked { key, snapshot, checked }).await;
        });
        Ok(())
    }

    pub(super) fn checked(
        &mut self,
        key: FileKey,
        snapshot: Snapshot,
        checked: Checked,
    ) -> Result<(), DaemonError> {
        let now = Instant::now();
        let watch = self.folders.list[key.0].watch.path.to_string_lossy().into_owned();
        let note = |level, what: &str, why: &str| {
            log_watch(level, &watch, &format!("{}: {what}: {why}", key.1.display()));
        };
        match checked {
            Checked::Ready(sha256) if self.settler.confirmed(&key, &snapshot) => {
                return self.submit(key, snapshot, &sha256);
            }
            Checked::Doubtful(why) => match self.settler.doubt(&key, &snapshot, now) {
                Doubt::NotYet => note(Level::Debug, "not complete yet", &why),
                Doubt::Refuse => {
                    note(Level::Warn, "still no video after the grace time", &why);
                    self.settler.hasten(&key, now);
                    self.overdue.insert(key, snapshot);
                }
                Doubt::Moved => {}
            },
            Checked::Unreadable(why) => {
                note(Level::Warn, "cannot be read now", &why);
                self.settler.postpone(&key, now);
            }
            Checked::Ready(_) | Checked::Changed => self.settler.touch(&key, now),
            Checked::Stopped => {}
        }
        Ok(())
    }

    /// The file is complete: it becomes a job, unless this content was worked here already.
    fn submit(
        &mut self,
        key: FileKey,
        snapshot: Snapshot,
        sha256: &str,
    ) -> Result<(), DaemonError> {
        let watch = self.folders.list[key.0].watch.clone();
        let identity = settings_identity(&watch.settings());
        let (settings, settings_sha256) = match identity {
            Ok(identity) => identity,
            Err(error) => {
                self.folders.pause(
                    key.0,
                    format!("the weights cannot be read: {error}"),
                    Instant::now(),
                );
                self.settler.postpone(&key, Instant::now());
                return Ok(());
            }
        };
        let name = watch.path.to_string_lossy();
        let new = NewJob {
            watch: &name,
            relative: &key.1,
            snapshot,
            sha256,
            settings: &settings,
            settings_sha256: &settings_sha256,
        };
        let mut journal = self.shop.journal();
        let same = journal.seen(&name, &key.1)?.filter(|seen| {
            let report_is_there = || seen.report_path.as_ref().is_some_and(|it| it.is_file());
            seen.sha256 == sha256
                && seen.settings_sha256 == settings_sha256
                && match seen.state.as_str() {
                    "cancelled" => false,
                    "done" => report_is_there(),
                    _ => true,
                }
        });
        match same {
            Some(seen) => journal.same_again(seen.job, &new)?,
            None => {
                let job = journal.submit(&new, now_ms())?;
                log_watch(Level::Info, &name, &format!("{}: queued as job {job}", key.1.display()));
            }
        }
        drop(journal);
        self.forget(&key);
        Ok(())
    }
}
