//! From a hint or a scan to a queued job: the part of the loop that deals with files that are not jobs yet.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use crate::config::file::{Depth, Ready};
use crate::daemon::DaemonError;
use crate::daemon::events::Kind;
use crate::daemon::folders::Extent;
use crate::daemon::hints::Hint;
use crate::daemon::ignore;
use crate::daemon::intake::{self, Checked};
use crate::daemon::job::now_ms;
use crate::daemon::journal::{CANCELLED_BY_REQUEST, NewJob};
use crate::daemon::run::{Daemon, Event, FileKey};
use crate::daemon::service::{log_received, log_watch};
use crate::daemon::settle::Doubt;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::{LEADS_OUT, Look, ScanProblems, look, scan};

impl Daemon {
    /// Something happened to a path.
    pub(super) fn hint(&mut self, hint: &Hint) -> Result<(), DaemonError> {
        let (path, now) = (hint.path.as_path(), Instant::now());
        let Some(folder) = self.folders.of(path) else { return Ok(()) };
        let watch = &self.folders.list[folder].watch;
        let Ok(relative) = path.strip_prefix(&watch.path) else { return Ok(()) };
        if relative.as_os_str().is_empty() {
            self.folders.look_soon(folder, now);
            return Ok(());
        }
        let is_too_deep = watch.depth == Depth::Flat && relative.components().count() > 1;
        if is_too_deep || !ignore::enters(relative) {
            return Ok(());
        }
        let says_ready = watch.ready == Ready::Sentinel && ignore::is_sentinel(relative);
        if says_ready && !path.is_dir() {
            return self.sentinel_came(folder, relative);
        }
        let (depth, at_once) = (watch.depth, hint.moved_in && watch.ready == Ready::Rename);
        let root = watch.path.to_string_lossy().into_owned();
        let key = (folder, relative.to_owned());
        self.settler.touch(&key, now);
        match look(&self.folders.list[folder].area, relative) {
            Ok(Look::Folder) if depth == Depth::Recursive => {
                self.folders.read_soon(folder, key.1, now);
            }
            Ok(Look::File(snapshot)) if at_once => self.moved_in(key, snapshot)?,
            Ok(Look::File(snapshot)) => self.seen(key, snapshot)?,
            Ok(Look::Nothing) => self.forget(&key),
            Ok(Look::Outside) => {
                let message = format!("{}: {LEADS_OUT}", relative.display());
                log_watch(Level::Warn, Kind::FileWaits, &root, &message);
            }
            Ok(Look::Folder) => {}
            // A scan of its directory meets it again.
            Err(_) => {
                let below = relative.parent().unwrap_or(Path::new("")).to_owned();
                self.folders.read_soon(folder, below, Instant::now());
            }
        }
        Ok(())
    }

    /// A sentinel says that a clip beside it is complete, or does so no more.
    fn sentinel_came(&mut self, folder: usize, sentinel: &Path) -> Result<(), DaemonError> {
        let area = self.folders.list[folder].area.clone();
        let below = sentinel.parent().unwrap_or(Path::new(""));
        // What cannot be read now is met by the next scan.
        let Ok(entries) = std::fs::read_dir(area.root.join(below)) else { return Ok(()) };
        for entry in entries.flatten() {
            let clip = below.join(entry.file_name());
            let belongs = ignore::sentinels(&clip).iter().any(|it| it == sentinel);
            if belongs && let Ok(Look::File(snapshot)) = look(&area, &clip) {
                self.seen((folder, clip), snapshot)?;
            }
        }
        Ok(())
    }

    /// A file came by a rename into a folder where that means that it is complete.
    fn moved_in(&mut self, key: FileKey, snapshot: Snapshot) -> Result<(), DaemonError> {
        self.forget(&key);
        self.seen(key.clone(), snapshot)?;
        if self.settler.holds(&key, &snapshot) {
            let mut times = self.folders.times(key.0, &key.1);
            times.settle = Duration::ZERO;
            self.forget(&key);
            self.settler.observe(&key, snapshot, times, Instant::now());
        }
        Ok(())
    }

    fn forget(&mut self, key: &FileKey) {
        self.settler.forget(key);
        self.overdue.remove(key);
    }

    /// A look at a file: it settles, unless the journal knows it as it is.
    pub(super) fn seen(&mut self, key: FileKey, snapshot: Snapshot) -> Result<(), DaemonError> {
        let is_gone = self.folders.list[key.0].retired;
        if is_gone || ignore::reason(&key.1, &self.config.daemon.extensions).is_some() {
            return Ok(());
        }
        let watch = &self.folders.list[key.0].watch;
        let name = watch.path.to_string_lossy();
        if self.shop.journal().knows(&name, &key.1, &snapshot)? {
            let mut known = self.known_files.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(key.0, &key.1, &snapshot);
            drop(known);
            self.forget(&key);
            return Ok(());
        }
        if watch.ready == Ready::Sentinel {
            let is_there = |it: &PathBuf| watch.path.join(it).symlink_metadata().is_ok();
            let is_one = ignore::is_sentinel(&key.1);
            if is_one || !ignore::sentinels(&key.1).iter().any(is_there) {
                self.forget(&key);
                return Ok(());
            }
        }
        if !self.settler.holds(&key, &snapshot) {
            let times = self.folders.times(key.0, &key.1);
            self.settler.observe(&key, snapshot, times, Instant::now());
        }
        Ok(())
    }

    pub(super) fn start_scan(&mut self, folder: usize, extent: Extent) {
        if extent == Extent::Whole {
            self.first_reads.begin(folder, Instant::now());
        }
        let area = self.folders.list[folder].area.clone();
        let by = self.folders.list[folder].watch.watch_by;
        let of = (folder, self.folders.list[folder].generation);
        let (events, known) = (self.events.clone(), Arc::clone(&self.known_files));
        let watches = self.hints.watches().clone();
        tokio::task::spawn_blocking(move || {
            let mut sink = |mut page: Vec<_>| {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                page.retain(|it: &crate::daemon::watch::Found| {
                    !known.contains(folder, &it.relative, &it.snapshot)
                });
                drop(known);
                if !page.is_empty() {
                    // The receiver is gone only where the daemon ends.
                    let _ = events.blocking_send(Event::Found { folder: of, files: page });
                }
            };
            let mut enter = |directory: &Path| watches.enter(&area.root, directory, by);
            let result = match &extent {
                Extent::Whole => {
                    let begun = watches.begin_scan();
                    let result = scan(&area, Path::new(""), &mut enter, &mut sink);
                    if result.is_ok() {
                        watches.end_scan(&area.root, begun);
                    }
                    result
                }
                Extent::Polled(parts) | Extent::Parts(parts) => {
                    let mut problems = ScanProblems::default();
                    for part in parts {
                        match scan(&area, part, &mut enter, &mut sink) {
                            Ok(found) => problems.join(found),
                            // It went away; the scan of the whole folder sees whether that is all.
                            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                                watches.forget(&area.root.join(part));
                            }
                            Err(error) => problems.add(part, &error),
                        }
                    }
                    Ok(problems)
                }
            };
            let _ = events.blocking_send(Event::Scanned { folder: of, extent, result });
        });
    }

    /// Whether what was found of a folder is about the folder as it is configured.
    pub(super) fn is_current(&self, (folder, generation): (usize, u64)) -> bool {
        let folder = &self.folders.list[folder];
        !folder.retired && folder.generation == generation
    }

    /// A scan that began before a reload is over. What it watched in a folder that is not watched any more is forgotten.
    pub(super) fn left_by_scan(&self, folder: usize) {
        let folder = &self.folders.list[folder];
        if folder.retired {
            self.hints.watches().forget_root(&folder.watch.path);
        }
    }

    pub(super) fn scanned(
        &mut self,
        folder: usize,
        extent: &Extent,
        result: io::Result<ScanProblems>,
    ) {
        if *extent == Extent::Whole {
            self.first_reads.end(folder, Instant::now());
        }
        let problem = match result {
            Err(error) => {
                self.folders.list[folder].lose(&error.to_string());
                None
            }
            Ok(problems) => problems.first,
        };
        self.folders.scanned(folder, extent, self.hints.watches(), problem);
    }

    /// A file was still long enough: one more look, then into it.
    pub(super) fn start_check(
        &mut self,
        key: FileKey,
        snapshot: Snapshot,
        now: Instant,
    ) -> Result<(), DaemonError> {
        let area = &self.folders.list[key.0].area;
        let path = area.root.join(&key.1);
        match look(area, &key.1) {
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
        let number = self.checks.begin(now);
        let (shop, events, stop) =
            (Arc::clone(&self.shop), self.events.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            let checked = intake::check(&shop.command, &path, snapshot, look, stop).await;
            let _ = events.send(Event::Checked { number, finding: (key, snapshot, checked) }).await;
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
            log_watch(
                level,
                Kind::FileWaits,
                &watch,
                &format!("{}: {what}: {why}", key.1.display()),
            );
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
        let Some(root) = self.folders.lasting_identity(key.0).map(ToOwned::to_owned) else {
            // Its folder went meanwhile, and what it was has to be known.
            self.settler.postpone(&key, Instant::now());
            return Ok(());
        };
        let watch = self.folders.list[key.0].watch.clone();
        let identity = self.identities.of(&watch.settings());
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
        let earlier = journal.seen(&name, &key.1)?;
        if earlier.is_some() {
            // The journal forgets how the file of this place was before.
            self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let same = earlier.filter(|seen| {
            let report_is_there = || seen.report_path.as_ref().is_some_and(|it| it.is_file());
            seen.sha256 == sha256
                && seen.settings_sha256 == settings_sha256
                && match seen.state.as_str() {
                    "cancelled" => seen.error_code.as_deref() == Some(CANCELLED_BY_REQUEST),
                    "done" => report_is_there(),
                    _ => true,
                }
        });
        match same {
            Some(seen) => {
                journal.same_again(seen.job, &new)?;
                journal.remember_root(seen.job, &root)?;
            }
            None => {
                let job = journal.submit(&new, now_ms())?;
                journal.remember_root(job, &root)?;
                log_received(job, &name, &key.1.to_string_lossy(), sha256);
            }
        }
        drop(journal);
        self.may_start = true;
        self.forget(&key);
        Ok(())
    }
}
