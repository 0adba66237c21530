//! From a hint or a scan to a queued job: the part of the loop that deals with files that are not jobs yet.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use crate::config::file::{Depth, Ready};
use crate::daemon::DaemonError;
use crate::daemon::errands::Place;
use crate::daemon::events::Kind;
use crate::daemon::filesystem;
use crate::daemon::folder::Extent;
use crate::daemon::hints::Hint;
use crate::daemon::ignore;
use crate::daemon::intake::{self, Checked, Content, Stillness, Subject, blocking};
use crate::daemon::job::now_ms;
use crate::daemon::journal::NewJob;
use crate::daemon::looks::Sight;
use crate::daemon::run::{Daemon, Event, FileKey};
use crate::daemon::scan::Scan;
use crate::daemon::service::{log_received, log_same_again, log_watch};
use crate::daemon::settle::Doubt;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::watch::{LEADS_OUT, Look, ScanProblems, has_its_sentinel};
use crate::daemon::weights;

/// Files that are looked into at a time.
const MOST_CHECKS: usize = 2;
/// The same while a clip is worked.
const MOST_CHECKS_BESIDE_A_JOB: usize = 1;

impl Daemon {
    /// Something happened to a path: it is looked at, beside the loop.
    pub(super) fn hint(&mut self, hint: &Hint) {
        let (path, now) = (hint.path.as_path(), Instant::now());
        let Some(folder) = self.folders.of(path) else { return };
        let watch = &self.folders.list[folder].watch;
        let Ok(relative) = path.strip_prefix(&watch.path) else { return };
        if relative.as_os_str().is_empty() {
            self.folders.look_soon(folder, now);
            return;
        }
        let is_too_deep = watch.depth == Depth::Flat && relative.components().count() > 1;
        if is_too_deep || !ignore::enters(relative) {
            return;
        }
        let key = (folder, relative.to_owned());
        self.settler.touch(&key, now);
        self.folders.hinted(folder, key.1, hint.moved_in, now);
    }

    /// What lies at a path that something happened to.
    pub(super) fn sighted(&mut self, folder: usize, sight: Sight) -> Result<(), DaemonError> {
        let watch = &self.folders.list[folder].watch;
        let at_once = sight.moved_in && watch.ready == Ready::Rename;
        let key = (folder, sight.relative);
        match sight.look {
            Ok(Look::Folder) if watch.depth == Depth::Recursive => {
                self.folders.read_soon(folder, key.1, Instant::now());
            }
            Ok(Look::File(snapshot)) if at_once => self.moved_in(key, snapshot)?,
            Ok(Look::File(snapshot)) => self.seen(key, snapshot)?,
            Ok(Look::Nothing) => self.forget(&key),
            Ok(Look::Outside)
                if ignore::reason(&key.1, &self.config.daemon.extensions).is_none() =>
            {
                let message = format!("{}: {LEADS_OUT}", key.1.display());
                let root = watch.path.to_string_lossy();
                log_watch(Level::Warn, Kind::FileWaits, &root, &message);
            }
            Ok(Look::Folder | Look::Outside) => {}
            // A scan of its directory meets it again.
            Err(_) => {
                let below = key.1.parent().unwrap_or(Path::new("")).to_owned();
                self.folders.read_soon(folder, below, Instant::now());
            }
        }
        Ok(())
    }

    /// A file came by a rename into a folder where that means that it is complete.
    fn moved_in(&mut self, key: FileKey, snapshot: Snapshot) -> Result<(), DaemonError> {
        self.forget(&key);
        self.seen(key.clone(), snapshot)?;
        if self.settler.holds(&key, &snapshot) {
            let mut times = self.folders.times(self.hints.watches(), key.0, &key.1);
            (times.settle, times.unsaid) = (Duration::ZERO, Duration::ZERO);
            self.forget(&key);
            self.settler.observe(&key, snapshot, times, Instant::now());
        }
        Ok(())
    }

    fn forget(&mut self, key: &FileKey) {
        self.settler.forget(key);
        self.overdue.remove(key);
        self.folders.list[key.0].can_read(&key.1);
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
        if !self.settler.holds(&key, &snapshot) {
            let times = self.folders.times(self.hints.watches(), key.0, &key.1);
            self.settler.observe(&key, snapshot, times, Instant::now());
        }
        Ok(())
    }

    pub(super) fn start_scan(&mut self, folder: usize, extent: Extent) {
        if extent == Extent::Whole {
            self.first_reads.begin(folder, Instant::now());
        }
        let of = (folder, self.folders.list[folder].generation);
        let scan = Scan {
            area: self.folders.list[folder].area.clone(),
            by: self.folders.list[folder].watch.watch_by,
            watches: self.hints.watches().clone(),
            errand: self
                .shop
                .errands
                .begin(Place::Watch(folder), &self.folders.list[folder].watch.path),
        };
        let (events, known) = (self.events.clone(), Arc::clone(&self.known_files));
        tokio::spawn(async move {
            let (sender, read) = (events.clone(), extent.clone());
            let result = blocking(move || {
                scan.run(&read, &mut |mut page| {
                    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                    page.retain(|it| !known.contains(folder, &it.relative, &it.snapshot));
                    drop(known);
                    page.retain(|it| has_its_sentinel(&scan.area, &it.relative));
                    if !page.is_empty() {
                        // The receiver is gone only where the daemon ends.
                        let _ = sender.blocking_send(Event::Found { folder: of, files: page });
                    }
                })
            });
            let result = result.await;
            let _ = events.send(Event::Scanned { folder: of, extent, result }).await;
        });
    }

    /// Looks into files that are under way, without those that wait for a folder that does not answer.
    pub(super) fn open_checks(&self) -> usize {
        self.checks.open(|folder| !self.is_hung(folder))
    }

    pub(super) fn most_checks(&self) -> usize {
        if self.running.is_some() { MOST_CHECKS_BESIDE_A_JOB } else { MOST_CHECKS }
    }

    /// Looks into files whose turn it is, and passes on what earlier looks found.
    pub(super) fn check_what_is_due(&mut self, now: Instant) -> Result<(), DaemonError> {
        while let Some((key, snapshot, checked)) = self.checks.pass_on(now) {
            self.checked(key, snapshot, checked)?;
        }
        while self.open_checks() < self.most_checks() {
            let (folders, reads) = (&self.folders, &self.first_reads);
            let (locks, watches) = (&self.shop.locks, self.hints.watches());
            let priority = |folder: usize| {
                if folders.hangs(locks, folder) {
                    return None;
                }
                let watch = &folders.list[folder].watch;
                let settle = folders.times(watches, folder, Path::new("")).settle;
                // Where a rename says that a clip is complete, nothing waits for the others.
                // Nor before the first files of folders that come before it, or take turns with it.
                let counts = |it: &usize| folders.list[*it].watch.priority >= watch.priority;
                let others = (0..folders.list.len()).filter(counts);
                let allowed =
                    watch.ready == Ready::Rename || reads.allow_beside(others, settle, now);
                allowed.then_some(watch.priority)
            };
            let Some((key, snapshot)) = self.settler.take_due_of(now, priority) else { break };
            self.start_check(key, snapshot, now);
        }
        Ok(())
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
        let watches = self.hints.watches();
        match result {
            Err(error) => self.folders.broke_off(folder, extent, watches, &error),
            Ok(problems) => self.folders.scanned(folder, extent, watches, problems.said()),
        }
    }

    /// A file was still long enough: one more look, then into it, beside the loop.
    pub(super) fn start_check(&mut self, key: FileKey, snapshot: Snapshot, now: Instant) {
        let is_overdue = self.overdue.get(&key).is_some_and(|it| *it == snapshot);
        let folder = &self.folders.list[key.0];
        let subject = Subject {
            area: folder.area.clone(),
            folder: key.0,
            relative: key.1.clone(),
            snapshot,
            stillness: match self.settler.was_still_for_long(&key, now) {
                true => Stillness::Long,
                false => Stillness::Usual,
            },
            look: if is_overdue { intake::Look::ContentOnly } else { intake::Look::Inside },
            settings: folder.watch.settings(),
            output: folder.watch.output.clone(),
        };
        let number = self.checks.begin(key.0, now);
        let (shop, identities) = (Arc::clone(&self.shop), Arc::clone(&self.identities));
        let (events, stop) = (self.events.clone(), self.stop.subscribe());
        tokio::spawn(async move {
            let checked = intake::check(shop, identities, subject, stop).await;
            let _ = events.send(Event::Checked { number, finding: (key, snapshot, checked) }).await;
        });
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
        if !matches!(checked, Checked::Unreadable(_)) {
            self.folders.list[key.0].can_read(&key.1);
        }
        match checked {
            Checked::Ready(content) if self.settler.confirmed(&key, &snapshot) => {
                return self.submit(key, snapshot, content);
            }
            Checked::Otherwise(Look::File(now)) => self.seen(key, now)?,
            Checked::Otherwise(_) => self.forget(&key),
            // That is no doubt about the file.
            Checked::Doubtful(_) if self.is_hung(key.0) => self.settler.postpone(&key, now),
            Checked::Doubtful(why) => match self.settler.doubt(&key, &snapshot, now) {
                Doubt::NotYet => note(Level::Debug, "not complete yet", &why),
                Doubt::Refuse => {
                    note(Level::Warn, "still no video after the grace time", &why);
                    self.settler.hasten(&key, now);
                    self.overdue.insert(key, snapshot);
                }
                Doubt::Moved => {}
            },
            Checked::Unsaid => {
                note(Level::Debug, "perhaps not complete yet", "its container does not say");
                self.settler.wait_longer(&key, &snapshot, now);
            }
            Checked::Unreadable(why) => {
                let is_news = self.folders.list[key.0].cannot_read(&key.1, &why);
                note(if is_news { Level::Warn } else { Level::Debug }, "cannot be read now", &why);
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
        content: Content,
    ) -> Result<(), DaemonError> {
        let Some(root) = self.folders.lasting_identity(key.0).map(ToOwned::to_owned) else {
            // Its folder went meanwhile, and what it was has to be known.
            self.settler.postpone(&key, Instant::now());
            return Ok(());
        };
        let watch = self.folders.list[key.0].watch.clone();
        let Content { sha256, identity, list_sha256, report } = content;
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => {
                let folder = &mut self.folders.list[key.0];
                folder.lacks_weights(weights::cannot_be_read(&watch, &error));
                self.settler.postpone(&key, Instant::now());
                return Ok(());
            }
        };
        let name = watch.path.to_string_lossy();
        self.reload.read(&name, &identity);
        let (settings, settings_sha256) = identity;
        let new = NewJob {
            watch: &name,
            relative: &key.1,
            snapshot,
            sha256: &sha256,
            settings: &settings,
            settings_sha256: &settings_sha256,
            list_sha256: &list_sha256,
        };
        let mut journal = self.shop.journal();
        let earlier = journal.seen(&name, &key.1)?;
        if earlier.is_some() {
            // The journal forgets how the file of this place was before.
            self.known_files.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let same = earlier.filter(|seen| {
            let report_is_there = report.is_some() && seen.report_path == report;
            seen.is_answer_to(&new, report_is_there, filesystem::keeps_inodes(&root))
        });
        match same {
            Some(seen) => {
                journal.same_again(seen.job, &new)?;
                journal.remember_root(seen.job, &root)?;
                log_same_again(&seen, &name, &key.1.to_string_lossy());
            }
            None => {
                let job = journal.submit(&new, now_ms())?;
                journal.remember_root(job, &root)?;
                log_received(job, &name, &key.1.to_string_lossy(), &sha256);
            }
        }
        drop(journal);
        self.may_start = true;
        self.forget(&key);
        Ok(())
    }
}
